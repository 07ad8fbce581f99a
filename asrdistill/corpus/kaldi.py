"""Kaldi data directories: `wav.scp`, `text`, and, where there are such, the other `TABLES`."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from asrdistill.config import Config
from asrdistill.corpus.audio import map_paths, probe_duration
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.source import UNTRANSCRIBED, FolderConfig, normalise_gender, normalise_text, read_lines
from asrdistill.errors import CorpusError

TABLES = ("wav.scp", "text", "segments", "utt2spk", "spk2gender", "spk2age")
Segment = tuple[str, float, float | None]


class KaldiSplits(Config):
    """The data directory of each split, relative to the corpus folder."""

    train: str = Field("train", description="data directory to train on")
    dev: str = Field("dev", description="data directory to tune on")
    test: str = Field("test", description="data directory to report on")
    untranscribed: str | None = Field(
        None, description="data directory without transcripts, for the student alone"
    )


class KaldiConfig(FolderConfig):
    """Settings of a corpus in Kaldi's form."""

    kind: Literal["kaldi"] = Field("kaldi", description="form of the corpus")
    splits: KaldiSplits = Field(KaldiSplits(), description="the data directories inside the corpus folder")

    def list_data_dirs(self) -> dict[str, Path]:
        """That of each split, and of speech without transcripts if there is such."""
        named = self.splits.model_dump(exclude_none=True)
        return {split: self.path / name for split, name in named.items()}


def list_inputs(config: KaldiConfig) -> list[Path]:
    """The text files that determine the manifests."""
    paths = [folder / table for folder in config.list_data_dirs().values() for table in TABLES]
    return [path for path in paths if path.is_file()]


def import_splits(config: KaldiConfig) -> dict[str, list[Utterance]]:
    """Read the data directories.

    Raises:
        CorpusError: a table is missing, or a line of one cannot be understood.
    """
    folders = config.list_data_dirs()
    return {s: _read_data_dir(config, folder, s != UNTRANSCRIBED) for s, folder in folders.items()}


def _read_data_dir(config: KaldiConfig, data_dir: Path, has_texts: bool) -> list[Utterance]:
    if not data_dir.is_dir():
        raise CorpusError(
            f"data directory {data_dir}: no such folder; expected one with wav.scp{' and text' * has_texts}: "
            "set corpus.path to the corpus folder, or corpus.splits to the names of its data directories"
        )
    texts = _read_table(data_dir / "text") if has_texts else {}
    speakers = _read_optional(data_dir / "utt2spk")
    genders, ages = _read_optional(data_dir / "spk2gender"), _read_ages(data_dir / "spk2age")
    recordings = _locate_recordings(config, data_dir)
    segments = _read_segments(data_dir, recordings)
    durations = map_paths(probe_duration, recordings.values(), f"read headers of {data_dir.name}")
    utterances = []
    for utterance_id in dict.fromkeys((*segments, *texts)):
        # An utterance with a transcript alone is kept, for `validate` to count its missing recording.
        recording_id, start_s, end_s = segments.get(utterance_id, ("", 0.0, None))
        audio_path = recordings.get(recording_id, "")
        length_s = (durations.get(audio_path, 0.0) if end_s is None else end_s) - start_s
        text, speaker = normalise_text(texts.get(utterance_id, "")), speakers.get(utterance_id)
        gender, age = normalise_gender(genders.get(speaker or "", "")), ages.get(speaker or "")
        utterances.append(Utterance(utterance_id, audio_path, start_s, length_s, text, speaker, gender, age))
    return utterances


def _read_table(path: Path) -> dict[str, str]:
    """Read lines of a key and, after spaces or a tab, a value that may be empty.

    Raises:
        CorpusError: a key comes a second time.
    """
    return {key: value for key, (_, value) in _read_rows(path).items()}


def _read_optional(path: Path) -> dict[str, str]:
    return _read_table(path) if path.is_file() else {}


def _read_rows(path: Path) -> dict[str, tuple[int, str]]:
    """Number of the line and value of each key."""
    rows: dict[str, tuple[int, str]] = {}
    for number, line in read_lines(path):
        key, *rest = line.split(maxsplit=1)
        if key in rows:
            raise CorpusError(
                f"{path}, line {number}: {key} comes a second time; expected one line for each id"
            )
        rows[key] = number, rest[0] if rest else ""
    return rows


def _read_ages(path: Path) -> dict[str, float]:
    """Age in years of each speaker of spk2age; none where there is no such file.

    Raises:
        CorpusError: an age is no number.
    """
    ages = {}
    for speaker, (number, value) in (_read_rows(path) if path.is_file() else {}).items():
        try:
            ages[speaker] = float(value)
        except ValueError:
            ages[speaker] = math.nan
        if not 0 <= ages[speaker] < math.inf:
            raise CorpusError(
                f"{path}, line {number}: speaker {speaker} has the age {value!r}; expected a number of "
                "years: correct it, or take the line out where the age is not known"
            )
    return ages


def _locate_recordings(config: KaldiConfig, data_dir: Path) -> dict[str, str]:
    """Absolute path of each recording of wav.scp."""
    between = [folder for folder in data_dir.parents if folder.is_relative_to(config.path)]
    bases = [config.path, data_dir, *between, Path.cwd()]
    located = {}
    for recording_id, value in _read_table(data_dir / "wav.scp").items():
        if value.endswith("|"):
            raise CorpusError(
                f"{data_dir / 'wav.scp'}, recording {recording_id}: a command ({value}), expected the path "
                "of a WAV or FLAC file; write its output to a file and name that"
            )
        # An absolute path stays itself, whatever the base.
        candidates = [base / value for base in bases]
        found = next((path for path in candidates if path.is_file()), candidates[0])
        located[recording_id] = str(found.absolute())
    return located


def _read_segments(data_dir: Path, recordings: dict[str, str]) -> dict[str, Segment]:
    """Recording, start and end (None: where the recording ends) of each utterance."""
    path = data_dir / "segments"
    if not path.is_file():
        return {recording_id: (recording_id, 0.0, None) for recording_id in recordings}
    return {key: _parse_segment(path, key, value) for key, value in _read_table(path).items()}


def _parse_segment(path: Path, utterance_id: str, value: str) -> Segment:
    try:
        recording_id, start_s, end_s = value.split()
        return recording_id, float(start_s), None if float(end_s) < 0 else float(end_s)
    except ValueError as error:
        raise CorpusError(
            f"{path}, utterance {utterance_id}: found {value!r}; expected recording, start and end in seconds"
        ) from error
