"""Viterbi: the best path through utterances' HMMs.

The search is exact: there is no beam, so that no utterance which is long enough for its transcript falls out
of one. Its time is that of the densities, which are computed for the pdf-ids of an utterance's own HMM alone.
Two ways in: scores that are there already (a network's), for one utterance; and Gaussian mixtures, for many
utterances on all cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np

from asrdistill.hmm.gmm import DiagonalGmm
from asrdistill.hmm.graph import UtteranceGraph

STAYED = 255


@numba.njit(cache=True, nogil=True)
def _advance(
    score: np.ndarray,
    new_score: np.ndarray,
    came_by: np.ndarray,
    predecessors: np.ndarray,
    predecessor_starts: np.ndarray,
) -> None:
    """One frame on, before it is scored: the best way into every state, and by which arc."""
    for state in range(len(score)):
        best, arc = score[state], STAYED
        first = predecessor_starts[state]
        for position in range(first, predecessor_starts[state + 1]):
            candidate = score[predecessors[position]]
            if candidate > best:
                best, arc = candidate, position - first
        came_by[state] = arc
        new_score[state] = best


@numba.njit(cache=True, nogil=True)
def _trace_back(
    score: np.ndarray,
    came_by: np.ndarray,
    predecessors: np.ndarray,
    predecessor_starts: np.ndarray,
    final: np.ndarray,
    path: np.ndarray,
) -> float:
    """Fill the path that ends best in a final state, and return its score; -inf, and -1, if there is none."""
    best, state = -np.inf, -1
    for last in range(len(score)):
        if final[last] and score[last] > best:
            best, state = score[last], last
    for frame in range(len(path) - 1, -1, -1):
        path[frame] = state
        if state >= 0 and came_by[frame, state] != STAYED:
            state = predecessors[predecessor_starts[state] + came_by[frame, state]]
    return best


@numba.njit(cache=True, nogil=True)
def _search(
    log_likelihoods: np.ndarray,
    pdf_ids: np.ndarray,
    predecessors: np.ndarray,
    predecessor_starts: np.ndarray,
    initial: np.ndarray,
    final: np.ndarray,
) -> tuple[np.ndarray, float]:
    num_frames, num_states = len(log_likelihoods), len(pdf_ids)
    came_by = np.full((num_frames, num_states), STAYED, np.uint8)
    score = np.where(initial, 0.0, -np.inf)
    new_score = np.empty(num_states)
    for frame in range(num_frames):
        if frame:
            _advance(score, new_score, came_by[frame], predecessors, predecessor_starts)
            score, new_score = new_score, score
        for state in range(num_states):
            score[state] += log_likelihoods[frame, pdf_ids[state]]
    path = np.empty(num_frames, np.int32)
    return path, _trace_back(score, came_by, predecessors, predecessor_starts, final, path)


def find_best_path(
    log_likelihoods: np.ndarray, graph: UtteranceGraph, pdf_ids: np.ndarray
) -> tuple[np.ndarray, float] | None:
    """Find the most likely state sequence of one utterance, exactly.

    Shapes: T frames, P pdf-ids.

    Args:
        log_likelihoods: float32 (T, P).
        graph: the utterance's HMM; a state has at most 254 predecessors.
        pdf_ids: int32 (states,), what each of the graph's states emits.

    Returns:
        States int32 (T,) and the path's log-likelihood, or None where no path has T frames.
    """
    if len(log_likelihoods) < max(graph.min_frames, 1):
        return None
    path, score = _search(
        log_likelihoods, pdf_ids, graph.predecessors, graph.predecessor_starts, graph.initial, graph.final
    )
    return (path, score) if path[0] >= 0 else None


@dataclass(frozen=True)
class GraphSet:
    """The HMMs of many utterances side by side: U utterances, S states in all.

    Attributes:
        state_starts: int64 (U + 1,): utterance u has states [starts[u], starts[u + 1]).
        codes: int32 (S,).
        words: int32 (S,).
        predecessors: int32, states counted within their own utterance.
        predecessor_starts: int64 (S + 1,), into `predecessors`.
        initial: bool (S,).
        final: bool (S,).
        min_frames: int64 (U,).
    """

    state_starts: np.ndarray
    codes: np.ndarray
    words: np.ndarray
    predecessors: np.ndarray
    predecessor_starts: np.ndarray
    initial: np.ndarray
    final: np.ndarray
    min_frames: np.ndarray

    @classmethod
    def of(cls, graphs: Sequence[UtteranceGraph]) -> "GraphSet":

        def join(name: str, dtype: type) -> np.ndarray:
            return np.concatenate([np.zeros(0, dtype), *(getattr(graph, name) for graph in graphs)])

        num_arcs = np.cumsum([0, *(len(graph.predecessors) for graph in graphs)])
        starts = [g.predecessor_starts[:-1] + before for g, before in zip(graphs, num_arcs[:-1], strict=True)]
        return cls(
            np.cumsum([0, *(len(graph.codes) for graph in graphs)]),
            join("codes", np.int32),
            join("words", np.int32),
            join("predecessors", np.int32),
            np.concatenate([*starts, num_arcs[-1:]]).astype(np.int64),
            join("initial", bool),
            join("final", bool),
            np.array([graph.min_frames for graph in graphs], np.int64),
        )

    def __getitem__(self, number: int) -> UtteranceGraph:
        states = slice(*self.state_starts[number : number + 2])
        starts = self.predecessor_starts[states.start : states.stop + 1]
        return UtteranceGraph(
            self.codes[states],
            self.words[states],
            self.predecessors[starts[0] : starts[-1]],
            (starts - starts[0]).astype(np.int32),
            self.initial[states],
            self.final[states],
            int(self.min_frames[number]),
        )

    def __len__(self) -> int:
        return len(self.min_frames)


# A component that is so much less likely than its mixture's best one, natural log, adds nothing in float32.
NEGLIGIBLE = np.float32(16)


@numba.njit(cache=True, nogil=True)
def _gather(
    pdf_ids: np.ndarray, starts: np.ndarray, constants: np.ndarray, linear: np.ndarray, quadratic: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mixtures of some pdf-ids: where each starts, and constants (G,) and coefficients (2 D, G)."""
    own_starts = np.zeros(len(pdf_ids) + 1, np.int64)
    for number, pdf in enumerate(pdf_ids):
        own_starts[number + 1] = own_starts[number] + starts[pdf + 1] - starts[pdf]
    dimension = linear.shape[1]
    own_constants = np.empty(own_starts[-1], np.float32)
    coefficients = np.empty((2 * dimension, own_starts[-1]), np.float32)
    for number, pdf in enumerate(pdf_ids):
        first = own_starts[number]
        for component in range(starts[pdf], starts[pdf + 1]):
            place = first + component - starts[pdf]
            own_constants[place] = constants[component]
            for row in range(dimension):
                coefficients[row, place] = linear[component, row]
                coefficients[dimension + row, place] = quadratic[component, row]
    return own_starts, own_constants, coefficients


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _add_products(values: np.ndarray, linear: np.ndarray, quadratic: np.ndarray, number: np.float32) -> None:
    """Add each component's linear and quadratic term for one coefficient of a frame; vectorised over them."""
    for place in range(len(values)):
        values[place] += (linear[place] + quadratic[place] * number) * number


@numba.njit(cache=True, nogil=True)
def _sum_mixtures(values: np.ndarray, starts: np.ndarray, sums: np.ndarray) -> None:
    """Log of the sum of each mixture's components, from their logs (G,)."""
    for number in range(len(sums)):
        first, end = starts[number], starts[number + 1]
        best = values[first]
        for place in range(first + 1, end):
            if values[place] > best:
                best = values[place]
        total, least = np.float32(0), best - NEGLIGIBLE
        for place in range(first, end):
            if values[place] > least:
                total += np.exp(np.float32(values[place] - best))
        sums[number] = best + np.log(total)


@numba.njit(cache=True, nogil=True)
def _score_frames(
    frames: np.ndarray, starts: np.ndarray, constants: np.ndarray, coefficients: np.ndarray
) -> np.ndarray:
    """Log densities, float32 (T, mixtures), of frames (T, D)."""
    num_frames, dimension = frames.shape
    densities = np.empty((num_frames, len(starts) - 1), np.float32)
    values = np.empty(len(constants), np.float32)
    for frame in range(num_frames):
        values[:] = constants
        for row in range(dimension):
            _add_products(values, coefficients[row], coefficients[dimension + row], frames[frame, row])
        _sum_mixtures(values, starts, densities[frame])
    return densities


@numba.njit(cache=True, nogil=True, parallel=True)
def _search_all(
    frames: np.ndarray,
    frame_starts: np.ndarray,
    state_starts: np.ndarray,
    pdf_ids: np.ndarray,
    predecessors: np.ndarray,
    predecessor_starts: np.ndarray,
    initial: np.ndarray,
    final: np.ndarray,
    starts: np.ndarray,
    constants: np.ndarray,
    linear: np.ndarray,
    quadratic: np.ndarray,
    paths: np.ndarray,
    scores: np.ndarray,
) -> None:
    for number in numba.prange(len(frame_starts) - 1):
        first, last = frame_starts[number], frame_starts[number + 1]
        a, b = state_starts[number], state_starts[number + 1]
        if first == last:
            continue
        needed = np.unique(pdf_ids[a:b])
        own_starts, own_constants, coefficients = _gather(needed, starts, constants, linear, quadratic)
        densities = _score_frames(frames[first:last], own_starts, own_constants, coefficients)
        arcs = predecessor_starts[a : b + 1]
        path, score = _search(
            densities,
            np.searchsorted(needed, pdf_ids[a:b]),
            predecessors[arcs[0] : arcs[-1]],
            arcs - arcs[0],
            initial[a:b],
            final[a:b],
        )
        paths[first:last] = path
        scores[number] = score


def find_best_paths(
    frames: np.ndarray, frame_starts: np.ndarray, graphs: GraphSet, table: np.ndarray, gmm: DiagonalGmm
) -> tuple[np.ndarray, np.ndarray]:
    """Find the most likely state sequence of every utterance, exactly, on all cores.

    Shapes: N frames of D coefficients of U utterances.

    Args:
        frames: float32 (N, D).
        frame_starts: int64 (U + 1,): utterance u has frames [starts[u], starts[u + 1]).
        graphs: of the same utterances.
        table: `TiedStates.table`.
        gmm: one mixture for each pdf-id.

    Returns:
        States int32 (N,), counted within the utterance, -1 where there are too few frames; and log-likelihood
        of each path, float64 (U,), -inf where there is none.
    """
    paths = np.full(len(frames), -1, np.int32)
    scores = np.full(len(graphs), -np.inf)
    _search_all(
        frames,
        frame_starts,
        graphs.state_starts,
        table[graphs.codes],
        graphs.predecessors,
        graphs.predecessor_starts,
        graphs.initial,
        graphs.final,
        gmm.starts,
        *gmm.coefficients(),
        paths,
        scores,
    )
    return paths, scores


def list_spans(starts: np.ndarray) -> list[slice]:
    """The slice of every utterance, from where they start and the last one ends."""
    return [slice(int(first), int(end)) for first, end in pairwise(starts)]
