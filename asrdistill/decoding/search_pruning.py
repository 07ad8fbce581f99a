"""Pruning of the search's tokens and links that are on no good path, so that memory stays bounded.

A token's extra cost is by how much the best path through it is worse than the best path of all. While frames
are still to come, each token of the last place may yet be on the best path and counts as if it were, so extra
costs are lower bounds: pruning on the way never drops what pruning at the end would keep.
Shapes: as in `search_tokens`.
Source: Povey et al. (2012), "Generating exact lattices in the WFST framework", ICASSP; Kaldi's
lattice-faster-decoder.
"""

import numba
import numpy as np

from asrdistill.decoding.search_tokens import Links, Tokens

PRUNE_SHARE = 0.001  # of the lattice beam: smaller changes are not carried further back (Kaldi: 0.1)


@numba.njit(cache=True, nogil=True)
def prune(
    tokens: Tokens,
    links: Links,
    first_token: np.ndarray,
    first_link: np.ndarray,
    last_pruned: int,
    place: int,
    lattice_beam: float,
) -> None:
    """Drop tokens and links that cannot be on a path within the lattice beam, and move up what is behind.

    Goes back from the last place to where the last pruning began, and on for as long as extra costs change.

    Args:
        first_token: int64 (T + 2,) known up to place + 1, which holds the number of tokens; is adjusted.
        first_link: likewise for links.
        last_pruned: the last place at the previous pruning, or 0.
        place: the last place; nothing of it is dropped.
        lattice_beam: see `DecoderConfig`.
    """
    changed, oldest = True, place
    while oldest > 0 and (changed or oldest > last_pruned):
        oldest -= 1
        own = np.full(first_token[oldest + 1] - first_token[oldest], np.inf)
        change = _update_extra(tokens, links, first_token, first_link, oldest, own, lattice_beam)
        changed = change > PRUNE_SHARE * lattice_beam
    _compact(tokens, links, first_token, first_link, oldest, place)


@numba.njit(cache=True, nogil=True)
def prune_at_end(
    tokens: Tokens,
    links: Links,
    first_token: np.ndarray,
    first_link: np.ndarray,
    final: np.ndarray,
    lattice_beam: float,
) -> None:
    """Drop all that is on no path within the lattice beam.

    Args:
        final: float32 (S,) costs of ending; where they are infinite for all last tokens, any of them may end.
    """
    last = len(first_token) - 2
    begin, end = first_token[last], first_token[last + 1]
    own = tokens.cost[begin:end] + final[tokens.state[begin:end]]
    if not np.isfinite(own).any():
        own = tokens.cost[begin:end].copy()
    own -= own.min()
    own[own > lattice_beam] = np.inf
    _update_extra(tokens, links, first_token, first_link, last, own, lattice_beam)
    for place in range(last - 1, -1, -1):
        own = np.full(first_token[place + 1] - first_token[place], np.inf)
        _update_extra(tokens, links, first_token, first_link, place, own, lattice_beam)
    _compact(tokens, links, first_token, first_link, 0, last)


@numba.njit(cache=True, nogil=True)
def _update_extra(
    tokens: Tokens,
    links: Links,
    first_token: np.ndarray,
    first_link: np.ndarray,
    place: int,
    extra: np.ndarray,
    lattice_beam: float,
) -> float:
    """Compute the extra costs of a place's tokens from those of the next place, and mark links to drop.

    Args:
        extra: float64, what the tokens' extra costs are without their links; is overwritten.

    Returns:
        The largest change of an extra cost.
    """
    begin, end = first_token[place], first_token[place + 1]
    last_link, again = first_link[place + 1], True
    while again:  # empty arcs link tokens of one place, in any order
        again = False
        for link in range(last_link - 1, first_link[place] - 1, -1):
            source, destination = links.source[link] - begin, links.destination[link]
            is_empty = destination < end
            beyond = extra[destination - begin] if is_empty else tokens.extra[destination]
            through = beyond + links.cost[link] - tokens.cost[destination]
            if through < extra[source] and through <= lattice_beam:
                extra[source] = through
                again |= is_empty
            if not is_empty and through > lattice_beam:
                links.arc[link] = -1
        while last_link > first_link[place] and links.destination[last_link - 1] >= end:
            last_link -= 1
    for link in range(first_link[place], last_link):
        destination = links.destination[link]
        if extra[destination - begin] + links.cost[link] - tokens.cost[destination] > lattice_beam:
            links.arc[link] = -1
    change = 0.0
    for token in range(begin, end):
        change = max(change, abs(extra[token - begin] - tokens.extra[token]))
        tokens.extra[token] = extra[token - begin]
    return change


@numba.njit(cache=True, nogil=True)
def _compact(
    tokens: Tokens,
    links: Links,
    first_token: np.ndarray,
    first_link: np.ndarray,
    oldest: int,
    last: int,
) -> None:
    """Move up what is kept of the places from `oldest` to `last`; of `oldest` and before, no token goes."""
    base = first_token[oldest]
    new_token = np.empty(first_token[last + 1] - base, np.int32)
    kept, end = base, base
    for place in range(oldest, last + 1):
        begin, end = end, first_token[place + 1]
        for token in range(begin, end):
            if tokens.extra[token] < np.inf:
                new_token[token - base] = kept
                tokens.state[kept] = tokens.state[token]
                tokens.cost[kept] = tokens.cost[token]
                tokens.extra[kept] = tokens.extra[token]
                kept += 1
        first_token[place + 1] = kept
    kept = end = first_link[max(oldest - 1, 0)]
    for place in range(max(oldest - 1, 0), last + 1):
        begin, end = end, first_link[place + 1]
        for link in range(begin, end):
            if links.arc[link] >= 0:
                source, destination = links.source[link], links.destination[link]
                links.source[kept] = new_token[source - base] if source >= base else source
                links.destination[kept] = (
                    new_token[destination - base] if destination >= base else destination
                )
                links.arc[kept] = links.arc[link]
                links.cost[kept] = links.cost[link]
                kept += 1
        first_link[place + 1] = kept
