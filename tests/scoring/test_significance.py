"""Segments against hand-worked cases, intervals and corrections against what they promise, by simulation."""

import math

import numpy as np
import pytest

from asrdistill.scoring.significance import (
    MatchedPairs,
    adjust_p_values,
    bootstrap_difference,
    compare_frames,
    compare_segments,
    find_segments,
)


@pytest.mark.parametrize(
    ("first", "second", "segments"),
    [
        ("CCCC", "CCCC", []),
        ("", "", []),
        ("SCCC", "CCCC", [(1, 0)]),
        ("SCCD", "CCCC", [(1, 0), (1, 0)]),
        ("SCD", "CCC", [(2, 0)]),  # one correct word does not end a segment
        ("SCCS", "CSCC", [(2, 1)]),  # nor two that one system alone has right
        ("SCICC", "CCCC", [(2, 0)]),  # nor two with something inserted between them
        ("CCI", "CC", [(1, 0)]),
        ("CC", "CCII", [(0, 2)]),
        ("", "I", [(0, 1)]),
        ("CCSCCSCC", "CCSCCCCC", [(1, 1), (1, 0)]),
    ],
)
def test_segments_end_in_two_words_that_both_have_right(
    first: str, second: str, segments: list[tuple[int, int]]
) -> None:
    assert find_segments(first, second) == segments
    assert find_segments(second, first) == [(other, one) for one, other in segments]


def test_no_difference_is_found_where_there_is_none() -> None:
    assert compare_segments(["CC"], ["CC"]) == MatchedPairs(0, 0.0, 0.0, 1.0)
    assert compare_segments(["SCC"], ["SCC"]) == MatchedPairs(1, 0.0, 0.0, 1.0)
    assert compare_segments(["SCCS"], ["CCCC"]).p_value == 1  # no spread, as NIST has it


def test_one_in_twenty_like_systems_differs() -> None:
    """Of 1,000 pairs of systems that make errors at one rate, independently."""
    rng = np.random.default_rng(0)

    def draw() -> list[str]:
        return ["".join(rng.choice(["C", "S"], 10, p=[0.8, 0.2])) for _ in range(40)]

    found = np.array([compare_segments(draw(), draw()).p_value for _ in range(1000)])
    # The binomial's standard deviation is 0.007.
    assert abs((found < 0.05).mean() - 0.05) < 0.025


def draw_errors(rng: np.random.Generator, mean: float, num_speakers: int) -> tuple[np.ndarray, ...]:
    """Errors and words of 10 utterances of each speaker, recognised well or badly; and the speakers."""
    words = rng.integers(5, 15, (num_speakers, 10))
    rates = np.clip(rng.normal(mean, 0.1, (num_speakers, 1)), 0, 1)
    speakers = np.repeat(np.arange(num_speakers), 10)
    return rng.binomial(words, rates).ravel(), words.ravel(), speakers


def test_an_interval_of_95_percent_has_the_truth_in_it_19_times_of_20() -> None:
    """Of 1,000 sets of 60 speakers; with utterances drawn in place of speakers it would be fewer."""
    rng, covered, covered_by_utterances = np.random.default_rng(0), 0, 0
    for number in range(1000):
        errors, words, speakers = draw_errors(rng, 0.3, 60)
        names = [f"speaker {speaker}" for speaker in speakers]
        nothing = np.zeros(len(errors))
        low, high = bootstrap_difference(errors, nothing, words, names, num_draws=1000, seed=number)
        covered += low <= 0.3 <= high
        if number < 100:
            alone = [f"utterance {place}" for place in range(len(errors))]
            low, high = bootstrap_difference(errors, nothing, words, alone, num_draws=200, seed=number)
            covered_by_utterances += low <= 0.3 <= high
    assert 0.925 < covered / 1000 < 0.97
    assert covered_by_utterances < 85


def test_a_difference_is_that_of_the_same_speakers() -> None:
    """Its interval is narrow where both systems find the same speakers hard."""
    errors, words, speakers = draw_errors(np.random.default_rng(0), 0.3, 40)
    names = [str(speaker) for speaker in speakers]
    low, high = bootstrap_difference(errors + 1, errors, words, names)
    assert low < len(words) / words.sum() < high < 1.1 * low
    assert bootstrap_difference(errors, errors, words, names) == (0, 0)


def test_corrected_p_values_are_holms() -> None:
    """The example by hand: 4 x 0.005, then 3 x 0.01, then 2 x 0.03, then the one before, which is larger."""
    assert adjust_p_values([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_p_values([0.6, 0.5]) == [1, 1]
    assert adjust_p_values([]) == []


def test_an_unpaired_interval_is_that_of_two_samples_of_speakers() -> None:
    """Wider than the paired one, as wide as both rates' own intervals together, in squares."""
    rng = np.random.default_rng(3)
    difficulty = rng.gamma(4, 5, 60)
    first, second = (rng.poisson(rate * difficulty) for rate in (1.0, 0.9))
    words, names = np.full(60, 100), [f"speaker {n}" for n in range(60)]
    low, high = bootstrap_difference(first, second, words, names, is_paired=False)
    alone = [bootstrap_difference(errors, np.zeros(60), words, names, seed=9) for errors in (first, second)]
    expected = np.hypot(*(end - start for start, end in alone))
    assert high - low == pytest.approx(expected, rel=0.05)
    paired = bootstrap_difference(first, second, words, names)
    assert paired[1] - paired[0] < 0.7 * (high - low)
    assert low < (first.sum() - second.sum()) / words.sum() < high


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (0, 0, 1.0),
        (0, 5, 2 / 2**5),
        (3, 1, 2 * (1 + 4) / 2**4),
        (2, 2, 1.0),
        (1, 9, 2 * (1 + 10) / 2**10),
    ],
)
def test_mcnemar_counts_heads_and_tails(only_first: int, only_second: int, p_value: float) -> None:
    """Frames that both have right, or both wrong, say nothing; of the others each is a coin."""
    first = np.array([True] * only_first + [False] * only_second + [True] * 7 + [False] * 4)
    second = np.array([False] * only_first + [True] * only_second + [True] * 7 + [False] * 4)
    found = compare_frames(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(p_value)


def test_mcnemar_of_very_many_frames() -> None:
    """As the normal distribution has it, its correction for continuity included."""
    first, second = np.zeros(1_000_000, bool), np.zeros(1_000_000, bool)
    first[:501_000], second[501_000:] = True, True
    z = (501_000 - 499_000 - 1) / math.sqrt(1_000_000)
    assert compare_frames(first, second).p_value == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
