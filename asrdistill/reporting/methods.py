"""Ways of distilling beside each other: what a sweep measured, as a table, as Markdown, and as a page.

All rates are means over the students of a row; no row is left out, whatever came of it.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from asrdistill.reporting.markdown import dump_settings, escape, make_table
from asrdistill.reporting.page import open_template
from asrdistill.reporting.report import NOT_MEASURED
from asrdistill.reporting.svg import Ink, drawing_style, to_svg
from asrdistill.reporting.table import align_lines, format_count

COLUMNS = (
    "way of distilling",
    "frame accuracy dev (%)",
    "test (%)",
    "training (%)",
    "WER test (%)",
    "transfer of frame accuracy",
    "transfer of WER",
    "parameters",
    "frames a second",
    "real-time factor",
    "training cost",
)
NOTE = (
    "Means over {num_seeds} students a row, ± sample standard deviation over their seeds. Transfer: share "
    "of the ensemble's gain over one teacher that is kept on test, with 95% intervals by bootstrap over the "
    "{num_blocks} {block}s of test, the teachers and the students; in parentheses, without one, where the "
    "ensemble may as well have no gain. Frames a second: the network alone, on one core; real-time factor: "
    "its time over that of the speech. Training cost: floating-point operations of one student's training, "
    "over those of one teacher's; soft targets, whoever made them, and what a loss takes besides are not "
    "counted. Training: frame accuracy on frames that the students were trained on, perturbed views "
    "included. Intervals are each row's own, not corrected for the number of rows; a share of the training "
    "data is the same for all seeds. dev is for choosing; test was read once a row."
)
WIDTH_IN, HEIGHT_IN = 8.0, 5.2
# Of dots of one size, in decades, so that they and their numbers do not hide each other.
COLUMN_SHIFTS = (0.0, 0.07, -0.07, 0.14, -0.14)
# Of two sizes that both have a name on the axis.
LEAST_TICK_RATIO = 1.4

Sweep = Mapping[str, Any]
"""What sweep.json holds."""


def list_method_rows(sweep: Sweep) -> list[tuple[str, ...]]:
    """Baseline, ensemble, and a row a way, as `COLUMNS` calls them."""
    references = sweep["references"]
    seconds, cost = references["seconds_a_frame"], references["training_flops"]
    num_teachers = len(references["teachers"])
    rows = [
        _list_cells(sweep, "one teacher", references["teachers"], seconds["baseline"], 1.0),
        _list_cells(sweep, "ensemble", [references["ensemble"]], seconds["ensemble"], float(num_teachers)),
    ]
    for row in sweep["rows"]:
        accuracies, size = row["train_frame_accuracy"], row["num_parameters"]
        rows.append(
            _list_cells(
                sweep,
                row["name"],
                [{**student, "num_parameters": size} for student in row["students"]],
                row["seconds_a_frame"],
                row["training_flops"] / cost,
                _say_rates(accuracies),
                row["transfer"],
            )
        )
    return rows


def _list_cells(
    sweep: Sweep,
    name: str,
    systems: Sequence[Mapping[str, Any]],
    seconds_a_frame: float,
    cost: float,
    training: str = NOT_MEASURED,
    transfer: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    words = [system["wer"]["test"]["wer"] for system in systems if "wer" in system]
    kept = transfer or {}
    return (
        name,
        *(_say_rates([system["frame_accuracy"][split] for system in systems]) for split in ("dev", "test")),
        training,
        _say_rates(words),
        *(_say_transfer(kept.get(measure)) for measure in ("frame_accuracy", "wer")),
        format_count(systems[0]["num_parameters"]),
        f"{float(f'{1 / seconds_a_frame:.2g}'):,.0f}",
        f"{seconds_a_frame / sweep['frame_shift_s']:#.2g}",
        f"{cost:.2g}",
    )


def _say_rates(rates: Sequence[float]) -> str:
    if not rates:
        return NOT_MEASURED
    spread = f" ± {100 * statistics.stdev(rates):.2f}" if len(rates) > 1 else ""
    return f"{100 * statistics.fmean(rates):.2f}{spread}"


def _say_transfer(transfer: Mapping[str, Any] | None) -> str:
    if transfer is None or transfer["value"] is None:
        return NOT_MEASURED
    share = f"{100 * transfer['value']:.0f}%"
    if transfer["ci95"] is None:
        return f"({share})"
    low, high = (100 * end for end in transfer["ci95"])
    return f"{share} [{low:.0f}, {high:.0f}]"


def conclude(sweep: Sweep) -> str:
    """Which row dev chooses, and whether a row's students are above their ensemble; a sentence or two."""
    rows = sweep["rows"]
    if not rows:
        return "No row is measured yet."
    best = max(rows, key=lambda row: _mean(row, "dev"))
    ensemble = 100 * sweep["references"]["ensemble"]["frame_accuracy"]["test"]
    teacher = _mean({"students": sweep["references"]["teachers"]}, "test")
    chosen = (
        f"dev chooses {best['name']!r}: frame accuracy {_mean(best, 'test'):.2f}% on test, "
        f"ensemble {ensemble:.2f}%, one teacher {teacher:.2f}%."
    )
    above = [row for row in rows if _mean(row, "test") > ensemble]
    surely = [row for row in above if _is_above(row)]
    if surely:
        return (
            f"{chosen} Above the ensemble in frame accuracy, with the whole of their intervals: "
            f"{_name_all(surely)}."
        )
    if above:
        return (
            f"{chosen} Above the ensemble in frame accuracy, but none with the whole of its interval: "
            f"{_name_all(above)}."
        )
    nearest = max(rows, key=lambda row: _mean(row, "test"))
    return (
        f"{chosen} No row is above the ensemble in frame accuracy; the nearest is "
        f"{nearest['name']!r}, {_mean(nearest, 'test'):.2f}%."
    )


def _name_all(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(repr(row["name"]) for row in rows)


def _is_above(row: Mapping[str, Any]) -> bool:
    interval = row["transfer"]["frame_accuracy"]["ci95"]
    return interval is not None and interval[0] > 1


def _mean(row: Mapping[str, Any], split: str) -> float:
    return 100 * statistics.fmean(student["frame_accuracy"][split] for student in row["students"])


def _explain(sweep: Sweep) -> str:
    counts = {len(row["students"]) for row in sweep["rows"]} or {0}
    num_seeds = " or ".join(map(str, sorted(counts)))
    return NOTE.format(num_seeds=num_seeds, num_blocks=sweep["num_blocks"], block=sweep["block"])


def render_sweep_table(sweep: Sweep) -> str:
    """For a terminal."""
    return "\n".join([*align_lines([COLUMNS, *list_method_rows(sweep)]), "", conclude(sweep)])


def render_sweep_markdown(sweep: Sweep) -> str:
    """sweep.md."""
    rows = [(escape(name), *cells) for name, *cells in list_method_rows(sweep)]
    sources = [f"- {escape(row['name'])}: {escape(row['source'])}" for row in sweep["rows"] if row["source"]]
    parts = [f"# {sweep['grid']}", conclude(sweep), make_table(COLUMNS, rows), _explain(sweep)]
    return "\n\n".join([*parts, "\n".join(sources)]).rstrip() + "\n"


def render_sweep_html(sweep: Sweep) -> str:
    """sweep.html; the same input gives the same bytes."""
    return open_template("sweep.html.j2").render(
        sweep=sweep,
        headline=conclude(sweep),
        columns=COLUMNS,
        rows=list_method_rows(sweep),
        note=_explain(sweep),
        picture=Markup(draw_sizes(sweep)),
        settings=dump_settings(sweep["recipe"]),
        light=Ink,
    )


def draw_sizes(sweep: Sweep) -> str:
    """Frame accuracy on test over parameters: teachers, ensemble, and every row by its number."""
    references, rows = sweep["references"], sweep["rows"]
    with drawing_style():
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
        axes = figure.add_axes((0.07, 0.11, 0.9, 0.86))
        axes.set_xscale("log")
        axes.set_xlabel("parameters")
        axes.set_xticks(choose_ticks([one["num_parameters"] for one in (*rows, references["ensemble"])]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: format_count(round(size))))
        axes.xaxis.set_minor_locator(NullLocator())
        points = [
            ("one teacher", Ink.BASELINE, references["teachers"]),
            ("ensemble", Ink.ENSEMBLE, [references["ensemble"]]),
        ]
        beside = axes.get_yaxis_transform()
        for name, ink, systems in points:
            height = _mean({"students": systems}, "test")
            axes.axhline(height, color=ink, lw=0.8, ls=":")
            axes.plot(systems[0]["num_parameters"], height, "s", color=ink, ms=6)
            axes.annotate(name, (0.01, height), (0, 4), beside, textcoords="offset points", color=ink, size=8)
        _plot_rows(axes, rows)
        return to_svg(figure, "Frame accuracy on test over the number of parameters, every way of distilling")


def choose_ticks(sizes: Sequence[int]) -> list[int]:
    """Of the sizes of models those that are named on the axis: none so near to another that names overlap."""
    ticks: list[int] = []
    for size in sorted(set(sizes)):
        if not ticks or size > LEAST_TICK_RATIO * ticks[-1]:
            ticks.append(size)
    return ticks


def _plot_rows(axes: Any, rows: Iterable[Mapping[str, Any]]) -> None:
    """A dot a row, numbered as in the table; of one size neighbours in height stand side by side.

    Rows with a part of the training data are left out: what they lack is not size.
    """
    by_size: dict[int, list[tuple[float, int, Mapping[str, Any]]]] = {}
    for number, row in enumerate(rows, 1):
        if row["train_share"] == 1:
            by_size.setdefault(row["num_parameters"], []).append((_mean(row, "test"), number, row))
    for size, alike in by_size.items():
        for place, (height, number, row) in enumerate(sorted(alike, key=lambda one: one[:2])):
            x = size * 10 ** COLUMN_SHIFTS[place % len(COLUMN_SHIFTS)]
            values = [100 * student["frame_accuracy"]["test"] for student in row["students"]]
            spread = statistics.stdev(values) if len(values) > 1 else 0
            axes.errorbar(x, height, spread, fmt="o", color=Ink.DISTILLED, ms=3, lw=0.7)
            axes.annotate(
                str(number), (x, height), (3, 0), textcoords="offset points", ha="left", va="center", size=6.5
            )
