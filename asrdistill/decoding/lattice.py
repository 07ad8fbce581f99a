"""Lattices: what a search kept, small enough to be searched again under other weights.

A path's cost is graph cost + acoustic_scale * acoustic cost + insertion_penalty * number of words, so the
weights can be tuned on lattices without another decoding. Costs are negative natural logs.

A word stands on some arc of its path: where the graph could first tell which word it is, or a phone before
that in a graph of triphones. `word_times` finds when it was spoken.
"""

from dataclasses import dataclass, field

import numba
import numpy as np

from asrdistill.decoding.compaction import merge_chains, sort_topologically
from asrdistill.decoding.transducer import Arcs


def _no_frames() -> np.ndarray:
    return np.zeros(0, np.int32)


@dataclass(frozen=True)
class Lattice:
    """An acyclic graph of hypotheses; state 0 is the start, the last state the end.

    Every arc leads from a lower to a higher state, arcs are sorted by source, and every state is on a path
    from start to end. An arc may take many frames, or none; its word stands at its first frame.

    Attributes:
        source: int32 (A,).
        destination: int32 (A,).
        word: int32 (A,) word id, 0 where the arc has no word.
        graph_cost: float32 (A,) cost of language model, lexicon and HMM transitions.
        acoustic_cost: float32 (A,) negative scaled log likelihood, unscaled by the search's acoustic scale.
        num_states: number of states.
        is_complete: False where no path that the search kept could end where a sentence may: the
            hypotheses are then partial.
        frame: int32 (num_states,) frames before a state; of length 0 where frames are not known.
        pdf_ids: int32, those of the frames of the first arc, then of the second arc, and so on.
    """

    source: np.ndarray
    destination: np.ndarray
    word: np.ndarray
    graph_cost: np.ndarray
    acoustic_cost: np.ndarray
    num_states: int
    is_complete: bool
    frame: np.ndarray = field(default_factory=_no_frames)
    pdf_ids: np.ndarray = field(default_factory=_no_frames)

    @classmethod
    def empty(cls) -> "Lattice":
        """What is found in an utterance without frames: no word."""
        states, costs = np.zeros(0, np.int32), np.zeros(0, np.float32)
        return cls(states, states, states, costs, costs, 1, False, np.zeros(1, np.int32), states)

    def arc_costs(self, acoustic_scale: float, insertion_penalty: float) -> np.ndarray:
        """Cost of each arc under the weights, float64 (A,)."""
        costs = self.graph_cost + np.float64(acoustic_scale) * self.acoustic_cost
        costs += np.float64(insertion_penalty) * (self.word != 0)
        return costs

    def path_words(self, arcs: np.ndarray) -> list[int]:
        """Word ids of a path."""
        words = self.word[arcs]
        word_ids: list[int] = words[words != 0].tolist()
        return word_ids

    def path_alignment(self, arcs: np.ndarray) -> np.ndarray:
        """The pdf-id of each frame of a path: int32 (T,)."""
        num_frames = self.frame[self.destination] - self.frame[self.source]
        ends = np.cumsum(num_frames)
        pieces = [self.pdf_ids[ends[arc] - num_frames[arc] : ends[arc]] for arc in arcs]
        return np.concatenate([_no_frames(), *pieces])


def best_path(lattice: Lattice, acoustic_scale: float, insertion_penalty: float = 0.0) -> list[int]:
    """Word ids of the path of least cost.

    Args:
        lattice: the hypotheses.
        acoustic_scale: factor on acoustic costs.
        insertion_penalty: cost of each word, natural log units; what is positive makes for fewer words.
    """
    return lattice.path_words(find_best_arcs(lattice, acoustic_scale, insertion_penalty))


def find_best_arcs(lattice: Lattice, acoustic_scale: float, insertion_penalty: float = 0.0) -> np.ndarray:
    """The path of least cost as its arcs, int32, in order; arguments as of `best_path`."""
    costs = lattice.arc_costs(acoustic_scale, insertion_penalty)
    arcs: np.ndarray = _find_best_arcs(lattice.source, lattice.destination, costs, lattice.num_states)
    return arcs


def of_raw_lattice(raw: Arcs, is_complete: bool) -> Lattice:
    """Make a search's own lattice compact.

    Its states are sorted and get one end, and what lies on no path from start to end is dropped. Arcs that
    can only follow one another become one, so every path keeps its words, its frames and, but for rounding,
    its costs.

    Args:
        raw: acyclic; input labels are pdf_id + 1, output labels word ids, weights graph cost and acoustic
            cost.
        is_complete: see `Lattice`.
    """
    rank = sort_topologically(raw.source, raw.destination, raw.start, raw.num_states)
    last = np.flatnonzero(np.isfinite(raw.final[:, 0]))
    end = raw.num_states
    source = np.concatenate([rank[raw.source], rank[last]])
    order = np.argsort(source, kind="stable")

    def column(of_arcs: np.ndarray, of_ends: np.ndarray | int, dtype: type) -> np.ndarray:
        of_ends = np.broadcast_to(of_ends, last.shape)
        return np.concatenate([of_arcs, of_ends])[order].astype(dtype)

    compact = merge_chains(
        source[order],
        column(rank[raw.destination], end, np.int32),
        column(raw.input_label, 0, np.int32),
        column(raw.output_label, 0, np.int32),
        column(raw.weight[:, 0], raw.final[last, 0], np.float32),
        column(raw.weight[:, 1], raw.final[last, 1], np.float32),
        end + 1,
    )
    source, destination, word, graph_cost, acoustic_cost, frame, pdf_ids = compact
    return Lattice(
        source, destination, word, graph_cost, acoustic_cost, len(frame), is_complete, frame, pdf_ids
    )


@numba.njit(cache=True, nogil=True)
def _find_best_arcs(
    source: np.ndarray, destination: np.ndarray, costs: np.ndarray, num_states: int
) -> np.ndarray:
    cost = np.full(num_states, np.inf)
    cost[0] = 0.0
    best_arc = np.full(num_states, -1, np.int32)
    for arc in range(len(source)):
        total = cost[source[arc]] + costs[arc]
        if total < cost[destination[arc]]:
            cost[destination[arc]] = total
            best_arc[destination[arc]] = arc
    path = []
    state = num_states - 1
    while state != 0:
        path.append(best_arc[state])
        state = source[best_arc[state]]
    return np.array(path[::-1], np.int32)
