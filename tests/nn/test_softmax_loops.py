"""The inner loops of softmaxes against scipy, at sizes and values where a shortcut would show."""

import numpy as np
import pytest
import scipy.special

from asrdistill.nn.softmax_loops import (
    add_posteriors,
    exponentiate,
    find_entropies,
    find_highest,
    softmax_in_place,
    sum_row,
)


def draw(num_rows: int, num_pdfs: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(num_pdfs)
    return (spread * rng.normal(size=(num_rows, num_pdfs))).astype(np.float32)


@pytest.mark.parametrize("num_pdfs", [1, 2, 15, 16, 17, 1000, 14_001])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 3.0, 200.0])
def test_softmax_is_scipys(num_pdfs: int, spread: float) -> None:
    rows = draw(70, num_pdfs, spread)
    expected = scipy.special.softmax(rows.astype(np.float64), axis=1)
    softmax_in_place(rows)
    np.testing.assert_allclose(rows, expected, rtol=2e-5, atol=1e-37)


def test_exponentials_are_right_to_the_last_digits() -> None:
    exponents = -np.geomspace(1e-6, 86.9, 100_000).astype(np.float32)
    powers = np.empty_like(exponents)
    exponentiate(exponents, np.float32(0), np.float32(1), powers)
    np.testing.assert_allclose(powers, np.exp(exponents.astype(np.float64)), rtol=2e-7)
    exponentiate(np.array([0, -500, -np.inf], np.float32), np.float32(0), np.float32(1), powers[:3])
    assert powers[0] == 1 and 0 < powers[1] == powers[2] < 2e-38


@pytest.mark.parametrize("values", [[-3.0, -1.0, -2.0], [5.0, -7.0], [-0.0], [1e-40, -1e-40], [3e38, -3e38]])
def test_the_highest_is_found_whatever_the_signs(values: list[float]) -> None:
    for turn in range(len(values)):
        row = np.roll(np.array(values, np.float32), turn)
        assert find_highest(row) == row.max()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 5, 99])
def test_what_is_no_number_stays_none(wrong: float, place: int) -> None:
    rows = draw(3, 100, 1.0)
    rows[1, place] = wrong
    softmax_in_place(rows)
    assert np.isnan(rows[1]).any() and np.isfinite(rows[[0, 2]]).all()


def test_a_sum_is_right_to_a_few_digits_of_float32() -> None:
    row = draw(1, 14_001, 1.0)[0]
    assert sum_row(row) == pytest.approx(float(row.sum(dtype=np.float64)), abs=1e-3)


@pytest.mark.parametrize("num_pdfs", [1, 2, 17, 1000, 14_001])
@pytest.mark.parametrize("spread", [0.0, 3.0, 200.0])
def test_entropies_are_scipys(num_pdfs: int, spread: float) -> None:
    rows = scipy.special.softmax(draw(70, num_pdfs, spread), axis=1).astype(np.float32)
    expected = scipy.special.entr(rows.astype(np.float64)).sum(1)
    np.testing.assert_allclose(find_entropies(rows), expected, rtol=2e-6, atol=2e-7)


def test_logarithms_are_right_to_the_last_digits() -> None:
    """Of rows of one probability."""
    rows = np.geomspace(1e-30, 1, 100_000).astype(np.float32)[:, None]
    expected = scipy.special.entr(rows.astype(np.float64))[:, 0]
    np.testing.assert_allclose(find_entropies(rows), expected, rtol=2e-7, atol=1e-37)


def test_the_entropy_of_what_is_no_number_is_none() -> None:
    assert np.isnan(find_entropies(np.array([[0.5, np.nan, 0.5]], np.float32))).all()


@pytest.mark.parametrize("num_pdfs", [1, 7, 64, 1000, 1031])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_an_exponential_comes_with_its_sums(num_pdfs: int, scale: float) -> None:
    row = draw(1, num_pdfs, 3.0)[0]
    exponents = scale * (row.astype(np.float64) - row.max())
    total, deviations = exponentiate(row, row.max(), np.float32(scale), np.empty_like(row))
    assert total == pytest.approx(np.exp(exponents).sum(), rel=1e-6)
    assert deviations == pytest.approx((exponents * np.exp(exponents)).sum(), rel=1e-6)


@pytest.mark.parametrize("num_pdfs", [1, 7, 64, 1000, 3001])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_averages_winners_and_entropies_of_long_rows(num_pdfs: int, temperature: float) -> None:
    """Of more frames than a thread takes at a time."""
    num_teachers, num_frames = 3, 70
    logits = draw(num_teachers * num_frames, num_pdfs, 4.0).reshape(num_teachers, num_frames, num_pdfs)
    average, share = np.zeros((num_frames, num_pdfs), np.float32), np.float32(1 / num_teachers)
    winners, entropies = np.empty((num_teachers, num_frames), np.int64), np.zeros(num_frames, np.float32)
    for rows, of_teacher in zip(logits, winners, strict=True):
        add_posteriors(rows, np.float32(temperature), share, average, of_teacher, entropies)
    posteriors = scipy.special.softmax(logits.astype(np.float64) / temperature, axis=2)
    np.testing.assert_allclose(average, posteriors.mean(0), rtol=5e-6, atol=1e-30)
    np.testing.assert_array_equal(winners, logits.argmax(2))
    np.testing.assert_allclose(entropies, scipy.special.entr(posteriors).sum(2).mean(0), rtol=5e-6, atol=2e-6)


@pytest.mark.parametrize("places", [(0, 999), (5, 6), (31, 32, 700), (998, 999)])
def test_of_several_likeliest_pdf_ids_the_first_wins(places: tuple[int, ...]) -> None:
    logits, one = draw(1, 1000, 1.0), np.float32(1)
    logits[0, list(places)] = 9
    winners = np.empty(1, np.int64)
    add_posteriors(logits, one, one, np.zeros_like(logits), winners, np.zeros(1, np.float32))
    assert winners[0] == places[0]
