"""Is a dump of soft targets what its index says, file by file?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.hmm.topology import NOT_ALIGNED
from asrdistill.progress import track
from asrdistill.targets.shards import ShardReader


@dataclass(frozen=True)
class Damage:
    """A file that is not what it should be.

    Attributes:
        path: of it.
        reason: one sentence.
    """

    path: Path
    reason: str


def find_damage(shards_dir: Path) -> list[Damage]:
    """Every file of a dump that is damaged, missing, or holds something else than the index says."""
    try:
        reader = ShardReader(shards_dir)
    except ContractError as error:
        return [Damage(shards_dir / "index.json", str(error))]
    damage = []
    for name, sha256 in reader.other_files.items():
        damage += _look_at(shards_dir / name, reader.check_file, name, sha256)
    # What a damaged codebook would decode tells nothing of the shards.
    check = _check_hash if damage else _check_shard
    shards = [shard for many in reader.index["splits"].values() for shard in many]
    for shard in track(shards, "verify", unit="shard"):
        damage += _look_at(shards_dir / shard["file"], check, reader, shard)
    return damage


def _look_at(path: Path, check: Callable[..., None], *arguments: Any) -> list[Damage]:
    try:
        check(*arguments)
    except ContractError as error:
        return [Damage(path, str(error))]
    return []


def _check_hash(reader: ShardReader, shard: dict[str, Any]) -> None:
    reader.check_file(shard["file"], shard["sha256"])


def _check_shard(reader: ShardReader, shard: dict[str, Any]) -> None:
    """Its bytes, how many utterances it has, and that each one's parts have as many frames as it should."""
    for temperature in reader.index["temperatures"]:
        codec = reader.open_codec(temperature)
        counts, aligned = [], []
        for sample in reader.samples(shard, temperature):
            counts.append(len(sample.features))
            aligned.append(int(np.count_nonzero(sample.records["pdf_id"] != NOT_ALIGNED)))
            try:
                num_soft = len(codec.decode(sample.soft_targets[temperature], len(sample.features)))
            except ValueError as error:
                raise ContractError(f"utterance {sample.id}: soft targets cannot be read: {error}") from error
            if not len(sample.features) == len(sample.records) == num_soft:
                raise ContractError(
                    f"utterance {sample.id}: {len(sample.features)} frames, {len(sample.records)} hard "
                    f"and {num_soft} soft targets"
                )
        if aligned != shard["num_aligned"]:
            raise ContractError(
                f"shard {shard['file']}: {sum(aligned)} frames have a hard target, the index says "
                f"{sum(shard['num_aligned'])}"
            )
        if counts != shard["lengths"]:
            raise ContractError(
                f"shard {shard['file']}: {len(counts)} utterances of {sum(counts)} frames, the index says "
                f"{len(shard['lengths'])} of {shard['num_frames']}"
            )
