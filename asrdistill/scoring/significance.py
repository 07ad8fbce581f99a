"""Whether one system makes fewer errors than another, or was lucky.

MAPSSWE, the matched-pairs test of sentence segments, asks whether the mean difference in errors is 0 over
segments that both systems got right at their ends, so that errors of one segment have nothing to do with
those of the next. It takes utterances of one speaker for independent; the bootstrap does not, it draws whole
speakers. McNemar's test looks at the frames that one system alone got right, and takes them for independent,
which neighbours are not: of frames the bootstrap is the one to go by. p-values of several comparisons are
made larger, so that one in twenty tables has a wrong star, not one in twenty stars.
Sources: Gillick & Cox (1989), "Some statistical issues in the comparison of speech recognition algorithms",
ICASSP; NIST SCTK 2.4.10, sc_stats, whose definition of a segment this is; Bisani & Ney (2004), "Bootstrap
estimates for confidence intervals in ASR performance evaluation", ICASSP; Holm (1979), "A simple sequentially
rejective multiple test procedure", Scandinavian Journal of Statistics 6(2).
McNemar (1947), "Note on the sampling error of the difference between correlated proportions or percentages",
Psychometrika 12(2); in its exact form.
Shapes: U utterances, N frames.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtr

from asrdistill.scoring.word_alignment import CORRECT, INSERTION

# Words that both systems have right one after the other end a segment.
MIN_CORRECT = 2
NUM_DRAWS, DRAWS_AT_A_TIME = 10_000, 500


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
    is_paired: bool = True,
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
        is_paired: whether both systems are tested on the same draw. Otherwise each has speakers of its own,
            as in two papers: a wider interval, for speakers hard for one system are hard for the other.

    Returns:
        Lower and upper end of first less second, fractions; the percentile interval.
    """
    if is_paired:
        drawn = _draw_rates(np.asarray(first) - second, sizes, speakers, num_draws, seed)
    else:
        drawn = _draw_rates(first, sizes, speakers, num_draws, seed)
        drawn = drawn - _draw_rates(second, sizes, speakers, num_draws, seed + 1)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _draw_rates(
    errors: np.ndarray, sizes: np.ndarray, speakers: Sequence[str], num_draws: int, seed: int
) -> np.ndarray:
    """Errors over size in each draw of speakers, float64 (draws,)."""
    _, blocks = np.unique(np.asarray(speakers), return_inverse=True)
    columns = (np.bincount(blocks, np.asarray(one, np.float64)) for one in (errors, sizes))
    of_blocks = np.stack(list(columns), axis=1)
    drawn = sum_draws(draw_blocks(len(of_blocks), num_draws, seed), of_blocks)
    rates: np.ndarray = drawn[:, 0] / drawn[:, 1]
    return rates


@dataclass(frozen=True)
class McNemar:
    """The outcome of McNemar's test.

    Attributes:
        only_first: frames that the first system alone got right.
        only_second: that the second one alone did.
        p_value: of no difference, two-sided, exact.
    """

    only_first: int
    only_second: int
    p_value: float


def compare_frames(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's test of two systems.

    Args:
        first: bool (N,), which frames one system got right.
        second: the other one.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    fewer, num_frames = min(only_first, only_second), only_first + only_second
    p_value = min(1.0, 2 * float(bdtr(fewer, num_frames, 0.5))) if num_frames else 1.0
    return McNemar(only_first, only_second, p_value)


@lru_cache(maxsize=4)  # every pair of systems takes the same ones
def draw_blocks(num_blocks: int, num_draws: int = NUM_DRAWS, seed: int = 0) -> np.ndarray:
    """How often each block is drawn, of as many as there are, with replacement: uint16 (draws, blocks)."""
    rng, even = np.random.default_rng(seed), np.full(num_blocks, 1 / num_blocks)
    drawn = np.empty((num_draws, num_blocks), np.uint16)
    for start in range(0, num_draws, DRAWS_AT_A_TIME):
        some = drawn[start : start + DRAWS_AT_A_TIME]
        some[:] = rng.multinomial(num_blocks, even, len(some))
    return drawn


def sum_draws(drawn: np.ndarray, of_blocks: np.ndarray) -> np.ndarray:
    """What draws (D, blocks) have of each column of (blocks, K) in all: float64 (D, K)."""
    starts = range(0, len(drawn), DRAWS_AT_A_TIME)
    return np.concatenate([drawn[s : s + DRAWS_AT_A_TIME].astype(np.float64) @ of_blocks for s in starts])


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: of several tests, all that stay below 0.05 are right with a probability of 0.95."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(np.asarray(p_values)[order] * factors, 1))
    return adjusted.tolist()
