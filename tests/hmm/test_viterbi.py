"""Viterbi against trying every state path."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.hmm.gmm import DiagonalGmm
from asrdistill.hmm.graph import UtteranceGraph, build_utterance_graph
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.viterbi import GraphSet, find_best_path, find_best_paths

TIED = TiedStates.of_monophones({"x", "y"})


def try_all_paths(
    log_likelihoods: np.ndarray, graph: UtteranceGraph, pdf_ids: np.ndarray
) -> tuple[tuple[int, ...], float] | None:
    """The best of all paths that obey the graph, or None where there is none."""
    arcs = {(state, state) for state in range(len(pdf_ids))}
    for state in range(len(pdf_ids)):
        start, end = graph.predecessor_starts[state : state + 2]
        arcs |= {(int(before), state) for before in graph.predecessors[start:end]}
    paths: list[tuple[int, ...]] = [(int(state),) for state in np.flatnonzero(graph.initial)]
    for _ in range(len(log_likelihoods) - 1):
        paths = [(*path, state) for path in paths for before, state in arcs if before == path[-1]]
    complete = [path for path in paths if graph.final[path[-1]]]
    if not complete:
        return None

    def score(path: tuple[int, ...]) -> float:
        return sum(float(log_likelihoods[t, pdf_ids[s]]) for t, s in enumerate(path))

    best = max(complete, key=score)
    return best, score(best)


def check(log_likelihoods: np.ndarray, graph: UtteranceGraph) -> None:
    pdf_ids = TIED.table[graph.codes]
    expected = try_all_paths(log_likelihoods, graph, pdf_ids)
    found = find_best_path(log_likelihoods, graph, pdf_ids)
    if expected is None or found is None:
        assert expected is None
        assert found is None
        return
    assert tuple(found[0]) == expected[0]
    assert found[1] == pytest.approx(expected[1], rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    words=st.lists(st.sampled_from("AB"), min_size=1, max_size=2),
    num_frames=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_transcripts(words: list[str], num_frames: int, seed: int) -> None:
    """Optional silences and parallel pronunciations, B's two of different lengths."""
    graph = build_utterance_graph(words, {"A": [("x",)], "B": [("y", "x"), ("y",)]}, TIED)
    log_likelihoods = np.random.default_rng(seed).normal(0, 3, (num_frames, TIED.num_pdfs))
    check(log_likelihoods.astype(np.float32), graph)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 100_000), num_states=st.integers(1, 5), num_frames=st.integers(1, 5))
def test_arbitrary_graphs(seed: int, num_states: int, num_frames: int) -> None:
    """Any arcs, any initial and final states, some pdf-ids shared."""
    rng = np.random.default_rng(seed)
    arcs = [np.flatnonzero(row) for row in rng.random((num_states, num_states)) < 0.4]
    pdf_ids = rng.integers(0, 3, num_states).astype(np.int32)
    graph = UtteranceGraph(
        np.zeros(num_states, np.int32),
        np.zeros(num_states, np.int32),
        np.concatenate(arcs).astype(np.int32),
        np.cumsum([0, *map(len, arcs)], dtype=np.int32),
        rng.random(num_states) < 0.5,
        rng.random(num_states) < 0.5,
        min_frames=1,
    )
    log_likelihoods = rng.normal(size=(num_frames, 3)).astype(np.float32)
    expected = try_all_paths(log_likelihoods, graph, pdf_ids)
    found = find_best_path(log_likelihoods, graph, pdf_ids)
    # States that share a pdf-id tie, so the scores are compared, and the path found against its own score.
    assert (expected is None) == (found is None)
    if expected is not None and found is not None:
        assert found[1] == pytest.approx(expected[1], rel=1e-5, abs=1e-5)
        own = sum(log_likelihoods[t, pdf_ids[s]] for t, s in enumerate(found[0]))
        assert found[1] == pytest.approx(own, rel=1e-5, abs=1e-5)


def test_too_few_frames_have_no_path() -> None:
    graph = build_utterance_graph(["A"], {"A": [("x", "y")]}, TIED)
    scores = np.zeros((9, TIED.num_pdfs), np.float32)
    pdf_ids = TIED.table[graph.codes]
    assert [n for n in range(10) if find_best_path(scores[:n], graph, pdf_ids) is not None] == [6, 7, 8, 9]


def test_every_path_steps_along_arcs() -> None:
    """A longer utterance, too long to try all: the word positions never fall and every word is there."""
    graph = build_utterance_graph(list("ABAB"), {"A": [("x",)], "B": [("y", "x"), ("y",)]}, TIED)
    scores = np.random.default_rng(3).normal(size=(80, TIED.num_pdfs)).astype(np.float32)
    found = find_best_path(scores, graph, TIED.table[graph.codes])
    assert found is not None
    words = graph.words[found[0]]
    assert [word for word, _ in itertools.groupby(words[words >= 0])] == [0, 1, 2, 3]


def draw_mixtures(rng: np.random.Generator) -> DiagonalGmm:
    """Two or three components for each pdf-id."""
    starts = np.concatenate([[0], np.cumsum(rng.integers(2, 4, TIED.num_pdfs))]).astype(np.int64)
    weights = [rng.dirichlet(np.ones(size)) for size in np.diff(starts)]
    shape = (int(starts[-1]), 4)
    return DiagonalGmm(
        starts,
        np.log(np.concatenate(weights)).astype(np.float32),
        rng.normal(size=shape).astype(np.float32),
        rng.uniform(0.5, 2, shape).astype(np.float32),
        np.ones(shape[0], np.float32),
    )


def test_mixtures_of_many_utterances_equal_one_after_the_other() -> None:
    """Densities computed on the way, all utterances at once, against densities computed beforehand."""
    rng = np.random.default_rng(5)
    pronunciations = {"A": [("x",)], "B": [("y", "x"), ("y",)]}
    transcripts = [list("AB"), list("BBA"), ["A"], list("BAAB")]
    graphs = [build_utterance_graph(words, pronunciations, TIED) for words in transcripts]
    gmm = draw_mixtures(rng)
    lengths = [40, 55, 5, 3]  # the last one is too short
    starts = np.cumsum([0, *lengths])
    frames = rng.normal(size=(starts[-1], 4)).astype(np.float32)
    paths, scores = find_best_paths(frames, starts, GraphSet.of(graphs), TIED.table, gmm)
    for number, graph in enumerate(graphs):
        one = slice(starts[number], starts[number + 1])
        found = find_best_path(gmm.log_likelihoods(frames[one]), graph, TIED.table[graph.codes])
        if found is None:
            assert np.isneginf(scores[number])
            assert (paths[one] == -1).all()
        else:
            np.testing.assert_array_equal(paths[one], found[0])
            assert scores[number] == pytest.approx(found[1], rel=1e-5)


def test_a_set_gives_back_its_graphs() -> None:
    graphs = [
        build_utterance_graph(list(words), {"A": [("x",)], "B": [("y", "x"), ("y",)]}, TIED)
        for words in ("AB", "B", "AA")
    ]
    together = GraphSet.of(graphs)
    for number, graph in enumerate(graphs):
        for name, value in vars(graph).items():
            np.testing.assert_array_equal(getattr(together[number], name), value, err_msg=name)
