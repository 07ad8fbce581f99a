"""Cepstra and differences against librosa, and against a line fitted by least squares."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.features.cepstra import DIMENSION, compute_cepstra


def make_log_mel(num_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frames, 40)).astype(np.float32)


def fit_slopes(frames: np.ndarray) -> np.ndarray:
    """Slope of the least-squares line through five frames, the ends of the utterance repeated."""
    last = len(frames) - 1
    neighbours = [[min(max(t + step, 0), last) for step in range(-2, 3)] for t in range(len(frames))]
    return np.stack([np.polyfit(range(-2, 3), frames[wanted], 1)[0] for wanted in neighbours])


def test_static_coefficients_equal_librosa() -> None:
    log_mel = make_log_mel(50)
    expected = librosa.feature.mfcc(S=log_mel.T, n_mfcc=13, dct_type=2, norm="ortho").T
    np.testing.assert_allclose(compute_cepstra(log_mel)[:, :13], expected, atol=1e-5)


def test_differences_equal_librosa() -> None:
    cepstra = compute_cepstra(make_log_mel(50))
    for block in (1, 2):
        before = cepstra[:, 13 * (block - 1) : 13 * block]
        expected = librosa.feature.delta(before, width=5, axis=0, mode="nearest")
        np.testing.assert_allclose(cepstra[:, 13 * block : 13 * (block + 1)], expected, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(num_frames=st.integers(1, 12), seed=st.integers(0, 99))
def test_differences_are_slopes_of_fitted_lines(num_frames: int, seed: int) -> None:
    cepstra = compute_cepstra(make_log_mel(num_frames, seed))
    assert cepstra.shape == (num_frames, DIMENSION)
    np.testing.assert_allclose(cepstra[:, 13:26], fit_slopes(cepstra[:, :13]), atol=1e-5)
    np.testing.assert_allclose(cepstra[:, 26:], fit_slopes(cepstra[:, 13:26]), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_an_utterance_without_frames_has_no_cepstra(dtype: type) -> None:
    cepstra = compute_cepstra(np.zeros((0, 40), dtype))
    assert cepstra.shape == (0, DIMENSION)
    assert cepstra.dtype == np.float32
