"""Perturbed views: what they keep and what they change."""

import numpy as np
import pytest

from asrdistill.features.perturbation import PerturbationConfig, perturb

STILL = PerturbationConfig(max_warp=0, channel=0, max_gain=0)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(50, 40)).astype(np.float16)


def test_without_any_perturbation_a_view_is_the_utterance(frames: np.ndarray) -> None:
    np.testing.assert_allclose(perturb(frames, np.random.default_rng(1), STILL), frames, atol=1e-6)


def test_the_same_generator_gives_the_same_view_and_another_one_another(frames: np.ndarray) -> None:
    first, again, other = (
        perturb(frames, np.random.default_rng(seed), PerturbationConfig()) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_timing_is_kept_so_that_hard_targets_stay_right(frames: np.ndarray) -> None:
    """Every frame is changed in the same way: turning time round commutes with it."""
    forward = perturb(frames, np.random.default_rng(1), PerturbationConfig())
    backward = perturb(frames[::-1], np.random.default_rng(1), PerturbationConfig())
    np.testing.assert_allclose(backward[::-1], forward, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_warp_moves_a_peak_along_the_mel_axis_by_at_most_its_share(seed: int) -> None:
    peak = 24
    frames = np.exp(-0.5 * ((np.arange(40) - peak) / 3.0) ** 2)[None].astype(np.float32)
    stretch = 1 + np.random.default_rng(seed).uniform(-0.2, 0.2)
    view = perturb(
        frames, np.random.default_rng(seed), PerturbationConfig(max_warp=0.2, channel=0, max_gain=0)
    )
    assert abs(int(view[0].argmax()) - peak / stretch) <= 1


def test_channel_adds_the_same_smooth_curve_to_every_frame(frames: np.ndarray) -> None:
    config = PerturbationConfig(max_warp=0, channel=0.5, max_gain=0)
    added = perturb(frames, np.random.default_rng(4), config) - frames
    np.testing.assert_allclose(added, np.broadcast_to(added[0], added.shape), atol=2e-3)
    assert np.abs(np.diff(added[0])).max() < 0.25 < 4 * np.abs(added[0]).max()


def count_hidden(config: PerturbationConfig, shape: tuple[int, int], draws: int = 400) -> np.ndarray:
    """Share of the draws in which each coefficient is hidden, float (frames, bins)."""
    ones = np.ones(shape, np.float32)
    quiet = config.model_copy(update={"max_warp": 0.0, "channel": 0.0, "max_gain": 0.0})
    views = [perturb(ones, np.random.default_rng(seed), quiet) for seed in range(draws)]
    assert {float(value) for value in np.unique(views)} <= {0.0, 1.0}
    return 1 - np.mean(views, axis=0)


def test_bands_hide_the_same_coefficients_of_every_frame() -> None:
    hidden = count_hidden(PerturbationConfig(num_bands=1, max_band_bins=8), (30, 40))
    np.testing.assert_array_equal(hidden, np.broadcast_to(hidden[0], hidden.shape))
    # Of 0 to 8 bins, each width as likely: 4 of 40 on average.
    assert abs(hidden.mean() - 0.1) < 0.015
    assert hidden.min() > 0


def test_gaps_hide_whole_frames_as_many_as_the_utterance_is_long() -> None:
    config = PerturbationConfig(gaps=2, max_gap_frames=10)
    hidden = count_hidden(config, (200, 8))
    np.testing.assert_array_equal(hidden, np.broadcast_to(hidden[:, :1], hidden.shape))
    # Four gaps of 5 frames on average, of 200: 1 - exp(-4 * 5 / 200), where two may overlap.
    assert abs(hidden.mean() - 0.095) < 0.015
    assert hidden.min() > 0


@pytest.mark.parametrize("num_frames", [0, 1, 2])
def test_short_utterances_can_have_gaps(num_frames: int) -> None:
    one_gap = PerturbationConfig(gaps=100, max_gap_frames=50, num_bands=3)
    assert perturb(np.ones((num_frames, 8), np.float32), np.random.default_rng(1), one_gap).shape == (
        num_frames,
        8,
    )


def test_noise_is_of_the_size_that_is_asked_for(frames: np.ndarray) -> None:
    noisy = STILL.model_copy(update={"noise": 0.3})
    added = perturb(frames, np.random.default_rng(1), noisy) - frames
    assert abs(added.std() - 0.3) < 0.02
    assert abs(added.mean()) < 0.02
    assert np.abs(np.corrcoef(added[:, :2].T)[0, 1]) < 0.4
