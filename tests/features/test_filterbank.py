"""The filterbank against the mel formula, a direct Fourier sum, and Kaldi's rule for the number of frames."""

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.features.filterbank import FilterbankConfig, compute_filterbank

RATE_HZ = 16000
LOWEST_HZ = 20.0


def mel_of(frequency_hz: np.ndarray | float) -> np.ndarray:
    """HTK's mel scale, which Kaldi uses."""
    return 1127 * np.log1p(np.asarray(frequency_hz) / 700)


def make_tone(frequency_hz: float, num_samples: int = RATE_HZ) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / RATE_HZ)).astype(np.float32)


@settings(deadline=None, max_examples=30)
@given(num_samples=st.integers(0, 3000), shift_ms=st.sampled_from([5.0, 10.0, 12.5]))
def test_windows_that_do_not_fit_are_left_out(num_samples: int, shift_ms: float) -> None:
    frames = compute_filterbank(
        np.ones(num_samples, np.float32), RATE_HZ, FilterbankConfig(frame_shift_ms=shift_ms)
    )
    window, shift = 400, round(shift_ms * 16)
    expected = sum(1 for start in range(0, num_samples, shift) if start + window <= num_samples)
    assert frames.shape == (expected, 40)


@pytest.mark.parametrize("frequency_hz", [200.0, 440.0, 1000.0, 2500.0, 5000.0, 7500.0])
def test_a_tone_is_loudest_in_the_bin_whose_centre_is_nearest(frequency_hz: float) -> None:
    frames = compute_filterbank(make_tone(frequency_hz), RATE_HZ, FilterbankConfig()).numpy()
    edges = np.linspace(mel_of(LOWEST_HZ), mel_of(RATE_HZ / 2), 42)
    nearest = np.abs(edges[1:-1] - mel_of(frequency_hz)).argmin()
    # Fourier bins are 31 Hz apart, narrower than a mel bin only above some hundred hertz.
    assert abs(frames.mean(0).argmax() - nearest) <= (1 if frequency_hz < 500 else 0)


def test_frames_equal_a_plain_computation() -> None:
    """Kaldi's recipe in numpy: mean off, pre-emphasis 0.97, Povey window, power spectrum, triangles, log."""
    samples = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    starts = range(0, 4000 - 400 + 1, 160)
    windows = np.stack([samples[start : start + 400] for start in starts]).astype(np.float64) * 32768
    windows -= windows.mean(1, keepdims=True)
    windows -= 0.97 * np.concatenate([windows[:, :1], windows[:, :-1]], axis=1)
    windows *= np.hanning(400) ** 0.85
    power = np.abs(scipy.fft.rfft(windows, 512, axis=1)) ** 2
    edges = np.linspace(mel_of(LOWEST_HZ), mel_of(RATE_HZ / 2), 42)
    mel = mel_of(np.arange(256) * RATE_HZ / 512)
    rising = (mel[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel[:, None]) / (edges[2:] - edges[1:-1])
    expected = np.log(power[:, :256] @ np.maximum(0, np.minimum(rising, falling)))
    frames = compute_filterbank(samples, RATE_HZ, FilterbankConfig())
    np.testing.assert_allclose(frames.numpy(), expected, atol=2e-3)


def test_the_same_recording_gives_the_same_bytes() -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32)
    first, second = (compute_filterbank(samples, RATE_HZ, FilterbankConfig()).numpy() for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.dtype == np.float32
