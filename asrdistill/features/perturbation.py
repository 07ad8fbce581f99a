"""Perturbed views of an utterance: as if spoken by another vocal tract into another microphone.

A view is made from the normalised frames, so it needs no audio, and keeps their timing, unless its speed is
to change: hard targets stay right, and the teachers are asked anew what they make of it. A student that sees
several views of each utterance learns what the ensemble computes and not only what it said of the training
frames.
Source: the mel axis is stretched as in vocal tract length perturbation (Jaitly & Hinton 2013, ICML workshop);
that distillation gains from teachers asked about perturbed inputs: Beyer et al. (2022), arXiv:2106.05237.
Differs: the stretch is made on log-mel coefficients, not in the filterbank.
On request bands of the mel axis and stretches of time are hidden behind the mean, 0, as in SpecAugment (Park
et al. 2019, arXiv:1904.08779), every coefficient gets noise of its own, and some stretches of speech are
played faster, others slower, as by SpecAugment's warp of time: the utterance keeps its length.
Differs: of that warp, every stretch has a speed of its own, bounded relative to that of the speech; there one
point of time is moved, by a bounded number of frames. Of speed perturbation (Ko et al. 2015, Interspeech):
there audio is resampled, which changes its length and pitch; here frames are interpolated, which does neither
and smooths them a little.
"""

from itertools import pairwise

import numpy as np
from pydantic import Field

from asrdistill.config import Config

# Frames that are played at one speed, about.
STRETCH_FRAMES = 50
NO_CUTS = np.empty(0, np.int64)


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
    max_speed: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="largest local change of speed, relative: some stretches of speech are played faster, "
        "others slower, the utterance keeps its length, and targets follow (SpecAugment)",
    )


def perturb_traced(
    frames: np.ndarray, rng: np.random.Generator, config: PerturbationConfig, cuts: np.ndarray = NO_CUTS
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a view of an utterance, and tell where each of its frames comes from.

    Args:
        frames: float (frames, bins).
        rng: draws; without change of speed, as by `perturb`.
        config: how far the view may be from the utterance.
        cuts: int64, rising, first frames of parts that each keep their length.

    Returns:
        The view, float32, the shape of `frames`; and for each of its frames the nearest one of the utterance,
        whose targets it has: int64 (frames,), never falling.
    """
    if not config.max_speed:
        return perturb(frames, rng, config), np.arange(len(frames))
    edges = [0, *cuts.tolist(), len(frames)]
    position = np.concatenate(
        [start + _draw_positions(end - start, rng, config.max_speed) for start, end in pairwise(edges)]
    )
    played = _interpolate(frames.astype(np.float32).T, position).T
    view = perturb(played, rng, config.model_copy(update={"max_speed": 0.0}))
    return view, np.rint(position).astype(np.int64)


def _draw_positions(num_frames: int, rng: np.random.Generator, max_speed: float) -> np.ndarray:
    """What is played when, in frames: float64 (frames,), rising, with its ends where they are."""
    num_steps = num_frames - 1
    if num_steps < 2:
        return np.arange(num_frames, dtype=np.float64)
    num_stretches = max(2, round(num_frames / STRETCH_FRAMES))
    change = rng.uniform(-max_speed, max_speed, num_stretches)[
        np.arange(num_steps) * num_stretches // num_steps
    ]
    change -= change.mean()
    change *= max_speed / max(max_speed, np.abs(change).max())
    # Sums of fractions may end a little beyond the last frame.
    return np.minimum(np.concatenate([[0], np.cumsum(1 + change)]), num_steps)


def perturb(frames: np.ndarray, rng: np.random.Generator, config: PerturbationConfig) -> np.ndarray:
    """Draw a view of an utterance with its timing: float32, the shape of `frames`, (frames, bins)."""
    assert not config.max_speed, "targets are to follow a change of speed: take perturb_traced"
    num_bins = frames.shape[1]
    stretch = 1 + rng.uniform(-config.max_warp, config.max_warp)
    position = np.clip(np.arange(num_bins) * stretch, 0, num_bins - 1)
    warped = _interpolate(frames.astype(np.float32), position)
    gain = 1 + rng.uniform(-config.max_gain, config.max_gain)
    view: np.ndarray = (gain * warped + _draw_channel(num_bins, rng, config)).astype(np.float32)
    if config.noise:
        view += np.float32(config.noise) * rng.standard_normal(view.shape, np.float32)
    for _ in range(config.num_bands):
        view[:, _draw_span(num_bins, config.max_band_bins, rng)] = 0
    for _ in range(rng.poisson(config.gaps * len(view) / 100)):
        view[_draw_span(len(view), config.max_gap_frames, rng)] = 0
    return view


def _interpolate(rows: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Values of rows, float32 (rows, n), at positions from 0 to n - 1, float64 (k,): float32 (rows, k)."""
    lower = np.minimum(position.astype(int), rows.shape[1] - 2)
    share = (position - lower).astype(np.float32)
    between: np.ndarray = rows[:, lower] * (1 - share) + rows[:, lower + 1] * share
    return between


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
