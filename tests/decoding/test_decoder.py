"""The search: its lattices, its failures, its workers."""

import kaldi_decoder
import kaldifst
import numpy as np
import pytest

from asrdistill.decoding.decoder import DecoderConfig, decode, decode_utterances
from asrdistill.decoding.graph import DecodingGraph
from asrdistill.decoding.lattice import best_path
from asrdistill.errors import ContractError

CONFIG = DecoderConfig(acoustic_scale=0.7, beam=20, lattice_beam=8)


def make_scores(seed: int, num_pdfs: int, num_frames: int = 40) -> np.ndarray:
    return 2 * np.random.default_rng(seed).standard_normal((num_frames, num_pdfs)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_best_path_is_that_of_the_search_itself(seed: int, graph: DecodingGraph) -> None:
    scores = make_scores(seed, graph.num_pdfs)
    search = kaldi_decoder.LatticeSimpleDecoder(
        graph.fst,
        kaldi_decoder.LatticeSimpleDecoderConfig(beam=CONFIG.beam, lattice_beam=CONFIG.lattice_beam),
    )
    search.decode(kaldi_decoder.DecodableCtc(scores * np.float32(CONFIG.acoustic_scale)))
    _, own = search.get_best_path()
    lattice = decode(graph, scores, CONFIG)
    assert best_path(lattice, CONFIG.acoustic_scale) == kaldifst.get_linear_symbol_sequence(own)[2]
    assert (lattice.source < lattice.destination).all()
    assert (np.diff(lattice.source) >= 0).all()


def test_acoustic_costs_are_those_of_the_scores(graph: DecodingGraph) -> None:
    scores = make_scores(0, graph.num_pdfs)
    lattice = decode(graph, scores, CONFIG)
    acoustic = lattice.acoustic_cost[lattice.acoustic_cost != 0]
    assert np.abs(acoustic[:, None] + scores.ravel()).min(axis=1).max() < 1e-5


def test_utterance_too_short_for_a_sentence_is_partial(graph: DecodingGraph) -> None:
    lattice = decode(graph, make_scores(0, graph.num_pdfs, num_frames=2), CONFIG)
    assert not lattice.is_complete
    assert isinstance(best_path(lattice, 1.0), list)


def test_workers_change_nothing(graph: DecodingGraph) -> None:
    scores = {f"utterance-{seed}": make_scores(seed, graph.num_pdfs) for seed in (3, 1, 2, 5, 4)}
    alone = decode_utterances(graph, scores.items(), CONFIG, num_workers=1)
    together = decode_utterances(graph, scores.items(), CONFIG, num_workers=2)
    assert list(alone) == list(together) == list(scores)
    for utterance_id, lattice in alone.items():
        for name, value in vars(lattice).items():
            assert np.array_equal(getattr(together[utterance_id], name), value)
    with pytest.raises(ContractError, match="utterance odd: scores have shape"):
        decode_utterances(graph, [("odd", np.zeros((4, 1)))], CONFIG, num_workers=2)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros((5, 3)), r"shape \(5, 3\), expected \(frames, 12\)"),
        (np.array([[0.0] * 12, [np.nan] * 12]), "from frame 1 on"),
    ],
)
def test_unusable_scores_are_refused(scores: np.ndarray, message: str, graph: DecodingGraph) -> None:
    with pytest.raises(ContractError, match=message):
        decode(graph, scores, CONFIG)


def test_an_utterance_without_frames_has_no_words(graph: DecodingGraph) -> None:
    lattice = decode(graph, np.zeros((0, 12), np.float32), CONFIG)
    assert best_path(lattice, 0.1) == [] and not lattice.is_complete
