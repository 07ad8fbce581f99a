"""Whether models are as often right as they believe to be: a reliability diagram, and the numbers as text.

A system is what `Calibration.describe` of scoring/calibration.py gives:

    {"num_frames": 130000, "accuracy": 0.62, "confidence": 0.70, "overconfidence": 0.08, "ece": 0.08,
     "mce": 0.13, "nll": 1.31, "brier": 0.5,
     "bins": [{"low": 0.0, "high": 0.0667, "frames": 0, "confidence": None, "accuracy": None}, ...]}

"baseline" (one teacher), "ensemble" and "distilled" are drawn; systems of other names stand in the table
alone, under these names.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from asrdistill.reporting.report import SINGLE
from asrdistill.reporting.svg import Ink, drawing_style, to_svg

SIZE_IN = (3.7, 3.4)
# So many, if they were independent, leave the accuracy a standard error of at most 5 points.
FEW_FRAMES = 100
NOTE = (
    "Frames by their confidence, the posterior of the tied state found likeliest, in 15 bins: how often that "
    "one is the hard target. On the diagonal a model is as often right as it believes, below it "
    f"over-confident. Pale marks are bins of fewer than {FEW_FRAMES} frames; bins without any are left out. "
    "The expected calibration error (ECE) is the mean distance from the diagonal over all frames; "
    "over-confidence is mean confidence minus accuracy; NLL is the mean negative log posterior of the hard "
    "target. Targets are those of the forced alignment, errors at phone boundaries included. Of "
    "several seeds the first is told."
)
COLUMNS = ("system", "ECE (%)", "over-confidence (%)", "NLL (nats)")
_DRAWN = {
    "baseline": ("o", Ink.BASELINE),
    "ensemble": ("s", Ink.ENSEMBLE),
    "distilled": ("^", Ink.DISTILLED),
}

Reliability = Mapping[str, Mapping[str, Any]]
"""What `Calibration.describe` gives, by the name of the system."""


def list_reliability_rows(systems: Reliability) -> list[tuple[str, str, str, str]]:
    """A row a system, as `COLUMNS` calls them."""
    return [
        (
            SINGLE.get(name, name),
            f"{100 * system['ece']:.2f}",
            f"{100 * system['overconfidence']:+.2f}",
            f"{system['nll']:.3f}",
        )
        for name, system in systems.items()
    ]


def draw_reliability(systems: Reliability) -> str:
    """Accuracy over confidence of each bin, of the systems that have a colour, as SVG."""
    with drawing_style():
        figure = Figure(figsize=SIZE_IN)
        axes = figure.add_axes((0.12, 0.13, 0.85, 0.84))
        axes.set_xlabel("mean confidence of a bin (%)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MultipleLocator(20))
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.plot([0, 100], [0, 100], color=Ink.MUTED, linewidth=1, dashes=(3, 3))
        for name, system in systems.items():
            if name in _DRAWN:
                _draw_system(axes, name, system)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper left", frameon=False, fontsize=8)
        return to_svg(figure, "Accuracy over confidence in percent, frames in 15 bins, and the diagonal")


def _draw_system(axes: Axes, name: str, system: Mapping[str, Any]) -> None:
    mark, ink = _DRAWN[name]
    used = [found for found in system["bins"] if found["frames"]]
    confidences, accuracies = ([100 * found[key] for found in used] for key in ("confidence", "accuracy"))
    label = f"{SINGLE.get(name, name)}, ECE {100 * system['ece']:.1f}%"
    axes.plot(confidences, accuracies, color=ink, linewidth=1, alpha=0.5)
    # In the legend stands a mark of full strength, also where all bins are pale.
    axes.plot([], [], mark, color=ink, markersize=5, label=label)
    for found, confidence, accuracy in zip(used, confidences, accuracies, strict=True):
        alpha = 0.3 if found["frames"] < FEW_FRAMES else 1.0
        axes.plot(confidence, accuracy, mark, color=ink, markersize=5, alpha=alpha, markeredgewidth=0)
