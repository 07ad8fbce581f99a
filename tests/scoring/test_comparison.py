"""Pairs of systems, and the interval of the transfer: by hand, and what it promises by simulation."""

import numpy as np
import pytest

from asrdistill.scoring.comparison import (
    Outcome,
    ScoredSpeech,
    bootstrap_transfer,
    bootstrap_transfers,
    compare_pairs,
)

SPEAKERS = [f"speaker {number // 3}" for number in range(30)]
SPEECH = ScoredSpeech(np.full(30, 100), np.full(30, 4), SPEAKERS)


def make_outcome(name: str, wrong_frames: int, alignment: str | None) -> Outcome:
    """All utterances alike."""
    errors = None if alignment is None else np.full(30, len(alignment) - alignment.count("C"))
    return Outcome(name, np.full(30, wrong_frames), errors, alignment and [alignment] * 30)


def test_differences_are_first_less_second() -> None:
    outcomes = [make_outcome("a", 40, "CCSS"), make_outcome("b", 30, "CCSC"), make_outcome("c", 35, "CCCC")]
    compared = compare_pairs(outcomes, SPEECH)
    assert [(pair["first"], pair["second"]) for pair in compared] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair["frame_accuracy"]["difference"] for pair in compared] == pytest.approx([-0.1, -0.05, 0.05])
    assert compared[0]["frame_accuracy"]["ci95"] == pytest.approx([-0.1, -0.1])
    assert [pair["wer"]["difference"] for pair in compared] == pytest.approx([0.25, 0.5, 0.25])
    assert all(pair["wer"]["num_segments"] == 30 for pair in compared)
    assert all(pair["wer"]["p_corrected"] == 1 for pair in compared)  # nothing varies


def test_without_words_frames_are_compared_alone() -> None:
    (pair,) = compare_pairs([make_outcome("a", 40, None), make_outcome("b", 30, None)], SPEECH)
    assert "wer" not in pair
    teachers = [make_outcome("a", 40, None), make_outcome("b", 42, None)]
    found = bootstrap_transfers(teachers, make_outcome("e", 30, None), make_outcome("s", 32, None), SPEECH)
    assert found.keys() == {"frame_accuracy"}


def test_an_interval_of_a_transfer_is_around_it() -> None:
    """Teachers make 40 and 42 errors, ensemble 30, student 32: of one teacher's lead 8 of 10, or 10 of 12."""
    teachers = np.stack([np.full(30, 40), np.full(30, 42)])
    found = bootstrap_transfer(teachers, np.full(30, 30), np.full(30, 32), SPEAKERS)
    assert found == pytest.approx((8 / 10, 10 / 12))


def test_a_gain_that_may_be_none_leaves_no_interval() -> None:
    rng = np.random.default_rng(0)
    teachers = rng.poisson(10, (4, 30))
    assert bootstrap_transfer(teachers, rng.poisson(10, 30), rng.poisson(10, 30), SPEAKERS) is None
    assert bootstrap_transfer(teachers, teachers.mean(0), teachers[0], SPEAKERS) is None


def test_95_percent_have_the_truth_in_them() -> None:
    """Of 300 experiments of 40 speakers, ten teachers whose rates differ, and a transfer of 0.75."""
    covered = 0
    for number in range(300):
        rng = np.random.default_rng(number)
        difficulty = rng.gamma(20, 1 / 20, (40, 1))
        teachers = rng.poisson(rng.normal(100, 2, (10, 1, 1)) * difficulty * np.ones(5)).reshape(10, -1)
        ensemble, student = (rng.poisson(rate * difficulty * np.ones(5)).ravel() for rate in (80, 85))
        found = bootstrap_transfer(
            teachers, ensemble, student, np.repeat(np.arange(40), 5).astype(str).tolist()
        )
        assert found
        covered += found[0] <= 0.75 <= found[1]
    assert 0.91 < covered / 300 < 0.99
