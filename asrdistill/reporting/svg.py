"""Figures as SVG that takes its colours and letters from the page around it.

Colours are drawn as the hexadecimal values of `Ink` and then replaced with CSS variables, so that one
picture serves light, dark and paper. Text stays text: the browser sets it in the page's own font.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class Ink(StrEnum):
    """Colours by meaning; the page defines a CSS variable of the same name for each."""

    TEXT = "#1c2024"
    MUTED = "#6b7480"
    RULE = "#dde1e6"
    BASELINE = "#7d8794"
    ENSEMBLE = "#2a6fb5"
    DISTILLED = "#c4501b"
    PAPER = "#fefefe"


POINTS_PER_INCH = 72
_RASTER_DPI = 144
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "asrdistill",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": Ink.TEXT.value,
    "axes.edgecolor": Ink.RULE.value,
    "axes.labelcolor": Ink.MUTED.value,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": Ink.RULE.value,
    "grid.linewidth": 0.7,
    "xtick.color": Ink.RULE.value,
    "ytick.color": Ink.RULE.value,
    "xtick.labelcolor": Ink.MUTED.value,
    "ytick.labelcolor": Ink.MUTED.value,
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
}


@contextmanager
def drawing_style() -> Iterator[None]:
    """The style all figures are drawn and saved in, whatever the user's own matplotlib settings are."""
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser has the letters of scripts that the font used for measuring lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def to_svg(figure: Figure, description: str) -> str:
    """The figure as one <svg> element, the same bytes every time; `description` is for screen readers."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", dpi=_RASTER_DPI, metadata=no_metadata)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # Groups are numbered from 1 in every figure; nothing refers to them, and ids must be unique in a page.
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)
    for ink in Ink:
        drawing = drawing.replace(ink.value, f"var(--{ink.name.lower()})")
    return drawing.replace("<svg", f'<svg role="img" aria-label="{_escape_attribute(description)}"', 1)


def _escape_attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def label_line_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], size_pt: float = 9.0) -> None:
    """Write (y, text, colour) labels right of the axes, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    height_pt = axes.bbox.height / axes.figure.dpi * POINTS_PER_INCH
    ordered = sorted(labels)
    heights = np.array([(y - low) / (high - low) * height_pt for y, _, _ in ordered])
    for height, (_, text, colour) in zip(
        spread_apart(heights, 1.25 * size_pt, height_pt), ordered, strict=True
    ):
        axes.text(1.02, height / height_pt, text, color=colour, size=size_pt, va="center",
                  transform=axes.transAxes, parse_math=False)  # fmt: skip


def spread_apart(positions: np.ndarray, gap: float, height: float) -> np.ndarray:
    """Move ascending positions (N,) to lie at least `gap` apart within 0 to `height`, as little as may be.

    Least squares under the gaps is isotonic regression of positions - gap * rank (pool adjacent violators).
    Where there are more than fit, they go on above `height`.
    """
    ranks = gap * np.arange(len(positions))
    pools: list[tuple[float, int]] = []
    for value in positions - ranks:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            pooled_mean, pooled_size = pools.pop()
            mean = (mean * size + pooled_mean * pooled_size) / (size + pooled_size)
            size += pooled_size
        pools.append((mean, size))
    means = np.repeat([mean for mean, _ in pools], [size for _, size in pools])
    room = height - ranks[-1] if len(ranks) else height
    return ranks + np.clip(means, 0, max(room, 0))
