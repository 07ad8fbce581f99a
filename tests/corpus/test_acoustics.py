"""Rooms and noise, against their definitions."""

import numpy as np
import pytest

from asrdistill.corpus.acoustics import (
    AcousticsConfig,
    NoiseKind,
    add_reverberation,
    make_noise,
    mix_babble,
    record,
)

RATE_HZ = 16000
NUM_SAMPLES = 4 * RATE_HZ
RNG = np.random.default_rng(1)
SPEECH = (0.1 * RNG.standard_normal(NUM_SAMPLES)).astype(np.float32)
BABBLE = RNG.standard_normal(NUM_SAMPLES)


def energy_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def test_reverberation_decays_by_60_db() -> None:
    impulse = np.zeros(RATE_HZ)
    impulse[0] = 1
    responses = [
        add_reverberation(impulse, 0.5, 3.0, np.random.default_rng(seed), RATE_HZ) for seed in range(20)
    ]
    early, late = (
        np.mean([energy_db(r[start : start + 400]) for r in responses]) for start in (800, 800 + RATE_HZ // 4)
    )
    assert early - late == pytest.approx(30, abs=1)  # a quarter of a second is half of T60
    direct_to_rest = [-10 * np.log10(np.sum(response[1:] ** 2)) for response in responses]
    assert np.allclose(direct_to_rest, 3.0, atol=0.01)
    assert all(
        response[0] == pytest.approx(1) and not response[1:30].round(9).any() for response in responses
    )


def test_no_reverberation_changes_nothing() -> None:
    assert add_reverberation(SPEECH, 0.0, 3.0, np.random.default_rng(0), RATE_HZ) is SPEECH


@pytest.mark.parametrize("snr_db", [20.0, 0.0])
def test_noise_has_the_level_asked_for(snr_db: float) -> None:
    config = AcousticsConfig(snr_db=(snr_db,), noises=("white",), t60_s=(0.0,))
    mixed = record(config, SPEECH, BABBLE, np.random.default_rng(0), RATE_HZ)
    # The speech's share of the mixture by least squares; what is left is noise.
    share = float(mixed @ SPEECH / (SPEECH @ SPEECH))
    noise = mixed - share * SPEECH
    assert energy_db(share * SPEECH) - energy_db(noise) == pytest.approx(snr_db, abs=0.2)
    assert np.abs(mixed).max() <= 0.99
    assert mixed.dtype == np.float32


@pytest.mark.parametrize(("kind", "slope_db"), [("white", 0.0), ("pink", -10.0)])
def test_colour_of_noise(kind: NoiseKind, slope_db: float) -> None:
    noise = make_noise(kind, NUM_SAMPLES, BABBLE, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    low, high = (10 * np.log10(power[np.arange(f - 20, f + 20) * 4].mean()) for f in (400, 4000))
    assert high - low == pytest.approx(slope_db, abs=3)


def test_babble_is_a_stretch_of_the_talkers() -> None:
    babble = mix_babble([2 * BABBLE, SPEECH[: NUM_SAMPLES // 2]])
    assert len(babble) == NUM_SAMPLES // 2
    stretch = make_noise("babble", 1000, babble, np.random.default_rng(0))
    starts = np.flatnonzero(babble == stretch[0])
    assert any(np.array_equal(babble[start : start + 1000], stretch) for start in starts)
