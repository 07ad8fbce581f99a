"""report.html: one page that needs no network, for a screen of any width, light or dark, and for paper."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from asrdistill.reporting import (
    agreement,
    codec_curve,
    comparisons,
    costs,
    ensemble_curve,
    groups,
    mimicry,
    reliability,
    table,
)
from asrdistill.reporting.alignment_picture import AlignmentPicture, draw_alignment
from asrdistill.reporting.conclusion import conclude
from asrdistill.reporting.learning_curves import (
    LearningCurve,
    draw_frame_accuracy,
    draw_student_loss,
    draw_teacher_loss,
)
from asrdistill.reporting.markdown import dump_settings, format_value
from asrdistill.reporting.report import SINGLE
from asrdistill.reporting.svg import Ink
from asrdistill.reporting.tuning_grid import TuningGrid, common_wer_range, draw_tuning

Figure = tuple[str, Markup]
"""Caption and SVG."""


def render_html(
    report: Mapping[str, Any],
    *,
    teachers: Sequence[LearningCurve],
    students: Sequence[LearningCurve],
    tuning: Sequence[TuningGrid],
    alignment: AlignmentPicture | None,
) -> str:
    """Render the page; the same input gives the same bytes.

    Args:
        report: what `build_report` gave, or report.json read back.
        teachers: learning curves of the ensemble's members.
        students: learning curves of the students.
        tuning: dev WER over decoding weights, one grid a system; none where no words were decoded.
        alignment: an utterance to show; None where the phones of the targets are not known.
    """
    return open_template("report.html.j2").render(
        report=report,
        table=table,
        rows=table.list_rows(report),
        transfers=table.list_transfer_rows(report),
        headline=comparisons.tell_what_is_shown(report),
        conclusions=[*conclude(report), *comparisons.conclude_significance(report)],
        comparisons=comparisons,
        groups=groups,
        reliability=reliability,
        reliability_rows=reliability.list_reliability_rows(
            {comparisons.label_system(report, name): found for name, found in report["calibration"].items()}
        ),
        reliability_svg=Markup(reliability.draw_reliability(report["calibration"])),
        mimicry=mimicry,
        mimicry_svg=Markup(mimicry.draw_mimicry(report["mimicry"])),
        curves=_draw_curves(teachers, students),
        ensemble_curve=ensemble_curve,
        ensemble_size_svg=Markup(ensemble_curve.draw_ensemble_size(report["ensemble_size"])),
        agreement=agreement,
        agreement_svg=Markup(agreement.draw_agreement(report["agreement"])),
        codec_curve=codec_curve,
        codec_pictures=_draw_codecs(report["codecs"]),
        tuning=_draw_tuning(tuning),
        alignment=alignment,
        alignment_svg=Markup(draw_alignment(alignment)) if alignment else None,
        cost_columns=costs.COLUMNS,
        cost_rows=costs.list_cost_rows(report["stages"]),
        cost_sum=costs.sum_costs(report["stages"]),
        cost_note=costs.NOTE,
        settings=dump_settings(report["settings"]),
        light=Ink,
    )


def open_template(name: str) -> Template:
    """A template of this folder: texts are escaped, and what a template names must be there."""
    environment = Environment(
        loader=PackageLoader("asrdistill", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = format_value
    return environment.get_template(name)


def _draw_curves(teachers: Sequence[LearningCurve], students: Sequence[LearningCurve]) -> list[Figure]:
    # The SVGs are our own: their texts are escaped where they are drawn.
    return [
        ("Dev frame accuracy (%)", Markup(draw_frame_accuracy(teachers, students))),
        (
            "Loss of the teachers (nats per frame): dev solid, training dashed",
            Markup(draw_teacher_loss(teachers)),
        ),
        (
            "Students: cross-entropy with the hard targets on dev, solid; what they are trained on, "
            "soft targets times T² included, dashed (the levels do not compare)",
            Markup(draw_student_loss(students)),
        ),
    ]


def _draw_codecs(codecs: Sequence[Mapping[str, Any]]) -> list[Figure]:
    return [(caption, Markup(drawn)) for caption, drawn in codec_curve.draw_codecs(codecs)]


def _draw_tuning(grids: Sequence[TuningGrid]) -> list[Figure]:
    if not grids:
        return []
    wer_range = common_wer_range(grids)
    return [(_tuning_caption(grid), Markup(draw_tuning(grid, wer_range))) for grid in grids]


def _tuning_caption(grid: TuningGrid) -> str:
    name = SINGLE.get(grid.system, grid.system)
    scale, penalty = grid.chosen
    caption = f"Dev WER (%) of {name}: acoustic scale {scale:g} and insertion penalty {penalty:g} were chosen"
    if grid.weights_on_edge:
        caption += f"; the {' and the '.join(grid.weights_on_edge)} lies on the edge of what was tried"
    return caption
