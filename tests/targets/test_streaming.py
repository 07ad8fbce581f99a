"""Frames read from shards, a pool at a time: the same ones as in memory, in the same order when resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asrdistill.errors import ContractError
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Batches, Diversity
from asrdistill.nn.frames import Batch, LabelledFrames
from asrdistill.nn.models import build_model
from asrdistill.nn.soft_targets import DenseTargets, LowRankTargets
from asrdistill.targets import streaming
from asrdistill.targets.codecs import save_array
from asrdistill.targets.shards import FRAME_RECORD, ShardReader, SoftTargetSample, write_index, write_shard
from asrdistill.targets.streaming import ShardFrames, open_training_frames

NUM_SHARDS, NUM_PDFS, POOL_FRAMES = 7, 5, 120


@pytest.fixture
def shards_dir(tmp_path: Path) -> Path:
    """Seven shards of five utterances; a frame's first coefficient and soft target tell its number."""
    rng, number, shards = np.random.default_rng(0), 0, []
    for shard in range(NUM_SHARDS):
        samples = []
        for utterance in range(5):
            numbers = np.arange(number, number := number + int(rng.integers(1, 20)))
            soft = np.full((len(numbers), NUM_PDFS), 0.125, np.float32)
            soft[:, 0] = numbers / 1024
            records = np.ones(len(numbers), FRAME_RECORD)
            records["pdf_id"] = np.where(numbers % 4, numbers % NUM_PDFS, -1)
            features = np.stack([numbers, -numbers], 1).astype(np.float16)
            samples.append(
                SoftTargetSample(f"{shard}-{utterance}", features, records, {2.0: save_array(soft)})
            )
        name = f"train-{shard:06d}.tar"
        write_shard(tmp_path / name, iter(samples), "npy")
        lengths = [len(sample.features) for sample in samples]
        aligned = [int((sample.records["pdf_id"] >= 0).sum()) for sample in samples]
        shards.append({"file": name, "lengths": lengths, "num_aligned": aligned})
    identity = {
        "codec": {"kind": "dense"},
        "average": "arithmetic",
        "temperatures": [2.0],
        "num_pdfs": NUM_PDFS,
        "features": {"num_mel_bins": 2},
    }
    write_index(tmp_path, {"train": shards}, identity)
    return tmp_path


def make_frames(shards_dir: Path) -> ShardFrames:
    return ShardFrames(ShardReader(shards_dir), "train", 2.0)


def test_lengths_are_those_of_the_utterances(shards_dir: Path) -> None:
    streamed, loaded = make_frames(shards_dir), ShardReader(shards_dir).load("train", 2.0)
    np.testing.assert_array_equal(streamed.lengths, loaded.lengths)
    np.testing.assert_array_equal(streamed.num_usable, loaded.num_usable)
    assert (len(streamed), streamed.num_utterances) == (len(loaded), 35)


def test_pools_are_whole_shards_each_once_in_an_order_of_the_seed(shards_dir: Path) -> None:
    frames = make_frames(shards_dir)
    pools = frames.draw_pools(POOL_FRAMES, (1, 0))
    assert len(pools) > 2
    assert sorted(np.concatenate(pools).tolist()) == list(range(35))
    for pool in pools:
        shards = pool.reshape(-1, 5) // 5
        assert (shards == shards[:, :1]).all()
        assert frames.lengths[pool].sum() <= POOL_FRAMES
    again, other = frames.draw_pools(POOL_FRAMES, (1, 0)), frames.draw_pools(POOL_FRAMES, (1, 1))
    assert [pool.tolist() for pool in pools] == [pool.tolist() for pool in again]
    assert np.concatenate(pools).tolist() != np.concatenate(other).tolist()


def test_a_shard_larger_than_a_pool_is_a_pool(shards_dir: Path) -> None:
    assert len(make_frames(shards_dir).draw_pools(1, (0,))) == NUM_SHARDS


@pytest.mark.parametrize("utterances", [[5, 6, 7, 8, 9], [12, 3, 30], list(range(34, -1, -1))])
def test_selected_utterances_are_those_of_the_shards(shards_dir: Path, utterances: list[int]) -> None:
    found = make_frames(shards_dir).select(np.array(utterances))
    expected = ShardReader(shards_dir).load("train", 2.0).select(np.array(utterances))
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.pdf_ids, expected.pdf_ids)
    np.testing.assert_array_equal(found.starts, expected.starts)


@pytest.mark.parametrize("architecture", ["dnn", "tdnn"])
def test_an_epoch_has_every_frame_once_and_goes_on_at_any_step(shards_dir: Path, architecture: str) -> None:
    config = AcousticModelConfig.model_validate({"architecture": architecture, "hidden_size": 8})
    model = build_model(config, 2, NUM_PDFS, 1)
    batches = Batches(make_frames(shards_dir), model, 32, Diversity(3), POOL_FRAMES)
    epoch = batches.of_epoch(1)
    numbers = []
    for batch in epoch.start_at(0):
        assert isinstance(batch.soft_targets, torch.Tensor)
        counted = torch.ones_like(batch.pdf_ids, dtype=torch.bool)
        if batch.weights is not None:
            counted = batch.weights > 0
        numbers.append((1024 * batch.soft_targets[..., 0])[counted].long().tolist())
        expected = torch.tensor(numbers[-1]) % NUM_PDFS
        expected[torch.tensor(numbers[-1]) % 4 == 0] = -1
        assert (batch.pdf_ids[counted] == expected).all()
    flat = [number for batch in numbers for number in batch]
    total = len(make_frames(shards_dir))
    assert len(set(flat)) == len(flat)
    assert len(flat) == (total if architecture == "tdnn" else total // 32 * 32)
    for step in (1, epoch.num_steps // 2, epoch.num_steps - 1):
        batch = next(iter(epoch.start_at(step)))
        assert isinstance(batch.soft_targets, torch.Tensor)
        counted = torch.ones_like(batch.pdf_ids, dtype=torch.bool)
        if batch.weights is not None:
            counted = batch.weights > 0
        assert (1024 * batch.soft_targets[..., 0])[counted].long().tolist() == numbers[step]


@pytest.mark.parametrize("num_workers", [*range(1, NUM_SHARDS + 1), NUM_SHARDS + 3, 5 * NUM_SHARDS])
def test_workers_have_every_frame_once_together(shards_dir: Path, num_workers: int) -> None:
    """And each goes on at any step of its own; frames are told by their first coefficient."""
    model = build_model(AcousticModelConfig(architecture="tdnn", hidden_size=8), 2, NUM_PDFS, 1)
    numbers: list[int] = []
    for worker in range(num_workers):
        reader = ShardReader(shards_dir)
        frames = ShardFrames(reader, "train", 2.0, worker=worker, num_workers=num_workers)
        epoch = Batches(frames, model, 16, Diversity(3), 40).of_epoch(2)
        seen = [read_numbers(batch) for batch in epoch.start_at(0)]
        for step in range(epoch.num_steps):
            assert read_numbers(next(iter(epoch.start_at(step)))) == seen[step]
        numbers += [number for batch in seen for number in batch]
    everything = ShardReader(shards_dir).load("train", 2.0)
    assert sorted(numbers) == list(range(len(everything)))


def read_numbers(batch: Batch) -> list[int]:
    assert isinstance(batch.soft_targets, torch.Tensor) and batch.weights is not None
    return (1024 * batch.soft_targets[..., 0])[batch.weights > 0].long().tolist()


def test_a_worker_for_whom_nothing_is_left_is_refused(shards_dir: Path) -> None:
    for worker, num_workers, told in (
        (35, 36, "36 workers share 7 shards of train, and worker 35 is left without an utterance"),
        (3, 3, "worker 3 of 3: workers are counted from 0"),
        (-1, 2, "worker -1 of 2"),
    ):
        with pytest.raises(ContractError, match=told):
            ShardFrames(ShardReader(shards_dir), "train", 2.0, worker=worker, num_workers=num_workers)


def test_a_dump_that_fits_is_kept_in_memory_and_a_larger_one_is_not(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, pool_frames = open_training_frames(ShardReader(shards_dir), 2.0)
    assert isinstance(frames, LabelledFrames)
    assert pool_frames >= frames.lengths.sum()
    bytes_a_frame = 2 * 2 + 6 + 4 * NUM_PDFS  # the test's soft targets are float32
    assert pool_frames == min(streaming.POOL_FRAMES, int(streaming.POOL_BYTES / (bytes_a_frame)))
    monkeypatch.setattr(streaming, "POOL_BYTES", 50 * bytes_a_frame)
    frames, pool_frames = open_training_frames(ShardReader(shards_dir), 2.0)
    assert isinstance(frames, ShardFrames)
    assert pool_frames == 50


@pytest.mark.end_to_end
def test_soft_targets_of_low_rank_are_made_once_where_they_fit(
    transformed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ShardReader(transformed / "soft_targets/shards")
    frames, _ = open_training_frames(reader, 2.0)
    assert isinstance(frames, LabelledFrames) and isinstance(frames.soft_targets, DenseTargets)
    size_bytes = frames.soft_targets.num_bytes
    monkeypatch.setattr(streaming, "POOL_BYTES", size_bytes - 1)
    frames, _ = open_training_frames(reader, 2.0)
    assert isinstance(frames, LabelledFrames) and isinstance(frames.soft_targets, LowRankTargets)
    assert frames.soft_targets.num_bytes < size_bytes


def test_hard_targets_alone_leave_out_the_frames_without_them(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory and from disk, every aligned frame once an epoch but for the last batch."""
    reader = ShardReader(shards_dir)
    loaded, _ = open_training_frames(reader, None)
    streamed = ShardFrames(reader, "train", None)
    assert isinstance(loaded, LabelledFrames) and loaded.soft_targets is None
    np.testing.assert_array_equal(streamed.num_usable, loaded.num_usable)
    assert len(streamed) == np.count_nonzero(loaded.pdf_ids >= 0) < len(loaded.pdf_ids)
    monkeypatch.setattr(streaming, "POOL_BYTES", 2000)
    from_disk, pool_frames = open_training_frames(reader, None)
    assert isinstance(from_disk, ShardFrames) and pool_frames < len(loaded)
    model = build_model(AcousticModelConfig(num_hidden_layers=1, hidden_size=4), 2, NUM_PDFS, 1)
    batches = Batches(from_disk, model, 8, Diversity(1), pool_frames).of_epoch(0)
    taken = list(batches.start_at(0))
    assert all(batch.soft_targets is None and (batch.pdf_ids >= 0).all() for batch in taken)
    centre = model.past * 2
    numbers = torch.cat([batch.inputs[0, :, centre] for batch in taken]).int().tolist()
    assert len(numbers) == len(set(numbers)) == len(from_disk) // 8 * 8
