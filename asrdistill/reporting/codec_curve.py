"""What bytes of soft targets buy: students of several codecs over bytes a frame, pictures and text."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from asrdistill.reporting.svg import Ink, drawing_style, to_svg

WIDTH_IN, PLOT_HEIGHT_IN = 3.7, 2.8
NOTE = (
    "Students trained alike on soft targets of the same teachers, written by different codecs: mean ± sample "
    "standard deviation over their seeds. Bytes a frame are those of soft targets, headers included."
)
COLUMNS = (
    "codec",
    "bytes a frame",
    "students",
    "frame accuracy dev (%)",
    "frame accuracy test (%)",
    "WER test (%)",
)
_LINE_IN = 0.17
_MARKS = [(shape, fill) for fill in (Ink.DISTILLED, Ink.PAPER) for shape in "os^Dv<>pPX"]

Codecs = Sequence[Mapping[str, Any]]
"""Of each codec `name`, `bytes_per_frame`, and of its `students` `frame_accuracy` and, if any, `wer`."""


def list_codec_rows(codecs: Codecs) -> list[tuple[str, ...]]:
    """A row a codec, as `COLUMNS` calls them, from most bytes to least; none where none was compared."""
    return [
        (
            codec["name"],
            f"{codec['bytes_per_frame']:g}",
            str(len(codec["students"])),
            *(_say(_list_accuracies(codec, split)) for split in ("dev", "test")),
            _say(_list_wers(codec)),
        )
        for codec in _sort(codecs)
    ]


def draw_codecs(codecs: Codecs) -> list[tuple[str, str]]:
    """Captions and SVGs: frame accuracy and WER on test over bytes a frame."""
    ordered = _sort(codecs)
    pictures = []
    for caption, values in (
        ("Frame accuracy on test (%)", [_list_accuracies(codec, "test") for codec in ordered]),
        ("WER on test (%)", [_list_wers(codec) for codec in ordered]),
    ):
        if ordered and all(values):
            pictures.append((f"{caption} over bytes a frame", _draw(ordered, values, caption)))
    return pictures


def _sort(codecs: Codecs) -> list[Mapping[str, Any]]:
    return sorted(codecs, key=lambda codec: -codec["bytes_per_frame"])


def _list_accuracies(codec: Mapping[str, Any], split: str) -> list[float]:
    return [100 * student["frame_accuracy"][split] for student in codec["students"]]


def _list_wers(codec: Mapping[str, Any]) -> list[float]:
    return [100 * student["wer"]["test"]["wer"] for student in codec["students"] if "wer" in student]


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _say(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {_spread(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def _draw(codecs: Codecs, values: Sequence[Sequence[float]], caption: str) -> str:
    sizes = [codec["bytes_per_frame"] for codec in codecs]
    names_in = _LINE_IN * len(codecs)
    height_in = PLOT_HEIGHT_IN + names_in
    with drawing_style():
        figure = Figure(figsize=(WIDTH_IN, height_in))
        # Names stand below: beside their marks, those of codecs of like size would lie upon each other.
        axes = figure.add_axes((0.13, (0.6 + names_in) / height_in, 0.84, (PLOT_HEIGHT_IN - 0.7) / height_in))
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
        axes.set_xlabel("bytes a frame")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        marks = cycle(_MARKS)
        for codec, size, measured in zip(codecs, sizes, values, strict=True):
            shape, fill = next(marks)
            mean, name = statistics.fmean(measured), codec["name"].strip("{}").removeprefix("kind: ")
            axes.errorbar(size, mean, _spread(measured), fmt="none", ecolor=Ink.DISTILLED)
            axes.plot(size, mean, shape, color=Ink.DISTILLED, ms=5, mfc=fill, label=name)
        figure.legend(loc="lower left", bbox_to_anchor=(0.08, 0), frameon=False, fontsize=8)
        return to_svg(figure, f"{caption} of students over the bytes a frame of their soft targets")
