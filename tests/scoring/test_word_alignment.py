"""Alignments of words by hand, and against the edit distance; sclite's own: `test_against_sctk.py`."""

import jiwer
import numpy as np
import pytest

from asrdistill.scoring.word_alignment import align_words


@pytest.mark.parametrize(
    ("reference", "hypothesis", "operations"),
    [
        ("the cat sat", "the cat sat", "CCC"),
        ("the cat sat", "the mat sat", "CSC"),
        ("the cat sat", "", "DDD"),
        ("", "uh oh", "II"),
        ("", "", ""),
        ("a a", "a", "DC"),
        ("Cat", "cat", "S"),
        ("w5 w0 w0 w4 w3 w5 w1 w2", "w5 w0 w4 w0 w3 w3 w1 w3", "CDCCICSCS"),
    ],
)
def test_hand_worked_cases(reference: str, hypothesis: str, operations: str) -> None:
    assert align_words(reference.split(), hypothesis.split()) == operations


@pytest.mark.parametrize("num_words", [2, 20])
def test_there_are_hardly_more_errors_than_the_edit_distance(num_words: int) -> None:
    """And never fewer."""
    rng, more, total = np.random.default_rng(0), 0, 0
    for _ in range(500):
        reference, hypothesis = (
            [str(word) for word in rng.integers(num_words, size=rng.integers(1, 16))] for _ in range(2)
        )
        output = jiwer.process_words(
            [reference], [hypothesis], reference_transform=list, hypothesis_transform=list
        )
        operations = align_words(reference, hypothesis)
        assert len(operations) - operations.count("I") == len(reference)
        assert len(operations) - operations.count("D") == len(hypothesis)
        errors = len(operations) - operations.count("C")
        fewest = output.insertions + output.deletions + output.substitutions
        assert errors >= fewest
        more, total = more + errors - fewest, total + len(reference)
    assert more < 0.01 * total


def test_a_very_long_utterance() -> None:
    words = [str(number) for number in range(3000)]
    assert align_words(words, words[1:]) == "D" + 2999 * "C"
