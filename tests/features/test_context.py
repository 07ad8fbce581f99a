"""Context windows against a loop over frames that never leaves its utterance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from asrdistill.features.context import ContextConfig, bounds_of_frames, gather_windows

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
    dtype=st.sampled_from([np.float16, np.float32]),
)
def test_windows_equal_a_naive_loop(lengths: list[int], past: int, future: int, dtype: type) -> None:
    rng = np.random.default_rng(sum(lengths))
    utterances: list[np.ndarray] = [rng.normal(size=(length, NUM_BINS)).astype(dtype) for length in lengths]
    frames = torch.from_numpy(np.concatenate(utterances))
    first, last = bounds_of_frames(np.cumsum([0, *lengths]))
    centres = torch.from_numpy(rng.permutation(len(frames)))
    context = ContextConfig(past=past, future=future)
    windows = gather_windows(frames, first, last, centres, context)
    assert windows.shape == (len(frames), context.num_frames * NUM_BINS)
    np.testing.assert_array_equal(windows.numpy(), gather_naively(utterances, past, future)[centres.numpy()])


def test_the_paper_sees_26_frames() -> None:
    assert ContextConfig().num_frames == 26
    assert ContextConfig(past=0, future=0).num_frames == 1


def test_a_negative_context_is_refused() -> None:
    with pytest.raises(ValidationError):
        ContextConfig(past=-1)
