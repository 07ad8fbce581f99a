"""Word times: on paths made by hand, and through real graphs by scores that force a known path."""

from collections.abc import Sequence
from itertools import count, islice

import numpy as np
import pytest

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.decoder import DecoderConfig, decode
from asrdistill.decoding.graph import GraphConfig, build_graph
from asrdistill.decoding.lattice import best_path, find_best_arcs
from asrdistill.decoding.ngram import NgramModel
from asrdistill.decoding.word_times import find_timed_words, split_phones, time_words
from asrdistill.errors import ContractError
from asrdistill.hmm.decision_tree import Leaf, Question
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

Spoken = Sequence[tuple[str, tuple[int, int, int]]]


@pytest.fixture(scope="module")
def triphones() -> TiedStates:
    """States of A, N and O depend on the phone to the left; the last one on that to the right, too."""
    leaves = map(Leaf, count())
    silence = tuple(islice(leaves, 3))
    trees = []
    for _ in "ANO":
        first, second = (Question("left", ("SIL", "A"), 1.0, next(leaves), next(leaves)) for _ in range(2))
        yes = next(leaves)
        no = Question("right", ("N", "O"), 1.0, next(leaves), next(leaves))
        trees.append((first, second, Question("left", ("SIL", "A"), 1.0, yes, no)))
    return TiedStates((SILENCE_PHONE, "A", "N", "O"), (silence, *trees))


def spell(spoken: Spoken, tied_states: TiedStates) -> np.ndarray:
    """The pdf-id of each frame of phones whose states last so many frames."""
    names = [SILENCE_PHONE, *(phone for phone, _ in spoken), SILENCE_PHONE]
    pdf_ids: list[int] = []
    for left, (phone, durations), right in zip(names, spoken, names[2:], strict=False):
        for pdf_id, duration in zip(tied_states.pdf_ids(left, phone, right), durations, strict=True):
            pdf_ids += [pdf_id] * duration
    return np.array(pdf_ids, np.int32)


AN_A_NONE = [
    ("SIL", (2, 1, 1)),  # frames 0 to 3
    ("A", (1, 2, 1)),  # an: 4 to 12
    ("N", (1, 1, 3)),
    ("A", (3, 1, 1)),  # a: 13 to 17
    ("SIL", (1, 1, 1)),  # 18 to 20
    ("N", (1, 1, 1)),  # none: 21 to 31
    ("A", (1, 1, 3)),
    ("N", (1, 1, 1)),
    ("SIL", (2, 2, 2)),
]
TIMES = [[4, 13], [13, 18], [21, 32]]


def test_phones_begin_where_the_first_state_follows_another(tied_states: TiedStates) -> None:
    alignment = spell([("N", (1, 2, 3)), ("N", (2, 1, 1)), ("SIL", (1, 1, 1)), ("A", (1, 1, 1))], tied_states)
    phones, starts = split_phones(alignment, tied_states)
    assert phones == ("N", "N", "SIL", "A") and starts.tolist() == [0, 6, 10, 13]
    phones, starts = split_phones(np.zeros(0, np.int32), tied_states)
    assert phones == () and not len(starts)


def test_words_run_from_first_phone_to_last(lexicon: Lexicon, tied_states: TiedStates) -> None:
    alignment = spell(AN_A_NONE, tied_states)
    found = time_words(alignment, ["an", "a", "none"], lexicon, tied_states)
    assert found.dtype == np.int32 and found.tolist() == TIMES


def test_words_that_the_phones_cannot_be_are_refused(lexicon: Lexicon, tied_states: TiedStates) -> None:
    alignment = spell(AN_A_NONE, tied_states)
    for words in (["an", "a"], ["an", "none"], [], ["an", "a", "none", "a"], ["an", "a", "unknown"]):
        with pytest.raises(ContractError, match="phones SIL A N A SIL N A N SIL cannot be divided among"):
            time_words(alignment, words, lexicon, tied_states)


def test_of_two_divisions_the_first_pronunciation_counts(tied_states: TiedStates) -> None:
    alignment = spell([(phone, (1, 1, 1)) for phone in "ANO"], tied_states)
    for first, boundary in (([("A",), ("A", "N")], 3), ([("A", "N"), ("A",)], 6)):
        lexicon = Lexicon({"a": first, "no": [("N", "O"), ("O",)]})
        found = time_words(alignment, ["a", "no"], lexicon, tied_states)
        assert found.tolist() == [[0, boundary], [boundary, 9]]


@pytest.mark.parametrize(
    ("spoken", "words", "times"),
    [
        ("N A", ["none"], [[0, 6]]),  # the end of the word is missing
        ("A SIL", ["a", "none"], [[0, 3], [6, 6]]),  # all of the last word is missing
        ("A N", ["a"], [[0, 3]]),  # a word has begun that is not known yet
        ("SIL N", [], []),
        ("", [], []),
        ("", ["a"], [[0, 0]]),
    ],
)
def test_a_partial_path_may_end_in_a_word(
    spoken: str, words: list[str], times: list[list[int]], lexicon: Lexicon, tied_states: TiedStates
) -> None:
    alignment = spell([(phone, (1, 1, 1)) for phone in spoken.split()], tied_states)
    assert time_words(alignment, words, lexicon, tied_states, is_complete=False).tolist() == times


@pytest.mark.parametrize("kind", ["tied_states", "triphones"])
@pytest.mark.parametrize("num_frames", [38, 29])
def test_times_of_a_forced_path(
    kind: str, num_frames: int, lexicon: Lexicon, ngrams: NgramModel, request: pytest.FixtureRequest
) -> None:
    """With 29 frames the last word breaks off in its second phone, and no silence follows."""
    tied_states: TiedStates = request.getfixturevalue(kind)
    graph = build_graph(lexicon, ngrams, tied_states, GraphConfig())
    alignment = spell(AN_A_NONE, tied_states)[:num_frames]
    scores = np.full((num_frames, tied_states.num_pdfs), -30, np.float32)
    scores[np.arange(num_frames), alignment] = 0
    lattice = decode(graph, scores, DecoderConfig(acoustic_scale=1, beam=60, lattice_beam=10))
    assert lattice.is_complete == (num_frames == 38)

    found = find_timed_words(lattice, graph.words, lexicon, tied_states, acoustic_scale=1)
    assert [timed.name for timed in found] == [graph.words[word_id] for word_id in best_path(lattice, 1)]
    np.testing.assert_array_equal(lattice.path_alignment(find_best_arcs(lattice, 1)), alignment)
    times = [[timed.start, timed.end] for timed in found]
    expected = np.minimum(TIMES, num_frames).tolist()
    assert [timed.name for timed in found][:2] == ["an", "a"] and times[:2] == expected[:2]
    if lattice.is_complete:
        assert found[2].name == "none" and times == expected
        assert all(timed.confidence > 0.9 for timed in found)
