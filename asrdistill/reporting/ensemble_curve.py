"""How frame accuracy grows with the size of the ensemble: a picture, and the numbers as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asrdistill.reporting.svg import Ink, drawing_style, label_line_ends, to_svg

SIZE_IN = (3.7, 3.0)
NOTE = (
    "Frame accuracy of ensembles of fewer teachers: the mean over several choices of that many, and in "
    "brackets the lowest and the highest. The choices share teachers, so the range is no confidence interval."
)
COLUMNS = ("teachers", "dev (%)", "test (%)", "choices")
_DASHES = {"dev": (3, 2), "test": (None, None)}
_ALPHAS = {"dev": 0.6, "test": 1.0}

SizeCurve = Sequence[Mapping[str, Any]]
"""Size, mean, min, max and num_subsets of each size, ascending, as score/ensemble_size.json has them."""


@dataclass(frozen=True)
class SizeRow:
    """Ensembles of one size, as text.

    Attributes:
        size: how many teachers.
        dev: frame accuracy on dev: mean, and the range in brackets; empty where there is but one choice.
        test: the same on test.
        num_subsets: how many choices of teachers.
    """

    size: str
    dev: tuple[str, str]
    test: tuple[str, str]
    num_subsets: str

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """As `COLUMNS` calls them."""
        return self.size, " ".join(self.dev).strip(), " ".join(self.test).strip(), self.num_subsets


def list_size_rows(curves: Mapping[str, SizeCurve]) -> list[SizeRow]:
    """One row a size, from one teacher to all."""
    return [
        SizeRow(str(dev["size"]), _mean_and_range(dev), _mean_and_range(test), str(dev["num_subsets"]))
        for dev, test in zip(curves["dev"], curves["test"], strict=True)
    ]


def _mean_and_range(point: Mapping[str, Any]) -> tuple[str, str]:
    low, mean, high = (f"{100 * point[key]:.2f}" for key in ("min", "mean", "max"))
    return mean, f"({low}–{high})" if point["num_subsets"] > 1 else ""


def draw_ensemble_size(curves: Mapping[str, SizeCurve]) -> str:
    """Mean frame accuracy over the size, lowest to highest as a band, on dev and test, as SVG."""
    with drawing_style():
        figure = Figure(figsize=SIZE_IN)
        axes = figure.add_axes((0.11, 0.15, 0.77, 0.82))
        axes.set_xlabel("teachers in the ensemble")
        axes.set_xlim(0.6, len(curves["test"]) + 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        labels = []
        for split, curve in curves.items():
            sizes, means, lows, highs = (
                [factor * point[key] for point in curve]
                for key, factor in (("size", 1), ("mean", 100), ("min", 100), ("max", 100))
            )
            axes.fill_between(sizes, lows, highs, color=Ink.ENSEMBLE, alpha=0.15, linewidth=0)
            axes.plot(
                sizes, means, "o-", color=Ink.ENSEMBLE, alpha=_ALPHAS[split], dashes=_DASHES[split],
                markersize=3.5,
            )  # fmt: skip
            labels.append((means[-1], split, Ink.ENSEMBLE))
        label_line_ends(axes, labels)
        return to_svg(
            figure,
            "Frame accuracy in percent over the number of teachers in the ensemble, on dev and test: "
            "mean, lowest and highest",
        )
