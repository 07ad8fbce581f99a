"""What is drawn is where it should be; inputs that cannot be drawn are refused."""

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asrdistill.reporting.agreement import draw_agreement
from asrdistill.reporting.alignment_picture import AlignmentPicture, draw_alignment
from asrdistill.reporting.codec_curve import draw_codecs
from asrdistill.reporting.costs import format_bytes, format_seconds
from asrdistill.reporting.ensemble_curve import draw_ensemble_size
from asrdistill.reporting.learning_curves import LearningCurve, draw_frame_accuracy, draw_teacher_loss
from asrdistill.reporting.svg import spread_apart
from asrdistill.reporting.table import format_count
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


def make_curve(low: float, high: float, num_sizes: int) -> list[dict[str, float]]:
    """Means that rise evenly from `low` to `high`; the lowest is 0.01 below, the highest 0.02 above."""
    return [
        {"size": size, "mean": mean, "min": mean - 0.01, "max": mean + 0.02, "num_subsets": 3}
        for size, mean in enumerate(np.linspace(low, high, num_sizes), 1)
    ]


def read_points(path: str) -> np.ndarray:
    """Corners of a path, float (N, 2); y grows downwards."""
    return np.array(re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path), float)


def test_agreement_is_drawn_as_a_bar_for_each_number_of_votes() -> None:
    rows = [{"votes": votes, "share": 0.25, "distance": 0.1} for votes in (2, 3, 5, 10)]
    bars = [draw_agreement(rows[:count]).count("<path") for count in (2, 4)]
    assert bars[1] - bars[0] >= 2
    assert draw_agreement([{"votes": 1, "share": 1.0, "distance": 0.0}]).startswith("<svg")


def test_codecs_are_drawn_by_their_bytes_and_what_they_reach() -> None:
    def student(accuracy: float) -> dict[str, Any]:
        return {"frame_accuracy": {"dev": 0, "test": accuracy}, "wer": {"test": {"wer": 0.5}}}

    codecs = [
        {"name": f"{{kind: {name}}}", "bytes_per_frame": size, "students": [student(a) for a in accuracies]}
        for name, size, accuracies in (
            ("dense", 1000, (0.5, 0.52)), ("sampled", 100, (0.49, 0.51)), ("transform", 10, (0.48, 0.5)),
        )
    ]  # fmt: skip
    (caption, svg), (of_wer, _) = draw_codecs(codecs)
    assert caption.startswith("Frame accuracy") and of_wer.startswith("WER")
    paths = re.findall(r'<path d="([^"]*)"[^>]*style="fill: none; stroke: var\(--distilled\)', svg)
    bars = np.stack([read_points(path) for path in paths])
    places, means = bars[:, 0, 0], bars[:, :, 1].mean(1)
    np.testing.assert_allclose(np.diff(places), places[1] - places[0], rtol=1e-3)
    assert places[1] < places[0]
    one_percent = means[1] - means[0]
    assert one_percent > 0
    np.testing.assert_allclose(np.diff(means), one_percent, rtol=1e-3)
    np.testing.assert_allclose(-np.diff(bars[:, :, 1]), 2 * 2**0.5 * one_percent, rtol=1e-3)
    assert all(f">{name}</text>" in svg for name in ("dense", "sampled", "transform"))
    assert draw_codecs([]) == []


def test_ensemble_sizes_are_drawn_at_their_places() -> None:
    svg = draw_ensemble_size({"dev": make_curve(0.72, 0.75, 4), "test": make_curve(0.60, 0.63, 4)})
    assert "on dev and test" in svg.partition(">")[0]
    assert ">dev</text>" in svg and ">test</text>" in svg
    lines = re.findall(r'<path d="([^"]*)"[^>]*style="fill: none;[^"]*stroke: var\(--ensemble\)', svg)
    dev, test = map(read_points, lines)
    assert len(test) == 4
    np.testing.assert_allclose(np.diff(test[:, 0]), np.diff(dev[:, 0])[0], atol=1e-3)
    one_percent = (test[0, 1] - test[3, 1]) / 3
    assert one_percent > 0
    np.testing.assert_allclose(-np.diff([dev[:, 1], test[:, 1]]), one_percent, atol=1e-3)
    np.testing.assert_allclose(test[:, 1] - dev[:, 1], 12 * one_percent, atol=1e-3)
    bands = [read_points(path) for path in re.findall(r'<path id="\w+" d="([-ML\d.\s]+z\s*)"', svg)]
    for band, line in zip(bands, (dev, test), strict=True):
        for x, _ in line:
            assert np.ptp(band[band[:, 0] == x, 1]) == pytest.approx(3 * one_percent, abs=1e-3)


def test_a_single_teacher_can_be_drawn() -> None:
    curve = [{"size": 1, "mean": 0.6, "min": 0.6, "max": 0.6, "num_subsets": 1}]
    assert draw_ensemble_size({"dev": curve, "test": curve}).startswith("<svg")


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


def test_counts_are_readable() -> None:
    counts = (0, 950, 1000, 99_949, 99_960, 999_499, 999_500, 1_234_567, 105_000_000, 2_400_000_000)
    assert [format_count(count) for count in counts] == [
        "0", "950", "1.0 k", "99.9 k", "100 k", "999 k", "1.0 M", "1.2 M", "105 M", "2.4 G",
    ]  # fmt: skip


def test_costs_are_readable() -> None:
    assert [format_seconds(seconds) for seconds in (0.04, 59.9, 61, 3725)] == [
        "0.0 s", "59.9 s", "1 min 01 s", "1 h 02 min",
    ]  # fmt: skip
    assert [format_bytes(size) for size in (12, 1500, 2.5e6, 3e9)] == ["12 B", "1.5 kB", "2.5 MB", "3.0 GB"]
