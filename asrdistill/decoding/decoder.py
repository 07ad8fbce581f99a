"""Decoding: scaled log likelihoods in, lattices out, on all cores.

The search itself is in `search`. It lets go of Python's lock, as acoustic models do, so utterances are shared
out to threads, which score and search them.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.decoding.graph import DecodingGraph
from asrdistill.decoding.lattice import Lattice, of_raw_lattice
from asrdistill.decoding.search import prepare_graph, search
from asrdistill.errors import ContractError
from asrdistill.parallel import map_in_order
from asrdistill.progress import track

Item = tuple[str, Callable[[], np.ndarray]]
Decoded = tuple[str, list[Lattice]]


class DecoderConfig(Config):
    """Settings of the search; the weights that are tuned afterwards are not among them."""

    acoustic_scale: float = Field(0.12, gt=0, description="factor on scaled log likelihoods in the search")
    beam: float = Field(
        10.0, gt=0, description="hypotheses worse than the best one by more are dropped, natural log"
    )
    lattice_beam: float = Field(
        6.0,
        gt=0,
        description="paths worse than the best one by more are left out of a lattice, natural log",
    )
    max_active: int = Field(
        5000, ge=1, description="hypotheses that are kept at a frame at most: the best ones"
    )


def decode(graph: DecodingGraph, scores: np.ndarray, config: DecoderConfig) -> Lattice:
    """Search the graph for what was said in one utterance.

    Args:
        graph: the decoding graph.
        scores: float32 (T, P) scaled log likelihoods: T frames, P pdf-ids.
        config: beams, bound and scale.

    Returns:
        The lattice; where no hypothesis reached a sentence's end it holds the best partial ones, and without
        frames no word.

    Raises:
        ContractError: a number of columns that is not the graph's, or a score that is not finite.
    """
    _check_scores(graph, scores)
    if not len(scores):
        return Lattice.empty()
    raw = search(
        prepare_graph(graph.fst),
        scores,
        config.acoustic_scale,
        config.beam,
        config.lattice_beam,
        config.max_active,
    )
    return of_raw_lattice(raw.arcs, raw.is_complete)


def decode_utterances(
    graphs: Sequence[DecodingGraph],
    utterances: Iterable[Item],
    config: DecoderConfig,
    num_workers: int,
    num_utterances: int | None = None,
) -> list[dict[str, Lattice]]:
    """Decode many utterances on several threads.

    Args:
        graphs: each utterance is scored once, and searched for in every one.
        utterances: of each its id and what computes its (T, P) scaled log likelihoods, which the thread does
            that then searches.
        config: beams, bound and scale.
        num_workers: threads; with 1 the search runs in this one.
        num_utterances: how many will come, for the progress display.

    Returns:
        For each graph the lattice of each utterance, in the order of `utterances`, whatever the number of
        workers.

    Raises:
        ContractError: as `decode`, with the utterance's id.
    """
    for graph in graphs:  # before threads would do so each
        prepare_graph(graph.fst)
    decoded = map_in_order(partial(_decode_item, graphs, config), utterances, num_workers)
    found: list[dict[str, Lattice]] = [{} for _ in graphs]
    for utterance_id, lattices in track(decoded, "decode", num_utterances):
        for of_graph, lattice in zip(found, lattices, strict=True):
            of_graph[utterance_id] = lattice
    return found


def _decode_item(graphs: Sequence[DecodingGraph], config: DecoderConfig, item: Item) -> Decoded:
    utterance_id, compute_scores = item
    try:
        scores = compute_scores()
        return utterance_id, [decode(graph, scores, config) for graph in graphs]
    except ContractError as error:
        raise ContractError(f"utterance {utterance_id}: {error}") from error


def _check_scores(graph: DecodingGraph, scores: np.ndarray) -> None:
    if scores.ndim != 2 or scores.shape[1] != graph.num_pdfs:
        raise ContractError(
            f"scores have shape {scores.shape}, expected (frames, {graph.num_pdfs}): "
            "the acoustic model and the decoding graph must come from the same tied states"
        )
    if not np.isfinite(scores).all():
        frame = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise ContractError(
            f"scores are not finite from frame {frame} on, expected numbers; look for a pdf-id whose "
            "prior is zero, or a model that has diverged"
        )
