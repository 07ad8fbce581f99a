"""Cepstra, differences and spliced frames against librosa, fitted lines and plain loops."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.features.cepstra import DIMENSION, NUM_CEPSTRA, add_deltas, compute_cepstra, splice


def make_log_mel(num_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frames, 40)).astype(np.float32)


def fit_slopes(frames: np.ndarray) -> np.ndarray:
    """Slope of the least-squares line through five frames, the ends of the utterance repeated."""
    last = len(frames) - 1
    neighbours = [[min(max(t + step, 0), last) for step in range(-2, 3)] for t in range(len(frames))]
    return np.stack([np.polyfit(range(-2, 3), frames[wanted], 1)[0] for wanted in neighbours])


def test_cepstra_equal_librosa() -> None:
    log_mel = make_log_mel(50)
    expected = librosa.feature.mfcc(S=log_mel.T, n_mfcc=13, dct_type=2, norm="ortho").T
    cepstra = compute_cepstra(log_mel)
    np.testing.assert_allclose(cepstra, expected, atol=1e-5)
    assert cepstra.flags.c_contiguous


def test_differences_equal_librosa() -> None:
    cepstra = compute_cepstra(make_log_mel(50))
    features = add_deltas(cepstra)
    np.testing.assert_array_equal(features[:, :13], cepstra)
    for block in (1, 2):
        before = features[:, 13 * (block - 1) : 13 * block]
        expected = librosa.feature.delta(before, width=5, axis=0, mode="nearest")
        np.testing.assert_allclose(features[:, 13 * block : 13 * (block + 1)], expected, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(num_frames=st.integers(1, 12), seed=st.integers(0, 99))
def test_differences_are_slopes_of_fitted_lines(num_frames: int, seed: int) -> None:
    features = add_deltas(compute_cepstra(make_log_mel(num_frames, seed)))
    assert features.shape == (num_frames, DIMENSION)
    np.testing.assert_allclose(features[:, 13:26], fit_slopes(features[:, :13]), atol=1e-5)
    np.testing.assert_allclose(features[:, 26:], fit_slopes(features[:, 13:26]), atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(num_frames=st.integers(0, 12), context=st.integers(0, 5))
def test_spliced_frames_are_the_neighbours_side_by_side(num_frames: int, context: int) -> None:
    cepstra = compute_cepstra(make_log_mel(num_frames))
    spliced = splice(cepstra, context)
    assert spliced.dtype == np.float32
    assert spliced.shape == (num_frames, (2 * context + 1) * NUM_CEPSTRA)
    for frame, line in enumerate(spliced):
        for place, part in enumerate(line.reshape(-1, NUM_CEPSTRA)):
            neighbour = min(max(frame + place - context, 0), num_frames - 1)
            np.testing.assert_array_equal(part, cepstra[neighbour])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_an_utterance_without_frames_has_no_cepstra(dtype: type) -> None:
    cepstra = compute_cepstra(np.zeros((0, 40), dtype))
    for features, dimension in ((cepstra, 13), (add_deltas(cepstra), 39), (splice(cepstra, 3), 91)):
        assert features.shape == (0, dimension)
        assert features.dtype == np.float32
