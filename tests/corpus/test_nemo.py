"""NeMo-style manifests."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asrdistill.corpus.config import import_corpus, input_paths
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.nemo import NemoConfig
from asrdistill.errors import CorpusError

WriteTone = Callable[..., Path]


def write_manifests(folder: Path, train: list[dict]) -> NemoConfig:
    for split, rows in (("train", train), ("dev", []), ("test", [])):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return NemoConfig(path=folder)


def test_every_key(tmp_path: Path) -> None:
    row = {"audio_filepath": "/a/b.wav", "offset": 1, "duration": 2.5, "text": "é b", "id": 7, "speaker": 12}
    config = write_manifests(tmp_path, [{**row, "lang": "en"}])
    (utterance,) = import_corpus(config, tmp_path)["train"]
    assert utterance == Utterance("7", "/a/b.wav", 1.0, 2.5, "É B", "12")


def test_fewest_keys(tmp_path: Path, write_tone: WriteTone) -> None:
    path = write_tone(tmp_path / "wavs/x.1.wav", 1.25)
    row = {"audio_filepath": "wavs/x.1.wav", "text": "hello", "speaker": None, "duration": None}
    (utterance,) = import_corpus(write_manifests(tmp_path, [row]), tmp_path)["train"]
    assert utterance == Utterance("wavs-x_1", str(path), 0.0, 1.25, "HELLO", None)


def test_genders_and_ages(tmp_path: Path) -> None:
    found = [
        ("Female", 31), ("M", 6.5), ("male_masculine", "40"), ("", ""), (None, None), ("unknown", 0), (1, 2),
        ("f", "fourties"), ("f", "Teens"),
    ]  # fmt: skip
    row = {"audio_filepath": "/a.wav", "text": "a", "duration": 1}
    rows = [{**row, "gender": gender, "age": age} for gender, age in found]
    utterances = import_corpus(write_manifests(tmp_path, rows), tmp_path)["train"]
    assert [(utterance.gender, utterance.age) for utterance in utterances] == [
        ("f", 31.0), ("m", 6.5), ("male_masculine", 40.0), (None, None), (None, None), (None, 0.0),
        ("1", 2.0), ("f", 45.0), ("f", 15.0),
    ]  # fmt: skip


@pytest.mark.parametrize("age", ['"grown up"', "-1", "NaN", "Infinity", "[6]"])
def test_an_age_that_is_no_number(tmp_path: Path, age: str) -> None:
    config = write_manifests(tmp_path, [])
    line = f'{{"audio_filepath": "a.wav", "text": "a", "duration": 1, "age": {age}}}'
    (tmp_path / "train.jsonl").write_text(line)
    with pytest.raises(CorpusError, match=r"train\.jsonl, line 1: .* age .*ages in years"):
        import_corpus(config, tmp_path)


def test_stretches_of_one_recording_have_ids_of_their_own(tmp_path: Path, write_tone: WriteTone) -> None:
    write_tone(tmp_path / "a.wav", 2.0)
    rows = [{"audio_filepath": "a.wav", "text": "x", "offset": offset} for offset in (0, 0.5)]
    first, second = import_corpus(write_manifests(tmp_path, rows), tmp_path)["train"]
    assert (first.duration, second.duration) == (2.0, 1.5)
    assert (first.id, second.id) == ("a-0000000", "a-0000500")


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"text": "a"}', '{"audio_filepath": "a", "text": "a", "duration": "x"}']
)
def test_bad_lines_are_named(tmp_path: Path, line: str) -> None:
    config = write_manifests(tmp_path, [])
    (tmp_path / "train.jsonl").write_text(
        '\n{"audio_filepath": "a.wav", "text": "a", "duration": 1}\n' + line
    )
    with pytest.raises(CorpusError, match=r"train\.jsonl, line 3: "):
        import_corpus(config, tmp_path)


def test_missing_manifest(tmp_path: Path) -> None:
    config = NemoConfig(path=tmp_path)
    assert input_paths(config) == []
    with pytest.raises(CorpusError, match=r"train\.jsonl: no such file"):
        import_corpus(config, tmp_path)
