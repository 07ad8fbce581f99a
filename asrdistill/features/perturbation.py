"""Perturbed views of an utterance: as if spoken by another vocal tract into another microphone.

A view is made from the normalised frames, so it needs no audio, and keeps their timing: hard targets stay
right, and the teachers are asked anew what they make of it. A student that sees several views of each
utterance learns what the ensemble computes and not only what it said of the training frames.
Source: the mel axis is stretched as in vocal tract length perturbation (Jaitly & Hinton 2013, ICML workshop);
that distillation gains from teachers asked about perturbed inputs: Beyer et al. (2022), arXiv:2106.05237.
Differs: the stretch is made on log-mel coefficients, not in the filterbank.
On request bands of the mel axis and stretches of time are hidden behind the mean, 0, as in SpecAugment (Park
et al. 2019, arXiv:1904.08779; its warp of time is left out), and every coefficient gets noise of its own.
"""

import numpy as np
from pydantic import Field

from asrdistill.config import Config


class PerturbationConfig(Config):
    """How far a view may be from its utterance."""

    max_warp: float = Field(0.12, ge=0, lt=0.5, description="largest relative stretch of the mel axis")
    channel: float = Field(
        0.2, ge=0, description="standard deviation of the spectral tilt, in those of the normalised frames"
    )
    max_gain: float = Field(0.1, ge=0, lt=1, description="largest relative change of the frames' range")
    num_bands: int = Field(0, ge=0, description="bands of the mel axis that are hidden (SpecAugment)")
    max_band_bins: int = Field(8, ge=1, description="coefficients of the widest band")
    gaps: float = Field(
        0.0, ge=0, description="hidden stretches of time, mean number for every 100 frames (SpecAugment)"
    )
    max_gap_frames: int = Field(10, ge=1, description="frames of the longest stretch")
    noise: float = Field(
        0.0,
        ge=0,
        description="standard deviation of noise on every coefficient, in those of the normalised frames",
    )


def perturb(frames: np.ndarray, rng: np.random.Generator, config: PerturbationConfig) -> np.ndarray:
    """Draw a view of an utterance: float32, the shape of `frames`, (frames, bins)."""
    num_bins = frames.shape[1]
    stretch = 1 + rng.uniform(-config.max_warp, config.max_warp)
    position = np.clip(np.arange(num_bins) * stretch, 0, num_bins - 1)
    lower = np.minimum(position.astype(int), num_bins - 2)
    share = (position - lower).astype(np.float32)
    wide = frames.astype(np.float32)
    warped = wide[:, lower] * (1 - share) + wide[:, lower + 1] * share
    gain = 1 + rng.uniform(-config.max_gain, config.max_gain)
    view: np.ndarray = (gain * warped + _draw_channel(num_bins, rng, config)).astype(np.float32)
    if config.noise:
        view += np.float32(config.noise) * rng.standard_normal(view.shape, np.float32)
    for _ in range(config.num_bands):
        view[:, _draw_span(num_bins, config.max_band_bins, rng)] = 0
    for _ in range(rng.poisson(config.gaps * len(view) / 100)):
        view[_draw_span(len(view), config.max_gap_frames, rng)] = 0
    return view


def _draw_span(length: int, max_width: int, rng: np.random.Generator) -> slice:
    """A span of 0 to `max_width` places, at most half of all, anywhere."""
    width = int(rng.integers(min(max_width, length // 2) + 1))
    start = int(rng.integers(length - width + 1))
    return slice(start, start + width)


def _draw_channel(num_bins: int, rng: np.random.Generator, config: PerturbationConfig) -> np.ndarray:
    """A smooth frequency response, float (bins,): an offset, a slope and one wave with random phase."""
    axis = np.linspace(-0.5, 0.5, num_bins)
    offset, slope, wave = rng.normal(0, config.channel, 3)
    channel: np.ndarray = offset + slope * axis + wave * np.cos(2 * np.pi * (axis + rng.uniform()))
    return channel
