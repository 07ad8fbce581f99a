"""Kaldi data directories: paths, separators, segments, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asrdistill.corpus.config import import_corpus, input_paths
from asrdistill.corpus.kaldi import KaldiConfig, KaldiSplits
from asrdistill.corpus.lexicon import LexiconConfig, load_lexicon
from asrdistill.corpus.validation import ValidationConfig, validate
from asrdistill.errors import CorpusError

WriteTone = Callable[..., Path]

SPEECHOCEAN = Path(__file__).parents[3] / "shared/data/speechocean762"


def write_dir(data_dir: Path, **tables: str) -> None:
    """Write tables; a key `wav_scp` names wav.scp."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        (data_dir / name.replace("_", ".")).write_bytes(content.encode())


@pytest.fixture
def corpus(tmp_path: Path, write_tone: WriteTone) -> Path:
    for split in ("train", "dev", "test"):
        write_tone(tmp_path / "audio" / f"{split}.wav", 1.5)
        write_dir(
            tmp_path / split,
            wav_scp=f"{split}-1 audio/{split}.wav\n",
            text=f"{split}-1 some words\n",
            utt2spk=f"{split}-1 speaker-{split}\n",
        )
    return tmp_path


def read(path: Path, **settings: object) -> dict:
    return import_corpus(KaldiConfig.model_validate({"path": path, **settings}), path)


def test_plain(corpus: Path) -> None:
    splits = read(corpus)
    assert list(splits) == ["train", "dev", "test"]
    (utterance,) = splits["dev"]
    assert (utterance.id, utterance.speaker, utterance.text) == ("dev-1", "speaker-dev", "SOME WORDS")
    assert (utterance.offset, utterance.duration) == (0.0, 1.5)
    assert utterance.audio_filepath == str(corpus / "audio/dev.wav")


def test_speech_without_transcripts(corpus: Path, write_tone: WriteTone) -> None:
    write_tone(corpus / "audio/more.wav", 0.7)
    write_dir(corpus / "more", wav_scp="more-1 audio/more.wav\n")
    splits = read(corpus, splits={"untranscribed": "more"})
    assert list(splits) == ["train", "dev", "test", "untranscribed"]
    (utterance,) = splits["untranscribed"]
    assert (utterance.id, utterance.speaker, utterance.text, utterance.duration) == ("more-1", None, "", 0.7)
    inputs = input_paths(KaldiConfig.model_validate({"path": corpus, "splits": {"untranscribed": "more"}}))
    assert corpus / "more/wav.scp" in inputs
    with pytest.raises(CorpusError, match=r"expected one with wav\.scp: set corpus\.path"):
        read(corpus, splits={"untranscribed": "nowhere"})


def test_tabs_spaces_line_ends_and_a_mark(corpus: Path) -> None:
    write_dir(
        corpus / "train",
        wav_scp="\ufefftrain-1\t audio/train.wav \r\n",
        text="train-1\t Some   words\there\r\n\n",
    )
    (utterance,) = read(corpus)["train"]
    assert utterance.text == "SOME WORDS HERE"
    assert utterance.audio_filepath == str(corpus / "audio/train.wav")


def test_absolute_path_with_a_space(
    corpus: Path, tmp_path_factory: pytest.TempPathFactory, write_tone: WriteTone
) -> None:
    path = write_tone(tmp_path_factory.mktemp("far") / "with space.wav", 0.25)
    write_dir(corpus / "train", wav_scp=f"train-1 {path}\n")
    (utterance,) = read(corpus)["train"]
    assert (utterance.audio_filepath, utterance.duration) == (str(path), 0.25)


@pytest.mark.parametrize("place", ["corpus", "corpus/data/train", "corpus/data", "cwd"])
def test_relative_path_is_found(
    tmp_path: Path, write_tone: WriteTone, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    path = write_tone(tmp_path / place / "sub/a.flac", 0.5)
    for split in ("train", "dev", "test"):
        write_dir(tmp_path / "corpus/data" / split, wav_scp=f"{split} sub/a.flac\n", text=f"{split} words\n")
    names = {"train": "data/train", "dev": "data/dev", "test": "data/test"}
    (utterance,) = read(tmp_path / "corpus", splits=names)["train"]
    assert utterance.audio_filepath == str(path)
    assert utterance.speaker is None


def test_relative_corpus_folder_gives_absolute_paths(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus.parent)
    (utterance,) = read(Path(corpus.name))["train"]
    assert Path(utterance.audio_filepath).is_absolute()
    assert Path(utterance.audio_filepath).is_file()


def test_segments(corpus: Path) -> None:
    write_dir(
        corpus / "train",
        segments="u1 train-1 0.25 0.75\nu2\ttrain-1\t0.75 -1\nu3 unknown 0 1\n",
        text="u1 one\nu2 two\nu3 three\n",
        utt2spk="u1 s1\nu2 s2\n",
    )
    u1, u2, u3 = read(corpus)["train"]
    assert (u1.id, u1.offset, u1.duration, u1.speaker) == ("u1", 0.25, 0.5, "s1")
    assert (u2.id, u2.offset, u2.duration, u2.speaker) == ("u2", 0.75, 0.75, "s2")
    assert u1.audio_filepath == u2.audio_filepath
    assert (u3.audio_filepath, u3.speaker) == ("", None)


def test_genders_and_ages_of_speakers(corpus: Path) -> None:
    write_dir(
        corpus / "train",
        segments="u1 train-1 0 1\nu2 train-1 0 1\nu3 train-1 0 1\nu4 train-1 0 1\n",
        text="u1 a\nu2 b\nu3 c\nu4 d\n",
        utt2spk="u1 s1\nu2 s2\nu3 s3\n",
        spk2gender="s1 F\ns2 male\n",
        spk2age="s2 6\ns1 70.5\n",
    )
    splits = read(corpus)
    assert [(u.speaker, u.gender, u.age) for u in splits["train"]] == [
        ("s1", "f", 70.5), ("s2", "m", 6.0), ("s3", None, None), (None, None, None)
    ]  # fmt: skip
    assert [(u.gender, u.age) for u in splits["dev"]] == [(None, None)]


@pytest.mark.parametrize("age", ["six", "", "nan", "inf", "-1", "6 years"])
def test_an_age_that_is_no_number(corpus: Path, age: str) -> None:
    write_dir(corpus / "dev", spk2age=f"s1 6\n\ns2 {age}\n")
    with pytest.raises(CorpusError, match=rf"dev/spk2age, line 3: speaker s2 has the age '{age}'; expected"):
        read(corpus)


def test_transcripts_and_recordings_without_each_other_are_kept_for_validation(corpus: Path) -> None:
    write_dir(corpus / "train", text="other some words\n")
    by_id = {utterance.id: utterance for utterance in read(corpus)["train"]}
    assert by_id["train-1"].text == ""
    assert by_id["other"].audio_filepath == ""


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"wav_scp": "train-1 flac -d -c a.flac |\n"}, r"wav\.scp, recording train-1: a command"),
        ({"text": "train-1 a\ntrain-1 b\n"}, "text, line 2: train-1 comes a second time"),
        ({"segments": "u1 train-1 0.25\n"}, "segments, utterance u1: found 'train-1 0.25'"),
        ({"spk2gender": "s1 f\ns1 m\n"}, "spk2gender, line 2: s1 comes a second time"),
        ({"segments": "u1 train-1 zero 1\n"}, "segments, utterance u1"),
    ],
)
def test_tables_that_cannot_be_used(corpus: Path, tables: dict[str, str], message: str) -> None:
    write_dir(corpus / "train", **tables)
    with pytest.raises(CorpusError, match=message):
        read(corpus)


def test_latin_1_is_refused(corpus: Path) -> None:
    (corpus / "train/text").write_bytes("train-1 café\n".encode("latin-1"))
    with pytest.raises(CorpusError, match="not UTF-8"):
        read(corpus)


def test_missing_folder_names_the_settings(corpus: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.path"):
        read(corpus / "nowhere")
    with pytest.raises(CorpusError, match=r"corpus\.splits"):
        read(corpus, splits={"dev": "valid"})


def test_inputs_are_the_tables(corpus: Path) -> None:
    write_dir(corpus / "dev", segments="u1 dev-1 0 1\n", spk2gender="s m\n", spk2age="s 6\n")
    paths = input_paths(KaldiConfig(path=corpus, splits=KaldiSplits()))
    assert set(paths) == {path for path in corpus.glob("*/*") if path.parent.name != "audio"}


@pytest.mark.skipif(not SPEECHOCEAN.is_dir(), reason=f"speechocean762 is not at {SPEECHOCEAN}")
def test_a_real_corpus() -> None:
    config = KaldiConfig(path=SPEECHOCEAN)
    lexicon = load_lexicon(LexiconConfig(path=SPEECHOCEAN / "resource/lexicon.txt"), set())
    splits = import_corpus(config, SPEECHOCEAN)
    assert {u.gender for many in splits.values() for u in many} == {"f", "m"}
    assert all(u.age for many in splits.values() for u in many)
    validation = validate(splits, lexicon, ValidationConfig(), 16000)
    found = validation.to_json()["splits"]
    assert {
        split: (s["num_utterances"], s["num_speakers"], round(s["hours"], 2)) for split, s in found.items()
    } == {
        "train": (1880, 94, 2.18),
        "dev": (320, 16, 0.34),
        "test": (300, 15, 0.36),
    }
