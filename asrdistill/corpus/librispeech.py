"""The layout of LibriSpeech, `<subset>/<speaker>/<chapter>/*.flac` with `*.trans.txt`, downloaded on request.

Where SPEAKERS.TXT lies beside the subsets, the speakers' genders are read from it.
URLs, checksums and lists of speakers are in `manifests/`.
Source: Panayotov et al. (2015), "Librispeech: an ASR corpus based on public domain audio books", ICASSP.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from asrdistill.config import Config
from asrdistill.corpus.audio import map_paths, probe_duration
from asrdistill.corpus.download import fetch_file, unpack_archive
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.source import (
    SPLITS,
    UNTRANSCRIBED,
    FolderConfig,
    normalise_gender,
    normalise_text,
    read_lines,
)
from asrdistill.errors import CorpusError

MANIFESTS_DIR = Path(__file__).parents[2] / "manifests"
ROOT_FOLDER = "LibriSpeech"
# Lines `id | sex | subset | minutes | name`; those that begin with `;` are comments.
SPEAKERS_FILE = "SPEAKERS.TXT"
UNPACK_YOURSELF = ", or unpack the archive yourself and set corpus.path to its folder"


class LibrispeechConfig(FolderConfig):
    """Settings of LibriSpeech, of a part of it, or of a corpus in its layout."""

    kind: Literal["librispeech"] = Field("librispeech", description="form of the corpus")
    source: Literal["librispeech", "mini_librispeech"] = Field(
        "librispeech",
        description="file of manifests/ with URLs, checksums and, where subsets are divided, speakers",
    )
    train: tuple[str, ...] = Field(("train-clean-100",), min_length=1, description="subsets to train on")
    dev: tuple[str, ...] = Field(("dev-clean",), min_length=1, description="subsets to tune on")
    test: tuple[str, ...] = Field(("test-clean",), min_length=1, description="subsets to report on")
    untranscribed: tuple[str, ...] = Field(
        (), description="subsets whose transcripts are not looked at, for the student alone"
    )
    download: bool = Field(
        False, description="download into the corpus folder the subsets that are not there"
    )

    def subsets(self, split: str) -> tuple[str, ...]:
        subsets: tuple[str, ...] = getattr(self, split)
        return subsets

    def list_subsets(self) -> list[str]:
        """Those of all splits, each once."""
        return list(dict.fromkeys(s for split in (*SPLITS, UNTRANSCRIBED) for s in self.subsets(split)))


class Archive(Config):
    """Where a subset comes from."""

    url: str = Field(description="address of the archive")
    md5: str | None = Field(description="checksum of the archive; null where none could be confirmed")


class Source(Config):
    """A file of manifests/."""

    name: str = Field(description="of the corpus")
    source: str = Field(description="where it is published")
    licence: str = Field(description="under which it may be used")
    notes: str = Field("", description="for the reader")
    archives: dict[str, Archive] = Field(description="subset -> its archive")
    speakers: dict[str, list[str]] = Field(
        default_factory=dict, description="split -> its speakers, where one subset serves several splits"
    )


def source_path(config: LibrispeechConfig) -> Path:
    """The file of manifests/ that describes the corpus."""
    return MANIFESTS_DIR / f"{config.source}.json"


def read_source(path: Path) -> Source:
    """Read a file of manifests/."""
    return Source.model_validate(json.loads(path.read_text(encoding="utf-8")))


def list_inputs(config: LibrispeechConfig) -> list[Path]:
    """The text files that determine the manifests, as far as they are there before a download."""
    subset_dirs = {_locate_subset(config, subset) for subset in config.list_subsets()}
    transcripts = [path for folder in sorted(subset_dirs) for path in sorted(folder.glob("*/*/*.trans.txt"))]
    speakers = sorted({folder.parent / SPEAKERS_FILE for folder in subset_dirs})
    return [source_path(config), *transcripts, *(path for path in speakers if path.is_file())]


def import_splits(config: LibrispeechConfig) -> dict[str, list[Utterance]]:
    """Read the subsets of each split, after downloading those that are missing if that is asked for.

    Raises:
        CorpusError: a subset is missing, cannot be downloaded, or has speakers of no split.
    """
    source = read_source(source_path(config))
    transcribed = dict.fromkeys(subset for split in SPLITS for subset in config.subsets(split))
    subsets = {s: _read_subset(_provide_subset(config, source, s)) for s in transcribed}
    splits = {
        split: [utterance for subset in config.subsets(split) for utterance in subsets[subset]]
        for split in SPLITS
    }
    if source.speakers:
        splits = _divide_speakers(source, splits)
    if config.untranscribed:
        folders = [_provide_subset(config, source, subset) for subset in config.untranscribed]
        splits[UNTRANSCRIBED] = [utterance for folder in folders for utterance in _find_recordings(folder)]
    return splits


def _divide_speakers(source: Source, splits: dict[str, list[Utterance]]) -> dict[str, list[Utterance]]:
    """Leave each split that has a list of speakers those alone."""
    listed = {speaker for speakers in source.speakers.values() for speaker in speakers}
    for split, speakers in source.speakers.items():
        found = {utterance.speaker or "" for utterance in splits[split]}
        if strangers := sorted(found - listed):
            raise CorpusError(
                f"split {split}: speakers {', '.join(strangers[:5])} ({len(strangers)} in all) are in no "
                f"list of manifests/ for {source.name}; choose other subsets, or corpus.source=librispeech"
            )
        splits[split] = [utterance for utterance in splits[split] if utterance.speaker in speakers]
    return splits


def _locate_subset(config: LibrispeechConfig, subset: str) -> Path:
    """Folder of a subset; the corpus folder may be LibriSpeech itself or what holds it."""
    direct = config.path / subset
    return direct if direct.is_dir() else config.path / ROOT_FOLDER / subset


def _provide_subset(config: LibrispeechConfig, source: Source, subset: str) -> Path:
    subset_dir = _locate_subset(config, subset)
    if subset_dir.is_dir():
        return subset_dir
    if not config.download:
        raise CorpusError(
            f"subset {subset}: no folder {subset_dir}; set corpus.path to the folder of LibriSpeech, "
            "or corpus.download=true to download it there"
        )
    if subset not in source.archives:
        raise CorpusError(f"subset {subset}: not in {source.name}, which has {', '.join(source.archives)}")
    archive_path = config.path / f"{subset}.tar.gz"
    if not archive_path.is_file():
        archive = source.archives[subset]
        fetch_file(archive.url, archive.md5, archive_path, otherwise=UNPACK_YOURSELF)
    unpack_archive(archive_path, f"{ROOT_FOLDER}/{subset}", subset_dir)
    archive_path.unlink()
    return subset_dir


def _read_subset(subset_dir: Path) -> list[Utterance]:
    transcript_paths = sorted(subset_dir.glob("*/*/*.trans.txt"))
    if not transcript_paths:
        raise CorpusError(f"{subset_dir}: no transcripts; expected <speaker>/<chapter>/*.trans.txt inside it")
    rows = [row for path in transcript_paths for row in _read_transcripts(path)]
    durations = map_paths(probe_duration, (row[1] for row in rows), f"read headers of {subset_dir.name}")
    genders = _read_genders(subset_dir)
    return [
        Utterance(key, audio, 0.0, durations[audio], text, speaker, genders.get(speaker))
        for key, audio, text, speaker in rows
    ]


def _find_recordings(subset_dir: Path) -> list[Utterance]:
    """The utterances of a subset without their transcripts, which need not be there."""
    paths = sorted(subset_dir.absolute().glob("*/*/*.flac"))
    if not paths:
        raise CorpusError(f"{subset_dir}: no recordings; expected <speaker>/<chapter>/*.flac inside it")
    durations = map_paths(probe_duration, map(str, paths), f"read headers of {subset_dir.name}")
    genders = _read_genders(subset_dir)
    return [
        Utterance(path.stem, str(path), 0.0, durations[str(path)], "", speaker, genders.get(speaker))
        for path in paths
        for speaker in [path.parent.parent.name]
    ]


def _read_genders(subset_dir: Path) -> dict[str, str | None]:
    """Gender of each speaker of the corpus; none where SPEAKERS.TXT is not there.

    Raises:
        CorpusError: a line of it has no column for the sex.
    """
    path = subset_dir.parent / SPEAKERS_FILE
    genders = {}
    for number, line in read_lines(path) if path.is_file() else ():
        if line.startswith(";"):
            continue
        speaker, *columns = line.split("|")
        if not columns:
            raise CorpusError(
                f"{path}, line {number}: found {line!r}; expected `id | sex | ...`: correct the line, or "
                "take the file away"
            )
        genders[speaker.strip()] = normalise_gender(columns[0])
    return genders


def _read_transcripts(path: Path) -> list[tuple[str, str, str, str]]:
    """Id, path of the recording, text and speaker of each utterance of one chapter."""
    folder, speaker = path.parent.absolute(), path.parent.parent.name
    rows = []
    for _, line in read_lines(path):
        utterance_id, _, text = line.partition(" ")
        rows.append((utterance_id, str(folder / f"{utterance_id}.flac"), normalise_text(text), speaker))
    return rows
