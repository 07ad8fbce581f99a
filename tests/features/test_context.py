"""Context windows against a loop over frames that never leaves its utterance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from asrdistill.features.context import ContextConfig, gather_windows

NUM_BINS = 3


def gather_naively(utterances: list[np.ndarray], past: int, future: int) -> np.ndarray:
    """Every frame of every utterance with its neighbours, the ends repeated by hand."""
    windows = []
    for frames in utterances:
        padded = [frames[0]] * past + list(frames) + [frames[-1]] * future if len(frames) else []
        for centre in range(len(frames)):
            windows.append(np.concatenate(padded[centre : centre + past + 1 + future]))
    return np.stack(windows)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    past=st.integers(0, 6),
    future=st.integers(0, 6),
    num_rows=st.integers(1, 3),
)
def test_windows_equal_a_naive_loop(lengths: list[int], past: int, future: int, num_rows: int) -> None:
    rng = np.random.default_rng(sum(lengths))
    utterances: list[np.ndarray] = [
        rng.normal(size=(length, NUM_BINS)).astype(np.float16) for length in lengths
    ]
    frames = torch.from_numpy(np.concatenate(utterances))
    centres = torch.from_numpy(np.stack([rng.permutation(len(frames)) for _ in range(num_rows)]))
    windows = gather_windows(frames, np.cumsum([0, *lengths]), centres, past, future)
    assert windows.shape == (num_rows, len(frames), (past + 1 + future) * NUM_BINS)
    assert windows.dtype == torch.float16
    np.testing.assert_array_equal(windows.numpy(), gather_naively(utterances, past, future)[centres.numpy()])


def test_windows_are_copies() -> None:
    frames = torch.ones(4, NUM_BINS, dtype=torch.float16)
    windows = gather_windows(frames, np.array([0, 4]), torch.arange(4), 0, 0)
    windows.zero_()
    assert (frames == 1).all()


def test_centres_may_lie_apart_in_memory() -> None:
    frames = torch.arange(12, dtype=torch.float16)[:, None]
    centres = torch.arange(12).view(3, 4).t()
    windows = gather_windows(frames, np.array([0, 12]), centres, 0, 0)
    assert torch.equal(windows[..., 0].long(), centres)


def test_other_types_are_refused() -> None:
    """The loop copies two bytes a coefficient: of wider ones it would write past the windows' end."""
    with pytest.raises(AssertionError, match="float32"):
        gather_windows(torch.ones(4, NUM_BINS), np.array([0, 4]), torch.arange(4), 1, 1)


def test_the_paper_sees_26_frames() -> None:
    assert ContextConfig().num_frames == 26
    assert ContextConfig(past=0, future=0).num_frames == 1


def test_a_negative_context_is_refused() -> None:
    with pytest.raises(ValidationError):
        ContextConfig(past=-1)
