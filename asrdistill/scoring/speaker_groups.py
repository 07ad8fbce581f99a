"""Word errors and frame accuracy by gender, age and speaker.

Task: the measures of `asrdistill.scoring.word_errors` and `asrdistill.scoring.frame_accuracy` over the
utterances of a group: errors / words and correct / frames, summed first, so that long utterances weigh more.
Groups of a few speakers say little about others: the number of speakers stands in each row.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import ContractError

# First year and name. Formants reach adult values in the teens (Lee, Potamianos & Narayanan 1999, "Acoustics
# of children's speech", JASA 105): younger children, in whose words recognisers err most, stand apart from
# those whose voices change. From about 60 on word errors rise again (Vipperla, Renals & Frankel 2008,
# "Longitudinal study of ASR performance on ageing voices", Interspeech).
AGE_GROUPS = ((0.0, "under 13"), (13.0, "13 to 17"), (18.0, "18 to 59"), (60.0, "60 and above"))
UNKNOWN = "unknown"


@dataclass(frozen=True)
class UtteranceCounts:
    """What one system made of U utterances.

    Attributes:
        words: int64 (U,), of the references.
        word_errors: int64 (U,); None where no words were decoded.
        frames: int64 (U,), those with a hard target.
        correct_frames: int64 (U,).
    """

    words: np.ndarray
    word_errors: np.ndarray | None
    frames: np.ndarray
    correct_frames: np.ndarray


@dataclass(frozen=True)
class GroupScore:
    """The scores of the utterances of one group.

    Attributes:
        kind: "gender", "age" or "speaker".
        group: its name: a gender as in the manifest, an age group, a speaker; "unknown".
        num_speakers: speakers that are known, each once.
        num_utterances: of the group.
        words: reference words.
        wer: errors per reference word, a fraction; None without words, or where none were decoded.
        frame_accuracy: share of correct frames, a fraction; None without frames.
    """

    kind: str
    group: str
    num_speakers: int
    num_utterances: int
    words: int
    wer: float | None
    frame_accuracy: float | None


def score_groups(utterances: Sequence[Utterance], counts: UtteranceCounts) -> list[GroupScore]:
    """Score genders, in the order of the alphabet, then age groups, the youngest first; the unknown last.

    Args:
        utterances: U utterances.
        counts: of the same, in the same order.

    Returns:
        No row of a kind of group that is known of no utterance.

    Raises:
        ContractError: the number of utterances differs.
    """
    ages = [None if u.age is None else name_age_group(u.age) for u in utterances]
    genders = [u.gender for u in utterances]
    return [
        *_score_kind("gender", genders, _list_known(genders), utterances, counts),
        *_score_kind("age", ages, [name for _, name in AGE_GROUPS], utterances, counts),
    ]


def score_speakers(utterances: Sequence[Utterance], counts: UtteranceCounts) -> list[GroupScore]:
    """Score each speaker, those with the most errors per word first.

    Where no words were decoded, those with the lowest frame accuracy come first; what cannot be computed
    comes last. Arguments and errors are those of `score_groups`.

    Returns:
        Nothing where no speaker is known; otherwise utterances without one together as "unknown".
    """
    speakers = [u.speaker for u in utterances]
    return sorted(_score_kind("speaker", speakers, _list_known(speakers), utterances, counts), key=_badness)


def name_age_group(age: float) -> str:
    """The age group of an age in years: 12.9 is under 13."""
    return AGE_GROUPS[bisect_right(AGE_GROUPS, age, key=lambda group: group[0]) - 1][1]


def _list_known(names: Iterable[str | None]) -> list[str]:
    return sorted({name for name in names if name is not None})


def _badness(score: GroupScore) -> tuple[float, float, str]:
    """Ascending from the worst; a WER is never below 0, an accuracy never above 1."""
    wer = -1.0 if score.wer is None else score.wer
    accuracy = 2.0 if score.frame_accuracy is None else score.frame_accuracy
    return -wer, accuracy, score.group


def _score_kind(
    kind: str,
    names: Sequence[str | None],
    order: Sequence[str],
    utterances: Sequence[Utterance],
    counts: UtteranceCounts,
) -> list[GroupScore]:
    """Score the groups of that kind that have utterances, in that order, and those of no known group."""
    _check_lengths(utterances, counts)
    if not _list_known(names):
        return []
    members: dict[str | None, list[int]] = {name: [] for name in (*order, None)}
    for place, name in enumerate(names):
        members[name].append(place)
    return [_score(kind, name, places, utterances, counts) for name, places in members.items() if places]


def _score(
    kind: str, name: str | None, places: list[int], utterances: Sequence[Utterance], counts: UtteranceCounts
) -> GroupScore:
    errors = counts.word_errors
    words, frames = int(counts.words[places].sum()), int(counts.frames[places].sum())
    return GroupScore(
        kind,
        UNKNOWN if name is None else name,
        len(_list_known(utterances[place].speaker for place in places)),
        len(places),
        words,
        None if errors is None or not words else int(errors[places].sum()) / words,
        int(counts.correct_frames[places].sum()) / frames if frames else None,
    )


def _check_lengths(utterances: Sequence[Utterance], counts: UtteranceCounts) -> None:
    arrays = (counts.words, counts.word_errors, counts.frames, counts.correct_frames)
    lengths = [len(array) for array in arrays if array is not None]
    if set(lengths) != {len(utterances)}:
        raise ContractError(
            f"speaker groups: {len(utterances)} utterances, but counts of {', '.join(map(str, lengths))}; "
            "expected one of each for every utterance: run the score stage again"
        )
