"""How many teachers agree on a frame, and how far apart they are: a picture, and the numbers as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asrdistill.reporting.svg import Ink, drawing_style, to_svg

SIZE_IN = (3.7, 3.0)
NOTE = (
    "Frames of dev by how many teachers find that tied state likeliest which most of them do, and the "
    "Jensen-Shannon distance of their posteriors there, in percent of what it can be at most."
)
COLUMNS = ("teachers that agree", "frames (%)", "distance (%)")

Agreement = Sequence[Mapping[str, Any]]
"""Of each number of votes, ascending: `votes`, `share` of frames, mean `distance` from 0 to 1."""


def list_agreement_rows(agreement: Agreement) -> list[tuple[str, str, str]]:
    """A row for each number of votes, as `COLUMNS` calls them."""
    return [
        (str(row["votes"]), f"{100 * row['share']:.1f}", f"{100 * row['distance']:.1f}") for row in agreement
    ]


def draw_agreement(agreement: Agreement) -> str:
    """Share of frames over the number of teachers that agree, as SVG."""
    with drawing_style():
        figure = Figure(figsize=SIZE_IN)
        axes = figure.add_axes((0.11, 0.15, 0.86, 0.82))
        axes.set_xlabel("teachers that agree")
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        votes, shares = ([row[key] for row in agreement] for key in ("votes", "share"))
        axes.bar(
            votes, [100 * share for share in shares], width=0.7, color=Ink.ENSEMBLE, alpha=0.7, linewidth=0
        )
        axes.set_xlim(0.4, max(votes) + 0.6)
        return to_svg(figure, "Percent of dev frames over the number of teachers that agree on them")
