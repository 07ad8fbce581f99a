"""The decoding graph against enumeration of all word sequences, pronunciations, silences and alignments."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.decoder import DecoderConfig, decode
from asrdistill.decoding.graph import DecodingGraph, GraphConfig, build_graph
from asrdistill.decoding.lattice import Lattice, best_path
from asrdistill.decoding.ngram import SENTENCE_END, SENTENCE_START, NgramConfig, NgramModel, estimate_ngrams
from asrdistill.decoding.transducer import Arcs, of_fst, to_fst
from asrdistill.errors import ContractError, CorpusError
from asrdistill.hmm.topology import TiedStates

NUM_FRAMES = 13
SENTENCES = [text.split() for text in ("a no", "an an", "know a", "no no a", "none", "a know none")]
GRAPH_CONFIG = GraphConfig(silence_probability=0.3, self_loop_probability=0.6)
EXHAUSTIVE = DecoderConfig(acoustic_scale=0.5, beam=1000, lattice_beam=1000)


Sentence = tuple[tuple[str, ...], tuple[str, ...], float]


@pytest.fixture(scope="module", params=[1, 2], ids=["unigram", "bigram"])
def language(request: pytest.FixtureRequest, lexicon: Lexicon) -> tuple[NgramModel, list[Sentence]]:
    """A language model and all sentences of at most four phones."""
    ngrams = estimate_ngrams(SENTENCES, lexicon.pronunciations, NgramConfig(order=request.param))
    return ngrams, list(_enumerate_sentences(lexicon, ngrams))


@pytest.mark.parametrize("seed", range(15))
def test_best_path_is_that_of_enumeration(
    seed: int, language: tuple[NgramModel, list[Sentence]], lexicon: Lexicon, tied_states: TiedStates
) -> None:
    _compare_with_enumeration(seed, *language, lexicon, tied_states)


@pytest.mark.parametrize("seed", range(15))
def test_best_path_in_context_is_that_of_enumeration(
    seed: int,
    language: tuple[NgramModel, list[Sentence]],
    lexicon: Lexicon,
    grow_random_trees: Callable[[int], TiedStates],
) -> None:
    _compare_with_enumeration(seed, *language, lexicon, grow_random_trees(seed))


def _compare_with_enumeration(
    seed: int, ngrams: NgramModel, sentences: list[Sentence], lexicon: Lexicon, tied_states: TiedStates
) -> None:
    graph = build_graph(lexicon, ngrams, tied_states, GRAPH_CONFIG)
    scores = 3 * np.random.default_rng(seed).standard_normal((NUM_FRAMES, tied_states.num_pdfs))
    aligned = {phones: _align(phones, -0.5 * scores, tied_states) for _, phones, _ in sentences}
    cost, words = min((grammar + aligned[phones], words) for words, phones, grammar in sentences)
    lattice = decode(graph, scores, EXHAUSTIVE)
    assert lattice.is_complete
    assert tuple(graph.words[word] for word in best_path(lattice, 0.5)) == words
    assert _least_cost(lattice, 0.5) == pytest.approx(cost, abs=0.01)  # weights are quantised to 1/1024


def _enumerate_sentences(lexicon: Lexicon, ngrams: NgramModel) -> Iterator[Sentence]:
    """Words, phones and cost of all sentences of at most four phones (what 13 frames can hold)."""
    silence, speech = -math.log(0.3), -math.log(0.7)
    for length in range(5):
        for words in itertools.product(lexicon.pronunciations, repeat=length):
            context = [SENTENCE_START, *words, SENTENCE_END]
            cost = -sum(ngrams.log_prob(context[i], context[:i]) for i in range(1, len(context)))
            for spoken in itertools.product(*(lexicon.pronunciations[word] for word in words)):
                for silences in itertools.product((False, True), repeat=length + 1):
                    parts = [((), *spoken)[i] + ("SIL",) * silences[i] for i in range(length + 1)]
                    phones = tuple(itertools.chain(*parts))
                    if 0 < len(phones) <= 4:
                        yield words, phones, cost + sum(silence if s else speech for s in silences)


def _align(phones: tuple[str, ...], costs: np.ndarray, tied_states: TiedStates) -> float:
    """Least cost of all frames in the phones' states, in order, a frame at least in each."""
    windows = zip(("SIL", *phones), phones, (*phones[1:], "SIL"), strict=False)
    pdfs = [pdf for left, phone, right in windows for pdf in tied_states.pdf_ids(left, phone, right)]
    best = np.full(len(pdfs) + 1, np.inf)
    best[0] = 0  # before the first state; state s stands at s + 1
    for frame in costs:
        entered = np.minimum(best[1:], best[:-1]) + frame[pdfs]
        best = np.concatenate([[np.inf], entered])
    return float(best[-1]) - math.log(0.6) * (len(costs) - len(pdfs)) - math.log(0.4) * len(pdfs)


def _least_cost(lattice: Lattice, acoustic_scale: float) -> float:
    cost = np.full(lattice.num_states, np.inf)
    cost[0] = 0
    arcs = zip(lattice.source, lattice.destination, lattice.graph_cost, lattice.acoustic_cost, strict=True)
    for source, destination, graph_cost, acoustic_cost in arcs:
        cost[destination] = min(cost[destination], cost[source] + graph_cost + acoustic_scale * acoustic_cost)
    return float(cost[-1])


def test_trigram_graph_is_deterministic_and_knows_every_word(
    lexicon: Lexicon, tied_states: TiedStates
) -> None:
    ngrams = estimate_ngrams([["a", "no", "an"]], lexicon.pronunciations, NgramConfig(order=3))
    first, second = (of_fst(build_graph(lexicon, ngrams, tied_states, GraphConfig()).fst) for _ in range(2))
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))
    assert set(first.output_label.tolist()) == set(range(6))
    assert set(first.input_label.tolist()) == set(range(tied_states.num_pdfs + 1))


def test_monophones_need_the_states_of_their_phones_alone(graph: DecodingGraph) -> None:
    # What expanding each phone of min(det(L o G)) into a chain gave, before there were triphones.
    assert (graph.num_states, graph.num_arcs) == (80, 186)


def test_graph_survives_writing_and_reading(graph: DecodingGraph, tmp_path: Path) -> None:
    graph.write(tmp_path)
    again = DecodingGraph.read(tmp_path)
    assert (again.words, again.num_pdfs) == (graph.words, graph.num_pdfs)
    assert again.fst.to_str() == graph.fst.to_str()
    assert (tmp_path / "words.txt").read_text().splitlines()[:2] == ["<eps> 0", "a 1"]
    (tmp_path / "words.txt").unlink()
    with pytest.raises(ContractError, match=r"words\.txt: not found"):
        DecodingGraph.read(tmp_path)


def test_arcs_agree_with_the_text_form_of_kaldifst() -> None:
    rows = [(1, 0, 3, 0, 0.5), (0, 1, 1, 2, 1.25), (0, 2, 2, 0, -1.0), (2, 2, 1, 1, 0.0)]
    fst = to_fst(Arcs.of_rows(0, rows, np.array([np.inf, 0.75, 0.0])))
    lines = [line.split() for line in fst.to_str(show_weight_one=True).splitlines()]
    found = {tuple(map(float, line)) for line in lines if line}
    assert found == {*rows, (1, 0.75), (2, 0)}
    arcs = of_fst(fst)
    columns = (arcs.source, arcs.destination, arcs.input_label, arcs.output_label, arcs.weight)
    assert set(zip(*(column.tolist() for column in columns), strict=True)) == set(rows)
    assert arcs.final.tolist() == [np.inf, 0.75, 0.0]


def test_unusable_lexicons_are_refused(lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates) -> None:
    for pronunciation, message in (((), "'a'.*empty"), (("A", "X"), "'a'.*'X'.*no HMM states")):
        broken = Lexicon(lexicon.pronunciations | {"a": [pronunciation]})
        with pytest.raises(CorpusError, match=message):
            build_graph(broken, ngrams, tied_states, GraphConfig())
    some = Lexicon({word: spoken for word, spoken in lexicon.pronunciations.items() if word != "none"})
    with pytest.raises(CorpusError, match="'none' of the language model has no pronunciation"):
        build_graph(some, ngrams, tied_states, GraphConfig())
    with pytest.raises(CorpusError, match="no words"):
        build_graph(lexicon, replace(ngrams, vocabulary=()), tied_states, GraphConfig())


def test_words_outside_the_language_model_are_not_recognised(
    lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates, graph: DecodingGraph
) -> None:
    more = Lexicon({"also": [("X",)]} | lexicon.pronunciations | {"extra": [("A",)]})
    again = build_graph(more, ngrams, tied_states, GraphConfig())
    assert again.words == graph.words
    assert again.fst.to_str() == graph.fst.to_str()
