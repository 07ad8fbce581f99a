"""A raw lattice made compact: states in topological order, chains of arcs merged, dead ends dropped.

A raw lattice has a state for each graph state of each frame, and most of them lie between one arc and one
other. Shapes: A arcs sorted by source, S states; state 0 is the start, state S - 1 the end.
"""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def sort_topologically(
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


@numba.njit(cache=True, nogil=True)
def merge_chains(
    source: np.ndarray,
    destination: np.ndarray,
    input_label: np.ndarray,
    word: np.ndarray,
    graph_cost: np.ndarray,
    acoustic_cost: np.ndarray,
    num_states: int,
) -> tuple[np.ndarray, ...]:
    """Merge arcs that can only follow one another, as long as a word stays at the first frame of its arc.

    Args:
        source: int32 (A,).
        destination: int32 (A,); above the source.
        input_label: int32 (A,) pdf_id + 1 of an arc that takes a frame, otherwise 0.
        word: int32 (A,) word id or 0.
        graph_cost: float32 (A,).
        acoustic_cost: float32 (A,).
        num_states: S.

    Returns:
        Source, destination, word, graph cost and acoustic cost of the arcs that are left; the number of
        frames before each state that is left; the pdf-ids of the frames of all arcs, one arc after the other.
    """
    next_arc, taken = _find_successors(source, destination, num_states)
    heads = np.empty(len(source), np.int32)
    ends = np.empty(len(source), np.int32)
    words = np.empty(len(source), np.int32)
    costs = np.empty((2, len(source)), np.float32)
    frame = np.zeros(num_states, np.int32)
    pdf_ids = np.empty(np.count_nonzero(input_label), np.int32)
    num_arcs = num_frames = 0
    for head in range(len(source)):
        if taken[head]:
            continue
        first_frame = num_frames
        chain_word, graph, acoustic = 0, 0.0, 0.0
        arc, last = head, -1
        while arc >= 0 and (last < 0 or word[arc] == 0 or (chain_word == 0 and num_frames == first_frame)):
            taken[arc] = True
            chain_word = max(chain_word, word[arc])
            graph += graph_cost[arc]
            acoustic += acoustic_cost[arc]
            if input_label[arc] != 0:
                pdf_ids[num_frames] = input_label[arc] - 1
                num_frames += 1
            last, arc = arc, next_arc[arc]
        heads[num_arcs], ends[num_arcs], words[num_arcs] = source[head], destination[last], chain_word
        costs[0, num_arcs], costs[1, num_arcs] = graph, acoustic
        frame[destination[last]] = frame[source[head]] + num_frames - first_frame
        num_arcs += 1
    new_state = _renumber(heads[:num_arcs], ends[:num_arcs], num_states)
    return (
        new_state[heads[:num_arcs]],
        new_state[ends[:num_arcs]],
        words[:num_arcs].copy(),
        costs[0, :num_arcs].copy(),
        costs[1, :num_arcs].copy(),
        frame[new_state >= 0],
        pdf_ids[:num_frames].copy(),
    )


@numba.njit(cache=True, nogil=True)
def _find_successors(
    source: np.ndarray, destination: np.ndarray, num_states: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each arc the only one that can follow it, where none can come between, else -1; and the dead ones.

    An arc is dead where it lies on no path from the first state to the last.
    """
    from_start = np.zeros(num_states, np.bool_)
    to_end = np.zeros(num_states, np.bool_)
    from_start[0] = to_end[num_states - 1] = True
    for arc in range(len(source)):
        from_start[destination[arc]] |= from_start[source[arc]]
    for arc in range(len(source) - 1, -1, -1):
        to_end[source[arc]] |= to_end[destination[arc]]
    dead = ~(from_start[source] & to_end[destination])
    ways_in = np.zeros(num_states, np.int32)
    ways_out = np.zeros(num_states, np.int32)
    out_arc = np.full(num_states, -1, np.int32)
    for arc in range(len(source)):
        if not dead[arc]:
            ways_in[destination[arc]] += 1
            ways_out[source[arc]] += 1
            out_arc[source[arc]] = arc
    out_arc[(ways_in != 1) | (ways_out != 1)] = -1
    return out_arc[destination], dead


@numba.njit(cache=True, nogil=True)
def _renumber(source: np.ndarray, destination: np.ndarray, num_states: int) -> np.ndarray:
    """New numbers, in the old order, of the states that arcs touch, and of the start and the end; else -1."""
    is_used = np.zeros(num_states, np.bool_)
    is_used[0] = is_used[num_states - 1] = True
    is_used[source] = True
    is_used[destination] = True
    new_state = np.cumsum(is_used).astype(np.int32) - np.int32(1)
    new_state[~is_used] = -1
    return new_state
