"""How a student follows its ensemble, against torch and hand-worked cases."""

import json

import numpy as np
import pytest
import torch

from asrdistill.errors import ContractError
from asrdistill.hmm.topology import TiedStates
from asrdistill.scoring.calibration import BLOCK
from asrdistill.scoring.mimicry import (
    NUM_ENTROPY_BINS,
    UNKNOWN_PHONE,
    Mimicry,
    PdfPhones,
    compare_with_ensemble,
    map_pdfs_to_phones,
    sum_mimicries,
)

PHONES = PdfPhones(("SIL", "AA", "B"), np.array([0, 0, 1, 1, 1, 2, 2, 2]))
NUM_PDFS = len(PHONES.of_pdf)
MEANS = ("agreement", "kl", "entropy", "ensemble_accuracy", "student_accuracy")


def make_frames(num_frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits float32 (T, P) of ensemble and student, much alike, some sharp, some flat, and hard targets."""
    rng = np.random.default_rng(seed)
    pdf_ids = rng.integers(0, NUM_PDFS, num_frames)
    sharpness = rng.uniform(0, 5, (num_frames, 1))
    ensemble = sharpness * (rng.normal(0, 1, (num_frames, NUM_PDFS)) + np.eye(NUM_PDFS)[pdf_ids])
    student = ensemble + rng.normal(0, 0.7, ensemble.shape)
    return ensemble.astype(np.float32), student.astype(np.float32), pdf_ids


def compute_with_torch(ensemble: np.ndarray, student: np.ndarray, pdf_ids: np.ndarray) -> dict[str, float]:
    """Means over frames, in float64."""
    log_e, log_s = (torch.log_softmax(torch.from_numpy(x).double(), 1) for x in (ensemble, student))
    targets = torch.from_numpy(pdf_ids)
    kl = torch.nn.functional.kl_div(log_s, log_e, log_target=True, reduction="batchmean")
    entropy = torch.distributions.Categorical(logits=log_e).entropy()
    top_e, top_s = log_e.argmax(1), log_s.argmax(1)
    means = ((top_e == top_s), kl, entropy, (top_e == targets), (top_s == targets))
    return {name: float(mean.double().mean()) for name, mean in zip(MEANS, means, strict=True)}


def assert_is_of(row: dict, frames: np.ndarray, inputs: tuple[np.ndarray, ...]) -> None:
    """A row is of the chosen frames, bool (T,)."""
    assert row["frames"] == frames.sum()
    assert row["share"] == pytest.approx(frames.mean())
    if frames.any():
        expected = compute_with_torch(*(values[frames] for values in inputs))
        assert {name: row[name] for name in MEANS} == pytest.approx(expected, abs=2e-6)
    else:
        assert {row[name] for name in MEANS} == {None}


@pytest.mark.parametrize("num_frames", [1, BLOCK, 4 * BLOCK + 9])
def test_every_group_is_as_torch_computes_it(num_frames: int) -> None:
    inputs = make_frames(num_frames)
    described = compare_with_ensemble(*inputs, PHONES).describe()
    ensemble, student, pdf_ids = inputs
    assert_is_of(described["overall"], np.ones(num_frames, bool), inputs)
    for row in described["phones"]:
        assert_is_of(row, PHONES.of_pdf[pdf_ids] == PHONES.names.index(row["phone"]), inputs)
    assert sum(row["frames"] for row in described["phones"]) == num_frames
    log_e = torch.log_softmax(torch.from_numpy(ensemble).double(), 1)
    entropy = torch.distributions.Categorical(logits=log_e).entropy().numpy()
    edges = np.linspace(0, np.log(NUM_PDFS), NUM_ENTROPY_BINS + 1)
    for number, row in enumerate(described["entropy"]):
        assert (row["low"], row["high"]) == pytest.approx((edges[number], edges[number + 1]))
        assert_is_of(row, (entropy >= edges[number]) & (entropy < edges[number + 1]), inputs)
    for row in described["cases"]:
        ensemble_right = (ensemble.argmax(1) == pdf_ids) == row["ensemble_right"]
        assert_is_of(row, ensemble_right & ((student.argmax(1) == pdf_ids) == row["student_right"]), inputs)
    assert len({(row["ensemble_right"], row["student_right"]) for row in described["cases"]}) == 4


def test_hand_worked_frames() -> None:
    phones = PdfPhones(("A", "B"), np.array([0, 1]))
    ensemble = np.log([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]])
    student = np.log([[0.5, 0.5], [0.5, 0.5], [0.75, 0.25]])
    described = compare_with_ensemble(ensemble, student, np.array([0, 0, 0]), phones).describe()
    of_second = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    of_third = 0.25 * np.log(1 / 3) + 0.75 * np.log(3)
    assert described["overall"]["kl"] == pytest.approx((0 + of_second + of_third) / 3)
    assert described["overall"]["agreement"] == pytest.approx(2 / 3)
    assert [row["phone"] for row in described["phones"]] == ["A"]
    # An entropy of log P, and one of 0.81 of it.
    assert [row["frames"] for row in described["entropy"]] == [0] * 8 + [2, 1]
    frames = {(row["ensemble_right"], row["student_right"]): row["frames"] for row in described["cases"]}
    assert frames == {(True, True): 2, (False, True): 1, (True, False): 0, (False, False): 0}
    by_case = {row["frames"]: row["kl_share"] for row in described["cases"]}
    assert by_case[1] == pytest.approx(of_third / (of_second + of_third))


def test_identical_models_agree() -> None:
    ensemble, _, pdf_ids = make_frames(300)
    described = compare_with_ensemble(ensemble, ensemble, pdf_ids, PHONES).describe()
    for row in (described["overall"], *described["phones"]):
        assert row["agreement"] == 1 and row["kl"] == 0 and row["kl_share"] == 0
        assert row["ensemble_accuracy"] == row["student_accuracy"]
    assert [row["frames"] > 0 for row in described["cases"]] == [True, False, False, True]


def test_divergence_is_of_the_student_from_the_ensemble() -> None:
    sharp, flat = np.log([[0.98, 0.02]]), np.log([[0.5, 0.5]])
    phones = PdfPhones(("A",), np.array([0, 0]))
    one, other = (
        compare_with_ensemble(*pair, np.array([0]), phones).describe()["overall"]["kl"]
        for pair in ((sharp, flat), (flat, sharp))
    )
    assert one == pytest.approx(0.98 * np.log(1.96) + 0.02 * np.log(0.04))
    assert other == pytest.approx(0.5 * np.log(0.5 / 0.98) + 0.5 * np.log(25))


@pytest.mark.parametrize("cut", [0, 1, 100, 250])
def test_utterances_add_up(cut: int) -> None:
    inputs = make_frames(250, seed=2)
    parts = [
        compare_with_ensemble(*(values[part] for values in inputs), PHONES)
        for part in (slice(cut), slice(cut, None))
    ]
    whole = compare_with_ensemble(*inputs, PHONES)
    for total in (sum_mimicries(parts, PHONES), sum_mimicries(reversed(parts), PHONES)):
        for name in ("by_phone", "by_entropy", "by_case"):
            np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-6, err_msg=name)


def test_each_way_of_grouping_has_all_frames() -> None:
    described = compare_with_ensemble(*make_frames(400, seed=4), PHONES).describe()
    for key in ("phones", "entropy", "cases"):
        assert sum(row["frames"] for row in described[key]) == 400
        assert sum(row["kl_share"] for row in described[key]) == pytest.approx(1)
    shares = [row["kl_share"] for row in described["phones"]]
    assert shares == sorted(shares, reverse=True)
    assert json.loads(json.dumps(described)) == described


def test_joint_scores_are_normalised() -> None:
    ensemble, student, pdf_ids = make_frames(100, seed=3)
    ensemble, student = (np.round(x * 64) / 64 for x in (ensemble, student))
    shifted = compare_with_ensemble(ensemble - 1000, student + 2000, pdf_ids, PHONES)
    plain = compare_with_ensemble(ensemble, student, pdf_ids, PHONES)
    np.testing.assert_allclose(shifted.by_case, plain.by_case, rtol=1e-6)


def test_an_impossible_pdf_id_of_the_ensemble_weighs_nothing() -> None:
    phones = PdfPhones(("A",), np.zeros(3, int))
    ensemble = np.array([[0.0, 0.0, -np.inf]], np.float32)
    student = np.log(np.array([[0.25, 0.25, 0.5]], np.float32))
    overall = compare_with_ensemble(ensemble, student, np.array([0]), phones).describe()["overall"]
    assert overall["kl"] == pytest.approx(np.log(2), rel=1e-5)
    assert overall["entropy"] == pytest.approx(np.log(2), rel=1e-5)


def test_phones_of_monophones_and_of_unknown_states() -> None:
    known = map_pdfs_to_phones(TiedStates.of_monophones({"B", "AA"}))
    assert [known.names[phone] for phone in known.of_pdf] == ["SIL"] * 3 + ["AA"] * 3 + ["B"] * 3
    unknown = map_pdfs_to_phones(TiedStates.of_unknown_phones(NUM_PDFS))
    described = compare_with_ensemble(*make_frames(50), unknown).describe()
    (row,) = described["phones"]
    assert row == {"phone": UNKNOWN_PHONE, **described["overall"]}


def test_what_does_not_belong_together_is_refused() -> None:
    ensemble, student, pdf_ids = make_frames(10)
    with pytest.raises(ContractError, match=r"\(10, 8\), the student's \(9, 8\)"):
        compare_with_ensemble(ensemble, student[:9], pdf_ids, PHONES)
    with pytest.raises(ContractError, match="8 pdf-ids have a phone"):
        compare_with_ensemble(ensemble[:, :5], student[:, :5], pdf_ids, PHONES)
    with pytest.raises(ContractError, match=r"mimicry: .*targets \(9,\)"):
        compare_with_ensemble(ensemble, student, pdf_ids[:9], PHONES)
    whole = compare_with_ensemble(ensemble, student, pdf_ids, PHONES)
    other = Mimicry(("A",), NUM_PDFS, whole.by_phone[:1], whole.by_entropy, whole.by_case)
    with pytest.raises(ContractError, match="3 phones and 8 pdf-ids cannot be added to 1"):
        _ = whole + other
    with pytest.raises(ContractError, match="no frames"):
        sum_mimicries([], PHONES).describe()


@pytest.mark.parametrize("wrong", [np.nan, -np.inf])
def test_what_is_no_number_is_refused(wrong: float) -> None:
    ensemble, student, pdf_ids = make_frames(10)
    student[4, 2] = wrong
    with pytest.raises(ContractError, match="mimicry: of 1 frames"):
        compare_with_ensemble(ensemble, student, pdf_ids, PHONES)
