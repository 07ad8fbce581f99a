"""Errors by groups of speakers, and words taken for others, as tables.

Groups are, by the name of the system ("baseline" is one teacher), rows as `GroupScore` of
scoring/speaker_groups.py has them, alike but for "wer" and "frame_accuracy" in all systems. Confusions are
"substitutions" [reference, hypothesis, count], "deletions" and "insertions" [word, count].
"""

from collections.abc import Mapping, Sequence
from typing import Any

from asrdistill.reporting.report import NOT_MEASURED, SINGLE

NOTE = (
    "Errors of a group are summed over its utterances; frames: frame accuracy. A group of few speakers says "
    "little about others. Of several seeds the first is told."
)
CONFUSION_COLUMNS = ("substituted", "times", "deleted", "times", "inserted", "times")
CONFUSION_NOTE = (
    "What the distilled model took for what on test, most frequent first. Every utterance, word by word and "
    "for every system, is in score/alignments/ of the experiment; score/nist/ has the same for NIST's sclite."
)

Groups = Mapping[str, Sequence[Mapping[str, Any]]]


def list_columns(groups: Groups) -> tuple[str, ...]:
    """Headings of the table."""
    names = [SINGLE.get(name, name) for name in groups]
    measures = [f"{measure}, {name} (%)" for measure in ("WER", "frames") for name in names]
    return ("group", "speakers", "utterances", "words", *measures)


def list_group_rows(groups: Groups) -> list[tuple[str, ...]]:
    """A row for each group, as `list_columns` calls them."""
    return [_row(scores) for scores in zip(*groups.values(), strict=True)]


def _row(scores: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    first = scores[0]
    counts = (f"{first[key]:,}" for key in ("num_speakers", "num_utterances", "words"))
    shares = [score[measure] for measure in ("wer", "frame_accuracy") for score in scores]
    cells = (NOT_MEASURED if share is None else f"{100 * share:.2f}" for share in shares)
    return (f"{first['kind']} {first['group']}", *counts, *cells)


def list_confusion_rows(confusions: Mapping[str, Sequence[Sequence[Any]]]) -> list[tuple[str, ...]]:
    """The most frequent ones beside each other, as `CONFUSION_COLUMNS` calls them."""
    columns = [
        [(" → ".join(words), str(count)) for *words, count in confusions[kind]]
        for kind in ("substitutions", "deletions", "insertions")
    ]
    longest = max(map(len, columns))
    padded = [column + [("", "")] * (longest - len(column)) for column in columns]
    return [tuple(cell for pair in row for cell in pair) for row in zip(*padded, strict=True)]
