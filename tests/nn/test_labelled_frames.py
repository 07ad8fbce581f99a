"""Batches: each usable frame once, in an order that depends on the seed alone."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from asrdistill.features.context import ContextConfig
from asrdistill.nn.frames import LabelledFrames

CONTEXT = ContextConfig(past=0, future=0)


@pytest.fixture
def frames() -> LabelledFrames:
    """30 frames in two utterances; a frame's only coefficient is its number; every third is not aligned."""
    numbers = np.arange(30)
    pdf_ids = np.where(numbers % 3 == 0, -1, numbers % 7)
    soft_targets = np.eye(30, dtype=np.float16)
    return LabelledFrames(numbers.astype(np.float16)[:, None], np.array([0, 13, 30]), pdf_ids, soft_targets)


ALIGNED = [number for number in range(30) if number % 3]


def list_numbers(frames: LabelledFrames, batch_size: int, seed: tuple[int, int] = (0, 0)) -> list[int]:
    batches = list(frames.shuffled(batch_size, seed, CONTEXT))
    assert all(len(batch.windows) == batch_size for batch in batches)
    return [int(number) for batch in batches for number in batch.windows[:, 0]]


def test_each_usable_frame_comes_once(frames: LabelledFrames) -> None:
    assert len(frames) == 20
    assert sorted(list_numbers(frames, 5)) == ALIGNED
    counts = Counter(list_numbers(frames, 6))
    assert len(counts) == 18, "the last two of 20 frames do not fill a batch"
    assert set(counts.values()) == {1}
    assert set(counts) < set(ALIGNED)


def test_fewer_frames_than_a_batch_make_none(frames: LabelledFrames) -> None:
    assert list_numbers(frames, 21) == []


def test_the_order_depends_on_the_seed_alone(frames: LabelledFrames) -> None:
    first = list_numbers(frames, 5, (1, 2))
    torch.manual_seed(99)
    torch.rand(7)
    assert list_numbers(frames, 5, (1, 2)) == first
    assert first != sorted(first)
    others = [list_numbers(frames, 5, seed) for seed in ((1, 3), (2, 2), (2, 1))]
    assert first not in others


def test_targets_stay_with_their_frames(frames: LabelledFrames) -> None:
    for batch in (*frames.shuffled(5, (0, 0), CONTEXT), *frames.in_order(6, CONTEXT)):
        numbers = batch.windows[:, 0].long()
        assert torch.equal(batch.pdf_ids, numbers % 7)
        assert batch.soft_targets is not None
        assert batch.soft_targets.dtype == torch.float32
        assert torch.equal(batch.soft_targets.argmax(1), numbers)


def test_in_order_gives_all_with_a_short_last_batch(frames: LabelledFrames) -> None:
    batches = list(frames.in_order(6, CONTEXT))
    assert [len(batch.windows) for batch in batches] == [6, 6, 6, 2]
    assert [int(n) for batch in batches for n in batch.windows[:, 0]] == ALIGNED


def test_unaligned_frames_are_context(frames: LabelledFrames) -> None:
    batch = next(frames.in_order(6, ContextConfig(past=1, future=1)))
    # Frame 0 is not aligned, but frame 1 sees it.
    assert batch.windows[0].tolist() == [0, 1, 2]


def test_utterances_do_not_see_each_other(frames: LabelledFrames) -> None:
    batch = frames.take(torch.tensor([12, 13]), ContextConfig(past=2, future=2))
    assert batch.windows.tolist() == [[10, 11, 12, 12, 12], [13, 13, 13, 14, 15]]


def test_teachers_have_no_soft_targets(make_frames: Callable[..., LabelledFrames]) -> None:
    assert all(b.soft_targets is None for b in make_frames(0).shuffled(64, (0, 0), CONTEXT))
