"""Whether one system makes fewer errors than another, or was lucky.

MAPSSWE, the matched-pairs test of sentence segments, asks whether the mean difference in errors is 0 over
segments that both systems got right at their ends, so that errors of one segment have nothing to do with
those of the next. It takes utterances of one speaker for independent; the bootstrap does not, it draws whole
speakers. p-values of several comparisons are made larger, so that one in twenty tables has a wrong star, not
one in twenty stars.
Sources: Gillick & Cox (1989), "Some statistical issues in the comparison of speech recognition algorithms",
ICASSP; NIST SCTK 2.4.10, sc_stats, whose definition of a segment this is; Bisani & Ney (2004), "Bootstrap
estimates for confidence intervals in ASR performance evaluation", ICASSP; Holm (1979), "A simple sequentially
rejective multiple test procedure", Scandinavian Journal of Statistics 6(2).
Shapes: U utterances.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asrdistill.scoring.word_alignment import CORRECT, INSERTION

# Words that both systems have right one after the other end a segment.
MIN_CORRECT = 2
NUM_DRAWS, DRAWS_AT_A_TIME = 10_000, 100


@dataclass(frozen=True)
class MatchedPairs:
    """The outcome of MAPSSWE.

    Attributes:
        num_segments: with an error of either system.
        mean: errors of the first system less those of the second, a segment.
        z: the mean over its standard error; 0 where all differences are alike, as NIST has it.
        p_value: of no difference, two-sided; of z cut to hundredths, as sc_stats looks it up in a table.
    """

    num_segments: int
    mean: float
    z: float
    p_value: float


def compare_segments(first: Iterable[str], second: Iterable[str]) -> MatchedPairs:
    """MAPSSWE of two systems.

    Args:
        first: of each utterance what `align_words` gives for one system.
        second: for the other one, with the same references.
    """
    pairs = zip(first, second, strict=True)
    segments = [segment for alignments in pairs for segment in find_segments(*alignments)]
    differences = np.array([one - other for one, other in segments], np.float64)
    if not len(differences):
        return MatchedPairs(0, 0.0, 0.0, 1.0)
    mean, spread = float(differences.mean()), 0.0
    if len(differences) > 1:
        spread = float(differences.std(ddof=1))
    z = mean / (spread / math.sqrt(len(differences))) if spread else 0.0
    looked_up = math.floor(100 * abs(z)) / 100
    return MatchedPairs(len(differences), mean, z, math.erfc(looked_up / math.sqrt(2)))


def find_segments(first: str, second: str) -> list[tuple[int, int]]:
    """Errors of both systems in each segment of an utterance that has any."""
    segments, errors, num_correct = [], [0, 0], 0
    words = zip(_split(first), _split(second), strict=True)
    for (inserted, is_right), (also_inserted, is_also_right) in words:
        num_correct = 0 if inserted or also_inserted else num_correct
        errors[0] += inserted + (is_right is False)
        errors[1] += also_inserted + (is_also_right is False)
        num_correct = num_correct + 1 if is_right and is_also_right else 0
        if num_correct >= MIN_CORRECT and any(errors):
            segments.append((errors[0], errors[1]))
            errors = [0, 0]
    return [*segments, (errors[0], errors[1])] if any(errors) else segments


def _split(alignment: str) -> list[tuple[int, bool | None]]:
    """Of each reference word how many were inserted before it, and whether it is right; None: the end."""
    words: list[tuple[int, bool | None]] = []
    inserted = 0
    for operation in alignment:
        if operation == INSERTION:
            inserted += 1
            continue
        words.append((inserted, operation == CORRECT))
        inserted = 0
    return [*words, (inserted, None)]


def bootstrap_difference(
    first: np.ndarray,
    second: np.ndarray,
    sizes: np.ndarray,
    speakers: Sequence[str],
    confidence: float = 0.95,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the difference between two error rates, from draws of whole speakers.

    Args:
        first: (U,) errors of one system, of words or frames.
        second: (U,) of the other one; zeros give the interval of the first one's own rate.
        sizes: (U,) words or frames of the reference.
        speakers: of each utterance.
        confidence: of the interval.
        num_draws: of as many speakers as there are, with replacement.
        seed: of the draws.

    Returns:
        Lower and upper end of first less second, fractions; the percentile interval.
    """
    _, blocks = np.unique(np.asarray(speakers), return_inverse=True)
    differences = np.bincount(blocks, np.asarray(first, np.float64) - second)
    totals = np.bincount(blocks, np.asarray(sizes, np.float64))
    drawn = [
        (counts @ differences) / (counts @ totals)
        for counts in draw_blocks(np.random.default_rng(seed), len(totals), num_draws)
    ]
    low, high = np.quantile(np.concatenate(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def draw_blocks(
    rng: np.random.Generator, num_blocks: int, num_draws: int = NUM_DRAWS
) -> Iterator[np.ndarray]:
    """How often each block is drawn, with replacement: int64 (some draws, blocks), until all are done."""
    even = np.full(num_blocks, 1 / num_blocks)
    for first in range(0, num_draws, DRAWS_AT_A_TIME):
        yield rng.multinomial(num_blocks, even, min(DRAWS_AT_A_TIME, num_draws - first))


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: of several tests, all that stay below 0.05 are right with a probability of 0.95."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(np.asarray(p_values)[order] * factors, 1))
    return adjusted.tolist()
