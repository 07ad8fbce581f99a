"""Every kind of fault: found, counted, named, and fatal above the threshold."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.validation import ADVICE, Validation, ValidationConfig, validate
from asrdistill.errors import CorpusError

WriteTone = Callable[..., Path]

LEXICON = Lexicon({"YES": [("Y",)], "NO": [("N",)]})
Splits = dict[str, list[Utterance]]


@pytest.fixture
def splits(tmp_path: Path, write_tone: WriteTone) -> Splits:
    """Four sound utterances in each split."""
    return {
        split: [
            Utterance(
                f"{split}-{number}",
                str(write_tone(tmp_path / f"{split}-{number}.wav")),
                0.0,
                0.5,
                "YES NO",
                split,
            )
            for number in range(4)
        ]
        for split in ("train", "dev", "test")
    }


def check(splits: Splits, max_left_out: float = 0.0) -> Validation:
    return validate(splits, LEXICON, ValidationConfig(max_left_out=max_left_out), 16000)


def make_faulty(splits: Splits, kind: str, write_tone: WriteTone) -> None:
    """Give the second utterance of train a fault."""
    utterance = splits["train"][1]
    path = Path(utterance.audio_filepath)
    changed: dict[str, object] = {}
    match kind:
        case "missing audio":
            path.unlink()
        case "unreadable audio":
            path.write_bytes(path.read_bytes()[:-1000])
        case "zero length":
            changed = {"duration": 0.0}
        case "beyond the recording":
            changed = {"offset": 0.3}
        case "stereo":
            write_tone(path, num_channels=2)
        case "sampling rate too low":
            write_tone(path, rate_hz=8000)
        case "empty text":
            changed = {"text": ""}
        case "words outside the lexicon":
            changed = {"text": "YES MAYBE MAYBE"}
    splits["train"][1] = replace(utterance, **changed)


def test_nothing_wrong(splits: Splits) -> None:
    validation = check(splits)
    assert validation.kept == splits
    found = validation.to_json()["splits"]["dev"]
    assert found == {
        "num_utterances": 4,
        "num_speakers": 1,
        "num_without_speaker": 0,
        "hours": pytest.approx(2 / 3600),
        "num_left_out": 0,
        "faults": {},
    }


@pytest.mark.parametrize("kind", [kind for kind in ADVICE if kind not in ("too short", "too long")])
def test_each_fault(splits: Splits, write_tone: WriteTone, kind: str) -> None:
    make_faulty(splits, kind, write_tone)
    validation = check(splits, max_left_out=0.25)
    assert validation.faults == {"train": {kind: ["train-1"]}, "dev": {}, "test": {}}
    assert [utterance.id for utterance in validation.kept["train"]] == ["train-0", "train-2", "train-3"]
    assert validation.to_json()["splits"]["train"]["faults"] == {kind: {"count": 1, "ids": ["train-1"]}}
    json.dumps(validation.to_json())
    with pytest.raises(CorpusError, match="split train: 1 of 4 utterances") as caught:
        check(splits, max_left_out=0.24)
    message = str(caught.value)
    assert kind in message
    assert "train-1" in message
    assert "validation.max_left_out" in message
    assert "\n" not in message


@pytest.mark.parametrize(("duration_s", "kind"), [(0.05, "too short"), (61, "too long"), (59, None)])
def test_speech_without_transcript_has_faults_of_its_own(
    splits: Splits, tmp_path: Path, write_tone: WriteTone, duration_s: float, kind: str | None
) -> None:
    """And a missing text is none of them, nor is a speaker of train."""
    sounds = [write_tone(tmp_path / "more-0.wav", 0.3), write_tone(tmp_path / "more-1.wav", duration_s)]
    splits["untranscribed"] = [
        Utterance(path.stem, str(path), 0.0, seconds, "", "train")
        for path, seconds in zip(sounds, (0.3, duration_s), strict=True)
    ]
    validation = check(splits, max_left_out=0.5)
    assert validation.faults["untranscribed"] == ({kind: ["more-1"]} if kind else {})
    splits["untranscribed"][0] = replace(splits["untranscribed"][0], speaker="test")
    with pytest.raises(CorpusError, match=r"test \(test\+untranscribed\)"):
        check(splits, max_left_out=1)


def test_recordings_of_test_are_refused_under_another_name(splits: Splits, tmp_path: Path) -> None:
    copy = tmp_path / "copy.wav"
    copy.write_bytes(Path(splits["test"][0].audio_filepath).read_bytes())
    splits["untranscribed"] = [Utterance("copy", str(copy), 0.0, 0.5, "")]
    with pytest.raises(CorpusError, match=r"1 utterances \(copy\) are of recordings of dev or test"):
        check(splits)


def test_messages_say_what_to_do(splits: Splits, write_tone: WriteTone) -> None:
    make_faulty(splits, "words outside the lexicon", write_tone)
    with pytest.raises(CorpusError, match=r"MAYBE \(2\).*lexicon\.path"):
        check(splits)


def test_telephone_speech_names_the_rate(splits: Splits, write_tone: WriteTone) -> None:
    make_faulty(splits, "sampling rate too low", write_tone)
    with pytest.raises(CorpusError, match=r"corpus\.sampling_rate_hz.*\(8000\)"):
        check(splits)


def test_higher_rate_is_fine(splits: Splits, write_tone: WriteTone) -> None:
    write_tone(Path(splits["train"][1].audio_filepath), rate_hz=44100)
    assert check(splits).kept == splits


def test_two_faults_leave_one_utterance_out(splits: Splits, write_tone: WriteTone) -> None:
    make_faulty(splits, "missing audio", write_tone)
    make_faulty(splits, "empty text", write_tone)
    validation = check(splits, max_left_out=0.25)
    assert validation.num_left_out("train") == 1
    assert set(validation.faults["train"]) == {"missing audio", "empty text"}


def test_empty_recording(splits: Splits, write_tone: WriteTone) -> None:
    write_tone(Path(splits["train"][1].audio_filepath), duration_s=0)
    assert "zero length" in check(splits, max_left_out=1).faults["train"]


@pytest.mark.parametrize("other", ["train", "dev"])
def test_duplicate_ids_are_always_fatal(splits: Splits, other: str) -> None:
    splits[other].append(replace(splits["train"][0], speaker=other))
    with pytest.raises(CorpusError, match="train-0"):
        check(splits, max_left_out=1)


def test_shared_speakers_are_always_fatal(splits: Splits) -> None:
    splits["dev"][0] = replace(splits["dev"][0], speaker="test")
    with pytest.raises(CorpusError, match=r"test \(dev\+test\)"):
        check(splits, max_left_out=1)


def test_unknown_speakers_are_counted_not_refused(splits: Splits) -> None:
    nobody = {split: [replace(u, speaker=None) for u in utterances] for split, utterances in splits.items()}
    assert check(nobody).to_json()["splits"]["train"]["num_without_speaker"] == 4


def test_a_split_without_utterances_is_fatal(splits: Splits) -> None:
    with pytest.raises(CorpusError, match="split dev: no utterances"):
        check({**splits, "dev": []}, max_left_out=1)
    gone = [replace(utterance, audio_filepath="") for utterance in splits["dev"]]
    with pytest.raises(CorpusError, match="split dev: 4 of 4"):
        check({**splits, "dev": gone}, max_left_out=1)


def test_long_recording_shared_by_utterances(splits: Splits, tmp_path: Path, write_tone: WriteTone) -> None:
    path = str(write_tone(tmp_path / "long.flac", 4.0))
    splits["train"] = [
        replace(u, audio_filepath=path, offset=float(i), duration=1.0) for i, u in enumerate(splits["train"])
    ]
    assert check(splits).kept == splits
