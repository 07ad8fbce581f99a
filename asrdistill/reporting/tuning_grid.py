"""How dev WER depends on the decoding weights, and the point that was chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asrdistill.reporting.svg import Ink, drawing_style, label_line_ends, to_svg

SIZE_IN = (3.7, 2.7)


@dataclass(frozen=True)
class TuningGrid:
    """Dev WER of one system over a grid of decoding weights.

    Shapes: A acoustic scales, I insertion penalties.

    Attributes:
        system: its name in report.json: "baseline" (one teacher of it), "ensemble", "distilled".
        acoustic_scales: (A,), ascending.
        insertion_penalties: (I,), ascending.
        wer: float (A, I), 0 to 1 or above.
        chosen: the acoustic scale and the insertion penalty used on test.
    """

    system: str
    acoustic_scales: list[float]
    insertion_penalties: list[float]
    wer: np.ndarray
    chosen: tuple[float, float]

    def __post_init__(self) -> None:
        expected = (len(self.acoustic_scales), len(self.insertion_penalties))
        if self.wer.shape != expected:
            raise ValueError(f"tuning of {self.system}: wer has shape {self.wer.shape}, expected {expected}")
        if self.chosen[0] not in self.acoustic_scales or self.chosen[1] not in self.insertion_penalties:
            raise ValueError(f"tuning of {self.system}: the chosen point {self.chosen} is not on the grid")

    @property
    def chosen_wer(self) -> float:
        scale, penalty = self.chosen
        return float(self.wer[self.acoustic_scales.index(scale), self.insertion_penalties.index(penalty)])

    @property
    def weights_on_edge(self) -> list[str]:
        """The weights whose chosen value is the lowest or highest tried: the best may lie beyond."""
        tried = {"acoustic scale": self.acoustic_scales, "insertion penalty": self.insertion_penalties}
        return [
            name
            for (name, values), value in zip(tried.items(), self.chosen, strict=True)
            if len(values) > 1 and value in (min(values), max(values))
        ]


def common_wer_range(grids: Sequence[TuningGrid]) -> tuple[float, float]:
    """Lowest and highest WER over all grids in percent, with margins, so that panels can be compared."""
    low = min(float(grid.wer.min()) for grid in grids)
    high = max(float(grid.wer.max()) for grid in grids)
    span = high - low or 0.01
    return 100 * (low - 0.15 * span), 100 * (high + 0.05 * span)


def draw_tuning(grid: TuningGrid, wer_range: tuple[float, float]) -> str:
    """One line for each insertion penalty over the acoustic scale, the chosen point marked, as SVG."""
    colour = {"baseline": Ink.BASELINE, "ensemble": Ink.ENSEMBLE}.get(grid.system, Ink.DISTILLED)
    with drawing_style():
        figure = Figure(figsize=SIZE_IN)
        axes = figure.add_axes((0.11, 0.165, 0.77, 0.73))
        axes.set_ylim(*wer_range)
        axes.set_xlabel("acoustic scale")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        labels = []
        for penalty, wers in zip(grid.insertion_penalties, 100 * grid.wer.T, strict=True):
            chosen = penalty == grid.chosen[1]
            axes.plot(grid.acoustic_scales, wers, color=colour, alpha=1.0 if chosen else 0.4)
            labels.append((float(wers[-1]), f"{penalty:g}", Ink.TEXT if chosen else Ink.MUTED))
        label_line_ends(axes, labels)
        axes.plot(grid.chosen[0], 100 * grid.chosen_wer, "o", color=Ink.TEXT, markersize=6)
        axes.annotate(f"{100 * grid.chosen_wer:.2f}", (grid.chosen[0], 100 * grid.chosen_wer), (0, -6),
                      textcoords="offset points", ha="center", va="top", weight="bold")  # fmt: skip
        axes.text(
            1.1, 1.08, "insertion penalty", transform=axes.transAxes, color=Ink.MUTED, size=9, ha="right"
        )
        return to_svg(figure, f"Dev WER of {grid.system} over acoustic scale and insertion penalty")
