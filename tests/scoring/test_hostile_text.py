"""Text that breaks scorers: nothing said or understood, any script, hyphens, length, many utterances."""

import unicodedata

import jiwer
import numpy as np
import pytest

from asrdistill.errors import ContractError
from asrdistill.scoring.outcomes import MOST_BLOCKS
from asrdistill.scoring.significance import bootstrap_difference, compare_segments
from asrdistill.scoring.word_alignment import align_words
from asrdistill.scoring.word_errors import count_utterance_errors, count_word_errors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "alignment"),
    [
        ("", "", ""),
        ("", "a b", "II"),
        ("a b", "", "DD"),
        ("naïve café", "naïve cafe", "CS"),
        ("你好 世界", "你好 世界", "CC"),
        ("سلام دنیا", "دنیا", "DC"),
        ("👩\u200d👩\u200d👧 ja", "👩 ja", "SC"),
        # Nothing is normalised, so two ways to write one letter are two letters, and a hyphen counts.
        ("café", unicodedata.normalize("NFD", "café"), "S"),
        ("well-known fact", "well known fact", "SIC"),
        ("wor- (uh) <unk> %hes {a", "wor- (uh) <unk> %hes {a", "CCCCC"),
        ("A", "a", "S"),
        # No word ends at a space that is none in ASCII.
        ("a\u00a0b", "a b", "SI"),
    ],
)
def test_words_are_what_stands_between_spaces(reference: str, hypothesis: str, alignment: str) -> None:
    words = [text.split(" ") if text else [] for text in (reference, hypothesis)]
    aligned = align_words(*words)
    assert sorted(aligned) == sorted(alignment)
    insertions, deletions, substitutions, num_words = count_utterance_errors(*words)
    assert (insertions, deletions, substitutions) == tuple(alignment.count(kind) for kind in "IDS")
    assert num_words == len(words[0])


def test_one_utterance_may_be_silent_but_not_all() -> None:
    errors = count_word_errors({"a": [], "b": ["x"]}, {"a": ["y"], "b": []})
    assert (errors.errors, errors.words, errors.wer, errors.ser) == (2, 1, 2.0, 1.0)
    with pytest.raises(ContractError, match="no word in 1 utterances"):
        count_word_errors({"a": []}, {"a": ["y"]})


def test_a_talk_is_one_utterance() -> None:
    """20,000 words, of which every hundredth is lost and every thousandth comes twice."""
    reference = [f"w{number % 977}" for number in range(20_000)]
    hypothesis = [
        word
        for place, word in enumerate(reference)
        for _ in range(0 if place % 100 == 7 else 2 if place % 1000 == 500 else 1)
    ]
    assert count_utterance_errors(reference, hypothesis) == (20, 200, 0, 20_000)
    aligned = align_words(reference, hypothesis)
    assert (aligned.count("I"), aligned.count("D"), aligned.count("S")) == (20, 200, 0)


def test_100_000_utterances() -> None:
    """Counted as jiwer counts them all at once; two systems compared."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(300)])
    references = {f"u{number:06d}": words[rng.integers(300, size=6)].tolist() for number in range(100_000)}
    systems = []
    for rate in (0.1, 0.11):
        wrong = rng.random((100_000, 6)) < rate
        systems.append(
            {
                name: [word for word, is_lost in zip(said, lost, strict=True) if not is_lost]
                for (name, said), lost in zip(references.items(), wrong.tolist(), strict=True)
            }
        )
    counted = [count_word_errors(references, hypotheses) for hypotheses in systems]
    measured = jiwer.process_words(
        [" ".join(said) for said in references.values()], [" ".join(said) for said in systems[0].values()]
    )
    assert counted[0].errors == measured.deletions + measured.insertions + measured.substitutions
    aligned = [[align_words(said, found[name]) for name, said in references.items()] for found in systems]
    assert [sum(len(one) - one.count("C") for one in many) for many in aligned] == [
        found.errors for found in counted
    ]
    assert compare_segments(*aligned).p_value < 1e-6
    blocks = [str(place * MOST_BLOCKS // 100_000) for place in range(100_000)]
    low, high = bootstrap_difference(
        counted[0].errors_by_utterance, counted[1].errors_by_utterance, counted[0].counts[:, 3], blocks
    )
    assert -0.013 < low < -0.01 < high < -0.007
