"""Soft-target shards: webdataset tars that a student can be trained from with everything else deleted.

One sample an utterance, and one for each perturbed view of it (`<id>~view<n>`): `<key>.features.npy` float16
(frames, bins), `<key>.hard.npy` int32 (frames,) with -1 where there is no alignment, `<key>.soft_t<T>.npy`
float16 (frames, pdf-ids) for every stored temperature. The key is the utterance's id, percent-encoded where
webdataset could not carry it (dots, slashes).
`index.json`, written last, is the shards' contract: what is in each, their SHA-256, and the identity of
everything that made them.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote

import numpy as np
from pydantic import Field
from webdataset.tariterators import group_by_keys, tar_file_expander

from asrdistill.config import Config
from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path, hash_file, write_json
from asrdistill.features.perturbation import PerturbationConfig
from asrdistill.nn.frames import LabelledFrames

SCHEMA = 1
CODEC = "dense_float16"


class SoftTargetsConfig(Config):
    """What is stored of the ensemble's average."""

    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (2.0,), min_length=1, description="T of each stored average"
    )
    num_views: int = Field(
        0, ge=0, description="perturbed views of each training utterance, stored besides the utterance itself"
    )
    perturbation: PerturbationConfig = Field(PerturbationConfig(), description="how far views are from it")
    seed: int = Field(1, ge=0, description="of the perturbations")
    frames_a_shard: int = Field(100_000, ge=1, description="a shard is closed when it holds this many frames")


@dataclass(frozen=True)
class SoftTargetSample:
    """One utterance of a shard.

    Attributes:
        id: of the utterance.
        features: float16 (frames, bins).
        pdf_ids: int32 (frames,), hard targets.
        soft_targets: temperature -> float16 (frames, pdf-ids).
    """

    id: str
    features: np.ndarray
    pdf_ids: np.ndarray
    soft_targets: dict[float, np.ndarray]


def plan_shards(num_frames: Sequence[int], frames_a_shard: int) -> list[range]:
    """Divide utterances, in their order, into shards: each a range of utterance numbers."""
    shards, start, count = [], 0, 0
    for number, frames in enumerate(num_frames):
        count += frames
        if count >= frames_a_shard or number == len(num_frames) - 1:
            shards.append(range(start, number + 1))
            start, count = number + 1, 0
    return shards


def write_shard(path: Path, samples: Iterator[SoftTargetSample]) -> None:
    """Publish a shard atomically; the same samples give the same bytes."""
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            key = quote(sample.id, safe="").replace(".", "%2E")
            _add(tar, f"{key}.features.npy", sample.features.astype(np.float16))
            _add(tar, f"{key}.hard.npy", sample.pdf_ids.astype(np.int32))
            for temperature, soft in sample.soft_targets.items():
                _add(tar, f"{key}.{_extension(temperature)}", soft.astype(np.float16))


def _add(tar: tarfile.TarFile, name: str, array: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    member = tarfile.TarInfo(name)
    member.size = content.tell()
    content.seek(0)
    tar.addfile(member, content)


def _extension(temperature: float) -> str:
    return f"soft_t{temperature:g}.npy"


def write_index(shards_dir: Path, splits: dict[str, list[dict[str, Any]]], identity: dict[str, Any]) -> None:
    """Publish the contract of a folder of shards.

    Args:
        shards_dir: the folder.
        splits: split -> its shards: `file`, `num_utterances`, `num_frames`; SHA-256 is added here.
        identity: what made the soft targets: teachers, features, tied states, averaging, temperatures.
    """
    described = {
        split: [{**shard, "sha256": hash_file(shards_dir / shard["file"])} for shard in shards]
        for split, shards in splits.items()
    }
    write_json(shards_dir / "index.json", {"schema": SCHEMA, "codec": CODEC, **identity, "splits": described})


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
        path = shards_dir / "index.json"
        if not path.is_file():
            raise ContractError(
                f"soft targets {path}: not found; the soft-targets stage writes it last: run that stage"
            )
        self.index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = (self.index.get("schema"), self.index.get("codec"))
        if found != (SCHEMA, CODEC):
            raise ContractError(
                f"soft targets {path}: schema and codec {found}, expected {(SCHEMA, CODEC)}; dump again"
            )

    @property
    def num_pdfs(self) -> int:
        return int(self.index["num_pdfs"])

    @property
    def num_bins(self) -> int:
        return int(self.index["features"]["num_mel_bins"])

    def samples(self, split: str, temperature: float) -> Iterator[SoftTargetSample]:
        """All utterances of a split, streamed by webdataset, in the order of the dump.

        Raises:
            ContractError: that temperature is not stored, or a shard is missing or not what the index says.
        """
        if temperature not in self.index["temperatures"]:
            stored = ", ".join(f"{t:g}" for t in self.index["temperatures"])
            raise ContractError(
                f"soft targets {self.shards_dir}: no targets at T={temperature:g}, stored: T={stored}; "
                "an average at one temperature cannot be turned into that at another: "
                "add it to soft_targets.temperatures and dump again"
            )
        for shard in self.index["splits"][split]:
            self._check(shard)
            for item in _read_tar(self.shards_dir / shard["file"]):
                soft = _load(item[_extension(temperature)])
                name = unquote(item["__key__"])
                yield SoftTargetSample(
                    name, _load(item["features.npy"]), _load(item["hard.npy"]), {temperature: soft}
                )

    def _check(self, shard: dict[str, Any]) -> None:
        path = self.shards_dir / shard["file"]
        if not path.is_file():
            raise ContractError(
                f"shard {path}: not found, the index names it; run again with --force soft-targets"
            )
        if hash_file(path) != shard["sha256"]:
            raise ContractError(
                f"shard {path}: its SHA-256 is not the one in index.json: damaged or replaced; "
                "run again with --force soft-targets"
            )

    def load(self, split: str, temperature: float) -> LabelledFrames:
        """All frames of a split in memory: 2 (bins + pdf-ids) + 4 bytes a frame."""
        samples = list(self.samples(split, temperature))
        starts = np.cumsum([0, *(len(sample.features) for sample in samples)])
        return LabelledFrames(
            np.concatenate([sample.features for sample in samples]),
            starts,
            np.concatenate([sample.pdf_ids for sample in samples]),
            np.concatenate([sample.soft_targets[temperature] for sample in samples]),
        )


def _read_tar(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a tar, by webdataset's own rules; `webdataset.WebDataset` would leave the file open."""
    with path.open("rb") as stream:
        yield from group_by_keys(tar_file_expander([{"url": path.name, "stream": stream}]))


def _load(content: bytes) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return array
