"""How sure the search was: posteriors of arcs, confidences of words.

A path's probability is proportional to exp(-cost), under the weights given. The confidence of a word is the
probability that scoring the hypothesis against what was said would count the word as correct, where a path
drawn at random stands for what was said: hypothesis and path are aligned by edit distance, as in the word
error rate. It needs no times, so words that the graph could tell early on one path and late on another are
still the same word.

Source: Xu, Povey, Mangu & Zhu (2011), "Minimum Bayes risk decoding and system combination based on a
recursion for edit distance", Computer Speech & Language 25(4); Kaldi's lattice-to-ctm-conf. As there, the
distance at a state is its mean over the paths to it, so a confidence is exact only where paths with different
words do not meet before they end.
Differs: the hypothesis is taken as it is and not improved; all alignments of a word sequence count, not the
best one alone.
Shapes: A arcs, S states, W words of the hypothesis.
"""

from collections.abc import Sequence

import numba
import numpy as np

from asrdistill.decoding.lattice import Lattice


def arc_posteriors(lattice: Lattice, acoustic_scale: float, insertion_penalty: float = 0.0) -> np.ndarray:
    """Probability that a path drawn from the lattice goes over each arc: float64 (A,).

    Args:
        lattice: the hypotheses.
        acoustic_scale: factor on acoustic costs.
        insertion_penalty: cost of each word, natural log units.
    """
    costs = lattice.arc_costs(acoustic_scale, insertion_penalty)
    forward = _sum_forward(lattice.source, lattice.destination, costs, lattice.num_states)
    backward = _sum_backward(lattice.source, lattice.destination, costs, lattice.num_states)
    log_posteriors = forward[lattice.source] - costs + backward[lattice.destination] - forward[-1]
    return np.exp(np.minimum(log_posteriors, 0.0))


def word_confidences(
    lattice: Lattice, words: Sequence[int], acoustic_scale: float, insertion_penalty: float = 0.0
) -> np.ndarray:
    """Confidence of each word of a hypothesis, between 0 and 1: float64 (W,).

    Args:
        lattice: the hypotheses.
        words: word ids of one of them, such as `best_path` gives.
        acoustic_scale: factor on acoustic costs.
        insertion_penalty: cost of each word, natural log units.
    """
    costs = lattice.arc_costs(acoustic_scale, insertion_penalty)
    forward = _sum_forward(lattice.source, lattice.destination, costs, lattice.num_states)
    came_by = np.exp(np.minimum(forward[lattice.source] - costs - forward[lattice.destination], 0.0))
    hypothesis = np.array(words, np.int32)
    arcs = (lattice.source, lattice.destination, lattice.word, came_by)
    distances = _expect_distances(*arcs, lattice.num_states, hypothesis)
    return np.clip(_expect_matches(*arcs, distances, hypothesis), 0.0, 1.0)


@numba.njit(cache=True)
def _add_logs(first: float, second: float) -> float:
    larger, smaller = max(first, second), min(first, second)
    return larger if smaller == -np.inf else larger + np.log1p(np.exp(smaller - larger))


@numba.njit(cache=True)
def _sum_forward(
    source: np.ndarray, destination: np.ndarray, costs: np.ndarray, num_states: int
) -> np.ndarray:
    """Log of the sum of exp(-cost) of all paths from the start to each state, float64 (S,)."""
    total = np.full(num_states, -np.inf)
    total[0] = 0.0
    for arc in range(len(source)):
        total[destination[arc]] = _add_logs(total[destination[arc]], total[source[arc]] - costs[arc])
    return total


@numba.njit(cache=True)
def _sum_backward(
    source: np.ndarray, destination: np.ndarray, costs: np.ndarray, num_states: int
) -> np.ndarray:
    """Log of the sum of exp(-cost) of all paths from each state to the end, float64 (S,)."""
    total = np.full(num_states, -np.inf)
    total[num_states - 1] = 0.0
    for arc in range(len(source) - 1, -1, -1):
        total[source[arc]] = _add_logs(total[source[arc]], total[destination[arc]] - costs[arc])
    return total


@numba.njit(cache=True)
def _extend(before: np.ndarray, word: int, hypothesis: np.ndarray, after: np.ndarray) -> None:
    """One row of the edit distance: `after` is that to each beginning of the hypothesis with `word` added."""
    after[0] = before[0] + 1
    for length in range(1, len(after)):
        matched = before[length - 1] + (word != hypothesis[length - 1])
        after[length] = min(matched, before[length] + 1, after[length - 1] + 1)


@numba.njit(cache=True)
def _expect_distances(
    source: np.ndarray,
    destination: np.ndarray,
    word: np.ndarray,
    came_by: np.ndarray,
    num_states: int,
    hypothesis: np.ndarray,
) -> np.ndarray:
    """Mean edit distance of the paths to each state from each beginning of the hypothesis.

    Args:
        source: int32 (A,).
        destination: int32 (A,).
        word: int32 (A,).
        came_by: float64 (A,) probability that a path that is at the arc's destination came by it.
        num_states: S.
        hypothesis: int32 (W,).

    Returns:
        float64 (S, W + 1).
    """
    distances = np.zeros((num_states, len(hypothesis) + 1))
    distances[0] = np.arange(len(hypothesis) + 1)
    after = np.empty(len(hypothesis) + 1)
    for arc in range(len(source)):
        before = distances[source[arc]]
        if word[arc] == 0:
            distances[destination[arc]] += came_by[arc] * before
        else:
            _extend(before, word[arc], hypothesis, after)
            distances[destination[arc]] += came_by[arc] * after
    return distances


@numba.njit(cache=True)
def _expect_matches(
    source: np.ndarray,
    destination: np.ndarray,
    word: np.ndarray,
    came_by: np.ndarray,
    distances: np.ndarray,
    hypothesis: np.ndarray,
) -> np.ndarray:
    """Probability that a path's alignment has each word of the hypothesis right, float64 (W,).

    The alignments are followed back from the end; of equal ones, a match or a substitution goes before an
    insertion, and this before a deletion.
    """
    num_words = len(hypothesis)
    matches = np.zeros(num_words)
    mass = np.zeros(distances.shape)  # probability that a path's alignment goes through a state and length
    mass[-1, num_words] = 1.0
    after = np.empty(num_words + 1)
    for arc in range(len(source) - 1, -1, -1):
        arriving = came_by[arc] * mass[destination[arc]]
        before, leaving = distances[source[arc]], mass[source[arc]]
        if word[arc] == 0:
            leaving += arriving
            continue
        _extend(before, word[arc], hypothesis, after)
        for length in range(num_words, 0, -1):
            is_wrong = word[arc] != hypothesis[length - 1]
            if after[length] == before[length - 1] + is_wrong:
                leaving[length - 1] += arriving[length]
                if not is_wrong:
                    matches[length - 1] += arriving[length]
            elif after[length] == before[length] + 1:
                leaving[length] += arriving[length]
            else:
                arriving[length - 1] += arriving[length]
        leaving[0] += arriving[0]
    return matches
