"""Viterbi: the best path through an utterance's HMM."""

import numba
import numpy as np

from asrdistill.hmm.graph import UtteranceGraph


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
    came_by = np.full((num_frames, num_states), 255, np.uint8)
    score = np.full(num_states, -np.inf, np.float64)
    new_score = np.empty(num_states, np.float64)
    for state in range(num_states):
        if initial[state]:
            score[state] = log_likelihoods[0, pdf_ids[state]]
    for frame in range(1, num_frames):
        for state in range(num_states):
            best, arc = score[state], 255
            for position in range(predecessor_starts[state], predecessor_starts[state + 1]):
                candidate = score[predecessors[position]]
                if candidate > best:
                    best, arc = candidate, position - predecessor_starts[state]
            came_by[frame, state] = arc
            new_score[state] = best + log_likelihoods[frame, pdf_ids[state]]
        score, new_score = new_score, score
    path = np.full(num_frames, -1, np.int32)
    best_score, state = -np.inf, -1
    for last in range(num_states):
        if final[last] and score[last] > best_score:
            best_score, state = score[last], last
    if state < 0:
        return path, best_score
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = state
        arc = came_by[frame, state]
        if arc != 255:
            state = predecessors[predecessor_starts[state] + arc]
    return path, best_score


def find_best_path(log_likelihoods: np.ndarray, graph: UtteranceGraph) -> tuple[np.ndarray, float] | None:
    """Find the most likely state sequence.

    Shapes: T frames, P pdf-ids.

    Args:
        log_likelihoods: float32 (T, P).
        graph: the utterance's HMM; a state has at most 254 predecessors.

    Returns:
        States int32 (T,) and the path's log-likelihood, or None where no path has T frames.
    """
    if len(log_likelihoods) < max(graph.min_frames, 1):
        return None
    path, score = _search(
        log_likelihoods,
        graph.pdf_ids,
        graph.predecessors,
        graph.predecessor_starts,
        graph.initial,
        graph.final,
    )
    return (path, score) if path[0] >= 0 else None
