"""NeMo-style manifests: JSON lines of `audio_filepath` and `text`; at will the other keys of `Entry`."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from asrdistill.corpus.audio import map_paths, probe_duration
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

# Common Voice's ages, its spelling included: the middle of each, in years.
DECADES = {"teens": 15.0, "twenties": 25.0, "thirties": 35.0, "fourties": 45.0, "forties": 45.0}
DECADES |= {"fifties": 55.0, "sixties": 65.0, "seventies": 75.0, "eighties": 85.0, "nineties": 95.0}


class NemoConfig(FolderConfig):
    """Settings of a corpus described by manifests."""

    kind: Literal["nemo"] = Field("nemo", description="form of the corpus")
    train: Path = Field(
        Path("train.jsonl"), description="manifest to train on, relative to the corpus folder"
    )
    dev: Path = Field(Path("dev.jsonl"), description="manifest to tune on, relative to the corpus folder")
    test: Path = Field(Path("test.jsonl"), description="manifest to report on, relative to the corpus folder")
    untranscribed: Path | None = Field(
        None, description="manifest of speech without text, for the student alone"
    )

    def list_manifests(self) -> dict[str, Path]:
        """That of each split, and of speech without transcripts if there is such."""
        named = {split: getattr(self, split) for split in (*SPLITS, UNTRANSCRIBED)}
        return {split: self.path / name for split, name in named.items() if name is not None}


class Entry(TypedDict, total=False):
    """What is read of a line; other keys are left alone."""

    audio_filepath: str
    text: str
    offset: float
    duration: float
    id: str
    speaker: str
    gender: str
    age: Annotated[float, Field(ge=0, allow_inf_nan=False)]


ENTRY = TypeAdapter(Entry)


def list_inputs(config: NemoConfig) -> list[Path]:
    """The text files that determine the manifests."""
    return list(config.list_manifests().values())


def import_splits(config: NemoConfig) -> dict[str, list[Utterance]]:
    """Read the manifests.

    Raises:
        CorpusError: a manifest is missing, or a line of one cannot be understood.
    """
    manifests = config.list_manifests()
    return {s: _read_manifest(path, s != UNTRANSCRIBED) for s, path in manifests.items()}


def _read_manifest(path: Path, has_texts: bool) -> list[Utterance]:
    entries = [_parse_line(path, number, line, has_texts) for number, line in read_lines(path)]
    audio_paths = [str((path.parent / entry["audio_filepath"]).absolute()) for entry in entries]
    unknown = [audio for audio, entry in zip(audio_paths, entries, strict=True) if "duration" not in entry]
    durations = map_paths(probe_duration, unknown, f"read headers of {path.name}")
    utterances = []
    for audio_path, entry in zip(audio_paths, entries, strict=True):
        offset_s, duration_s = entry.get("offset", 0.0), entry.get("duration")
        if duration_s is None:
            duration_s = durations[audio_path] - offset_s
        text, speaker = normalise_text(entry["text"] if has_texts else ""), entry.get("speaker")
        gender, age = normalise_gender(entry.get("gender", "")), entry.get("age")
        utterances.append(
            Utterance(_make_id(entry), audio_path, offset_s, duration_s, text, speaker, gender, age)
        )
    return utterances


def _parse_line(path: Path, number: int, line: str, has_text: bool) -> Entry:
    needed = ("audio_filepath", "text") if has_text else ("audio_filepath",)
    expected = (
        f"expected a JSON object with {' and '.join(needed)}, durations and offsets in seconds, ages in years"
    )
    try:
        decoded: dict[str, Any] = json.loads(line)
        # A speaker or an id is often written as a number, what is not known as null.
        known = {key: value for key, value in decoded.items() if value is not None}
        if known.get("age") == "":
            del known["age"]
        elif str(known.get("age")).lower() in DECADES:
            known["age"] = DECADES[known["age"].lower()]
        entry = ENTRY.validate_python(
            known | {key: str(known[key]) for key in ("id", "speaker", "gender") if key in known}
        )
    except (json.JSONDecodeError, ValidationError, AttributeError) as error:
        raise CorpusError(
            f"manifest {path}, line {number}: {' '.join(str(error).split())}; {expected}"
        ) from error
    if missing := set(needed) - entry.keys():
        raise CorpusError(
            f"manifest {path}, line {number}: no {' and no '.join(sorted(missing))}; {expected}"
        )
    return entry


def _make_id(entry: Entry) -> str:
    """The id given, else one made of the path as written and of the offset, if any, in milliseconds."""
    if "id" in entry:
        return entry["id"]
    parts = Path(entry["audio_filepath"]).with_suffix("").parts
    name = "-".join(part for part in parts if part not in ("/", "..")).replace(".", "_")
    return f"{name}-{round(1000 * entry['offset']):07d}" if "offset" in entry else name
