"""What the search passes between its loops: the graph's arcs, tokens, links.

Shapes: S states and A arcs of the graph, T frames, N tokens, L links. There are T + 1 places: before each
frame, and behind the last one. Tokens and links lie in the order of their places, those of place t from
`first_token[t]` and `first_link[t]` on, both int64 (T + 2,). A link belongs to the place of its source; its
destination is at the same place where its arc is empty, and at the next one otherwise.
"""

from typing import NamedTuple

import numpy as np


class GraphArcs(NamedTuple):
    """The graph's arcs, by source; of each state first those that take a frame, then the empty ones.

    Attributes:
        begin: int32 (S + 1,): the arcs of state s are [begin[s], begin[s + 1]).
        split: int32 (S,) the first of them that is empty.
        destination: int32 (A,).
        pdf_id: int32 (A,); -1 where the arc is empty.
        cost: float32 (A,).
    """

    begin: np.ndarray
    split: np.ndarray
    destination: np.ndarray
    pdf_id: np.ndarray
    cost: np.ndarray


class Tokens(NamedTuple):
    """The states that were reached, each once a frame.

    Attributes:
        state: int32 (N,) of the graph.
        cost: float64 (N,) of the best path that leads there.
        extra: float64 (N,) a lower bound of how much worse than the best path of all the best one through
            here is; infinite where that is more than the lattice beam.
    """

    state: np.ndarray
    cost: np.ndarray
    extra: np.ndarray


class Links(NamedTuple):
    """How tokens were reached.

    Attributes:
        source: int32 (L,) token.
        destination: int32 (L,) token.
        arc: int32 (L,) of the graph; -1 once the link is to be dropped.
        cost: float64 (L,) of the best path that leads to the source and over the link.
    """

    source: np.ndarray
    destination: np.ndarray
    arc: np.ndarray
    cost: np.ndarray
