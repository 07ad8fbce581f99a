"""Shares of teachers against the definition, teacher by teacher and frame by frame, in float64."""

from typing import get_args

import numpy as np
import pytest
import scipy.special

from asrdistill.features.context import ContextConfig
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dnn import Dnn
from asrdistill.targets.averaging import Average, ask_teachers
from asrdistill.targets.teacher_shares import average_with_shares, share_out_weights

NUM_TEACHERS, NUM_FRAMES, NUM_PDFS = 4, 60, 5
AVERAGES: tuple[Average, ...] = get_args(Average)


def draw_logits(num_teachers: int = NUM_TEACHERS, num_pdfs: int = NUM_PDFS) -> np.ndarray:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 2, (1, NUM_FRAMES, num_pdfs))
    return (common + rng.normal(0, 2, (num_teachers, NUM_FRAMES, num_pdfs))).astype(np.float32)


def draw_pdf_ids(logits: np.ndarray) -> np.ndarray:
    """Hard targets that teachers often hit; every seventh frame has none."""
    pdf_ids = logits[np.arange(NUM_FRAMES) % len(logits), np.arange(NUM_FRAMES)].argmax(1).astype(np.int32)
    pdf_ids[1::5] = np.random.default_rng(1).integers(logits.shape[2], size=len(pdf_ids[1::5]))
    pdf_ids[::7] = -1
    return pdf_ids


def share_out_slowly(winners: np.ndarray, pdf_ids: np.ndarray, wrong_weight: float) -> np.ndarray:
    num_teachers, num_frames = winners.shape
    shares = np.full(winners.shape, 1 / num_teachers)
    for frame in range(num_frames):
        right = [m for m in range(num_teachers) if winners[m, frame] == pdf_ids[frame]]
        wrong = [m for m in range(num_teachers) if m not in right]
        if pdf_ids[frame] == -1 or not right or not wrong:
            continue
        for teacher in wrong:
            shares[teacher, frame] = wrong_weight / num_teachers
        for teacher in right:
            shares[teacher, frame] = (1 - len(wrong) * wrong_weight / num_teachers) / len(right)
    return shares


@pytest.mark.parametrize("wrong_weight", [0.01, 0.75, 1.0])
def test_shares_are_those_of_the_definition(wrong_weight: float) -> None:
    logits = draw_logits()
    winners, pdf_ids = logits.argmax(2), draw_pdf_ids(logits)
    shares = share_out_weights(winners, pdf_ids, wrong_weight)
    assert shares.dtype == np.float32
    num_right = (winners == pdf_ids).sum(0)
    assert set(num_right) == {0, 1, 2, 3, 4}, "every case is to occur"
    np.testing.assert_allclose(shares, share_out_slowly(winners, pdf_ids, wrong_weight), rtol=1e-6)
    np.testing.assert_allclose(shares.sum(0), 1, rtol=1e-6)


def test_a_case_worked_by_hand() -> None:
    """Four teachers, W 0.5; by frame: one right, three right, all wrong, all right, no hard target."""
    winners = np.array([[1, 1, 0, 2, 0], [0, 1, 0, 2, 1], [2, 1, 0, 2, 1], [3, 0, 3, 2, 1]])
    shares = share_out_weights(winners, np.array([1, 1, 1, 2, -1], np.int32), 0.5)
    expected = np.full((4, 5), 0.25)
    expected[:, 0] = [0.625, 0.125, 0.125, 0.125]
    expected[:, 1] = [0.875 / 3, 0.875 / 3, 0.875 / 3, 0.125]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)


def test_a_teacher_that_takes_no_pdf_id_is_not_right_where_there_is_none() -> None:
    shares = share_out_weights(np.array([[-1], [3]]), np.array([-1], np.int32), 0.5)
    assert shares.tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize("wrong_weight", [0.3, 1.0])
def test_a_single_teacher_has_all_of_it(wrong_weight: float) -> None:
    logits = draw_logits(num_teachers=1)
    pdf_ids = draw_pdf_ids(logits)
    shares = share_out_weights(logits.argmax(2), pdf_ids, wrong_weight)
    assert np.array_equal(shares, np.ones((1, NUM_FRAMES), np.float32))
    for average in AVERAGES:
        found = average_with_shares(logits, shares, 2.0, average)
        expected = scipy.special.softmax(logits[0].astype(np.float64) / 2, axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("wrong_weight", [0.0, -0.5, 1.01, float("nan")])
def test_other_weights_are_refused(wrong_weight: float) -> None:
    with pytest.raises(ValueError, match=r"found .*, expected above 0 and at most 1"):
        share_out_weights(np.zeros((2, 3), np.int64), np.zeros(3, np.int32), wrong_weight)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("average", AVERAGES)
def test_where_wrong_teachers_count_as_much_the_average_is_the_plain_one(
    average: Average, temperature: float
) -> None:
    config = AcousticModelConfig(num_hidden_layers=1, hidden_size=16, context=ContextConfig(past=1, future=0))
    teachers = Dnn(config, 3, NUM_PDFS, NUM_TEACHERS).initialize(range(NUM_TEACHERS))
    teachers.weights[-1].data.mul_(30)  # opinions that differ
    frames = np.random.default_rng(2).normal(size=(NUM_FRAMES, 3)).astype(np.float16)
    opinion = ask_teachers(teachers, frames, (temperature,), average)
    logits = teachers.compute_logits(frames).numpy()
    pdf_ids = draw_pdf_ids(logits)
    plain, weighted = (
        average_with_shares(logits, share_out_weights(opinion.winners, pdf_ids, w), temperature, average)
        for w in (1.0, 0.5)
    )
    np.testing.assert_allclose(plain, opinion.averages[0], atol=1e-6)
    assert np.abs(weighted - plain).max() > 0.01


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("average", AVERAGES)
def test_averages_are_those_of_the_definition(average: Average, temperature: float) -> None:
    logits = draw_logits()
    before = logits.copy()
    shares = share_out_weights(logits.argmax(2), draw_pdf_ids(logits), 0.4)
    found = average_with_shares(logits, shares, temperature, average)
    assert found.dtype == np.float32
    assert np.array_equal(logits, before)
    expected = np.zeros((NUM_FRAMES, NUM_PDFS))
    for frame in range(NUM_FRAMES):
        for teacher in range(NUM_TEACHERS):
            row = logits[teacher, frame].astype(np.float64) / temperature
            told = scipy.special.softmax(row) if average == "arithmetic" else row
            expected[frame] += shares[teacher, frame] * told
        if average == "geometric":
            expected[frame] = scipy.special.softmax(expected[frame])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("average", AVERAGES)
def test_order_of_the_teachers_does_not_matter(average: Average) -> None:
    logits, order = draw_logits(), [2, 0, 3, 1]
    pdf_ids = draw_pdf_ids(logits)
    first, second = (
        average_with_shares(some, share_out_weights(some.argmax(2), pdf_ids, 0.4), 2.0, average)
        for some in (logits, np.ascontiguousarray(logits[order]))
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def measure_gain(logits: np.ndarray, pdf_ids: np.ndarray, average: Average) -> np.ndarray:
    """How much likelier the hard target is with W 0.5 than in the plain average, (L,)."""
    winners, told = logits.argmax(2), pdf_ids >= 0
    plain, weighted = (
        average_with_shares(logits, share_out_weights(winners, pdf_ids, w), 1.0, average) for w in (1.0, 0.5)
    )
    return (weighted - plain)[told, pdf_ids[told]]


@pytest.mark.parametrize("average", AVERAGES)
def test_of_two_pdf_ids_the_hard_target_gains(average: Average) -> None:
    """Who is right gives it more than half, and who is wrong less."""
    logits = draw_logits(num_pdfs=2)
    gain = measure_gain(logits, draw_pdf_ids(logits), average)
    assert gain.min() >= -1e-6
    assert gain.max() > 0.05


def test_the_hard_target_gains_where_those_that_are_right_are_sure() -> None:
    """By more than half: then none that is wrong can give it as much. Of the arithmetic mean alone."""
    logits = draw_logits()
    pdf_ids = draw_pdf_ids(logits)
    winners, posteriors = logits.argmax(2), scipy.special.softmax(logits, axis=2)
    is_sure = ((winners != pdf_ids) | (posteriors.max(2) > 0.5)).all(0)
    gain = measure_gain(logits, np.where(is_sure, pdf_ids, -1), "arithmetic")
    assert len(gain) > 10
    assert gain.min() >= -1e-6
    assert gain.max() > 0.05


@pytest.mark.parametrize("average", AVERAGES)
def test_the_hard_target_may_lose_where_they_are_not(average: Average) -> None:
    """The first teacher is right with 0.34, the second wrong and gives the hard target 0.45."""
    logits = np.log(np.array([[[0.34, 0.33, 0.33]], [[0.45, 0.54, 0.01]]], np.float32))
    assert measure_gain(logits, np.zeros(1, np.int32), average)[0] < -0.01
