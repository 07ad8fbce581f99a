"""Lattices: what a search kept, small enough to be searched again under other weights.

A path's cost is graph cost + acoustic_scale * acoustic cost + insertion_penalty * number of words, so the
weights can be tuned on lattices without another decoding. Costs are negative natural logs.
"""

from dataclasses import dataclass

import kaldifst
import numba
import numpy as np

from asrdistill.decoding.transducer import of_fst


@dataclass(frozen=True)
class Lattice:
    """An acyclic graph of hypotheses; state 0 is the start, the last state the end.

    Every arc leads from a lower to a higher state, and arcs are sorted by source.

    Attributes:
        source: int32 (A,).
        destination: int32 (A,).
        word: int32 (A,) word id, 0 where the arc has no word.
        graph_cost: float32 (A,) cost of language model, lexicon and HMM transitions.
        acoustic_cost: float32 (A,) negative scaled log likelihood, unscaled by the search's acoustic scale.
        num_states: number of states.
        is_complete: False where no path that the search kept could end where a sentence may: the
            hypotheses are then partial.
    """

    source: np.ndarray
    destination: np.ndarray
    word: np.ndarray
    graph_cost: np.ndarray
    acoustic_cost: np.ndarray
    num_states: int
    is_complete: bool

    @classmethod
    def empty(cls) -> "Lattice":
        """What is found in an utterance without frames: no word."""
        states, costs = np.zeros(0, np.int32), np.zeros(0, np.float32)
        return cls(states, states, states, costs, costs, 1, False)


def best_path(lattice: Lattice, acoustic_scale: float, insertion_penalty: float = 0.0) -> list[int]:
    """Word ids of the path of least cost.

    Args:
        lattice: the hypotheses.
        acoustic_scale: factor on acoustic costs.
        insertion_penalty: cost of each word, natural log units; what is positive makes for fewer words.
    """
    words = _find_best_path(
        lattice.source,
        lattice.destination,
        lattice.word,
        lattice.graph_cost,
        lattice.acoustic_cost,
        lattice.num_states,
        acoustic_scale,
        insertion_penalty,
    )
    return words.tolist()


def of_raw_lattice(raw: kaldifst.Lattice, acoustic_scale: float, is_complete: bool) -> Lattice:
    """Take over the search's own lattice: sort its states, give it one end, undo its acoustic scale."""
    arcs = of_fst(raw)
    rank = _sort_topologically(arcs.source, arcs.destination, arcs.start, arcs.num_states)
    last = np.flatnonzero(np.isfinite(arcs.final[:, 0]))
    end = arcs.num_states
    source = np.concatenate([rank[arcs.source], rank[last]])
    order = np.argsort(source, kind="stable")

    def column(of_arcs: np.ndarray, of_ends: np.ndarray | int, dtype: type) -> np.ndarray:
        of_ends = np.broadcast_to(of_ends, last.shape)
        return np.concatenate([of_arcs, of_ends])[order].astype(dtype)

    return Lattice(
        source[order],
        column(rank[arcs.destination], end, np.int32),
        column(arcs.output_label, 0, np.int32),
        column(arcs.weight[:, 0], arcs.final[last, 0], np.float32),
        column(arcs.weight[:, 1] / acoustic_scale, arcs.final[last, 1] / acoustic_scale, np.float32),
        arcs.num_states + 1,
        is_complete,
    )


@numba.njit(cache=True)
def _sort_topologically(
    source: np.ndarray, destination: np.ndarray, start: int, num_states: int
) -> np.ndarray:
    """Rank of each state: below those of all states that it leads to, and 0 for the start (Kahn's method)."""
    first_arc = np.searchsorted(source, np.arange(num_states + 1))
    ways_in = np.zeros(num_states, np.int32)
    for state in destination:
        ways_in[state] += 1
    queue = np.empty(num_states, np.int32)
    queue[0] = start
    queued = 1
    for state in range(num_states):
        if ways_in[state] == 0 and state != start:
            queue[queued] = state
            queued += 1
    rank = np.empty(num_states, np.int32)
    done = 0
    while done < queued:
        state = queue[done]
        rank[state] = done
        done += 1
        for arc in range(first_arc[state], first_arc[state + 1]):
            ways_in[destination[arc]] -= 1
            if ways_in[destination[arc]] == 0:
                queue[queued] = destination[arc]
                queued += 1
    assert done == num_states, "a lattice has a cycle"
    return rank


@numba.njit(cache=True)
def _find_best_path(
    source: np.ndarray,
    destination: np.ndarray,
    word: np.ndarray,
    graph_cost: np.ndarray,
    acoustic_cost: np.ndarray,
    num_states: int,
    acoustic_scale: float,
    insertion_penalty: float,
) -> np.ndarray:
    cost = np.full(num_states, np.inf)
    cost[0] = 0.0
    best_arc = np.full(num_states, -1, np.int32)
    for arc in range(len(source)):
        total = cost[source[arc]] + graph_cost[arc] + acoustic_scale * acoustic_cost[arc]
        if word[arc] != 0:
            total += insertion_penalty
        if total < cost[destination[arc]]:
            cost[destination[arc]] = total
            best_arc[destination[arc]] = arc
    words = []
    state = num_states - 1
    while state != 0:
        arc = best_arc[state]
        if word[arc] != 0:
            words.append(word[arc])
        state = source[arc]
    return np.array(words[::-1], np.int32)
