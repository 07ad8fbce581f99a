"""The frame store: normalised by speaker, random access, and refusals in words."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import ContractError
from asrdistill.features.frame_store import FrameStore, FrameStoreWriter
from asrdistill.features.normalization import VARIANCE_FLOOR, Moments

NUM_BINS = 5
SPEAKERS: dict[str, str | None] = {
    "a1": "anna",
    "b1": "bert",
    "a2": "anna",
    "empty": "bert",
    "nobody": None,
    # The name of a speaker, and of an utterance without one, may be the same.
    "anna": None,
}


def make_frames(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = {"a1": 40, "b1": 70, "a2": 25, "empty": 0, "nobody": 33, "anna": 50}
    return {
        name: (rng.normal(rng.uniform(-9, 9), rng.uniform(1, 3), (length, NUM_BINS))).astype(np.float32)
        for name, length in lengths.items()
    }


def write_store(features_dir: Path, frames: Mapping[str, np.ndarray]) -> FrameStore:
    with FrameStoreWriter(features_dir, "train", NUM_BINS) as writer:
        for name, one in frames.items():
            writer.add(Utterance(name, "unused.wav", 0.0, 1.0, "words", SPEAKERS[name]), one)
    return FrameStore(features_dir, "train")


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return write_store(tmp_path, make_frames())


def read_all(store: FrameStore) -> dict[str, np.ndarray]:
    return {name: store.frames_of(i).astype(np.float64) for i, name in enumerate(store.utterance_ids)}


@pytest.mark.parametrize("group", [["a1", "a2"], ["b1", "empty"], ["nobody"], ["anna"]])
def test_a_speaker_has_mean_0_and_variance_1(store: FrameStore, group: list[str]) -> None:
    frames = read_all(store)
    together = np.concatenate([frames[name] for name in group])
    np.testing.assert_allclose(together.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(together.var(0), 1, atol=2e-3)


def test_one_utterance_of_a_speaker_is_not_normalised_by_itself(store: FrameStore) -> None:
    assert np.abs(read_all(store)["a1"].mean(0)).max() > 0.1


def test_round_trip(store: FrameStore) -> None:
    frames = make_frames()
    assert store.utterance_ids == list(frames)
    assert len(store) == 6
    assert store.num_frames == sum(map(len, frames.values())) == store.starts[-1]
    both = np.concatenate([frames["a1"], frames["a2"]])
    for name in ("a2", "a1"):  # in any order
        expected = (frames[name] - both.mean(0)) / both.std(0)
        found = store.frames_of(store.utterance_ids.index(name))
        np.testing.assert_allclose(found, expected, atol=3e-3)
    assert store.frames_of(3).shape == (0, NUM_BINS)


def test_frames_lie_memory_mapped_in_half_precision(store: FrameStore, tmp_path: Path) -> None:
    assert isinstance(store.frames, np.memmap)
    assert store.frames.dtype == np.float16
    assert (tmp_path / "train.f16").stat().st_size == 2 * NUM_BINS * store.num_frames
    store.frames[0] = 7  # copy-on-write: the file is not touched
    assert (FrameStore(tmp_path, "train").frames[0] != 7).any()


def test_only_the_two_files_are_left(store: FrameStore, tmp_path: Path) -> None:
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.f16", "train.json"]


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_store(tmp_path / name, make_frames())
    for name in ("train.f16", "train.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_missing_store_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="features stage"):
        FrameStore(tmp_path, "train")


def test_truncated_or_missing_frames_are_refused(store: FrameStore, tmp_path: Path) -> None:
    path = tmp_path / "train.f16"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(ContractError, match=rf"{len(whole) - 2} bytes, expected {len(whole)}"):
        FrameStore(tmp_path, "train")
    path.unlink()
    with pytest.raises(ContractError, match="0 bytes"):
        FrameStore(tmp_path, "train")


def test_a_failure_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="unreadable"), FrameStoreWriter(tmp_path, "train", NUM_BINS) as writer:
        writer.add(Utterance("a1", "", 0, 1, ""), make_frames()["a1"])
        raise OSError("unreadable")
    assert not (tmp_path / "train.f16").exists()
    assert not (tmp_path / "train.json").exists()


def test_a_constant_coefficient_stays_finite() -> None:
    moments = Moments.zeros(2)
    frames = np.stack([np.full(50, 3.0), np.linspace(0, 1, 50)], axis=1).astype(np.float32)
    moments.add(frames[:20])
    moments.add(frames[20:])
    normalized = moments.normalize(frames)
    np.testing.assert_allclose(normalized[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(normalized[:, 1].std(), 1, atol=1e-5)
    shifted = moments.normalize(frames + np.float32(1))
    np.testing.assert_allclose(shifted[:, 0], VARIANCE_FLOOR**-0.5, rtol=1e-5)
