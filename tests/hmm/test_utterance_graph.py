"""The utterance's HMM accepts silence? word (silence? word)* silence? in context, and nothing else."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.hmm.graph import SILENCE_WORD, UtteranceGraph, build_equal_alignment, build_utterance_graph
from asrdistill.hmm.topology import NUM_STATES_PER_PHONE, SILENCE_PHONE, TiedStates

PRONUNCIATIONS: dict[str, list[tuple[str, ...]]] = {
    "A": [("x",)],
    "B": [("x", "y"), ("z",)],
    "C": [("y", "y"), ("x",), ("z", "x", "y")],
}
TIED = TiedStates.of_monophones({"x", "y", "z"})

Path = tuple[tuple[int, int], ...]


def list_sequences(graph: UtteranceGraph) -> list[Path]:
    """(code, word) along every path without self-loops."""
    successors: list[list[int]] = [[] for _ in graph.codes]
    for state in range(len(graph.codes)):
        for arc in range(graph.predecessor_starts[state], graph.predecessor_starts[state + 1]):
            successors[graph.predecessors[arc]].append(state)
    found: list[Path] = []

    def walk(path: list[int]) -> None:
        if graph.final[path[-1]]:
            found.append(tuple((int(graph.codes[s]), int(graph.words[s])) for s in path))
        for state in successors[path[-1]]:
            walk([*path, state])

    for start in np.flatnonzero(graph.initial):
        walk([int(start)])
    return found


def expand(words: list[str]) -> set[Path]:
    """The same from the definition: every choice of pronunciations, with or without each silence."""

    silence: list[list[tuple[str, int]]] = [[], [(SILENCE_PHONE, SILENCE_WORD)]]
    parts = [silence]
    for position, word in enumerate(words):
        parts += [[[(phone, position) for phone in phones] for phones in PRONUNCIATIONS[word]], silence]
    return {spell(list(itertools.chain(*choice))) for choice in itertools.product(*parts)}


def spell(phones: list[tuple[str, int]]) -> Path:
    """States of phones, each between its neighbours; silence is at both ends, and the same everywhere."""
    names = [SILENCE_PHONE, *(name for name, _ in phones), SILENCE_PHONE]
    states = []
    for place, (name, owner) in enumerate(phones):
        left, right = names[place], names[place + 2]
        if name == SILENCE_PHONE:
            left = right = SILENCE_PHONE
        states += [(TIED.code(left, name, right) + state, owner) for state in range(NUM_STATES_PER_PHONE)]
    return tuple(states)


@settings(deadline=None, max_examples=25)
@given(words=st.lists(st.sampled_from(sorted(PRONUNCIATIONS)), min_size=1, max_size=4))
def test_paths_are_those_of_the_definition(words: list[str]) -> None:
    graph = build_utterance_graph(words, PRONUNCIATIONS, TIED)
    found = list_sequences(graph)
    assert set(found) == expand(words)
    assert len(found) == len(set(found)), "a path counted twice would weigh twice"
    assert graph.min_frames == min(map(len, found))


def test_an_empty_transcript_is_silence() -> None:
    graph = build_utterance_graph([], PRONUNCIATIONS, TIED)
    assert list_sequences(graph) == [spell([(SILENCE_PHONE, SILENCE_WORD)])]
    assert graph.min_frames == NUM_STATES_PER_PHONE


def test_a_word_without_pronunciation_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="D"):
        build_utterance_graph(["A", "D"], PRONUNCIATIONS, TIED)


@pytest.mark.parametrize("num_frames", [12, 13, 40])
def test_equal_alignment_is_equal(num_frames: int) -> None:
    codes = build_equal_alignment(["B"], PRONUNCIATIONS, TIED, num_frames).tolist()
    chain = spell([(SILENCE_PHONE, -1), ("x", 0), ("y", 0), (SILENCE_PHONE, -1)])
    assert [code for code, _ in itertools.groupby(codes)] == [code for code, _ in chain]
    lengths = [len(list(run)) for _, run in itertools.groupby(codes)]
    assert sum(lengths) == num_frames
    assert max(lengths) - min(lengths) <= 1
