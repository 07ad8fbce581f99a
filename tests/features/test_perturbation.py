"""Perturbed views: what they keep and what they change."""

import numpy as np
import pytest

from asrdistill.features.perturbation import PerturbationConfig, perturb, perturb_traced

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


PLAYED = STILL.model_copy(update={"max_speed": 0.2})


def trace(num_frames: int, seed: int, cuts: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where each frame of a view is in the utterance, float (frames,), and which frame it is said to be."""
    numbers = np.stack([np.arange(num_frames)] * 2, 1).astype(np.float32)
    view, origins = perturb_traced(
        numbers, np.random.default_rng(seed), PLAYED, np.array(cuts or [], np.int64)
    )
    return view[:, 0].astype(np.float64), origins


@pytest.mark.parametrize("num_frames", [3, 4, 49, 120, 500])
def test_some_speech_is_faster_and_some_slower_within_bounds(num_frames: int) -> None:
    largest = 0.0
    for seed in range(20):
        position, _ = trace(num_frames, seed)
        speeds = np.diff(position)
        assert (position[0], position[-1]) == (0, pytest.approx(num_frames - 1, abs=1e-4))
        assert 0.8 - 1e-4 < speeds.min() < 1 < speeds.max() < 1.2 + 1e-4
        largest = max(largest, float(np.abs(speeds - 1).max()))
    assert largest > 0.1, "a setting that hardly changes anything"


def test_a_long_utterance_has_many_speeds_each_of_some_duration() -> None:
    """Ten stretches in 500 frames: the speed changes at most nine times, not at every frame."""
    position, _ = trace(500, 0)
    changes = np.flatnonzero(np.abs(np.diff(position, 2)) > 1e-3)
    assert 5 <= len(changes) <= 9
    assert np.diff(changes).min() > 40


@pytest.mark.parametrize("seed", range(5))
def test_every_frame_of_a_view_is_told_its_nearest_one(seed: int) -> None:
    position, origins = trace(130, seed)
    assert origins.dtype == np.int64
    distance = np.abs(position[:, None] - np.arange(130))
    np.testing.assert_allclose(distance[np.arange(130), origins], distance.min(1), atol=1e-4)
    assert np.diff(origins).min() >= 0
    assert (origins != np.arange(130)).any()


def test_played_frames_lie_between_those_of_the_utterance(frames: np.ndarray) -> None:
    """The first coefficient tells the time; the others are what numpy interpolates there."""
    clock = np.arange(len(frames))
    timed = frames.astype(np.float32)
    timed[:, 0] = clock
    view, _ = perturb_traced(timed, np.random.default_rng(2), PLAYED)
    for number in range(1, timed.shape[1]):
        expected = np.interp(view[:, 0].astype(np.float64), clock, timed[:, number].astype(np.float64))
        np.testing.assert_allclose(view[:, number], expected, atol=1e-4)


def test_a_steady_sound_stays_what_it_is(frames: np.ndarray) -> None:
    steady = np.repeat(frames[:1], 60, 0)
    np.testing.assert_allclose(perturb_traced(steady, np.random.default_rng(2), PLAYED)[0], steady, atol=1e-5)


@pytest.mark.parametrize("cuts", [[20, 80], [1, 2, 3], [119], list(range(1, 120))])
def test_parts_keep_their_length(cuts: list[int]) -> None:
    position, origins = trace(120, 1, cuts)
    part = np.searchsorted(cuts, np.arange(120), side="right")
    np.testing.assert_array_equal(part[origins], part)
    for start, end in zip([0, *cuts], [*cuts, 120], strict=True):
        np.testing.assert_allclose(position[[start, end - 1]], [start, end - 1], atol=1e-4)


def test_without_change_of_speed_a_view_is_as_ever_and_frames_are_their_own(frames: np.ndarray) -> None:
    everything = PerturbationConfig(num_bands=2, gaps=3, noise=0.1)
    view, origins = perturb_traced(frames, np.random.default_rng(6), everything)
    np.testing.assert_array_equal(view, perturb(frames, np.random.default_rng(6), everything))
    assert origins.tolist() == list(range(50))


def test_speed_goes_with_all_else(frames: np.ndarray) -> None:
    """What is hidden is hidden after the change of speed: it is not smeared."""
    config = PerturbationConfig(max_speed=0.3, gaps=10, num_bands=1, channel=0, max_gain=0)
    view, origins = perturb_traced(frames + 50, np.random.default_rng(3), config)
    assert (view.dtype, view.shape, origins.shape) == (np.float32, frames.shape, (50,))
    assert ((view == 0) | (view > 40)).all() and (view == 0).any()


@pytest.mark.parametrize("num_frames", [0, 1, 2])
def test_short_utterances_keep_their_speed(num_frames: int) -> None:
    position, origins = trace(num_frames, 0)
    assert position.tolist() == origins.tolist() == list(range(num_frames))


def test_a_view_with_the_utterances_timing_cannot_have_another_speed(frames: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="perturb_traced"):
        perturb(frames, np.random.default_rng(1), PLAYED)
