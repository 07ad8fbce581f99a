"""The search: its lattices, its failures, its workers."""

from functools import partial

import kaldi_decoder
import kaldifst
import numpy as np
import pytest

from asrdistill.decoding.decoder import DecoderConfig, decode, decode_utterances
from asrdistill.decoding.graph import DecodingGraph
from asrdistill.decoding.lattice import best_path, find_best_arcs
from asrdistill.decoding.transducer import of_fst
from asrdistill.errors import ContractError

CONFIG = DecoderConfig(acoustic_scale=0.7, beam=20, lattice_beam=8)


def make_scores(seed: int, num_pdfs: int, num_frames: int = 40) -> np.ndarray:
    return 2 * np.random.default_rng(seed).standard_normal((num_frames, num_pdfs)).astype(np.float32)


def search(graph: DecodingGraph, scores: np.ndarray) -> kaldi_decoder.LatticeSimpleDecoder:
    """The search without what we make of it."""
    beams = kaldi_decoder.LatticeSimpleDecoderConfig(beam=CONFIG.beam, lattice_beam=CONFIG.lattice_beam)
    found = kaldi_decoder.LatticeSimpleDecoder(graph.fst, beams)
    found.decode(kaldi_decoder.DecodableCtc(scores * np.float32(CONFIG.acoustic_scale)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_best_path_is_that_of_the_search_itself(seed: int, graph: DecodingGraph) -> None:
    scores = make_scores(seed, graph.num_pdfs)
    _, own = search(graph, scores).get_best_path()
    lattice = decode(graph, scores, CONFIG)
    assert best_path(lattice, CONFIG.acoustic_scale) == kaldifst.get_linear_symbol_sequence(own)[2]
    assert (lattice.source < lattice.destination).all()
    assert (np.diff(lattice.source) >= 0).all()


def least_cost(raw: kaldifst.Lattice, scale: float) -> float:
    """Cost of the best path of a raw lattice, its acoustic costs multiplied by `scale`."""
    arcs = of_fst(raw)
    cost = np.full(arcs.num_states, np.inf)
    cost[arcs.start] = 0
    for _ in range(arcs.num_states):
        before = cost.copy()
        np.minimum.at(cost, arcs.destination, cost[arcs.source] + arcs.weight @ [1, scale])
        if np.array_equal(cost, before):
            break
    return float((cost + arcs.final @ [1, scale]).min())


@pytest.mark.parametrize("seed", range(3))
def test_lattice_has_the_costs_of_the_raw_one_under_any_weights(seed: int, graph: DecodingGraph) -> None:
    scores = make_scores(seed, graph.num_pdfs)
    _, raw = search(graph, scores).get_raw_lattice()
    lattice = decode(graph, scores, CONFIG)
    assert len(lattice.source) < len(of_fst(raw).source)
    for factor in (0.1, 0.5, 1.0, 3.0):
        arcs = find_best_arcs(lattice, factor * CONFIG.acoustic_scale)
        cost = lattice.arc_costs(factor * CONFIG.acoustic_scale, 0.0)[arcs].sum()
        assert cost == pytest.approx(least_cost(raw, factor), abs=1e-3)


def test_acoustic_costs_are_those_of_the_scores(graph: DecodingGraph) -> None:
    scores = make_scores(0, graph.num_pdfs)
    lattice = decode(graph, scores, CONFIG)
    starts, ends = lattice.frame[lattice.source], lattice.frame[lattice.destination]
    assert lattice.frame[0] == 0 and lattice.frame[-1] == len(scores)
    frames = np.concatenate([np.arange(*span) for span in zip(starts, ends, strict=True)])
    arc = np.repeat(np.arange(len(starts)), ends - starts)
    expected = np.bincount(arc, -scores[frames, lattice.pdf_ids], len(starts))
    np.testing.assert_allclose(lattice.acoustic_cost, expected, atol=1e-4)


def test_utterance_too_short_for_a_sentence_is_partial(graph: DecodingGraph) -> None:
    lattice = decode(graph, make_scores(0, graph.num_pdfs, num_frames=2), CONFIG)
    assert not lattice.is_complete
    assert isinstance(best_path(lattice, 1.0), list)


def test_workers_change_nothing(graph: DecodingGraph) -> None:
    scores = {f"utterance-{seed}": make_scores(seed, graph.num_pdfs) for seed in (3, 1, 2, 5, 4)}
    utterances = [(name, partial(np.copy, array)) for name, array in scores.items()]
    (alone,) = decode_utterances([graph], utterances, CONFIG, num_workers=1)
    together, again = decode_utterances([graph, graph], utterances, CONFIG, num_workers=2)
    assert list(alone) == list(together) == list(scores)
    for utterance_id, lattice in alone.items():
        for name, value in vars(lattice).items():
            assert np.array_equal(getattr(together[utterance_id], name), value)
            assert np.array_equal(getattr(again[utterance_id], name), value)
    with pytest.raises(ContractError, match="utterance odd: scores have shape"):
        decode_utterances([graph], [("odd", partial(np.zeros, (4, 1)))], CONFIG, num_workers=2)


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
