"""Search: scaled log likelihoods in, lattices out, on all cores.

kaldi-decoder's LatticeSimpleDecoder does the search. It holds Python's lock and keeps no bound on the number
of hypotheses but the beam, so utterances are shared out to processes, and a small acoustic scale (flat
scores) needs a narrow beam: the time doubles with about every unit of it.
"""

import multiprocessing
import tempfile
from collections.abc import Iterable
from multiprocessing.context import BaseContext
from pathlib import Path

import kaldi_decoder
import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.decoding.graph import DecodingGraph
from asrdistill.decoding.lattice import Lattice, of_raw_lattice
from asrdistill.errors import ContractError
from asrdistill.progress import track


class DecoderConfig(Config):
    """Settings of the search; the weights that are tuned afterwards are not among them."""

    acoustic_scale: float = Field(0.25, gt=0, description="factor on scaled log likelihoods in the search")
    beam: float = Field(
        10.0, gt=0, description="hypotheses worse than the best one by more are dropped, natural log"
    )
    lattice_beam: float = Field(
        6.0,
        gt=0,
        description="paths worse than the best one by more are left out of a lattice, natural log",
    )


def decode(graph: DecodingGraph, scores: np.ndarray, config: DecoderConfig) -> Lattice:
    """Search the graph for what was said in one utterance.

    Args:
        graph: the decoding graph.
        scores: float32 (T, P) scaled log likelihoods: T frames, P pdf-ids.
        config: beams and scale.

    Returns:
        The lattice; where no hypothesis reached a sentence's end it holds the best partial ones, and without
        frames no word.

    Raises:
        ContractError: a number of columns that is not the graph's, or a score that is not finite.
    """
    _check_scores(graph, scores)
    if not len(scores):
        return Lattice.empty()
    beams = kaldi_decoder.LatticeSimpleDecoderConfig(beam=config.beam, lattice_beam=config.lattice_beam)
    search = kaldi_decoder.LatticeSimpleDecoder(graph.fst, beams)
    scaled = np.ascontiguousarray(scores * config.acoustic_scale, np.float32)
    is_complete = search.decode(kaldi_decoder.DecodableCtc(scaled))
    _, raw = search.get_raw_lattice()
    return of_raw_lattice(raw, config.acoustic_scale, is_complete)


def decode_utterances(
    graph: DecodingGraph,
    scores: Iterable[tuple[str, np.ndarray]],
    config: DecoderConfig,
    num_workers: int,
    num_utterances: int | None = None,
) -> dict[str, Lattice]:
    """Decode many utterances on several processes.

    Args:
        graph: the decoding graph.
        scores: utterance id and its (T, P) scaled log likelihoods; drawn as the search goes on, so a
            generator that computes them need not hold them all.
        config: beams and scale.
        num_workers: processes; with 1 the search runs in this one.
        num_utterances: how many will come, for the progress display.

    Returns:
        Lattice of each utterance, in the order of `scores`, whatever the number of workers.

    Raises:
        ContractError: as `decode`, with the utterance's id.
    """
    if num_workers == 1:
        worker = _Worker(graph, config)
        return dict(track(map(worker.decode, scores), "decode", num_utterances))
    with tempfile.TemporaryDirectory() as folder:
        graph.write(Path(folder))
        with _context().Pool(num_workers, _start_worker, (Path(folder), config)) as pool:
            decoded = pool.imap(_decode_in_worker, scores, chunksize=2)
            return dict(track(decoded, "decode", num_utterances))


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


class _Worker:
    """One process's graph and settings."""

    def __init__(self, graph: DecodingGraph, config: DecoderConfig) -> None:
        self.graph = graph
        self.config = config

    def decode(self, item: tuple[str, np.ndarray]) -> tuple[str, Lattice]:
        utterance_id, scores = item
        try:
            return utterance_id, decode(self.graph, scores, self.config)
        except ContractError as error:
            raise ContractError(f"utterance {utterance_id}: {error}") from error


_worker: _Worker


def _context() -> BaseContext:
    """Processes that start clean, as a fork of a process with torch's threads may hang.

    The server imports this module once, so that later pools start at once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start_worker(graph_dir: Path, config: DecoderConfig) -> None:
    global _worker
    _worker = _Worker(DecodingGraph.read(graph_dir), config)


def _decode_in_worker(item: tuple[str, np.ndarray]) -> tuple[str, Lattice]:
    return _worker.decode(item)
