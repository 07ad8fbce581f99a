"""Scores by group, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import ContractError
from asrdistill.scoring.speaker_groups import (
    GroupScore,
    UtteranceCounts,
    name_age_group,
    score_groups,
    score_speakers,
)


def speak(number: int, speaker: str | None, gender: str | None = None, age: float | None = None) -> Utterance:
    return Utterance(f"u{number}", "", 0.0, 1.0, "x", speaker, gender, age)


UTTERANCES = [
    speak(0, "anna", "f", 6.0),
    speak(1, "bert", "m", 70.0),
    speak(2, "anna", "f", 6.0),
    speak(3, None),
    speak(4, "dora", "f", 30.5),
]
COUNTS = UtteranceCounts(
    words=np.array([10, 4, 2, 5, 0]),
    word_errors=np.array([1, 4, 5, 2, 3]),
    frames=np.array([100, 50, 20, 10, 30]),
    correct_frames=np.array([90, 10, 6, 5, 30]),
)
FEMALE = GroupScore("gender", "f", 2, 3, 12, 9 / 12, 126 / 150)


def test_groups() -> None:
    assert score_groups(UTTERANCES, COUNTS) == [
        FEMALE,
        GroupScore("gender", "m", 1, 1, 4, 1.0, 10 / 50),
        GroupScore("gender", "unknown", 0, 1, 5, 2 / 5, 5 / 10),
        GroupScore("age", "under 13", 1, 2, 12, 6 / 12, 96 / 120),
        GroupScore("age", "18 to 59", 1, 1, 0, None, 1.0),
        GroupScore("age", "60 and above", 1, 1, 4, 1.0, 10 / 50),
        GroupScore("age", "unknown", 0, 1, 5, 2 / 5, 5 / 10),
    ]


def test_groups_add_up_to_all_in_any_order() -> None:
    order = [3, 1, 4, 0, 2]
    errors = COUNTS.word_errors
    assert errors is not None
    turned = UtteranceCounts(
        COUNTS.words[order], errors[order], COUNTS.frames[order], COUNTS.correct_frames[order]
    )
    scores = score_groups([UTTERANCES[place] for place in order], turned)
    assert scores == score_groups(UTTERANCES, COUNTS)
    for kind in ("gender", "age"):
        rows = [row for row in scores if row.kind == kind]
        assert sum(row.words for row in rows) == 21
        assert sum(row.num_utterances for row in rows) == 5


def test_no_rows_of_what_is_not_known() -> None:
    unknown = [replace(utterance, gender=None) for utterance in UTTERANCES]
    assert {row.kind for row in score_groups(unknown, COUNTS)} == {"age"}
    assert score_groups([replace(utterance, age=None) for utterance in unknown], COUNTS) == []
    assert score_speakers([replace(utterance, speaker=None) for utterance in unknown], COUNTS) == []


def test_without_words_frames_remain() -> None:
    scores = score_groups(UTTERANCES, replace(COUNTS, word_errors=None))
    assert scores[0] == replace(FEMALE, wer=None)
    assert (scores[0].group, scores[0].num_speakers, scores[0].num_utterances) == ("f", 2, 3)
    assert (scores[0].words, scores[0].wer, scores[0].frame_accuracy) == (12, None, pytest.approx(0.84))


@pytest.mark.parametrize(
    ("age", "group"),
    [
        (0, "under 13"), (12.99, "under 13"), (13, "13 to 17"), (17.9, "13 to 17"), (18, "18 to 59"),
        (59.5, "18 to 59"), (60, "60 and above"), (104, "60 and above"),
    ],
)  # fmt: skip
def test_age_groups(age: float, group: str) -> None:
    assert name_age_group(age) == group


def test_speakers_with_the_most_errors_come_first() -> None:
    assert score_speakers(UTTERANCES, COUNTS) == [
        GroupScore("speaker", "bert", 1, 1, 4, 1.0, 10 / 50),
        GroupScore("speaker", "anna", 1, 2, 12, 6 / 12, 96 / 120),
        GroupScore("speaker", "unknown", 0, 1, 5, 2 / 5, 5 / 10),
        GroupScore("speaker", "dora", 1, 1, 0, None, 1.0),
    ]
    without = score_speakers(UTTERANCES, replace(COUNTS, word_errors=None))
    assert [row.group for row in without] == ["bert", "unknown", "anna", "dora"]


def test_a_speaker_called_unknown_is_not_mixed_with_those_not_known() -> None:
    utterances = [speak(0, "unknown"), *UTTERANCES[1:]]
    rows = [row for row in score_speakers(utterances, COUNTS) if row.group == "unknown"]
    assert sorted((row.num_speakers, row.words) for row in rows) == [(0, 5), (1, 10)]


def test_other_utterances_are_refused() -> None:
    with pytest.raises(ContractError, match="4 utterances, but counts of 5, 5, 5, 5"):
        score_groups(UTTERANCES[1:], COUNTS)
    with pytest.raises(ContractError, match="5 utterances, but counts of 5, 5, 4, 5"):
        score_speakers(UTTERANCES, replace(COUNTS, frames=COUNTS.frames[1:]))
