"""The loops of the search: tokens are carried over frames and over empty arcs.

numba's cache does not see changes in other modules: compiled functions call those of their own module alone.
Shapes: as in `search_tokens`; P pdf-ids.
"""

import numba
import numpy as np

from asrdistill.decoding.search_tokens import GraphArcs, Links, Tokens

BEAM_DELTA = 0.5  # by which a beam that max_active made tighter is looser for the next frame, as in Kaldi
NUM_BINS = 500


@numba.njit(cache=True, nogil=True)
def start_tokens(
    arcs: GraphArcs, start: int, num_frames: int
) -> tuple[Tokens, Links, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The place before the first frame.

    Args:
        arcs: of the graph.
        start: its start state.
        num_frames: T.

    Returns:
        Tokens, links, where those of each place begin, and what `pass_frames` needs as working memory.
    """
    num_states = len(arcs.split)
    tokens, links = _make_tokens(2 * num_states), _make_links(2 * len(arcs.cost))
    first_token, first_link = np.zeros(num_frames + 2, np.int64), np.zeros(num_frames + 2, np.int64)
    memory = (
        np.full(num_states, -1, np.int32),
        np.empty(num_states, np.int32),
        np.zeros(num_states, np.bool_),
    )
    num_tokens = _reach(tokens, 0, memory[0], start, 0.0)
    num_tokens, num_links = _complete_place(arcs, tokens, links, 0, num_tokens, 0, np.inf, memory)
    first_token[1], first_link[1] = num_tokens, num_links
    return tokens, links, first_token, first_link, memory


@numba.njit(cache=True, nogil=True)
def pass_frames(
    arcs: GraphArcs,
    costs: np.ndarray,
    beam: float,
    max_active: int,
    tokens: Tokens,
    links: Links,
    first_token: np.ndarray,
    first_link: np.ndarray,
    memory: tuple[np.ndarray, np.ndarray, np.ndarray],
    begin: int,
    end: int,
) -> tuple[Tokens, Links]:
    """Carry tokens over the frames from `begin` to `end`.

    Args:
        costs: float32 (T, P) acoustic costs, scaled.
        beam: see `DecoderConfig`, and so on.
        tokens: known up to place `begin`, as links and where those of each place begin.
        memory: of `start_tokens`.

    Returns:
        Tokens and links up to place `end`, which may have moved.
    """
    for frame in range(begin, end):
        first, num_tokens, num_links = first_token[frame], first_token[frame + 1], first_link[frame + 1]
        tokens = _reserve_tokens(tokens, num_tokens, len(arcs.split))
        links = _reserve_links(links, num_links, len(arcs.cost))
        bounds = _find_bounds(arcs, tokens, first, num_tokens, beam, max_active)
        places = (first, num_tokens, num_links)
        first = num_tokens
        num_tokens, num_links, cutoff = _take_frame(
            arcs, costs[frame], tokens, links, places, bounds, memory[0]
        )
        first_link[frame + 1] = num_links
        num_tokens, num_links = _complete_place(
            arcs, tokens, links, first, num_tokens, num_links, cutoff, memory
        )
        first_token[frame + 2], first_link[frame + 2] = num_tokens, num_links
    return tokens, links


@numba.njit(cache=True, nogil=True)
def _complete_place(
    arcs: GraphArcs,
    tokens: Tokens,
    links: Links,
    first: int,
    num_tokens: int,
    num_links: int,
    cutoff: float,
    memory: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[int, int]:
    """Carry the tokens of a place over empty arcs; returns the numbers of tokens and links."""
    token_of_state, queue, is_queued = memory
    num_tokens = _follow_empty_arcs(arcs, tokens, first, num_tokens, cutoff, token_of_state, queue, is_queued)
    num_links = _link_empty_arcs(arcs, tokens, links, first, num_tokens, num_links, cutoff, token_of_state)
    token_of_state[tokens.state[first:num_tokens]] = -1
    return num_tokens, num_links


@numba.njit(cache=True, nogil=True)
def _make_tokens(capacity: int) -> Tokens:
    return Tokens(np.empty(capacity, np.int32), np.empty(capacity), np.empty(capacity))


@numba.njit(cache=True, nogil=True)
def _make_links(capacity: int) -> Links:
    source, destination = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    return Links(source, destination, np.empty(capacity, np.int32), np.empty(capacity))


@numba.njit(cache=True, nogil=True)
def _reserve_tokens(tokens: Tokens, num_tokens: int, num_more: int) -> Tokens:
    """Tokens with room for more: a frame can bring one a state."""
    if num_tokens + num_more <= len(tokens.state):
        return tokens
    larger = _make_tokens(2 * (num_tokens + num_more))
    for token in range(num_tokens):
        larger.state[token] = tokens.state[token]
        larger.cost[token] = tokens.cost[token]
        larger.extra[token] = tokens.extra[token]
    return larger


@numba.njit(cache=True, nogil=True)
def _reserve_links(links: Links, num_links: int, num_more: int) -> Links:
    """Links with room for more: a frame can bring one an arc."""
    if num_links + num_more <= len(links.arc):
        return links
    larger = _make_links(2 * (num_links + num_more))
    for link in range(num_links):
        larger.source[link] = links.source[link]
        larger.destination[link] = links.destination[link]
        larger.arc[link] = links.arc[link]
        larger.cost[link] = links.cost[link]
    return larger


@numba.njit(cache=True, nogil=True)
def _reach(tokens: Tokens, num_tokens: int, token_of_state: np.ndarray, state: int, cost: float) -> int:
    """Note a path to a state that has no token yet; returns the number of tokens."""
    token_of_state[state] = num_tokens
    tokens.state[num_tokens] = state
    tokens.cost[num_tokens] = cost
    tokens.extra[num_tokens] = 0.0
    return num_tokens + 1


@numba.njit(cache=True, nogil=True)
def _follow_empty_arcs(
    arcs: GraphArcs,
    tokens: Tokens,
    first: int,
    num_tokens: int,
    cutoff: float,
    token_of_state: np.ndarray,
    queue: np.ndarray,
    is_queued: np.ndarray,
) -> int:
    """Carry the tokens from `first` on over empty arcs, to paths below the cutoff; returns their number.

    The queue is a ring of states, each in it once at most.
    """
    head = waiting = 0
    for token in range(first, num_tokens):
        state = tokens.state[token]
        if arcs.split[state] < arcs.begin[state + 1]:
            queue[waiting], is_queued[state] = state, True
            waiting += 1
    while waiting:
        state = queue[head]
        head = (head + 1) % len(queue)
        waiting -= 1
        is_queued[state] = False
        cost = tokens.cost[token_of_state[state]]
        for arc in range(arcs.split[state], arcs.begin[state + 1]):
            total, target = cost + arcs.cost[arc], arcs.destination[arc]
            token = token_of_state[target]
            if total >= cutoff or (token >= 0 and total >= tokens.cost[token]):
                continue
            if token >= 0:
                tokens.cost[token] = total
            else:
                num_tokens = _reach(tokens, num_tokens, token_of_state, target, total)
            if not is_queued[target] and arcs.split[target] < arcs.begin[target + 1]:
                queue[(head + waiting) % len(queue)], is_queued[target] = target, True
                waiting += 1
    return num_tokens


@numba.njit(cache=True, nogil=True)
def _link_empty_arcs(
    arcs: GraphArcs,
    tokens: Tokens,
    links: Links,
    first: int,
    num_tokens: int,
    num_links: int,
    cutoff: float,
    token_of_state: np.ndarray,
) -> int:
    """Link the tokens that empty arcs led to, now that their costs are known; returns the number of links."""
    for token in range(first, num_tokens):
        state = tokens.state[token]
        for arc in range(arcs.split[state], arcs.begin[state + 1]):
            total = tokens.cost[token] + arcs.cost[arc]
            if total < cutoff:
                links.source[num_links] = token
                links.destination[num_links] = token_of_state[arcs.destination[arc]]
                links.arc[num_links] = arc
                links.cost[num_links] = total
                num_links += 1
    return num_links


@numba.njit(cache=True, nogil=True)
def _find_bounds(
    arcs: GraphArcs, tokens: Tokens, first: int, num_tokens: int, beam: float, max_active: int
) -> tuple[int, float, float]:
    """The best of the tokens that can take a frame, the cost up to which they do, and the beam behind it.

    Source: GetCutoff of Kaldi's lattice-faster-decoder.
    Differs: tokens with empty arcs alone do not count, so a frame can be taken from at least one; no number
    of tokens is kept in spite of the beam.
    """
    costs = np.empty(num_tokens - first)
    num_costs, best = 0, -1
    for token in range(first, num_tokens):
        state = tokens.state[token]
        if arcs.begin[state] < arcs.split[state]:
            costs[num_costs] = tokens.cost[token]
            num_costs += 1
            if best < 0 or tokens.cost[token] < tokens.cost[best]:
                best = token
    assert best >= 0, "the decoding graph has a dead end"
    least = tokens.cost[best]
    above = costs[:num_costs] - least
    if num_costs > max_active:
        width = find_nth_smallest(above, beam, max_active)
        if width < beam:
            return best, least + width, min(beam, width + BEAM_DELTA)
    return best, least + beam, beam


@numba.njit(cache=True, nogil=True)
def find_nth_smallest(above: np.ndarray, beam: float, rank: int) -> float:
    """The value of this rank, from 1, of numbers from 0 on; the beam if fewer lie below it.

    A histogram tells between which two bounds it lies, so that few numbers need to be ordered.
    """
    counts = np.zeros(NUM_BINS, np.int64)
    scale = NUM_BINS / beam
    for value in above:
        if value < beam:
            counts[min(int(value * scale), NUM_BINS - 1)] += 1
    below = found = 0
    while found < NUM_BINS and below + counts[found] < rank:
        below += counts[found]
        found += 1
    if found == NUM_BINS:
        return beam
    inside = np.empty(counts[found])
    num_inside = 0
    for value in above:
        if value < beam and min(int(value * scale), NUM_BINS - 1) == found:
            inside[num_inside] = value
            num_inside += 1
    return _quickselect(inside, rank - below)


@numba.njit(cache=True, nogil=True)
def _quickselect(values: np.ndarray, rank: int) -> float:
    """The value of this rank, from 1; reorders the values (Hoare's method; numpy's takes long to compile)."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if rank - 1 <= right:
            high = right
        elif rank - 1 >= left:
            low = left
        else:
            break
    return values[rank - 1]


@numba.njit(cache=True, nogil=True)
def _take_frame(
    arcs: GraphArcs,
    costs: np.ndarray,
    tokens: Tokens,
    links: Links,
    places: tuple[int, int, int],
    bounds: tuple[int, float, float],
    token_of_state: np.ndarray,
) -> tuple[int, int, float]:
    """Carry tokens over a frame.

    The cutoff behind the frame is nearly known at once, from the arcs of the best token before it.

    Args:
        costs: float32 (P,) acoustic costs of the frame.
        places: the first token before the frame, the number of tokens, the number of links.
        bounds: as `_find_bounds` gives them.
        token_of_state: int32 (S,) -1 everywhere; holds the tokens behind the frame afterwards.

    Returns:
        The numbers of tokens and links, and the cutoff.
    """
    first, end, num_links = places
    best, cutoff, beam = bounds
    num_tokens, next_cutoff = end, np.inf
    state = tokens.state[best]
    for arc in range(arcs.begin[state], arcs.split[state]):
        next_cutoff = min(next_cutoff, tokens.cost[best] + arcs.cost[arc] + costs[arcs.pdf_id[arc]] + beam)
    for source in range(first, end):
        cost, state = tokens.cost[source], tokens.state[source]
        if cost > cutoff:
            continue
        for arc in range(arcs.begin[state], arcs.split[state]):
            total = cost + arcs.cost[arc] + costs[arcs.pdf_id[arc]]
            if total >= next_cutoff:
                continue
            next_cutoff = min(next_cutoff, total + beam)
            target = arcs.destination[arc]
            token = token_of_state[target]
            if token < 0:
                token = num_tokens
                num_tokens = _reach(tokens, num_tokens, token_of_state, target, total)
            elif total < tokens.cost[token]:
                tokens.cost[token] = total
            links.source[num_links] = source
            links.destination[num_links] = token
            links.arc[num_links] = arc
            links.cost[num_links] = total
            num_links += 1
    return num_tokens, num_links, next_cutoff
