"""The utterance's HMM accepts silence? word (silence? word)* silence?, and nothing else."""

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
    """(pdf-id, word) along every path without self-loops."""
    successors: list[list[int]] = [[] for _ in graph.pdf_ids]
    for state in range(len(graph.pdf_ids)):
        for arc in range(graph.predecessor_starts[state], graph.predecessor_starts[state + 1]):
            successors[graph.predecessors[arc]].append(state)
    found: list[Path] = []

    def walk(path: list[int]) -> None:
        if graph.final[path[-1]]:
            found.append(tuple((int(graph.pdf_ids[s]), int(graph.words[s])) for s in path))
        for state in successors[path[-1]]:
            walk([*path, state])

    for start in np.flatnonzero(graph.initial):
        walk([int(start)])
    return found


def expand(words: list[str]) -> set[Path]:
    """The same from the definition: every choice of pronunciations, with or without each silence."""

    def spell(phones: tuple[str, ...], owner: int) -> Path:
        return tuple((pdf, owner) for phone in phones for pdf in TIED.pdf_ids(phone))

    silence = [(), spell((SILENCE_PHONE,), SILENCE_WORD)]
    parts: list[list[Path]] = [silence]
    for position, word in enumerate(words):
        parts += [[spell(phones, position) for phones in PRONUNCIATIONS[word]], silence]
    return {tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)}


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
    assert [[pdf for pdf, _ in path] for path in list_sequences(graph)] == [list(TIED.pdf_ids(SILENCE_PHONE))]
    assert graph.min_frames == NUM_STATES_PER_PHONE


def test_a_word_without_pronunciation_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="D"):
        build_utterance_graph(["A", "D"], PRONUNCIATIONS, TIED)


@pytest.mark.parametrize("num_frames", [12, 13, 40])
def test_equal_alignment_is_equal(num_frames: int) -> None:
    pdf_ids = build_equal_alignment(["B"], PRONUNCIATIONS, TIED, num_frames)
    chain = [pdf for phone in (SILENCE_PHONE, "x", "y", SILENCE_PHONE) for pdf in TIED.pdf_ids(phone)]
    assert [pdf for pdf, _ in itertools.groupby(pdf_ids.tolist())] == chain
    lengths = [len(list(run)) for _, run in itertools.groupby(pdf_ids.tolist())]
    assert sum(lengths) == num_frames
    assert max(lengths) - min(lengths) <= 1
