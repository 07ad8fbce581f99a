"""Beam search through the decoding graph, with lattices.

Tokens, one for each state of the graph that is within the beam and among the `max_active` best, are passed
from frame to frame; all links between them are kept, but for those on no path within the lattice beam.
kaldi-decoder has a search of this kind too, but without a bound on the number of tokens: with a network over
1,000 tied states and a graph of 150,000 states it could not be as fast as Kaldi without losing four points of
word error rate to search errors. It serves as the oracle of the tests.

Shapes: S states and A arcs of the graph, T frames, P pdf-ids.
Source: Povey et al. (2012), "Generating exact lattices in the WFST framework", ICASSP; Kaldi's
lattice-faster-decoder.
Differs: tokens with empty arcs alone do not count among the active; the lattice is not determinised.
"""

from dataclasses import dataclass
from functools import lru_cache

import kaldifst
import numpy as np

from asrdistill.decoding.search_loops import pass_frames, start_tokens
from asrdistill.decoding.search_pruning import prune, prune_at_end
from asrdistill.decoding.search_tokens import GraphArcs
from asrdistill.decoding.transducer import Arcs, of_fst

PRUNE_INTERVAL = 25


@dataclass(frozen=True)
class SearchGraph:
    """A decoding graph as the search wants it.

    Attributes:
        start: the start state.
        final: float32 (S,) cost of ending in a state.
        arcs: by source, those that take a frame before the empty ones.
        word: int32 (A,) word id, 0 where an arc has no word.
    """

    start: int
    final: np.ndarray
    arcs: GraphArcs
    word: np.ndarray

    @classmethod
    def of_arcs(cls, graph: Arcs) -> "SearchGraph":
        """Sort a graph's arcs; input labels are pdf_id + 1."""
        is_empty = graph.input_label == 0
        order = np.lexsort((is_empty, graph.source))
        begin = np.searchsorted(graph.source[order], np.arange(graph.num_states + 1)).astype(np.int32)
        num_full = np.bincount(graph.source[~is_empty], minlength=graph.num_states)
        arcs = GraphArcs(
            begin,
            (begin[:-1] + num_full).astype(np.int32),
            np.ascontiguousarray(graph.destination[order], np.int32),
            (graph.input_label[order] - 1).astype(np.int32),
            np.ascontiguousarray(graph.weight[order], np.float32),
        )
        final = np.ascontiguousarray(graph.final, np.float32)
        return cls(int(graph.start), final, arcs, graph.output_label[order].astype(np.int32))


@lru_cache(maxsize=2)
def prepare_graph(fst: kaldifst.StdVectorFst) -> SearchGraph:
    """The search graph of a transducer (told by identity); those of the last two, words and phones, stay."""
    return SearchGraph.of_arcs(of_fst(fst))


@dataclass(frozen=True)
class RawLattice:
    """What a search kept, state by state and frame by frame.

    Attributes:
        arcs: the lattice. Input labels are pdf_id + 1, output labels word ids, weights graph cost and
            acoustic cost, the latter without the search's acoustic scale.
        is_complete: False where no path could end where a sentence may; any may end then.
        most_links: the most links that were held at a time.
    """

    arcs: Arcs
    is_complete: bool
    most_links: int


def search(
    graph: SearchGraph,
    scores: np.ndarray,
    acoustic_scale: float,
    beam: float,
    lattice_beam: float,
    max_active: int,
    prune_interval: int = PRUNE_INTERVAL,
) -> RawLattice:
    """Search one utterance.

    Args:
        graph: the graph; every state that an arc with a pdf-id leads to must have such arcs, or lead to
            states that do.
        scores: float32 (T, P) scaled log likelihoods, at least one frame.
        acoustic_scale: factor on them.
        beam: see `DecoderConfig`, and so on.
        prune_interval: frames between two prunings; changes memory and time, not the result.
    """
    num_frames = len(scores)
    costs = np.ascontiguousarray(-acoustic_scale * scores, np.float32)
    tokens, links, first_token, first_link, memory = start_tokens(graph.arcs, graph.start, num_frames)
    starts, most_links = (first_token, first_link), 0
    for begin in range(0, num_frames, prune_interval):
        end = min(begin + prune_interval, num_frames)
        tokens, links = pass_frames(
            graph.arcs, costs, beam, max_active, tokens, links, *starts, memory, begin, end
        )
        most_links = max(most_links, int(first_link[end + 1]))
        if end < num_frames:
            prune(tokens, links, *starts, begin, end, lattice_beam)
    prune_at_end(tokens, links, *starts, graph.final, lattice_beam)
    num_links = first_link[-1]
    arc = links.arc[:num_links]
    frame = np.repeat(np.arange(num_frames + 1), np.diff(first_link))
    label = graph.arcs.pdf_id[arc] + 1
    # Links behind the last frame are empty, and so is what stands at label 0.
    acoustic_cost = np.where(label > 0, -scores[np.minimum(frame, num_frames - 1), label - 1], 0)
    final, is_complete = _find_ends(graph, tokens.state, tokens.cost, first_token, lattice_beam)
    lattice = Arcs(
        0,
        links.source[:num_links],
        links.destination[:num_links],
        label,
        graph.word[arc],
        np.stack([graph.arcs.cost[arc], acoustic_cost], axis=1).astype(np.float32),
        final,
    )
    return RawLattice(lattice.sorted_by_source(), is_complete, most_links)


def _find_ends(
    graph: SearchGraph, state: np.ndarray, cost: np.ndarray, first_token: np.ndarray, lattice_beam: float
) -> tuple[np.ndarray, bool]:
    """The final weights of the tokens, float32 (N, 2), and whether a sentence may end in one of the last."""
    begin, num_tokens = first_token[-2], first_token[-1]
    final_cost = graph.final[state[begin:num_tokens]]
    is_complete = bool(np.isfinite(final_cost).any())
    if not is_complete:
        final_cost = np.zeros_like(final_cost)
    total = cost[begin:num_tokens] + final_cost
    may_end = total <= total.min() + lattice_beam
    final = np.full((num_tokens, 2), np.inf, np.float32)
    final[begin:, 0] = np.where(may_end, final_cost, np.inf)
    final[begin:, 1] = np.where(may_end, 0, np.inf)
    return final, is_complete
