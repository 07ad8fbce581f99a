"""The frame store: all frames of a split in one memory-mapped float16 file, with random access.

`<split>.f16` holds the frames of all utterances one after the other, row-major (frames, bins);
`<split>.json` names the utterances and how many frames each one has.
`<split>.cepstra.f16` and `.json` hold cepstra likewise.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path, write_json
from asrdistill.features.normalization import Moments


def name_cepstra(split: str) -> str:
    """Name of the frame store that holds a split's cepstra; that of its log-mel frames is the split's own."""
    return f"{split}.cepstra"


def list_store_files(names: Iterable[str]) -> tuple[str, ...]:
    """Files of the stores of these names, relative to the experiment."""
    return tuple(f"features/{name}.{kind}" for name in names for kind in ("f16", "json"))


class FrameStore:
    """Random access to the frames of one split.

    Attributes:
        utterance_ids: in the order of the file.
        starts: int64 (utterances + 1,): utterance u has the frames starts[u]:starts[u + 1].
        frames: float16 (frames, bins), memory-mapped, copy-on-write.
    """

    def __init__(self, features_dir: Path, split: str) -> None:
        index_path = features_dir / f"{split}.json"
        if not index_path.is_file():
            raise ContractError(
                f"frame store {index_path}: not found; the features stage writes it: run that stage first"
            )
        index = json.loads(index_path.read_text())
        self.utterance_ids: list[str] = index["utterance_ids"]
        self.starts = np.concatenate([[0], np.cumsum(np.asarray(index["num_frames"], dtype=np.int64))])
        shape = (int(self.starts[-1]), int(index["num_bins"]))
        path = features_dir / f"{split}.f16"
        size_bytes = path.stat().st_size if path.is_file() else 0
        if size_bytes != 2 * shape[0] * shape[1]:
            raise ContractError(
                f"frame store {path}: {size_bytes} bytes, expected {2 * shape[0] * shape[1]} "
                f"for {shape[0]} frames of {shape[1]} bins; run again with --force features"
            )
        # Nothing cannot be mapped.
        self.frames = np.memmap(path, np.float16, "c", shape=shape) if size_bytes else np.empty(shape, "f2")

    def __len__(self) -> int:
        return len(self.utterance_ids)

    @property
    def num_frames(self) -> int:
        return int(self.starts[-1])

    def frames_of(self, index: int) -> np.ndarray:
        """The frames of one utterance, float16 (frames, bins)."""
        return np.asarray(self.frames[self.starts[index] : self.starts[index + 1]])


class FrameStoreWriter:
    """Normalises the frames of a split, and publishes them at the end of its `with` block, if that went well.

    Memory does not grow with the corpus.

    Frames go to disk in float32 first, because a speaker's mean is known only when all of them are there.
    """

    def __init__(self, features_dir: Path, split: str, num_bins: int) -> None:
        """Args:
        features_dir: where the two files go.
        split: their name.
        num_bins: coefficients a frame.
        """
        self.features_dir, self.split, self.num_bins = features_dir, split, num_bins
        self._moments: dict[str, Moments] = {}
        self._groups: list[str] = []
        self._ids: list[str] = []
        self._num_frames: list[int] = []
        self._raw_path = features_dir / f"{split}.f32.part"
        self._raw = self._raw_path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._raw.close()
        if kind is None:
            self._publish()

    def add(self, utterance: Utterance, frames: np.ndarray) -> None:
        """Take the next utterance's frames, float32 (frames, num_bins)."""
        self._raw.write(np.ascontiguousarray(frames, np.float32).tobytes())
        # A speaker's name never meets an utterance's id: the prefixes differ.
        group = f"speaker {utterance.speaker}" if utterance.speaker else f"utterance {utterance.id}"
        self._moments.setdefault(group, Moments.zeros(self.num_bins)).add(frames)
        self._groups.append(group)
        self._ids.append(utterance.id)
        self._num_frames.append(len(frames))

    def _publish(self) -> None:
        store_path = self.features_dir / f"{self.split}.f16"
        with (
            self._raw_path.open("rb") as raw,
            atomic_path(store_path) as temporary,
            temporary.open("wb") as store,
        ):
            for group, count in zip(self._groups, self._num_frames, strict=True):
                flat = np.frombuffer(raw.read(4 * count * self.num_bins), np.float32)
                frames = self._moments[group].normalize(flat.reshape(count, self.num_bins))
                store.write(frames.astype(np.float16).tobytes())
        self._raw_path.unlink()
        index = {
            "schema": 1,
            "num_bins": self.num_bins,
            "utterance_ids": self._ids,
            "num_frames": self._num_frames,
        }
        write_json(self.features_dir / f"{self.split}.json", index)
