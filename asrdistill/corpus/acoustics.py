"""Rooms and noise for synthetic speech: reverberation, coloured noise and babble, recording level."""

from typing import Literal, TypeVar

import numpy as np
from pydantic import Field, NonNegativeFloat
from scipy.signal import fftconvolve

from asrdistill.config import Config

NoiseKind = Literal["white", "pink", "babble"]
Value = TypeVar("Value")

LEVEL_RANGE_DB = (-32.0, -20.0)  # RMS of a recording against full scale
PEAK = 0.99
ONSET_S = 0.002  # between the direct sound and the first reflection


class AcousticsConfig(Config):
    """How hard the synthetic recordings are; each utterance draws one value of each list."""

    snr_db: tuple[float, ...] = Field(
        (20.0, 10.0, 5.0, 0.0), min_length=1, description="levels of the speech against the noise (dB)"
    )
    noises: tuple[NoiseKind, ...] = Field(
        ("white", "pink", "babble"), min_length=1, description="kinds of noise"
    )
    t60_s: tuple[NonNegativeFloat, ...] = Field(
        (0.0, 0.3, 0.6), min_length=1, description="reverberation times (s); 0 is a room without any"
    )
    direct_to_reverberant_db: float = Field(
        3.0, description="energy of the direct sound against that of the reverberation (dB)"
    )


def record(
    config: AcousticsConfig,
    speech: np.ndarray,
    babble: np.ndarray,
    rng: np.random.Generator,
    sampling_rate_hz: int,
) -> np.ndarray:
    """Put speech into a room with noise. Nothing moves in time: the direct sound stays where it was.

    Args:
        speech: float32 (samples,).
        babble: float32 (samples,), at least as long as the speech.

    Returns:
        float32 (samples,), within [-1, 1].
    """
    t60_s, kind, snr_db = _draw(config.t60_s, rng), _draw(config.noises, rng), _draw(config.snr_db, rng)
    reverberant = add_reverberation(speech, t60_s, config.direct_to_reverberant_db, rng, sampling_rate_hz)
    noise = make_noise(kind, len(speech), babble, rng)
    mixed = reverberant + noise * (_rms(reverberant) / _rms(noise) * 10 ** (-snr_db / 20))
    scaled = mixed * (10 ** (rng.uniform(*LEVEL_RANGE_DB) / 20) / _rms(mixed))
    return (scaled * min(1.0, PEAK / np.abs(scaled).max())).astype(np.float32)


def add_reverberation(
    speech: np.ndarray,
    t60_s: float,
    direct_to_reverberant_db: float,
    rng: np.random.Generator,
    sampling_rate_hz: int,
) -> np.ndarray:
    """Convolve with a direct sound and noise that decays by 60 dB in `t60_s`; the length stays.

    Source: Polack's model of late reverberation (exponentially decaying Gaussian noise).
    """
    if not t60_s:
        return speech
    times_s = np.arange(round(t60_s * sampling_rate_hz)) / sampling_rate_hz
    tail = rng.standard_normal(len(times_s)) * 10 ** (-3 * times_s / t60_s) * (times_s >= ONSET_S)
    response = tail * 10 ** (-direct_to_reverberant_db / 20) / np.sqrt((tail**2).sum())
    response[0] = 1.0
    return fftconvolve(speech, response)[: len(speech)]


def make_noise(kind: NoiseKind, num_samples: int, babble: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make noise of any level, float (samples,): white, pink (-10 dB a decade), or a stretch of babble."""
    if kind == "babble":
        start = rng.integers(len(babble) - num_samples + 1)
        return babble[start : start + num_samples]
    white = rng.standard_normal(num_samples)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), num_samples)


def mix_babble(talkers: list[np.ndarray]) -> np.ndarray:
    """Add talkers up, each at the same level, as long as the shortest of them."""
    length = min(map(len, talkers))
    return np.sum([talker[:length] / _rms(talker) for talker in talkers], axis=0)


def _draw(values: tuple[Value, ...], rng: np.random.Generator) -> Value:
    return values[rng.integers(len(values))]


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
