"""A tiny language with homophones, a prefix and two pronunciations of one word."""

import pytest

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.graph import DecodingGraph, GraphConfig, build_graph
from asrdistill.decoding.ngram import NgramConfig, NgramModel, estimate_ngrams
from asrdistill.hmm.topology import TiedStates


@pytest.fixture(scope="session")
def lexicon() -> Lexicon:
    return Lexicon(
        {
            "a": [("A",), ("O",)],
            "an": [("A", "N")],
            "know": [("N", "O")],
            "no": [("N", "O")],
            "none": [("N", "A", "N")],
        }
    )


@pytest.fixture(scope="session")
def tied_states() -> TiedStates:
    return TiedStates.of_monophones({"A", "N", "O"})


@pytest.fixture(scope="session")
def ngrams(lexicon: Lexicon) -> NgramModel:
    sentences = [text.split() for text in ("a no", "an an", "know a", "no no a", "none", "a know none")]
    return estimate_ngrams(sentences, lexicon.pronunciations, NgramConfig(order=2))


@pytest.fixture(scope="session")
def graph(lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates) -> DecodingGraph:
    return build_graph(lexicon, ngrams, tied_states, GraphConfig())
