"""Transcripts that are put away: whole speakers, nothing lost, the text gone."""

import numpy as np
import pytest

from asrdistill.corpus.hidden_transcripts import hide_transcripts
from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import CorpusError


def make_split(name: str, utterances_a_speaker: list[int]) -> list[Utterance]:
    return [
        Utterance(f"{name}-{speaker}-{number}", "a.wav", 0.0, 1.0, "SOME WORDS", f"{name}-{speaker}")
        for speaker, count in enumerate(utterances_a_speaker)
        for number in range(count)
    ]


@pytest.fixture
def splits() -> dict[str, list[Utterance]]:
    counts = np.random.default_rng(3).integers(1, 9, 40).tolist()
    return {name: make_split(name, counts) for name in ("train", "dev", "test")}


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_whole_speakers_lose_their_text(splits: dict[str, list[Utterance]], share: float) -> None:
    found = hide_transcripts(splits, share)
    kept, hidden = found["train"], found["untranscribed"]
    assert sorted(u.id for u in kept + hidden) == sorted(u.id for u in splits["train"])
    assert not {u.speaker for u in kept} & {u.speaker for u in hidden}
    assert {u.text for u in kept} == {"SOME WORDS"} and {u.text for u in hidden} == {""}
    total = len(splits["train"])
    assert len({u.speaker for u in kept}) == 1 or share * total - 8 < len(kept) <= share * total
    assert (found["dev"], found["test"]) == (splits["dev"], splits["test"])
    assert hide_transcripts(splits, share) == found


def test_more_joins_what_has_none(splits: dict[str, list[Utterance]]) -> None:
    without = [Utterance("more", "b.wav", 0.0, 1.0, "")]
    found = hide_transcripts({**splits, "untranscribed": without}, 0.5)["untranscribed"]
    assert found[0] == without[0] and len(found) > 1


def test_all_are_used_by_default(splits: dict[str, list[Utterance]]) -> None:
    assert hide_transcripts(splits, 1) == splits


def test_one_speaker_cannot_be_divided(splits: dict[str, list[Utterance]]) -> None:
    alone = {**splits, "train": make_split("train", [30])}
    with pytest.raises(CorpusError, match=r"corpus\.transcribed_share is 0\.5.*30 training utterances of 1;"):
        hide_transcripts(alone, 0.5)


def test_who_has_no_name_is_a_speaker(splits: dict[str, list[Utterance]]) -> None:
    nameless = [Utterance(str(number), "a.wav", 0.0, 1.0, "A") for number in range(10)]
    found = hide_transcripts({**splits, "train": nameless}, 0.5)
    assert (len(found["train"]), len(found["untranscribed"])) == (5, 5)
