"""Soft-target shards: webdataset tars that a student can be trained from with everything else deleted.

One sample an utterance, and one for each perturbed view of it (`<id>~view<n>`): `<key>.features.npy` float16
(frames, bins); `<key>.frames.npy`, a record a frame: `pdf_id`, the hard target, -1 where there is none, and
how much the teachers disagree, `votes` and `distance` as `asrdistill.targets.averaging.Opinion` has them;
and for every stored temperature `<key>.soft_t<T>.<extension>`, as `asrdistill.targets.codecs` wrote it. The
key is the utterance's id, percent-encoded where webdataset could not carry it (dots, slashes).
`index.json`, written last, is the shards' contract: what is in each, their SHA-256, the codec, and the
identity of everything that made them.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from webdataset.tariterators import group_by_keys, tar_file_expander

from asrdistill.config import Config
from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path, hash_file, write_json
from asrdistill.features.perturbation import PerturbationConfig
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.checkpoint import load_model
from asrdistill.nn.frames import LabelledFrames
from asrdistill.targets.averaging import BYTE, Average
from asrdistill.targets.codecs import (
    Codec,
    CodecConfig,
    load_array,
    open_codec,
    save_array,
)
from asrdistill.targets.transform import TransformConfig

SCHEMA = 4
FRAME_RECORD = np.dtype([("pdf_id", "<i4"), ("votes", "u1"), ("distance", "u1")])
# How much a frame counts for a student: the share of teachers that agree; one minus their distance.
Weighting = Literal["none", "votes", "distance"]
WHY_NOT_ANY = (
    "an average made at one temperature cannot be turned into that at another, unless soft_targets.average "
    "is geometric and the codec {kind: transform, correction: null}; add it to soft_targets.temperatures"
)
# A teacher's weights, beside the shards of a dump that has a guide.
GUIDE = "guide.safetensors"
REPAIR = "asrdistill repair EXP makes it again, or fetch it again"


def serves_any_temperature(average: Average, codec: CodecConfig) -> bool:
    """Whether soft targets stored so at one temperature can be turned into those at another."""
    return average == "geometric" and isinstance(codec, TransformConfig) and codec.correction is None


class SoftTargetsConfig(Config):
    """What is stored of the ensemble's average."""

    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (2.0,), min_length=1, description="T of each stored average"
    )
    average: Average = Field(
        "arithmetic",
        description="over teachers; arithmetic: of their posteriors at T, as in the paper; geometric: of "
        "their logits, which with codec {kind: transform, correction: null} serves a student at any "
        "temperature",
    )
    wrong_weight: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of a teacher that is wrong on a frame, in the average; what is freed goes to those "
        "that are right (ElFadeel 2021: 0.75); 1: all alike",
    )
    guide: int | None = Field(
        None,
        ge=0,
        description="number of a teacher whose weights are put beside the shards, for students that learn "
        "from its hidden layers or start from it; null: none",
    )
    num_views: int = Field(
        0, ge=0, description="perturbed views of each training utterance, stored besides the utterance itself"
    )
    perturbation: PerturbationConfig = Field(PerturbationConfig(), description="how far views are from it")
    seed: int = Field(1, ge=0, description="of the perturbations")
    codec: CodecConfig = Field(TransformConfig(), description="how soft targets are written down")
    frames_a_shard: int = Field(100_000, ge=1, description="a shard is closed when it holds this many frames")

    @model_validator(mode="after")
    def _check_temperatures(self) -> Self:
        names = [f"{temperature:g}" for temperature in self.temperatures]
        if len(set(names)) < len(names):
            raise ValueError(f"temperatures are {', '.join(names)}: each is to be given once")
        return self

    @model_validator(mode="after")
    def _check_speed(self) -> Self:
        if self.perturbation.max_speed:
            raise ValueError(
                f"perturbation.max_speed is {self.perturbation.max_speed:g}, but stored views keep their "
                "utterance's timing; expected 0: set it in student.training.perturbation"
            )
        return self

    @property
    def serves_any_temperature(self) -> bool:
        """Whether targets at one temperature can be turned into those at another."""
        return serves_any_temperature(self.average, self.codec)


@dataclass(frozen=True)
class SoftTargetSample:
    """One utterance of a shard.

    Attributes:
        id: of the utterance.
        features: float16 (frames, bins).
        records: of FRAME_RECORD (frames,): hard targets and disagreement.
        soft_targets: temperature -> as the codec wrote them.
    """

    id: str
    features: np.ndarray
    records: np.ndarray
    soft_targets: dict[float, bytes]


def plan_shards(num_frames: Sequence[int], frames_a_shard: int) -> list[range]:
    """Divide utterances, in their order, into shards: each a range of utterance numbers."""
    shards, start, count = [], 0, 0
    for number, frames in enumerate(num_frames):
        count += frames
        if count >= frames_a_shard or number == len(num_frames) - 1:
            shards.append(range(start, number + 1))
            start, count = number + 1, 0
    return shards


def spread_utterances(num_frames: np.ndarray, wanted_frames: float) -> list[int]:
    """Utterances from all over a split that have about `wanted_frames` together, at least one."""
    share = min(1, wanted_frames / max(int(num_frames.sum()), 1))
    count = max(1, round(share * len(num_frames)))
    return np.unique(np.linspace(0, len(num_frames) - 1, count).astype(int)).tolist()


def write_shard(path: Path, samples: Iterator[SoftTargetSample], extension: str) -> None:
    """Publish a shard atomically; the same samples give the same bytes.

    Args:
        path: of the tar.
        samples: of the shard.
        extension: of the codec's files.
    """
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            key = quote(sample.id, safe="").replace(".", "%2E")
            _add(tar, f"{key}.features.npy", save_array(sample.features.astype(np.float16)))
            _add(tar, f"{key}.frames.npy", save_array(sample.records.astype(FRAME_RECORD)))
            for temperature, content in sample.soft_targets.items():
                _add(tar, f"{key}.{_name(temperature)}.{extension}", content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _name(temperature: float) -> str:
    return f"soft_t{temperature:g}"


def codebook_path(shards_dir: Path, temperature: float) -> Path:
    """Where that of the soft targets at T lies, if their codec has one."""
    return shards_dir / f"codebook_t{temperature:g}.safetensors"


def write_index(shards_dir: Path, splits: dict[str, list[dict[str, Any]]], identity: dict[str, Any]) -> None:
    """Publish the contract of a folder of shards.

    Args:
        shards_dir: the folder.
        splits: split -> its shards: `file`, of each utterance `lengths`, in frames, and `num_aligned`, those
            with a hard target; added here are `num_frames`, SHA-256 and the bytes that soft targets take,
            headers and padding of the tar included.
        identity: what made the soft targets: codec, teachers, features, tied states, averaging, temperatures.
    """
    described = {
        split: [
            {**shard, "num_frames": sum(shard["lengths"]), **_describe_shard(shards_dir / shard["file"])}
            for shard in shards
        ]
        for split, shards in splits.items()
    }
    codebooks = [codebook_path(shards_dir, temperature) for temperature in identity["temperatures"]]
    hashes = {path.name: hash_file(path) for path in codebooks if path.is_file()}
    index = {"schema": SCHEMA, **identity, "codebooks": hashes, "splits": described}
    write_json(shards_dir / "index.json", {**index, "sha256": _hash_index(index)})


def _hash_index(index: dict[str, Any]) -> str:
    """SHA-256 of an index but for its own."""
    content = {key: value for key, value in index.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_index(path: Path) -> dict[str, Any]:
    """The contract of a folder of shards.

    Raises:
        ContractError: there is none, it is damaged, or of another version.
    """
    if not path.is_file():
        raise ContractError(
            f"soft targets {path}: not found; the soft-targets stage writes it last: run that stage, "
            "or give the folder that has it"
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        schema = index.get("schema")
    except (ValueError, AttributeError) as error:
        raise ContractError(f"soft targets {path}: not readable ({error}); {REPAIR}") from error
    if schema != SCHEMA:
        raise ContractError(f"soft targets {path}: schema {schema}, this version reads {SCHEMA}; dump again")
    if _hash_index(index) != index.get("sha256"):
        raise ContractError(f"soft targets {path}: its content has not the SHA-256 in it: damaged; {REPAIR}")
    return index


def list_other_files(index: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files of a dump that are no shards, by name."""
    guide = index.get("guide")
    return {**index.get("codebooks", {}), **({GUIDE: guide["sha256"]} if guide else {})}


def is_written_by(path: Path, codecs: Mapping[float, Codec]) -> bool:
    """Whether a shard's soft targets were written by these codecs, with the codebooks that they have."""
    missing = {f"{_name(t)}.{codec.extension}": codec.fingerprint for t, codec in codecs.items()}
    with suppress(tarfile.TarError), tarfile.open(path) as tar:
        for member in tar:
            content, extension = tar.extractfile(member), member.name.partition(".")[2]
            if content is not None and extension in missing:
                fingerprint = missing.pop(extension)
                if content.read(len(fingerprint)) != fingerprint:
                    return False
            if not missing:
                return True
    return False


def count_bytes_in_tar(size_bytes: int) -> int:
    """What a file of this size takes in a tar: a header, and whole blocks."""
    return tarfile.BLOCKSIZE * (1 + -(-size_bytes // tarfile.BLOCKSIZE))


def _describe_shard(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        sizes = [count_bytes_in_tar(member.size) for member in tar if ".soft_t" in member.name]
    return {"soft_target_bytes": sum(sizes), "sha256": hash_file(path)}


class ShardReader:
    """Reads a folder of shards that `index.json` describes.

    Attributes:
        index: the contract.
    """

    def __init__(self, shards_dir: Path) -> None:
        """Raises:
        ContractError: no index, or one that this version cannot read.
        """
        self.shards_dir = shards_dir
        self._checked: dict[str, tuple[int, int, str]] = {}
        self._codecs: dict[float, Codec] = {}
        self.index = read_index(shards_dir / "index.json")
        try:
            self.codec_config: CodecConfig = TypeAdapter(CodecConfig).validate_python(self.index["codec"])
        except ValidationError as error:
            raise ContractError(
                f"soft targets {shards_dir}: codec {self.index['codec']} is not known here; read them with "
                "the version that wrote them, or dump again"
            ) from error

    @property
    def num_pdfs(self) -> int:
        return int(self.index["num_pdfs"])

    @property
    def num_bins(self) -> int:
        return int(self.index["features"]["num_mel_bins"])

    def load_guide(self) -> AcousticModel:
        """The teacher whose weights lie beside the shards, a stack of one.

        Raises:
            ContractError: there is none, or its file is damaged.
        """
        described = self.index.get("guide")
        if not described:
            raise ContractError(
                f"soft targets {self.shards_dir}: no teacher's weights lie beside them, which "
                "student.extra_terms or student.initial_weights needs; dump again with soft_targets.guide=0"
            )
        self.check_file(GUIDE, described["sha256"])
        model, _ = load_model(self.shards_dir / GUIDE)
        return model

    @property
    def other_files(self) -> dict[str, str]:
        """SHA-256 of codebooks and guide, by name."""
        return list_other_files(self.index)

    @property
    def teacher_config(self) -> AcousticModelConfig:
        """Architecture of each teacher."""
        return AcousticModelConfig.model_validate(self.index["teachers"]["model"])

    def open_codec(self, temperature: float) -> Codec:
        """Reads the soft targets at T.

        Raises:
            ContractError: that temperature is not stored, or the codebook is not what the index says.
        """
        if temperature not in self._codecs:
            stored = self._stored_temperature(temperature)
            path = codebook_path(self.shards_dir, stored)
            sha256 = self.index["codebooks"].get(path.name)
            if sha256:
                self.check_file(path.name, sha256)
            self._codecs[temperature] = open_codec(self.codec_config, path, stored / temperature)
        return self._codecs[temperature]

    def _stored_temperature(self, temperature: float) -> float:
        """That from which targets at T are made; of several the lowest, whose errors grow least."""
        temperatures: list[float] = self.index["temperatures"]
        if temperature in temperatures:
            return temperature
        if serves_any_temperature(self.index["average"], self.codec_config):
            return min(temperatures)
        raise ContractError(
            f"soft targets {self.shards_dir}: no targets at T={temperature:g}, stored: "
            f"T={', '.join(f'{t:g}' for t in temperatures)}; {WHY_NOT_ANY} and dump again"
        )

    def samples(self, shard: dict[str, Any], temperature: float | None) -> Iterator[SoftTargetSample]:
        """The utterances of a shard, streamed by webdataset, in the order of the dump.

        Args:
            shard: as the index describes it.
            temperature: of the soft targets; None: without any.

        Raises:
            ContractError: the shard is missing or not what the index says.
        """
        wanted = {}
        if temperature is not None:
            stored = self._stored_temperature(temperature)
            wanted[temperature] = f"{_name(stored)}.{self.open_codec(temperature).extension}"
        self.check_file(shard["file"], shard["sha256"])
        for item in _read_tar(self.shards_dir / shard["file"]):
            yield SoftTargetSample(
                unquote(item["__key__"]),
                load_array(item["features.npy"]),
                load_array(item["frames.npy"]),
                {asked: item[extension] for asked, extension in wanted.items()},
            )

    def check_file(self, name: str, sha256: str) -> None:
        """Raises:
        ContractError: the file is missing, or its SHA-256 is another.
        """
        path = self.shards_dir / name
        if not path.is_file():
            raise ContractError(f"shard {path}: not found, the index names it; {REPAIR}")
        status = path.stat()
        seen = (status.st_size, status.st_mtime_ns, sha256)
        if self._checked.get(name) == seen:  # in an earlier epoch
            return
        if hash_file(path) != sha256:
            raise ContractError(
                f"shard {path}: its SHA-256 is not the one in index.json: damaged or replaced; {REPAIR}"
            )
        self._checked[name] = seen

    def load(self, split: str, temperature: float | None, weighting: Weighting = "none") -> LabelledFrames:
        """All frames of a split in memory; without temperature, with hard targets alone."""
        return self.load_shards(split, range(len(self.index["splits"][split])), temperature, weighting)

    def load_shards(
        self,
        split: str,
        numbers: Sequence[int],
        temperature: float | None,
        weighting: Weighting = "none",
    ) -> LabelledFrames:
        """The frames of some shards of a split in memory, shard after shard."""
        codec = None if temperature is None else self.open_codec(temperature)
        features, records, soft = [], [], []
        for number in numbers:
            for sample in self.samples(self.index["splits"][split][number], temperature):
                features.append(sample.features)
                records.append(sample.records)
                if codec and temperature is not None:
                    soft.append(codec.decode(sample.soft_targets[temperature], len(sample.features)))
        starts = np.cumsum([0, *map(len, features)])
        joined = np.concatenate(records)
        pdf_ids = np.ascontiguousarray(joined["pdf_id"])
        weights = self._weigh(joined, weighting)
        joined_soft = soft[0].join(soft) if soft else None
        frames = np.concatenate(features)
        return LabelledFrames(frames, starts, pdf_ids, joined_soft, weights, joined_soft is not None)

    def _weigh(self, records: np.ndarray, weighting: Weighting) -> np.ndarray | None:
        """How much each frame counts, float32 from 0 to 1."""
        if weighting == "votes":
            return records["votes"] / np.float32(min(self.index["teachers"]["num_teachers"], BYTE))
        return 1 - records["distance"] / np.float32(BYTE) if weighting == "distance" else None

    def count_votes(self, split: str) -> list[dict[str, float]]:
        """Of each number of votes the share of frames, and their mean distance from 0 to 1."""
        shards = self.index["splits"][split]
        records = np.concatenate([s.records for shard in shards for s in self.samples(shard, None)])
        counted = [(int(votes), records[records["votes"] == votes]) for votes in np.unique(records["votes"])]
        return [
            {
                "votes": votes,
                "share": len(frames) / len(records),
                "distance": float(frames["distance"].mean() / BYTE),
            }
            for votes, frames in counted
        ]

    def count_bytes(self) -> dict[str, Any]:
        """Bytes a frame of soft targets, of whole shards, and of the codebooks that all frames share."""
        shards = [shard for many in self.index["splits"].values() for shard in many]
        num_frames = sum(shard["num_frames"] for shard in shards)
        soft_bytes = sum(shard["soft_target_bytes"] for shard in shards)
        shard_bytes = sum((self.shards_dir / shard["file"]).stat().st_size for shard in shards)
        return {
            "bytes_per_frame": round(soft_bytes / num_frames, 1),
            "codebook_bytes": sum(
                (self.shards_dir / name).stat().st_size for name in self.index["codebooks"]
            ),
            "shard_bytes_per_frame": round(shard_bytes / num_frames, 1),
        }

    def measure_memory_a_frame(self, split: str, temperature: float | None) -> float:
        """Bytes that a frame takes in memory, by the first utterance of a split."""
        sample = next(self.samples(self.index["splits"][split][0], temperature))
        num_bytes = sample.features.nbytes + sample.records.nbytes
        if temperature is not None:
            codec = self.open_codec(temperature)
            num_bytes += codec.decode(sample.soft_targets[temperature], len(sample.features)).num_bytes
        return num_bytes / len(sample.features)


def _read_tar(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a tar, by webdataset's own rules; `webdataset.WebDataset` would leave the file open."""
    with path.open("rb") as stream:
        yield from group_by_keys(tar_file_expander([{"url": path.name, "stream": stream}]))
