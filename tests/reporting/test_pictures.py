"""What is drawn is where it should be; inputs that cannot be drawn are refused."""

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asrdistill.reporting.alignment_picture import AlignmentPicture, draw_alignment
from asrdistill.reporting.costs import format_bytes, format_seconds
from asrdistill.reporting.learning_curves import LearningCurve, draw_frame_accuracy, draw_teacher_loss
from asrdistill.reporting.svg import spread_apart
from asrdistill.reporting.tuning_grid import TuningGrid, common_wer_range, draw_tuning


def test_labels_are_moved_as_little_as_possible() -> None:
    positions, gap, height = np.array([0.0, 1.0, 2.0, 9.0]), 3.0, 12.0
    steps = np.arange(0, 12.5, 0.5)
    feasible = [c for c in itertools.combinations(steps, 4) if min(np.diff(c)) >= gap]
    best = min(feasible, key=lambda candidate: float(((np.array(candidate) - positions) ** 2).sum()))
    np.testing.assert_allclose(spread_apart(positions, gap, height), best)
    np.testing.assert_allclose(spread_apart(np.array([1.0, 5.0]), gap, height), [1.0, 5.0])
    np.testing.assert_allclose(spread_apart(np.array([5.0, 5.0]), gap, height), [3.5, 6.5])
    assert spread_apart(np.array([12.0, 12.0]), gap, height).max() == height


def test_chosen_point_is_drawn_at_its_place_and_named() -> None:
    wer = np.array([[0.30, 0.40], [0.20, 0.31], [0.33, 0.35]])
    grid = TuningGrid("ensemble", [0.05, 0.1, 0.2], [0.0, 1.0], wer, (0.1, 0.0))
    assert grid.chosen_wer == 0.20
    assert grid.weights_on_edge == ["insertion penalty"]
    low, high = common_wer_range([grid])
    assert low < 20 < 40 < high
    assert ">20.00</text>" in draw_tuning(grid, (low, high))


def test_a_grid_of_one_point_can_be_drawn() -> None:
    grid = TuningGrid("distilled", [0.1], [0.0], np.array([[0.0]]), (0.1, 0.0))
    assert grid.weights_on_edge == []
    assert draw_tuning(grid, common_wer_range([grid])).startswith("<svg")


def test_a_grid_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \(2, 1\)"):
        TuningGrid("ensemble", [0.1, 0.2], [0.0], np.zeros((1, 2)), (0.1, 0.0))
    with pytest.raises(ValueError, match="not on the grid"):
        TuningGrid("ensemble", [0.1, 0.2], [0.0], np.zeros((2, 1)), (0.15, 0.0))


@pytest.mark.parametrize("best_epoch", [0, 3])
def test_a_best_epoch_outside_the_curve_is_refused(best_epoch: int) -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        LearningCurve("teacher 0", [0.1, 0.2], [2.0, 1.0], [2.0, 1.0], best_epoch)


def test_one_epoch_can_be_drawn() -> None:
    curve = LearningCurve("hard weight 0.5", [0.5], [1.0], [1.1], 1)
    assert "hard weight 0.5" in draw_frame_accuracy([], [curve])
    assert "training" in draw_teacher_loss([curve])


def make_picture(**more: Any) -> AlignmentPicture:
    log_mel = np.linspace(-10, 5, 100 * 40).reshape(100, 40)
    phones = [("SIL", 0, 20), ("AH0", 20, 50), ("SIL", 50, 100)]
    return replace(AlignmentPicture("utt", "a", log_mel, 0.01, phones, [("a", 20, 50)]), **more)


def test_phone_boundaries_lie_at_their_times() -> None:
    svg = draw_alignment(make_picture())
    lines = re.findall(
        r'<path d="M ([\d.]+) [\d.]+ *\n?L \1 [\d.]+ *\n?" clip-path[^>]*stroke: var\(--ensemble\)', svg
    )
    left, width = map(float, re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)[0])
    shares = (np.sort(np.array(lines, dtype=float)) - left) / width
    np.testing.assert_allclose(shares, [0.0, 0.2, 0.5, 1.0], atol=1e-4)


def test_letters_of_any_script_can_be_written() -> None:
    svg = draw_alignment(make_picture(words=[("你好", 20, 50)], phones=[("x_{$", 0, 100)]))
    assert "你好" in svg
    assert "x_{$" in svg


def test_a_segment_outside_the_utterance_is_refused() -> None:
    with pytest.raises(ValueError, match="AH0 covers frames 50 to 101, features have 100"):
        make_picture(phones=[("AH0", 50, 101)])


def test_costs_are_readable() -> None:
    assert [format_seconds(seconds) for seconds in (0.04, 59.9, 61, 3725)] == [
        "0.0 s", "59.9 s", "1 min 01 s", "1 h 02 min",
    ]  # fmt: skip
    assert [format_bytes(size) for size in (12, 1500, 2.5e6, 3e9)] == ["12 B", "1.5 kB", "2.5 MB", "3.0 GB"]
