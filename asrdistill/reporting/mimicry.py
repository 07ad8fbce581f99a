"""Where a student follows its ensemble and where it does not: a picture, and the numbers as text.

The input is what `Mimicry.describe` of scoring/mimicry.py gives:

    {"overall": ROW,
     "phones": [{"phone": "AH0", **ROW}, ...],
     "entropy": [{"low": 0.0, "high": 0.69, **ROW}, ...],
     "cases": [{"ensemble_right": True, "student_right": True, **ROW}, ...]}

ROW is {"frames": 1200, "share": 0.01, "agreement": 0.8, "kl": 0.2, "kl_share": 0.02, "entropy": 1.1,
"ensemble_accuracy": 0.6, "student_accuracy": 0.59}; its means are None where there are no frames. Entropies
and KL are in nats, the others fractions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asrdistill.reporting.report import NOT_MEASURED
from asrdistill.reporting.svg import Ink, drawing_style, to_svg

SIZE_IN = (3.7, 4.2)
NUM_PHONES = 12
NOTE = (
    "How the student chosen on dev follows the ensemble: agreement is the share of frames on which both find "
    "the same tied state likeliest, KL the divergence of the student's posteriors from the ensemble's at "
    "temperature 1. Both depend on how much the ensemble doubts, which its entropy says; bins of few frames "
    "say little."
)
COLUMNS = (
    "phone",
    "frames (%)",
    "KL (%)",
    "KL (nats)",
    "agreement (%)",
    "ensemble accuracy (%)",
    "student accuracy (%)",
)
CASE_COLUMNS = ("right", "frames (%)", "KL (%)", "KL (nats)", "agreement (%)")
PHONE_CAPTION = f"Phones with the largest shares of the KL, {NUM_PHONES} at most"
_CASES = {
    (True, True): "both",
    (True, False): "the ensemble alone",
    (False, True): "the student alone",
    (False, False): "neither",
}

Mimicry = Mapping[str, Any]
"""`overall`, `phones`, `entropy` and `cases`, as the module's docstring says."""


def list_mimicry_rows(mimicry: Mimicry, num_phones: int = NUM_PHONES) -> list[tuple[str, ...]]:
    """The phones with the largest share of KL, then all frames, as `COLUMNS` calls them."""
    phones = sorted(mimicry["phones"], key=lambda row: -row["kl_share"])[:num_phones]
    rows = [*((row["phone"], row) for row in phones), ("all", mimicry["overall"])]
    return [
        (name, *_say_shares(row), _percent(row["ensemble_accuracy"]), _percent(row["student_accuracy"]))
        for name, row in rows
    ]


def list_case_rows(mimicry: Mimicry) -> list[tuple[str, ...]]:
    """Who is right, as `CASE_COLUMNS` calls them."""
    return [
        (_CASES[row["ensemble_right"], row["student_right"]], *_say_shares(row)) for row in mimicry["cases"]
    ]


def _say_shares(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    kl = NOT_MEASURED if row["kl"] is None else f"{row['kl']:.3f}"
    return _percent(row["share"]), _percent(row["kl_share"]), kl, _percent(row["agreement"])


def _percent(share: float | None) -> str:
    return NOT_MEASURED if share is None else f"{100 * share:.1f}"


def draw_mimicry(mimicry: Mimicry) -> str:
    """Agreement and share of frames, and below them KL, over the ensemble's entropy, as SVG."""
    bins = mimicry["entropy"]
    with drawing_style():
        figure = Figure(figsize=SIZE_IN)
        above = figure.add_axes((0.12, 0.47, 0.85, 0.46))
        below = figure.add_axes((0.12, 0.12, 0.85, 0.25))
        _draw_agreement(above, bins)
        _draw_kl(below, bins)
        for axes in (above, below):
            axes.set_xlim(0, bins[-1]["high"])
            axes.xaxis.set_major_locator(MaxNLocator(8))
        below.set_xlabel("entropy of the ensemble (nats)")
        return to_svg(
            figure,
            "Percent of frames, percent of them on which student and ensemble agree, and KL in nats, over "
            "the entropy of the ensemble",
        )


def _draw_agreement(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    lefts, widths = [row["low"] for row in bins], [0.9 * (row["high"] - row["low"]) for row in bins]
    shares = [100 * row["share"] for row in bins]
    axes.bar(
        [left + width / 18 for left, width in zip(lefts, widths, strict=True)], shares, widths, align="edge",
        color=Ink.ENSEMBLE, alpha=0.35, linewidth=0, label="frames (%)",
    )  # fmt: skip
    axes.plot(
        *_list_points(bins, "agreement", 100), "^-", color=Ink.DISTILLED, markersize=5, label="agreement (%)"
    )
    axes.set_ylim(0, 102)
    axes.tick_params(labelbottom=False)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 0.99), ncols=2, frameon=False, fontsize=8)


def _draw_kl(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    axes.plot(*_list_points(bins, "kl", 1), "^-", color=Ink.DISTILLED, markersize=5)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_title("KL (nats)", loc="left", fontsize=8, color=Ink.TEXT, pad=4)


def _list_points(
    bins: Sequence[Mapping[str, Any]], key: str, factor: float
) -> tuple[list[float], list[float]]:
    """Places and values of the bins that have frames; a bin's place is its frames' mean entropy."""
    used = [row for row in bins if row["frames"]]
    return [row["entropy"] for row in used], [factor * row[key] for row in used]
