"""Learning curves of teachers and students, epoch by epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asrdistill.reporting.svg import Ink, drawing_style, label_line_ends, to_svg

SIZE_IN = (3.7, 3.0)


@dataclass(frozen=True)
class LearningCurve:
    """How one model learned; the first element of each list is epoch 1.

    Attributes:
        name: what the line is called, "teacher 3" or "hard weight 0.5".
        dev_frame_accuracy: after each epoch, 0 to 1.
        train_loss: mean over the epoch of what was trained on (nn/loss.py), in nats per frame.
        dev_loss: cross-entropy with the hard targets after each epoch, in nats per frame.
        best_epoch: the epoch that was kept, counted from 1.
    """

    name: str
    dev_frame_accuracy: list[float]
    train_loss: list[float]
    dev_loss: list[float]
    best_epoch: int

    def __post_init__(self) -> None:
        lengths = {len(self.dev_frame_accuracy), len(self.train_loss), len(self.dev_loss)}
        if len(lengths) != 1 or not 1 <= self.best_epoch <= max(lengths):
            raise ValueError(
                f"learning curve {self.name}: {sorted(lengths)} epochs, best epoch {self.best_epoch}; "
                "expected lists of one length and a best epoch among them, counted from 1"
            )


def draw_frame_accuracy(teachers: Sequence[LearningCurve], students: Sequence[LearningCurve]) -> str:
    """Dev frame accuracy of all members, as SVG."""

    def percent(curve: LearningCurve) -> np.ndarray:
        return 100 * np.array(curve.dev_frame_accuracy)

    with drawing_style():
        figure, axes = _start([*teachers, *students])
        labels = [_draw_teachers(axes, teachers, percent)] if teachers else []
        labels += _draw_students(axes, students, percent)
        label_line_ends(axes, labels)
        return to_svg(figure, "Dev frame accuracy in percent over epochs, teachers and students")


def draw_teacher_loss(teachers: Sequence[LearningCurve]) -> str:
    """Loss of the teachers, on dev and in training, as SVG."""
    with drawing_style():
        figure, axes = _start(teachers)
        dev, _, colour = _draw_teachers(axes, teachers, lambda curve: np.array(curve.dev_loss))
        for curve in teachers:
            axes.plot(_epochs(curve), curve.train_loss, color=colour, linewidth=0.8, alpha=0.6, dashes=(3, 2))
        training = float(np.mean([curve.train_loss[-1] for curve in teachers]))
        label_line_ends(axes, [(dev, "dev", colour), (training, "training", colour)])
        return to_svg(figure, "Loss of the teachers in nats per frame over epochs, on dev and in training")


def draw_student_loss(students: Sequence[LearningCurve]) -> str:
    """Loss of the students, on dev and in training, as SVG."""
    with drawing_style():
        figure, axes = _start(students)
        labels = _draw_students(axes, students, lambda curve: np.array(curve.dev_loss))
        for curve, (_, _, colour), alpha in zip(students, labels, _alphas(len(students)), strict=True):
            axes.plot(_epochs(curve), curve.train_loss, color=colour, linewidth=1, alpha=alpha, dashes=(3, 2))
        label_line_ends(axes, labels)
        return to_svg(figure, "Loss of the students in nats per frame over epochs, on dev and in training")


def _start(curves: Sequence[LearningCurve]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN)
    axes = figure.add_axes((0.09, 0.15, 0.59, 0.82))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlim(0.5, max(len(curve.train_loss) for curve in curves) + 0.5)
    return figure, axes


def _epochs(curve: LearningCurve) -> range:
    return range(1, len(curve.train_loss) + 1)


def _alphas(num_lines: int) -> np.ndarray:
    return np.linspace(1.0, 0.4, num_lines)


def _draw_teachers(
    axes: Axes, teachers: Sequence[LearningCurve], measure: Callable[[LearningCurve], np.ndarray]
) -> tuple[float, str, str]:
    for curve in teachers:
        _draw(axes, curve, measure(curve), Ink.BASELINE, alpha=0.6, linewidth=0.9, dot=3)
    end = float(np.mean([measure(curve)[-1] for curve in teachers]))
    return end, f"{len(teachers)} teachers", Ink.BASELINE


def _draw_students(
    axes: Axes, students: Sequence[LearningCurve], measure: Callable[[LearningCurve], np.ndarray]
) -> list[tuple[float, str, str]]:
    for curve, alpha in zip(students, _alphas(len(students)), strict=True):
        _draw(axes, curve, measure(curve), Ink.DISTILLED, alpha=alpha, linewidth=1.5, dot=5)
    return [(float(measure(curve)[-1]), curve.name, Ink.DISTILLED) for curve in students]


def _draw(
    axes: Axes,
    curve: LearningCurve,
    values: np.ndarray,
    colour: str,
    alpha: float,
    linewidth: float,
    dot: float,
) -> None:
    axes.plot(_epochs(curve), values, color=colour, alpha=alpha, linewidth=linewidth)
    best = values[curve.best_epoch - 1]
    axes.plot(
        curve.best_epoch,
        best,
        "o",
        color=colour,
        markersize=dot,
        markeredgewidth=0.7,
        markeredgecolor=Ink.PAPER,
    )
