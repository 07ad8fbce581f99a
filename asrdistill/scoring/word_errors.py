"""Word errors.

Task: count the word substitutions, deletions and insertions that turn each reference into its hypothesis
with as few errors as possible (Levenshtein distance over words); WER = errors / reference words, SER =
sentences with at least one error / sentences.
Words are compared as they are: no case folding, no normalisation. A WER may exceed 100%.
Counted by jiwer. Known difference: among alignments with equally few errors jiwer and Kaldi may choose
different ones, so ins, del and sub may differ by a few while the number of errors does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from asrdistill.errors import ContractError


@dataclass(frozen=True)
class WordErrors:
    """Word errors of U utterances.

    Attributes:
        ids: utterance ids, sorted.
        counts: int64 (U, 4) insertions, deletions, substitutions and reference words of each utterance.
    """

    ids: tuple[str, ...]
    counts: np.ndarray

    @property
    def insertions(self) -> int:
        return int(self.counts[:, 0].sum())

    @property
    def deletions(self) -> int:
        return int(self.counts[:, 1].sum())

    @property
    def substitutions(self) -> int:
        return int(self.counts[:, 2].sum())

    @property
    def words(self) -> int:
        """Reference words."""
        return int(self.counts[:, 3].sum())

    @property
    def errors_by_utterance(self) -> np.ndarray:
        """int64 (U,)."""
        return self.counts[:, :3].sum(axis=1)

    @property
    def errors(self) -> int:
        return int(self.errors_by_utterance.sum())

    @property
    def num_sentences(self) -> int:
        return len(self.ids)

    @property
    def sentence_errors(self) -> int:
        """Sentences with at least one error."""
        return int(np.count_nonzero(self.errors_by_utterance))

    @property
    def wer(self) -> float:
        """Errors per reference word, a fraction."""
        return self.errors / self.words

    @property
    def ser(self) -> float:
        """Share of the sentences that have an error, a fraction."""
        return self.sentence_errors / self.num_sentences

    def __str__(self) -> str:
        return self.print("WER")

    def print(self, rate: str) -> str:
        """Kaldi's line, of words ("WER") or of what else was counted."""
        return (
            f"%{rate} {100 * self.wer:.2f} [ {self.errors} / {self.words}, "
            f"{self.insertions} ins, {self.deletions} del, {self.substitutions} sub ]"
        )


def count_word_errors(
    references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, Sequence[str]]
) -> WordErrors:
    """Count word errors, utterance by utterance.

    Args:
        references: utterance id -> its words.
        hypotheses: utterance id -> recognised words, of the same utterances; empty where nothing was found.

    Raises:
        ContractError: the ids differ, there are none, there is no word in any reference, or one string was
            given where a list of words belongs.
    """
    check_same_utterances(references, hypotheses)
    _check_words(references, hypotheses)
    ids = tuple(sorted(references))
    counts = np.array([count_utterance_errors(references[i], hypotheses[i]) for i in ids], np.int64)
    return WordErrors(ids, counts)


def count_utterance_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[int, int, int, int]:
    """Insertions, deletions, substitutions and reference words of one utterance; either may be empty."""
    output = jiwer.process_words(
        [list(reference)], [list(hypothesis)], reference_transform=list, hypothesis_transform=list
    )
    return output.insertions, output.deletions, output.substitutions, len(reference)


def check_same_utterances(references: Mapping[str, object], hypotheses: Mapping[str, object]) -> None:
    """Refuse references and hypotheses (or lattices) that are not of the same utterances.

    Raises:
        ContractError: an utterance has only one of the two.
    """
    odd = references.keys() ^ hypotheses.keys()
    if odd:
        utterance_id = min(odd)
        there, absent = (
            ("reference", "hypothesis") if utterance_id in references else ("hypothesis", "reference")
        )
        raise ContractError(
            f"utterance {utterance_id}: has a {there} but no {absent} ({len(odd)} such in all); "
            "give both for every utterance, an empty hypothesis where nothing was recognised"
        )


def _check_words(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, Sequence[str]]) -> None:
    for side in (references, hypotheses):
        for utterance_id, words in side.items():
            if isinstance(words, str):
                raise ContractError(
                    f"utterance {utterance_id}: words are one string, {words[:40]!r}, expected a list; "
                    "did you forget to split it?"
                )
    if not any(references.values()):
        raise ContractError(
            f"references: no word in {len(references)} utterances, so there is no word error rate; "
            "give transcripts"
        )
