"""A tiny language with homophones, a prefix and two pronunciations of one word."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.graph import DecodingGraph, GraphConfig, build_graph
from asrdistill.decoding.ngram import NgramConfig, NgramModel, estimate_ngrams
from asrdistill.hmm.decision_tree import Leaf, Node, Question
from asrdistill.hmm.topology import TiedStates, list_phones


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
def grow_random_trees() -> Callable[[int], TiedStates]:
    """Makes inventories of the tiny language's phones whose trees ask two questions at random at most."""

    def grow(seed: int) -> TiedStates:
        phones = list_phones({"A", "N", "O"})
        rng, pdf_ids = np.random.default_rng(seed), itertools.count()
        silence = tuple(Leaf(next(pdf_ids)) for _ in range(3))
        trees = [tuple(_grow_tree(rng, phones, pdf_ids, 2) for _ in range(3)) for _ in phones[1:]]
        return TiedStates(phones, (silence, *trees))

    return grow


def _grow_tree(
    rng: np.random.Generator, phones: tuple[str, ...], pdf_ids: Iterator[int], num_levels: int
) -> Node:
    if num_levels == 0 or rng.random() < 0.1:
        return Leaf(next(pdf_ids))
    asked = tuple(sorted(rng.choice(phones, rng.integers(1, 4), replace=False), key=phones.index))
    branches = [_grow_tree(rng, phones, pdf_ids, num_levels - 1) for _ in range(2)]
    return Question("left" if rng.random() < 0.5 else "right", asked, 1.0, *branches)


@pytest.fixture(scope="session")
def ngrams(lexicon: Lexicon) -> NgramModel:
    sentences = [text.split() for text in ("a no", "an an", "know a", "no no a", "none", "a know none")]
    return estimate_ngrams(sentences, lexicon.pronunciations, NgramConfig(order=2))


@pytest.fixture(scope="session")
def graph(lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates) -> DecodingGraph:
    return build_graph(lexicon, ngrams, tied_states, GraphConfig())
