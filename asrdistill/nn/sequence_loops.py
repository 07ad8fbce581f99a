"""The inner loops over paths through tied states: forward-backward, and the counts that it rests on.

In the probability domain: a frame's forward probabilities are divided by their sum, backward ones by what
makes occupancies sum to 1, so that nothing runs out of float32; the logarithms of what was divided by are
summed in float64. An utterance is one thread's: the number of threads changes nothing. States and arcs are
counted in uint32, since for a signed index numba asks each time whether it is below 0. All of it is in one
file, because numba, which keeps what it compiled, does not notice a change in another one.
Source: Povey et al. (2016), "Purely sequence-trained neural networks for ASR based on lattice-free MMI",
Interspeech, section 2, and Kaldi's chain denominator, whose leaky HMM the jumps are.
Shapes: N sequences (members times utterances) of L frames at most, P pdf-ids, A arcs.
"""

from typing import NamedTuple

import numba
import numpy as np

# Lets the compiler vectorise a sum.
SUMMING = {"contract", "reassoc", "nsz"}


class Arcs(NamedTuple):
    """Transitions, listed by the state at one of their ends.

    Attributes:
        starts: uint32 (P + 1,), state s has the arcs from `starts[s]` to `starts[s + 1]`.
        states: uint32 (A,), the state at the other end.
        probabilities: float32 (A,).
    """

    starts: np.ndarray
    states: np.ndarray
    probabilities: np.ndarray


@numba.njit(cache=True, nogil=True)
def count_pairs(
    pdf_ids: np.ndarray, starts: np.ndarray, pairs: np.ndarray, first: np.ndarray, last: np.ndarray
) -> None:
    """Count which pdf-id follows which, and with which utterances begin and end.

    Args:
        pdf_ids: int32 (frames,); below 0 where a frame has none.
        starts: int64 (utterances + 1,).
        pairs: int32 (P, P), added to: from row to column.
        first: int64 (P,), added to.
        last: int64 (P,), added to.
    """
    for utterance in range(len(starts) - 1):
        previous = -1
        for frame in range(starts[utterance], starts[utterance + 1]):
            pdf_id = pdf_ids[frame]
            if pdf_id >= 0 and previous >= 0:
                pairs[previous, pdf_id] += 1
            if pdf_id >= 0 and frame == starts[utterance]:
                first[pdf_id] += 1
            previous = pdf_id
        if previous >= 0:
            last[previous] += 1


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def _follow(
    vector: np.ndarray,
    starts: np.ndarray,
    states: np.ndarray,
    probabilities: np.ndarray,
    jumped: np.float32,
    sums: np.ndarray,
) -> None:
    """Fill each state's sum over its arcs, of their probability times what their other end has."""
    for state in range(len(sums)):
        total = jumped
        for arc in range(starts[state], starts[state + 1]):
            total += probabilities[arc] * vector[states[arc]]
        sums[state] = total


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def _multiply(row: np.ndarray, factors: np.ndarray) -> np.float32:
    """Multiply a row by factors; its sum then."""
    total = np.float32(0)
    for place in range(len(row)):
        row[place] *= factors[place]
        total += row[place]
    return total


@numba.njit(cache=True, nogil=True)
def _scale(row: np.ndarray, scale: np.float32) -> None:
    for place in range(len(row)):
        row[place] *= scale


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def _sum_products(row: np.ndarray, factors: np.ndarray) -> np.float32:
    total = np.float32(0)
    for place in range(len(row)):
        total += row[place] * factors[place]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _go_forward(
    emissions: np.ndarray,
    starts: np.ndarray,
    states: np.ndarray,
    probabilities: np.ndarray,
    initial: np.ndarray,
    final: np.ndarray,
    jump: np.float32,
    forward: np.ndarray,
) -> float:
    """Fill the forward probabilities, each frame's divided by their sum; log of the sum over all paths."""
    log_total, one = 0.0, np.float32(1)
    for frame in range(len(emissions)):
        if frame:
            _follow(forward[frame - 1], starts, states, probabilities, jump, forward[frame])
        else:
            forward[frame] = initial
        total = _multiply(forward[frame], emissions[frame])
        _scale(forward[frame], one / total)
        log_total += np.log(np.float64(total))
    return log_total + np.log(np.float64(_sum_products(forward[len(emissions) - 1], final)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _go_backward(
    emissions: np.ndarray,
    starts: np.ndarray,
    states: np.ndarray,
    probabilities: np.ndarray,
    final: np.ndarray,
    jump: np.float32,
    forward: np.ndarray,
) -> None:
    """Turn forward probabilities into occupancies, each frame's of which sum to 1."""
    one = np.float32(1)
    backward, weighted = final.copy(), np.empty_like(final)
    for frame in range(len(emissions) - 1, -1, -1):
        scale = one / _multiply(forward[frame], backward)
        _scale(forward[frame], scale)
        _scale(backward, scale)
        weighted[:] = emissions[frame]
        total = _multiply(weighted, backward)
        if frame:
            _follow(weighted, starts, states, probabilities, jump * total, backward)


@numba.njit(cache=True, parallel=True, nogil=True)
def sum_paths(
    emissions: np.ndarray,
    lengths: np.ndarray,
    by_source: Arcs,
    by_destination: Arcs,
    initial: np.ndarray,
    final: np.ndarray,
    jump: np.float32,
    occupancies: np.ndarray,
    log_totals: np.ndarray,
    is_total_enough: bool,
) -> None:
    """Sum over all paths of every sequence, and how likely each state is at each frame.

    Args:
        emissions: float32 (N, L, P), what a state multiplies the probability of a path by, at most 1.
        lengths: int64 (N,); what is beyond is not read.
        by_source: arcs, by the state they come from.
        by_destination: the same, by the state they go to.
        initial: float32 (P,), probability to begin with a state.
        final: float32 (P,), probability to end after it.
        jump: probability to go from any state to any other one, besides arcs.
        occupancies: float32 (N, L, P), filled; 0 beyond a sequence's length.
        log_totals: float64 (N,), filled with the logarithm of the sum over paths.
        is_total_enough: whether occupancies are not asked for; they are not right then.
    """
    # A parallel loop does not take named tuples.
    out_starts, destinations, going = by_source
    in_starts, sources, coming = by_destination
    for number in numba.prange(len(emissions)):
        length = lengths[number]
        own, filled = emissions[number, :length], occupancies[number, :length]
        log_totals[number] = _go_forward(own, in_starts, sources, coming, initial, final, jump, filled)
        if not is_total_enough:
            _go_backward(own, out_starts, destinations, going, final, jump, filled)
        occupancies[number, length:] = 0


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def _sum_gaps(weights: np.ndarray, row: np.ndarray, other: np.ndarray) -> np.float32:
    total = np.float32(0)
    for place in range(len(row)):
        total += weights[place] * (row[place] - other[place])
    return total


@numba.njit(cache=True, parallel=True, nogil=True)
def compare_scores(
    occupancies: np.ndarray, scores: np.ndarray, others: np.ndarray, lengths: np.ndarray, gaps: np.ndarray
) -> None:
    """By how much other scores are lower on average, summed over the frames of every sequence.

    Args:
        occupancies: float32 (S, L, P), what the average is weighted by.
        scores: float32 (S, L, P).
        others: float32 (N, L, P), of some members' S utterances each.
        lengths: int64 (S,).
        gaps: float64 (N,), filled.
    """
    for number in numba.prange(len(others)):
        utterance, total = number % len(scores), 0.0
        for frame in range(lengths[utterance]):
            total += _sum_gaps(occupancies[utterance, frame], scores[utterance, frame], others[number, frame])
        gaps[number] = total
