"""Pairs of systems, and the interval of the transfer: by hand, and what it promises by simulation."""

from dataclasses import replace

import numpy as np
import pytest

from asrdistill.scoring.comparison import (
    Outcome,
    RecognisedSpeech,
    ScoredSpeech,
    bootstrap_transfer,
    bootstrap_transfers,
    compare_pairs,
    list_pairs,
)

SPEAKERS = [f"speaker {number // 3}" for number in range(30)]
SPEECH = ScoredSpeech(np.full(30, 100), {"wer": np.full(30, 4), "per": np.full(30, 4)}, SPEAKERS)


def make_outcome(name: str, wrong_frames: int, alignment: str | None) -> Outcome:
    """All utterances alike, and in each the first frames wrong; phones as words."""
    correct = np.tile(np.arange(100) >= wrong_frames, 30)
    recognised = {}
    if alignment:
        errors = np.full(30, len(alignment) - alignment.count("C"))
        recognised = dict.fromkeys(("wer", "per"), RecognisedSpeech(errors, [alignment] * 30))
    return Outcome(name, correct, np.full(30, wrong_frames), recognised)


def test_differences_are_first_less_second() -> None:
    outcomes = [make_outcome("a", 40, "CCSS"), make_outcome("b", 30, "CCSC"), make_outcome("c", 35, "CCCC")]
    compared = compare_pairs(list_pairs(outcomes), SPEECH)
    assert [(pair["first"], pair["second"]) for pair in compared] == [("a", "b"), ("a", "c"), ("b", "c")]
    frames = [pair["frame_accuracy"] for pair in compared]
    assert [found["difference"] for found in frames] == pytest.approx([-0.1, -0.05, 0.05])
    for interval in ("ci95", "unpaired_ci95"):
        assert frames[0][interval] == pytest.approx([-0.1, -0.1])
    assert [(found["only_first"], found["only_second"]) for found in frames] == [(0, 300), (0, 150), (150, 0)]
    assert all(found["p_value"] <= found["p_corrected"] < 1e-40 for found in frames)
    for rate in ("wer", "per"):
        assert [pair[rate]["difference"] for pair in compared] == pytest.approx([0.25, 0.5, 0.25])
        assert all(pair[rate]["num_segments"] == 30 for pair in compared)
        assert all(pair[rate]["p_corrected"] == 1 for pair in compared)  # nothing varies


def test_other_alignments_leave_words_to_compare() -> None:
    """Frames and phones of two alignments differ in number."""
    first, second = make_outcome("a", 40, "CCSS"), make_outcome("b", 30, "CCSC")
    odd = RecognisedSpeech(np.zeros(30, np.int64), ["CCCCCC"] * 30)
    second = replace(second, correct=second.correct[:-7], recognised={**second.recognised, "per": odd})
    (pair,) = compare_pairs([(first, second)], SPEECH, ("wer",))
    assert pair.keys() == {"first", "second", "wer"}
    assert pair["wer"]["difference"] == pytest.approx(0.25)


def test_without_words_frames_are_compared_alone() -> None:
    (pair,) = compare_pairs([(make_outcome("a", 40, None), make_outcome("b", 30, None))], SPEECH)
    assert not {"wer", "per"} & pair.keys()
    teachers = [make_outcome("a", 40, None), make_outcome("b", 42, None)]
    found = bootstrap_transfers(teachers, make_outcome("e", 30, None), [make_outcome("s", 32, None)], SPEECH)
    assert found.keys() == {"frame_accuracy"}


def test_an_interval_of_a_transfer_is_around_it() -> None:
    """Teachers make 40 and 42 errors, ensemble 30, student 32: of one teacher's lead 8 of 10, or 10 of 12."""
    teachers = np.stack([np.full(30, 40), np.full(30, 42)])
    found = bootstrap_transfer(teachers, np.full(30, 30), np.full((1, 30), 32), SPEAKERS)
    low, high = (41 - 2**0.5, 41 + 2**0.5)  # of two draws of two, stretched
    assert found == pytest.approx(((low - 32) / (low - 30), (high - 32) / (high - 30)))


def test_students_differ_like_teachers() -> None:
    """Teachers make 40 errors, ensemble 30, students 32 and 36: a quarter of draws has one twice."""
    students = np.stack([np.full(30, 32), np.full(30, 36)])
    found = bootstrap_transfer(np.full((3, 30), 40), np.full(30, 30), students, SPEAKERS)
    assert found == pytest.approx((0.6 - 0.2 * 2**0.5, 0.6 + 0.2 * 2**0.5))


def test_a_gain_that_may_be_none_leaves_no_interval() -> None:
    rng = np.random.default_rng(0)
    teachers = rng.poisson(10, (4, 30))
    assert bootstrap_transfer(teachers, rng.poisson(10, 30), rng.poisson(10, (1, 30)), SPEAKERS) is None
    assert bootstrap_transfer(teachers, teachers.mean(0), teachers[:1], SPEAKERS) is None


@pytest.mark.parametrize("num_students", [1, 5])
def test_95_percent_have_the_truth_in_them(num_students: int) -> None:
    """Of 300 experiments of 40 speakers, ten teachers whose rates differ, and a transfer of 0.75.

    Five students differ in their rates too; one has the rate that all have on average.
    """
    covered = 0
    for number in range(300):
        rng = np.random.default_rng(number)
        difficulty = rng.gamma(20, 1 / 20, (40, 1)) * np.ones(5)
        teachers = rng.poisson(rng.normal(100, 2, (10, 1, 1)) * difficulty).reshape(10, -1)
        rates = rng.normal(85, 2 if num_students > 1 else 0, (num_students, 1, 1))
        students = rng.poisson(rates * difficulty).reshape(num_students, -1)
        ensemble = rng.poisson(80 * difficulty).ravel()
        speakers = np.repeat(np.arange(40), 5).astype(str).tolist()
        found = bootstrap_transfer(teachers, ensemble, students, speakers)
        assert found
        covered += found[0] <= 0.75 <= found[1]
    assert 0.91 < covered / 300 < 0.99
