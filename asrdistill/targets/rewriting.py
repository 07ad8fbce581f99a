"""A dump of soft targets written anew: by another codec, or with more teachers in the average.

The shards have everything that is needed but the new teachers: neither the old ones are run again, nor is the
corpus read. Shards are shared out, and an interrupted rewriting goes on, as a dump does.
What is stored of the old teachers must be whole: of codecs `dense` and `transform`. What `top_k` dropped
cannot be averaged with, and draws of `sampled` would have to become more. Corrected soft targets stay right
on average where the new codec is `dense` or corrects too; for others they are made probabilities first.
Shapes: T temperatures, N frames, P pdf-ids.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asrdistill.errors import ContractError, ExperimentError
from asrdistill.experiment import atomic_path, write_json
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.soft_targets import SoftTargets
from asrdistill.nn.softmax_loops import find_entropies
from asrdistill.progress import say, track
from asrdistill.targets.averaging import (
    BYTE,
    Opinion,
    ask_teachers,
    read_distance,
    write_distance,
)
from asrdistill.targets.claims import drop_leftovers, share_out
from asrdistill.targets.codebooks import provide_codecs
from asrdistill.targets.codecs import Codec, CodecConfig, DenseConfig
from asrdistill.targets.shards import (
    GUIDE,
    ShardReader,
    SoftTargetSample,
    read_index,
    spread_utterances,
    write_index,
    write_shard,
)
from asrdistill.targets.transform import LEAST_CORRECTED, TransformConfig
from asrdistill.targets.verification import find_damage

WHOLE_CODECS = ("dense", "transform")
# What `write_index` makes itself.
_MADE_ANEW = ("schema", "codebooks", "splits", "sha256")


@dataclass(frozen=True)
class AddedTeachers:
    """Teachers that are to be averaged with those of a dump.

    Attributes:
        model: they.
        identity: what the index is to say of them.
    """

    model: AcousticModel
    identity: dict[str, Any]


def rewrite(
    reader: ShardReader, out: Path, codec_config: CodecConfig, added: AddedTeachers | None = None
) -> None:
    """Write a dump anew to another folder.

    Args:
        reader: of the dump.
        out: folder for the new one: empty, or with what the same command began.
        codec_config: of the new one.
        added: teachers that are asked too.

    Raises:
        ContractError: the dump does not have what is needed for it.
        ExperimentError: the folder has other files.
    """
    _check_whole(reader, added is not None)
    rewriter = _Rewriter(reader, codec_config, added)
    identity = rewriter.describe()
    _claim_folder(out, identity)
    if (out / "index.json").is_file():
        damaged = [found.path for found in find_damage(out)]
        if not damaged:
            say(f"{out} is there already, from the same shards and settings")
            drop_leftovers(out)
            return
        for path in (*damaged, out / "index.json"):
            path.unlink(missing_ok=True)
    try:
        if reader.index.get("guide"):
            reader.check_file(GUIDE, reader.index["guide"]["sha256"])
            with atomic_path(out / GUIDE) as temporary:
                shutil.copyfile(reader.shards_dir / GUIDE, temporary)
        rewriter.write(out)
        for _ in share_out(out, ["index.json"]):
            splits = {
                split: [{key: shard[key] for key in ("file", "lengths", "num_aligned")} for shard in shards]
                for split, shards in reader.index["splits"].items()
            }
            write_index(out, splits, identity)
    except FileNotFoundError:  # another worker was done meanwhile, and dropped what we had begun
        if not (out / "index.json").is_file():
            raise
    drop_leftovers(out)


def _check_whole(reader: ShardReader, adds_teachers: bool) -> None:
    if reader.codec_config.kind not in WHOLE_CODECS:
        raise ContractError(
            f"soft targets {reader.shards_dir}: codec {reader.codec_config.kind} keeps a part of what the "
            f"teachers said; to write them anew takes one that keeps all ({' or '.join(WHOLE_CODECS)}): dump "
            "again with it"
        )
    if adds_teachers and reader.index["average"] != "arithmetic":
        raise ContractError(
            f"soft targets {reader.shards_dir}: the average is {reader.index['average']}; how far teachers "
            "are from each other can be continued for soft_targets.average arithmetic alone: dump again"
        )
    if adds_teachers and reader.index.get("wrong_weight", 1) != 1:
        raise ContractError(
            f"soft targets {reader.shards_dir}: wrong_weight is {reader.index['wrong_weight']:g}: how much "
            "each teacher counts depends on all of them, so none can be added; dump again with 1"
        )


def _claim_folder(out: Path, identity: dict[str, Any]) -> None:
    """See that a folder is to have what is to be written, and note it there if there is nothing yet."""
    began = out / ".identity.json"
    notes = {
        began: lambda: json.loads(began.read_text(encoding="utf-8")),
        out / "index.json": lambda: read_index(out / "index.json"),
    }
    for path, read in notes.items():
        if path.is_file():
            found = read()
            if any(found.get(key) != value for key, value in identity.items()):
                raise ExperimentError(
                    f"{out}: has soft targets of other shards or settings; choose another folder with --out"
                )
            return
    if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise ExperimentError(f"{out}: has other files; choose an empty folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(began, identity)


class _Rewriter:
    """Reads samples of a dump and makes those of the new one."""

    def __init__(self, reader: ShardReader, codec_config: CodecConfig, added: AddedTeachers | None) -> None:
        self.reader, self.codec_config = reader, codec_config
        self.added = added
        self.model = added.model.in_compute_dtype() if added else None
        self.temperatures: tuple[float, ...] = tuple(reader.index["temperatures"])
        self.num_old: int = reader.index["teachers"]["num_teachers"]
        self.num_new = self.model.num_members if self.model else 0
        # Draws of draws would not be right on average if both were drawn alike.
        self.source = int(reader.index["sha256"], 16)

    def describe(self) -> dict[str, Any]:
        """The identity of the new dump."""
        index = self.reader.index
        identity = {key: value for key, value in index.items() if key not in _MADE_ANEW}
        identity |= {"codec": self.codec_config.model_dump(mode="json"), "rewritten_from": index["sha256"]}
        if self.added:
            old, new = index["teachers"], self.added.identity
            identity["teachers"] = {
                **old,
                "num_teachers": self.num_old + new["num_teachers"],
                "added": [*old.get("added", []), new],
            }
        return identity

    def write(self, out: Path) -> None:
        """All codebooks and shards that are not there yet."""
        codecs = provide_codecs(out, self.codec_config, self.temperatures, self._draw_sample)
        extension = next(iter(codecs.values())).extension
        for split, shards in self.reader.index["splits"].items():
            numbers = {shard["file"]: number for number, shard in enumerate(shards)}
            missing = sum(not (out / name).is_file() for name in numbers)
            for name in track(share_out(out, list(numbers)), f"rewrite {split}", missing, "shard"):
                samples = self._write_all(split, numbers[name], codecs)
                write_shard(out / name, samples, extension)

    def _draw_sample(self, wanted_frames: int) -> list[np.ndarray]:
        """Averages, float32 (T, N, P), of utterances from all over the training split."""
        shards = self.reader.index["splits"]["train"]
        lengths = np.array([length for shard in shards for length in shard["lengths"]])
        wanted, first, drawn = set(spread_utterances(lengths, wanted_frames)), 0, []
        for number in track(range(len(shards)), "codebook", unit="shard"):
            numbers = range(first, first + len(shards[number]["lengths"]))
            first = numbers.stop
            if wanted.intersection(numbers):
                samples = zip(numbers, self._read("train", number), strict=True)
                drawn += [self._average(sample)[0] for n, sample in samples if n in wanted]
        return drawn

    def _write_all(self, split: str, number: int, codecs: dict[float, Codec]) -> Iterator[SoftTargetSample]:
        for offset, sample in enumerate(self._read(split, number)):
            averages, records = self._average(sample)
            soft = {
                temperature: codec.encode(
                    averages[place],
                    np.random.default_rng((self.source, number, offset, place, split == "train")),
                )
                for place, (temperature, codec) in enumerate(codecs.items())
            }
            yield SoftTargetSample(sample.id, sample.features, records, soft)

    def _read(self, split: str, number: int) -> Iterator[SoftTargetSample]:
        """The samples of a shard with the soft targets of all temperatures."""
        shard = self.reader.index["splits"][split][number]
        for parts in zip(*(self.reader.samples(shard, t) for t in self.temperatures), strict=True):
            soft = {t: content for part in parts for t, content in part.soft_targets.items()}
            yield SoftTargetSample(parts[0].id, parts[0].features, parts[0].records, soft)

    def _average(self, sample: SoftTargetSample) -> tuple[np.ndarray, np.ndarray]:
        """Averages of all teachers, float32 (T, N, P), and the sample's records, theirs too."""
        num_frames = len(sample.features)
        decoded = [
            self.reader.open_codec(t).decode(content, num_frames)
            for t, content in sample.soft_targets.items()
        ]
        averages = np.concatenate([_take_all(targets) for targets in decoded])
        stored = self.reader.codec_config
        if not (_is_corrected(stored) and _tells_corrected(self.codec_config)):
            averages = _make_probabilities(averages, self._least(stored))
        if self.model is None:
            return averages, sample.records
        opinion = ask_teachers(self.model, sample.features, self.temperatures)
        plain = _make_probabilities(_take_all(decoded[0].without_corrections()), 0)
        records = self._join(plain[0], sample.records, opinion)
        return self._blend(averages, opinion.averages), records

    def _least(self, stored: CodecConfig) -> float:
        """The probability that no stored one was below, for a codec that takes logarithms, else 0.

        Float16 rounds to 0 what is below, and corrections take a unit from it. Elsewhere it stays: over
        thousands of tied states such a floor would add up to a probability that no teacher gave.
        """
        return LEAST_CORRECTED if _is_plain(self.codec_config) and not _is_plain(stored) else 0

    def _blend(self, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The mean over all teachers of what is one over the old and one over the new ones."""
        share = np.float32(self.num_new / (self.num_old + self.num_new))
        blended: np.ndarray = (1 - share) * old + share * new
        return blended

    def _join(self, average: np.ndarray, records: np.ndarray, opinion: Opinion) -> np.ndarray:
        """The old teachers' records with the new ones' opinion in them; the average is that of the old ones.

        An average of entropies follows from a divergence, and the other way round. For which pdf-id the old
        teachers voted is not known: it is taken to be the likeliest of their average, and the new votes for
        it are added. Where most voted for another one, too few are counted; never fewer than new ones agree.
        """
        entropies = find_entropies(average) - read_distance(records["distance"], self.num_old)
        divergence = find_entropies(self._blend(average, opinion.averages[0])) - self._blend(
            entropies, opinion.entropies
        )
        changed = records.copy()
        votes = records["votes"].astype(int) + (opinion.winners == average.argmax(1)).sum(0)
        changed["votes"] = np.maximum(votes, opinion.votes).clip(max=BYTE)
        changed["distance"] = write_distance(divergence, self.num_old + self.num_new)
        return changed


def _is_corrected(codec: CodecConfig) -> bool:
    return isinstance(codec, TransformConfig) and codec.correction is not None


def _is_plain(codec: CodecConfig) -> bool:
    """Whether logarithms are all that is written."""
    return isinstance(codec, TransformConfig) and codec.correction is None


def _tells_corrected(codec: CodecConfig) -> bool:
    """Whether a codec tells soft targets on average that are probabilities on average."""
    return isinstance(codec, DenseConfig) or _is_corrected(codec)


def _take_all(targets: SoftTargets) -> np.ndarray:
    """All rows of soft targets that are whole, float32 (1, N, P)."""
    rows = targets.take(torch.arange(len(targets))[None])
    assert isinstance(rows, torch.Tensor)
    return rows.numpy()


def _make_probabilities(rows: np.ndarray, least: float) -> np.ndarray:
    """Rows, float32 (T, N, P), that sum to 1 and of which none was below `least`."""
    floored = np.maximum(rows, np.float32(least))
    probabilities: np.ndarray = floored / floored.sum(2, keepdims=True)
    return probabilities
