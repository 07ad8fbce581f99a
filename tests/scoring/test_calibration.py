"""Calibration against torch, hand-worked cases, and a simulation that is calibrated by construction."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.errors import ContractError
from asrdistill.scoring.calibration import (
    BLOCK,
    NUM_BINS,
    Calibration,
    measure_calibration,
    sum_calibrations,
)
from asrdistill.scoring.frame_accuracy import count_frames

NAMES = ("frames", "confidence", "correct", "log_loss", "square_loss")


def make_frames(
    num_frames: int, num_pdfs: int = 7, seed: int = 0, spread: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 (T, P) and hard targets (T,) that they make likelier."""
    rng = np.random.default_rng(seed)
    pdf_ids = rng.integers(0, num_pdfs, num_frames)
    logits = rng.normal(0, spread, (num_frames, num_pdfs)) + 2 * np.eye(num_pdfs)[pdf_ids]
    return logits.astype(np.float32), pdf_ids


def assert_same(found: Calibration, expected: Calibration) -> None:
    for name in NAMES:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=2e-6, err_msg=name)


def test_hand_worked_frames() -> None:
    posteriors = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.72, 0.08, 0.2], [0.0, 1.0, 0.0]])
    with np.errstate(divide="ignore"):
        found = measure_calibration(np.log(posteriors), np.array([0, 1, 1, 1]))
    # Bins of width 1/15: 0.6 is the edge of the ninth and the tenth, so it is left out here.
    assert found.frames[10] == 2 and found.correct[10] == 1
    assert found.confidence[10] == pytest.approx(1.42)
    assert found.frames[14] == 1 and found.correct[14] == 1
    assert found.accuracy == 0.5
    assert found.mean_confidence == pytest.approx((0.7 + 0.6 + 0.72 + 1) / 4)
    assert found.overconfidence == pytest.approx(0.755 - 0.5)
    assert found.ece == pytest.approx((abs(1.42 - 1) + 0.6 + 0) / 4)
    assert found.mce == pytest.approx(0.6)
    assert found.nll == pytest.approx(-np.log(0.7 * 0.3 * 0.08 * 1) / 4)
    squares = [0.09 + 0.04 + 0.01, 0.01 + 0.49 + 0.36, 0.72**2 + 0.92**2 + 0.04, 0]
    assert found.brier == pytest.approx(sum(squares) / 4)


def test_a_modest_model_has_negative_overconfidence() -> None:
    found = measure_calibration(np.zeros((4, 5), np.float32), np.zeros(4, int))
    assert found.overconfidence == pytest.approx(0.2 - 1)
    assert found.ece == pytest.approx(0.8)
    assert found.nll == pytest.approx(np.log(5))


def test_bins_are_closed_on_the_right() -> None:
    # 1/4 and 1/2 are 3.75 and 7.5 bins; 1/3, 1/5 and 1/15 stand on the edges 5, 3 and 1.
    for num_pdfs, number in ((4, 3), (2, 7), (3, 4), (5, 2), (15, 0), (1, 14)):
        found = measure_calibration(np.zeros((1, num_pdfs)), np.array([0]))
        assert np.flatnonzero(found.frames).tolist() == [number], num_pdfs


@pytest.mark.parametrize("num_frames", [1, BLOCK, 3 * BLOCK + 17])
def test_as_torch_computes_it(num_frames: int) -> None:
    logits, pdf_ids = make_frames(num_frames)
    found = measure_calibration(logits, pdf_ids)
    posteriors = torch.softmax(torch.from_numpy(logits).double(), 1)
    targets = torch.from_numpy(pdf_ids)
    confidence, top = posteriors.max(1)
    edges = torch.arange(1, NUM_BINS, dtype=torch.double) / NUM_BINS
    numbers = torch.bucketize(confidence, edges)
    ece = 0.0
    for number in range(NUM_BINS):
        chosen = numbers == number
        assert found.frames[number] == chosen.sum()
        assert found.correct[number] == (top == targets)[chosen].sum()
        if chosen.any():
            gap = ((top == targets)[chosen].double().mean() - confidence[chosen].mean()).abs()
            ece += float(gap * chosen.double().mean())
    assert found.ece == pytest.approx(ece, abs=1e-6)
    nll = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), targets)
    assert found.nll == pytest.approx(float(nll), abs=1e-6)
    one_hot = torch.nn.functional.one_hot(targets, logits.shape[1])
    assert found.brier == pytest.approx(float((posteriors - one_hot).square().sum(1).mean()), abs=1e-6)
    assert found.accuracy == count_frames(logits, pdf_ids).accuracy


def simulate(num_frames: int, temperature: float) -> Calibration:
    """Targets drawn from softmax(logits / temperature), measured against softmax(logits)."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (num_frames, 6)).astype(np.float32)
    # Gumbel's trick: the argmax is drawn from the softmax.
    pdf_ids = (logits / temperature + rng.gumbel(size=logits.shape)).argmax(1)
    return measure_calibration(logits, pdf_ids)


def test_targets_drawn_from_the_posteriors_are_calibrated() -> None:
    errors = [simulate(num_frames, 1).ece for num_frames in (100, 2_000, 200_000)]
    assert errors[0] > 3 * errors[1] > 3 * errors[2]
    assert errors[2] < 0.004
    assert abs(simulate(200_000, 1).overconfidence) < 0.003


def test_too_sharp_and_too_flat_posteriors_are_told_apart() -> None:
    too_sharp, too_flat = simulate(50_000, 2), simulate(50_000, 0.5)
    assert too_sharp.overconfidence > 0.1 and too_flat.overconfidence < -0.1
    for found in (too_sharp, too_flat):
        assert found.ece == pytest.approx(abs(found.overconfidence), abs=0.01)


@given(cut=st.integers(0, 300), seed=st.integers(0, 9))
def test_parts_add_up_to_the_whole(cut: int, seed: int) -> None:
    logits, pdf_ids = make_frames(300, seed=seed)
    parts = [
        measure_calibration(logits[:cut], pdf_ids[:cut]),
        measure_calibration(logits[cut:], pdf_ids[cut:]),
    ]
    whole = measure_calibration(logits, pdf_ids)
    assert_same(sum_calibrations(parts), whole)
    assert_same(sum_calibrations(reversed(parts)), whole)
    assert abs(whole.overconfidence) <= whole.ece + 1e-12 and whole.ece <= whole.mce + 1e-12


@pytest.mark.parametrize("shift", [-3000.0, 3000.0])
def test_joint_scores_are_normalised(shift: float) -> None:
    logits, pdf_ids = make_frames(200, seed=3)
    logits = np.round(logits * 64) / 64  # so that the shift loses no digits
    shifts = shift + np.arange(200, dtype=np.float32)[:, None]
    assert_same(measure_calibration(logits + shifts, pdf_ids), measure_calibration(logits, pdf_ids))


def test_what_is_written_is_what_was_counted() -> None:
    found = measure_calibration(*make_frames(500, seed=1))
    described = found.describe()
    assert described["num_frames"] == sum(row["frames"] for row in described["bins"]) == 500
    gaps = [
        abs(row["accuracy"] - row["confidence"]) * row["frames"] for row in described["bins"] if row["frames"]
    ]
    assert sum(gaps) / 500 == pytest.approx(described["ece"])
    used = [row for row in described["bins"] if row["frames"]]
    assert all(row["low"] < row["confidence"] <= row["high"] for row in used)
    # A confidence below 1/7 is impossible: the first two bins are empty.
    assert described["bins"][0]["confidence"] is None and described["bins"][0]["accuracy"] is None


def test_nothing_counted_is_refused() -> None:
    empty = measure_calibration(np.zeros((0, 4), np.float32), np.zeros(0, int))
    assert empty.num_frames == 0
    with pytest.raises(ContractError, match="no frames"):
        empty.describe()
    with pytest.raises(ContractError, match="no frames"):
        _ = sum_calibrations([]).mce


@pytest.mark.parametrize(
    ("pdf_ids", "message"),
    [([0, 1], r"shape \(3, 3\), targets \(2,\)"), ([0, 1, 3], "0 to 3.*3 pdf-ids"), ([0, -1, 2], "from -1")],
)
def test_mismatched_targets_are_refused(pdf_ids: list[int], message: str) -> None:
    with pytest.raises(ContractError, match=f"calibration: .*{message}"):
        measure_calibration(np.zeros((3, 3)), np.array(pdf_ids))


@pytest.mark.parametrize(
    "row", [[np.nan, 0, 0], [np.inf, 0, 0], [-np.inf] * 3, [0, -np.inf, 0]], ids=["nan", "inf", "all", "one"]
)
def test_what_is_no_number_is_refused(row: list[float]) -> None:
    with pytest.raises(ContractError, match="of 1 frames the log posteriors"):
        measure_calibration(np.array([[0.0, 1.0, 2.0], row]), np.array([0, 1]))
