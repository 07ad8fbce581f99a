"""report.md: the results for a terminal, a code host or a mail."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from asrdistill.reporting import (
    agreement,
    codec_curve,
    comparisons,
    costs,
    ensemble_curve,
    groups,
    mimicry,
    reliability,
)
from asrdistill.reporting.conclusion import conclude
from asrdistill.reporting.table import (
    COLUMNS,
    FLOPS_NOTE,
    HINTON_ROWS,
    HINTON_SOURCE,
    HINTON_TRANSFER,
    explain_results,
    list_rows,
    list_transfer_rows,
)


def render_markdown(report: Mapping[str, Any]) -> str:
    """Everything of report.json that a reader wants, as Markdown; the pictures are in report.html only."""
    sections = [
        [f"# {escape(report['recipe'])}: {report['num_teachers']} teachers, one student"],
        [comparisons.tell_what_is_shown(report)],
        _results(report),
        [*conclude(report), *comparisons.conclude_significance(report)],
        _errors(report),
        ["## Differences on test", *_comparisons(report)],
        _groups(report),
        _confusions(report),
        ["## Calibration", *_calibration(report)],
        ["## Student and ensemble", *_mimicry(report)],
        ["## Ensemble size", *_ensemble_size(report)],
        ["## Agreement of the teachers", *_agreement(report)],
        [f"## For orientation: {HINTON_SOURCE}", _hinton()],
        ["## Soft targets", _bullets(report["soft_targets"])],
        _codecs(report),
        ["## Language model", _bullets(report["language_model"])],
        ["## What it took", _costs(report["stages"])],
        ["## Left out", _left_out(report["left_out"])],
        ["## Settings", textwrap.indent(dump_settings(report["settings"]), "    ").rstrip()],
        ["## Versions", _bullets(report["versions"])],
    ]
    return "\n\n".join(part for section in sections for part in section) + "\n"


def dump_settings(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, in the order of the recipe."""
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_<\[|&$])", r"\\\1", text)


def make_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table, the first columns set left."""
    rule = ["---" if column < left else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def _results(report: Mapping[str, Any]) -> list[str]:
    rows = [(f"{row.system}{f' ({row.note})' if row.note else ''}", *row.cells) for row in list_rows(report)]
    transfers = [
        (row.system, "", row.frame_accuracy, row.wer, row.per, "", "") for row in list_transfer_rows(report)
    ]
    explanation = (
        f"{explain_results(report)} The models tell {report['num_tied_states']} tied states apart. "
        f"{FLOPS_NOTE}"
    )
    return [make_table(COLUMNS, [*rows, *transfers]), explanation]


def _errors(report: Mapping[str, Any]) -> list[str]:
    rows = [(row.system, *row.errors) for row in list_rows(report) if row.errors]
    return ["## Errors on test", make_table(("system", "words", "phones"), rows, left=3)] if rows else []


def _comparisons(report: Mapping[str, Any]) -> list[str]:
    tables = [
        make_table(comparisons.list_columns(measure), comparisons.list_comparison_rows(report, measure))
        for measure in comparisons.list_measures(report)
    ]
    return [comparisons.explain(report), *tables, comparisons.tell_disagreements(report)]


def _groups(report: Mapping[str, Any]) -> list[str]:
    rows = [tuple(map(escape, row)) for row in groups.list_group_rows(report["speaker_groups"])]
    columns = groups.list_columns(report["speaker_groups"])
    return ["## Speaker groups", make_table(columns, rows), groups.NOTE] if rows else []


def _confusions(report: Mapping[str, Any]) -> list[str]:
    rows = [tuple(map(escape, row)) for row in groups.list_confusion_rows(report["confusions"])]
    table = make_table(groups.CONFUSION_COLUMNS, rows)
    return ["## Confusions", table, groups.CONFUSION_NOTE] if rows else []


def _calibration(report: Mapping[str, Any]) -> list[str]:
    found = {comparisons.label_system(report, name): one for name, one in report["calibration"].items()}
    return [make_table(reliability.COLUMNS, reliability.list_reliability_rows(found)), reliability.NOTE]


def _mimicry(report: Mapping[str, Any]) -> list[str]:
    found = report["mimicry"]
    return [
        make_table(mimicry.CASE_COLUMNS, mimicry.list_case_rows(found)),
        mimicry.PHONE_CAPTION + ":",
        make_table(mimicry.COLUMNS, mimicry.list_mimicry_rows(found)),
        mimicry.NOTE,
    ]


def _ensemble_size(report: Mapping[str, Any]) -> list[str]:
    rows = [row.cells for row in ensemble_curve.list_size_rows(report["ensemble_size"])]
    return [make_table(ensemble_curve.COLUMNS, rows), ensemble_curve.NOTE]


def _agreement(report: Mapping[str, Any]) -> list[str]:
    return [make_table(agreement.COLUMNS, agreement.list_agreement_rows(report["agreement"])), agreement.NOTE]


def _codecs(report: Mapping[str, Any]) -> list[str]:
    rows = codec_curve.list_codec_rows(report["codecs"])
    return ["## Codecs", make_table(codec_curve.COLUMNS, rows), codec_curve.NOTE] if rows else []


def _hinton() -> str:
    rows = [*HINTON_ROWS, ("transfer", *HINTON_TRANSFER)]
    return make_table(("system", "frame accuracy (%)", "WER (%)"), rows)


def _bullets(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {escape(str(key))}: {escape(format_value(value))}" for key, value in values.items())


def format_value(value: Any) -> str:
    """A plain value for a reader: lists separated by commas, floats without noise."""
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _costs(stages: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [*costs.list_cost_rows(stages), costs.sum_costs(stages)]
    cells = [(escape(row.stage), row.time, row.peak_memory, row.size) for row in rows]
    table = make_table(costs.COLUMNS, cells)
    return f"{table}\n\n{costs.NOTE}"


def _left_out(parts: Sequence[Mapping[str, Any]]) -> str:
    if not parts:
        return "Nothing: every utterance was used."
    return "\n".join(_left_out_line(part) for part in parts)


def _left_out_line(part: Mapping[str, Any]) -> str:
    ids = ", ".join(part["utterance_ids"])
    named = f": {escape(ids)}" if ids else ""
    return f"- {escape(part['stage'])}: {part['num_utterances']} ({escape(part['reason'])}){named}"
