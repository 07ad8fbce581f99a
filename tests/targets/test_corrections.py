"""Corrections of a coarse code: right on average, never far off, and as many as the error asks for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.nn.soft_targets import Corrections, LogBasis, LowRankTargets
from asrdistill.targets.corrections import draw_corrections, read_corrections

NUM_FRAMES, NUM_PDFS, UNIT = 30, 150, 0.05


def draw_posteriors(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).dirichlet(np.full(NUM_PDFS, 0.2), NUM_FRAMES)
    return drawn.astype(np.float32)


def add(corrections: Corrections, told: np.ndarray) -> np.ndarray:
    rows = torch.from_numpy(told.copy())[None]
    corrections.add_to(rows, torch.arange(len(told))[None])
    return rows[0].numpy()


def test_what_is_told_is_right_on_average_and_never_a_unit_off() -> None:
    soft, told = draw_posteriors(0), draw_posteriors(1)
    repeats, total = 2000, np.zeros(soft.shape)
    rng = np.random.default_rng(2)
    for _ in range(repeats):
        distances = draw_corrections(soft, told, UNIT, rng)
        corrected = add(read_corrections(distances, NUM_FRAMES, NUM_PDFS, UNIT), told)
        assert np.abs(corrected - soft).max() < UNIT * (1 + 1e-4)
        total += corrected
    # Standard deviation of one: at most half a unit.
    np.testing.assert_allclose(total / repeats, soft, atol=5 * 0.5 * UNIT / repeats**0.5)


def test_a_frame_has_as_many_as_units_of_error() -> None:
    soft, told = draw_posteriors(0), draw_posteriors(1)
    told[:10] = soft[:10]
    distances = draw_corrections(soft, told, UNIT, np.random.default_rng(0))
    corrections = read_corrections(distances, NUM_FRAMES, NUM_PDFS, UNIT)
    counts = np.diff(corrections.starts)
    assert np.abs(counts - np.abs(soft - told).sum(1) / UNIT).max() < 1 + 1e-4
    assert (counts[:10] == 0).all() and counts[10:].min() > 0
    assert len(distances) == len(corrections.pdf_ids)


def test_pdf_ids_that_are_far_apart() -> None:
    """Farther than one distance tells."""
    soft, told = np.zeros((4, 1 << 17), np.float32), np.zeros((4, 1 << 17), np.float32)
    soft[::3, -1], told[::3, 70_000] = 0.101, 0.101
    distances = draw_corrections(soft, told, UNIT, np.random.default_rng(0))
    corrections = read_corrections(distances, *soft.shape, UNIT)
    assert set(zip(corrections.pdf_ids, corrections.signs, strict=True)) == {((1 << 17) - 1, 1), (70_000, -1)}
    np.testing.assert_array_equal(np.diff(corrections.starts) > 0, [True, False, False, True])
    assert np.count_nonzero(distances == 0) > 10


def test_the_most_that_can_be_wrong() -> None:
    soft, told = np.zeros((3, 5), np.float32), np.zeros((3, 5), np.float32)
    soft[:, 0] = told[:, 4] = 1
    corrections = read_corrections(draw_corrections(soft, told, 0.01, np.random.default_rng(3)), 3, 5, 0.01)
    np.testing.assert_allclose(add(corrections, told), soft, atol=0.0101)


@pytest.mark.parametrize("distance", [NUM_PDFS + 1, -NUM_PDFS - 1])
def test_pdf_ids_that_are_not_there_are_refused(distance: int) -> None:
    with pytest.raises(ValueError, match="damaged"):
        read_corrections(np.array([distance], np.int32), 1, NUM_PDFS, UNIT)


@pytest.mark.parametrize("num_places", [NUM_PDFS, 600_000])
def test_more_of_a_frame_than_there_can_be_are_refused(num_places: int) -> None:
    with pytest.raises(ValueError, match="damaged"):
        read_corrections(np.ones(num_places, np.int32), 5, NUM_PDFS, UNIT)


@pytest.mark.parametrize("wrong", [100.0, np.inf])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    soft = draw_posteriors(0)
    soft[-1, 3] = wrong
    with pytest.raises(ValueError, match="probabilities"):
        draw_corrections(soft, draw_posteriors(1), UNIT, np.random.default_rng(0))


@given(
    num_frames=st.integers(0, 5),
    num_pdfs=st.sampled_from([1, 2, 63, 64, 65, 129, 40_000]),
    unit=st.sampled_from([0.01, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_size_comes_back(num_frames: int, num_pdfs: int, unit: float, seed: int) -> None:
    """Against the errors' sums: a pdf-id's corrections are those of which the sum passes a unit there."""
    rng = np.random.default_rng(seed)
    shape = (num_frames, num_pdfs)
    soft, told = (
        (rng.integers(0, 2, shape) * rng.dirichlet(np.ones(num_pdfs), num_frames)).astype(np.float32)
        for _ in range(2)
    )
    distances = draw_corrections(soft, told, unit, np.random.default_rng(seed))
    corrections = read_corrections(distances, num_frames, num_pdfs, unit)
    begins = np.random.default_rng(seed).random((num_frames, 1))
    sums = begins + np.cumsum(np.abs(soft - told), 1, dtype=np.float64) / unit
    expected = np.sign(soft - told) * np.diff(np.floor(sums), axis=1, prepend=0)
    found = np.zeros(shape)
    frames = np.repeat(np.arange(num_frames), np.diff(corrections.starts))
    np.add.at(found, (frames, corrections.pdf_ids), corrections.signs)
    # A sum that is a unit but for rounding may pass at the next pdf-id.
    assert np.abs(found - expected).sum() <= 2 * (np.abs(sums - np.rint(sums)) < 1e-4).sum()


def test_any_frames_in_any_order_get_their_own() -> None:
    rng = np.random.default_rng(0)
    soft, told = draw_posteriors(0), draw_posteriors(1)
    told[5] = soft[5]
    basis = LogBasis(
        torch.zeros(NUM_PDFS), torch.from_numpy(rng.normal(size=(2, NUM_PDFS)).astype(np.float32))
    )
    parts = []
    for place in (0, 10):
        part = slice(place, place + 10)
        distances = draw_corrections(soft[part], told[part], UNIT, rng)
        coefficients = rng.normal(size=(10, 2)).astype(np.float16)
        corrections = read_corrections(distances, 10, NUM_PDFS, UNIT)
        parts.append(LowRankTargets(coefficients, basis, corrections))
    joined = parts[0].join(parts)
    frames = torch.tensor([[3, 5, 19], [11, 0, 5]])
    expected = torch.stack(
        [
            torch.stack([parts[n // 10].take(torch.tensor([[n % 10]]))[0, 0] for n in row])
            for row in frames.tolist()
        ]
    )
    torch.testing.assert_close(joined.take(frames), expected)
    sliced = joined.slice(slice(2, 13))
    torch.testing.assert_close(sliced.take(frames[:1] % 11), joined.take(frames[:1] % 11 + 2))
    assert joined.num_bytes == sum(part.num_bytes for part in parts) - 8
    torch.testing.assert_close(joined.take(torch.tensor([[5]])).sum(), torch.tensor(1.0))
