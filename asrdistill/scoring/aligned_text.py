"""What became of each word of every utterance: as text in columns, and the most frequent confusions."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from asrdistill.scoring.word_alignment import CORRECT, DELETION, INSERTION, SUBSTITUTION, align_words
from asrdistill.scoring.word_errors import check_same_utterances

MAX_COLUMNS = 100
# Where one side has no word.
NO_WORD = "***"
_WIDE, _ZERO_WIDTH = frozenset("WF"), frozenset(("Mn", "Me", "Cf", "Cc"))

Pair = tuple[str, str | None, str | None]
"""An alignment's character, word of the reference, word of the hypothesis; None where there is none."""


@dataclass(frozen=True)
class AlignedUtterance:
    """Reference and hypothesis of one utterance, word by word.

    Attributes:
        id: of the utterance.
        speaker: None where none is known.
        pairs: from the first word to the last.
    """

    id: str
    speaker: str | None
    pairs: tuple[Pair, ...]

    def count(self, operation: str) -> int:
        """How many words are `C` correct, `S` substituted, `D` deleted or `I` inserted."""
        return sum(pair[0] == operation for pair in self.pairs)

    @property
    def errors(self) -> int:
        return len(self.pairs) - self.count(CORRECT)


@dataclass(frozen=True)
class Confusions:
    """Which words were taken for which; the most frequent first, then in the order of the words.

    Attributes:
        substitutions: word of the reference, of the hypothesis, how often.
        deletions: word of the reference, how often.
        insertions: word of the hypothesis, how often.
    """

    substitutions: list[tuple[str, str, int]]
    deletions: list[tuple[str, int]]
    insertions: list[tuple[str, int]]


def align_utterances(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, Sequence[str]],
    speakers: Mapping[str, str | None] | None = None,
) -> list[AlignedUtterance]:
    """Align every utterance as `align_words` does, in the references' order.

    Args:
        references: utterance id -> its words.
        hypotheses: utterance id -> recognised words, of the same utterances.
        speakers: utterance id -> its speaker; who is not in it has none.

    Raises:
        ContractError: an utterance has only one of reference and hypothesis.
    """
    check_same_utterances(references, hypotheses)
    speakers = speakers or {}
    return [
        AlignedUtterance(name, speakers.get(name), tuple(_pair_words(words, hypotheses[name])))
        for name, words in references.items()
    ]


def _pair_words(reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[Pair]:
    references, hypotheses = iter(reference), iter(hypothesis)
    for operation in align_words(reference, hypothesis):
        yield (
            operation,
            None if operation == INSERTION else next(references),
            None if operation == DELETION else next(hypotheses),
        )


def count_confusions(utterances: Iterable[AlignedUtterance], limit: int | None = None) -> Confusions:
    """Count substitutions, deletions and insertions by word.

    Args:
        utterances: in any order.
        limit: how many of each kind to give, at most; None: all.
    """
    counts: dict[str, Counter[tuple[str, ...]]] = {
        kind: Counter() for kind in (CORRECT, SUBSTITUTION, DELETION, INSERTION)
    }
    for utterance in utterances:
        for operation, *words in utterance.pairs:
            counts[operation][tuple(word for word in words if word is not None)] += 1
    ranked = {kind: _rank(counter)[:limit] for kind, counter in counts.items()}
    return Confusions(
        [(reference, hypothesis, count) for (reference, hypothesis), count in ranked[SUBSTITUTION]],
        [(word, count) for (word,), count in ranked[DELETION]],
        [(word, count) for (word,), count in ranked[INSERTION]],
    )


def _rank(counter: Counter[tuple[str, ...]]) -> list[tuple[tuple[str, ...], int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def format_alignments(utterances: Iterable[AlignedUtterance]) -> str:
    """Tell alignments in columns, somewhat as sclite's `pralign` does: REF, HYP, and under errors S, D or I.

    Words stay as they are; where one side has none stands `***`. Lines end at 100 columns, if no single word
    is longer, and go on in another three.
    """
    return "\n".join(_format_utterance(utterance) for utterance in utterances)


def _format_utterance(utterance: AlignedUtterance) -> str:
    speaker = "" if utterance.speaker is None else f"\nspeaker: {utterance.speaker}"
    counts = " ".join(f"{kind} {utterance.count(kind)}" for kind in "CSDI")
    lines = [f"id: {utterance.id}{speaker}", f"words: {counts}"]
    for columns in _wrap(utterance.pairs):
        rows = zip(("REF: ", "HYP: ", "EVAL:"), *columns, strict=True)
        lines += [" ".join(row).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _wrap(pairs: Iterable[Pair]) -> Iterator[list[tuple[str, str, str]]]:
    """Columns of equally wide cells, as many at a time as fit into a line; at least one."""
    columns: list[tuple[str, str, str]] = []
    used = start = len("EVAL:")
    for operation, *words in pairs:
        cells = [NO_WORD if word is None else word for word in words]
        width = max(map(measure_width, cells))
        if used > start and used + 1 + width > MAX_COLUMNS:
            yield columns
            columns, used = [], start
        mark = "" if operation == CORRECT else operation
        reference, hypothesis, evaluation = (pad(cell, width) for cell in (*cells, mark))
        columns.append((reference, hypothesis, evaluation))
        used += 1 + width
    yield columns


def measure_width(text: str) -> int:
    """Columns of a terminal that a text takes: East Asian wide characters two, combining ones none."""
    return sum(
        0 if unicodedata.category(c) in _ZERO_WIDTH else 1 + (unicodedata.east_asian_width(c) in _WIDE)
        for c in text
    )


def pad(text: str, width: int) -> str:
    """Fill up with spaces to a width in columns."""
    return text + " " * (width - measure_width(text))
