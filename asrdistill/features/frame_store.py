"""The frame store: all frames of a split in one memory-mapped float16 file, with random access.

`<split>.f16` holds the frames of all utterances one after the other, row-major (frames, bins);
`<split>.json` names the utterances and how many frames each one has.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path, write_json
from asrdistill.features.normalization import Moments


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
        self.frames = np.memmap(path, np.float16, "c", shape=shape)

    def __len__(self) -> int:
        return len(self.utterance_ids)

    @property
    def num_frames(self) -> int:
        return int(self.starts[-1])

    def frames_of(self, index: int) -> np.ndarray:
        """The frames of one utterance, float16 (frames, bins)."""
        return np.asarray(self.frames[self.starts[index] : self.starts[index + 1]])


def write_frame_store(
    features_dir: Path,
    split: str,
    utterances: Iterable[Utterance],
    compute: Callable[[Utterance], np.ndarray],
    num_bins: int,
) -> None:
    """Compute, normalise and publish the frames of a split; memory does not grow with the corpus.

    Frames go to disk in float32 first, because a speaker's mean is known only when all of them are there.

    Args:
        features_dir: where the two files go.
        split: their name.
        utterances: in the order to be stored.
        compute: gives float32 (frames, num_bins) of an utterance.
        num_bins: coefficients a frame.
    """
    moments: dict[str, Moments] = {}
    groups, ids, num_frames = [], [], []
    raw_path = features_dir / f"{split}.f32.part"
    with raw_path.open("wb") as raw:
        for utterance in utterances:
            frames = compute(utterance)
            raw.write(frames.tobytes())
            # A speaker's name never meets an utterance's id: the prefixes differ.
            group = f"speaker {utterance.speaker}" if utterance.speaker else f"utterance {utterance.id}"
            moments.setdefault(group, Moments.zeros(num_bins)).add(frames)
            groups.append(group)
            ids.append(utterance.id)
            num_frames.append(len(frames))
    store_path = features_dir / f"{split}.f16"
    with raw_path.open("rb") as raw, atomic_path(store_path) as temporary, temporary.open("wb") as store:
        for group, count in zip(groups, num_frames, strict=True):
            frames = np.frombuffer(raw.read(4 * count * num_bins), np.float32).reshape(count, num_bins)
            store.write(moments[group].normalize(frames).astype(np.float16).tobytes())
    raw_path.unlink()
    index = {"schema": 1, "num_bins": num_bins, "utterance_ids": ids, "num_frames": num_frames}
    write_json(features_dir / f"{split}.json", index)
