"""Word errors against hand-worked cases."""

import pytest

from asrdistill.errors import ContractError
from asrdistill.scoring.word_errors import count_utterance_errors, count_word_errors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("the cat sat", "the cat sat", (0, 0, 0, 3)),
        ("the cat sat", "the mat sat", (0, 0, 1, 3)),
        ("the cat sat", "cat sat down", (1, 1, 0, 3)),
        ("the cat sat", "", (0, 3, 0, 3)),
        ("", "uh oh", (2, 0, 0, 0)),
        ("", "", (0, 0, 0, 0)),
        ("Cat", "cat", (0, 0, 1, 1)),
        ("a b c d e f", "x b d e f g", (1, 1, 1, 6)),
    ],
)
def test_hand_worked_cases(reference: str, hypothesis: str, counts: tuple[int, int, int, int]) -> None:
    assert count_utterance_errors(reference.split(), hypothesis.split()) == counts


def test_totals_and_kaldi_line() -> None:
    references = {"u2": ["a", "b", "c"], "u1": ["a"], "u3": []}
    result = count_word_errors(references, {"u1": ["a"], "u2": ["a", "x"], "u3": ["y"]})
    assert (result.insertions, result.deletions, result.substitutions) == (1, 1, 1)
    assert (result.errors, result.words, result.sentence_errors, result.num_sentences) == (3, 4, 2, 3)
    assert result.ids == ("u1", "u2", "u3")
    assert result.errors_by_utterance.tolist() == [0, 2, 1]
    assert (result.wer, result.ser) == (0.75, pytest.approx(2 / 3))
    assert str(result) == "%WER 75.00 [ 3 / 4, 1 ins, 1 del, 1 sub ]"


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ContractError, match="utterance u2: has a reference but no hypothesis"):
        count_word_errors({"u1": ["a"], "u2": ["a"]}, {"u1": ["a"]})
    with pytest.raises(ContractError, match="utterance u2: has a hypothesis but no reference"):
        count_word_errors({"u1": ["a"]}, {"u1": ["a"], "u2": []})
    with pytest.raises(ContractError, match=r"one string, 'a b'.*split"):
        count_word_errors({"u1": ["a", "b"]}, {"u1": "a b"})
    with pytest.raises(ContractError, match="no word in 1 utterances"):
        count_word_errors({"u1": []}, {"u1": ["a"]})
