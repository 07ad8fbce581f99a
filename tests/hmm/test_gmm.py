"""Gaussian mixtures against scipy and plain loops."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from asrdistill.errors import ContractError
from asrdistill.hmm import gmm as gmm_module
from asrdistill.hmm.gmm import (
    MIN_OCCUPANCY,
    VARIANCE_FLOOR,
    DiagonalGmm,
    GmmStatistics,
    accumulate,
    grow_mixtures,
)

STARTS = np.array([0, 4, 6, 7])
NUM_PDFS, DIMENSION = 3, 5


def make_gmm(seed: int = 0) -> DiagonalGmm:
    """Random mixtures of 4, 2 and 1 components, of 1000 frames each."""
    rng = np.random.default_rng(seed)
    shape = (STARTS[-1], DIMENSION)
    parts = np.split(rng.uniform(0.1, 1.1, STARTS[-1]), STARTS[1:-1])
    weights = np.concatenate([part / part.sum() for part in parts])
    arrays = np.log(weights), rng.normal(0, 2, shape), rng.uniform(0.3, 1.3, shape), 1000 * weights
    return DiagonalGmm(STARTS, *(array.astype(np.float32) for array in arrays))


def components_of(gmm: DiagonalGmm, pdf_id: int) -> range:
    return range(int(gmm.starts[pdf_id]), int(gmm.starts[pdf_id + 1]))


def draw_frames(gmm: DiagonalGmm, num_frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames of random pdf-ids, drawn from the mixtures."""
    rng = np.random.default_rng(seed)
    pdf_ids = rng.integers(0, gmm.num_pdfs, num_frames).astype(np.int32)
    weights = [np.float64(np.exp(gmm.log_weights[components_of(gmm, p)])) for p in range(gmm.num_pdfs)]
    chosen = [gmm.starts[p] + rng.choice(len(weights[p]), p=weights[p] / weights[p].sum()) for p in pdf_ids]
    noise = rng.normal(size=(num_frames, gmm.means.shape[1]))
    return (gmm.means[chosen] + gmm.variances[chosen] ** 0.5 * noise).astype(np.float32), pdf_ids


def expected_scores(gmm: DiagonalGmm, frames: np.ndarray, pdf_id: int) -> np.ndarray:
    """Log weight times density of a mixture's components, by scipy: (..., components)."""
    densities = [
        multivariate_normal(gmm.means[c], np.diag(gmm.variances[c])) for c in components_of(gmm, pdf_id)
    ]
    log_densities = np.stack([density.logpdf(frames) for density in densities], axis=-1)
    return gmm.log_weights[components_of(gmm, pdf_id)] + log_densities


def log_likelihood_of(gmm: DiagonalGmm, frames: np.ndarray, pdf_ids: np.ndarray) -> float:
    return float(gmm.log_likelihoods(frames)[np.arange(len(frames)), pdf_ids].mean(dtype=np.float64))


def sum_by_pdf(gmm: DiagonalGmm, values: np.ndarray) -> np.ndarray:
    return np.stack([values[components_of(gmm, pdf_id)].sum(0) for pdf_id in range(gmm.num_pdfs)])


def test_log_likelihoods_equal_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    gmm = make_gmm()
    frames, _ = draw_frames(gmm, 50)
    expected = np.stack([logsumexp(expected_scores(gmm, frames, p), axis=1) for p in range(NUM_PDFS)], axis=1)
    found = gmm.log_likelihoods(frames)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    monkeypatch.setattr(gmm_module, "SCORES_A_CHUNK", 8 * gmm.num_components)  # the last chunk is a rest
    np.testing.assert_allclose(gmm.log_likelihoods(frames), expected, rtol=1e-5, atol=1e-4)
    assert gmm.log_likelihoods(frames[:0]).shape == (0, NUM_PDFS)


def test_coefficients_give_the_density_of_each_component() -> None:
    gmm = make_gmm()
    frames, _ = draw_frames(gmm, 20)
    constants, linear, quadratic = gmm.coefficients()
    assert {array.dtype for array in (constants, linear, quadratic)} == {np.dtype(np.float32)}
    scores = constants + frames @ linear.T + frames**2 @ quadratic.T
    for pdf_id in range(NUM_PDFS):
        expected = expected_scores(gmm, frames, pdf_id)
        np.testing.assert_allclose(scores[:, components_of(gmm, pdf_id)], expected, rtol=1e-4, atol=1e-3)


def test_statistics_equal_a_loop_over_frames() -> None:
    gmm = make_gmm()
    frames, pdf_ids = draw_frames(gmm, 300)
    pdf_ids[::7] = -1
    occupancies, totals, squares = np.zeros(7), np.zeros((7, DIMENSION)), np.zeros((7, DIMENSION))
    for frame, pdf_id in zip(np.float64(frames), pdf_ids.tolist(), strict=True):
        if pdf_id == -1:
            continue
        scores = expected_scores(gmm, frame, pdf_id)
        for component, posterior in zip(
            components_of(gmm, pdf_id), np.exp(scores - logsumexp(scores)), strict=True
        ):
            occupancies[component] += posterior
            totals[component] += posterior * frame
            squares[component] += posterior * frame**2
    statistics = accumulate(gmm, frames, pdf_ids)
    np.testing.assert_allclose(statistics.occupancies, occupancies, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics.totals, totals, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(statistics.squares, squares, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(sum_by_pdf(gmm, statistics.occupancies), np.bincount(pdf_ids[pdf_ids >= 0]))


def test_no_frames_no_statistics() -> None:
    gmm = make_gmm()
    statistics = accumulate(gmm, np.zeros((0, DIMENSION), np.float32), np.zeros(0, np.int32))
    assert not statistics.occupancies.any()
    estimated = statistics.estimate(gmm)
    for name in ("starts", "log_weights", "means", "variances"):
        np.testing.assert_array_equal(getattr(estimated, name), getattr(gmm, name))


PRINT_HASH = """
import hashlib, numba, numpy as np
from asrdistill.hmm.gmm import DiagonalGmm, accumulate, grow_mixtures
rng = np.random.default_rng(0)
frames, pdf_ids = rng.normal(size=(3000, 8)).astype(np.float32), rng.integers(-1, 9, 3000) ** 2 // 9
gmm = grow_mixtures(DiagonalGmm.of_frames(frames, pdf_ids, 9), 40)
statistics = accumulate(gmm, frames, pdf_ids)
values = b"".join(array.tobytes() for array in vars(statistics).values())
print(numba.get_num_threads(), gmm.num_components, hashlib.sha256(values).hexdigest())
"""


def test_the_number_of_threads_does_not_matter() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINT_HASH],
            env={**os.environ, "NUMBA_NUM_THREADS": num_threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for num_threads in ("1", "3")
    ]
    assert [words[0] for words in printed] == ["1", "3"]
    assert printed[0][1:] == printed[1][1:]


def test_one_gaussian_becomes_mean_and_variance_of_its_frames() -> None:
    frames, pdf_ids = draw_frames(make_gmm(), 600)
    flat = DiagonalGmm.flat(NUM_PDFS + 1, frames.mean(0), frames.var(0))
    gmm = accumulate(flat, frames, pdf_ids).estimate(flat)
    for pdf_id in range(NUM_PDFS):
        own = np.float64(frames[pdf_ids == pdf_id])
        np.testing.assert_allclose(gmm.means[pdf_id], own.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gmm.variances[pdf_id], own.var(0), rtol=1e-5)
        assert gmm.occupancies[pdf_id] == len(own)
    # The last pdf-id, which no frame was aligned to, keeps what it had.
    np.testing.assert_array_equal(gmm.means[NUM_PDFS], flat.means[NUM_PDFS])
    np.testing.assert_array_equal(gmm.variances[NUM_PDFS], flat.variances[NUM_PDFS])
    np.testing.assert_array_equal(gmm.log_weights, 0)


def test_gaussians_of_hard_labelled_frames() -> None:
    frames, pdf_ids = draw_frames(make_gmm(), 600)
    pdf_ids[pdf_ids == 2] = np.where(np.arange((pdf_ids == 2).sum()) < MIN_OCCUPANCY - 1, 2, -1)
    gmm = DiagonalGmm.of_frames(frames, pdf_ids, NUM_PDFS + 1)
    for pdf_id in range(NUM_PDFS + 1):
        # Nineteen frames, and none, are too few.
        own = np.float64(frames[pdf_ids == pdf_id] if pdf_id < 2 else frames[pdf_ids >= 0])
        np.testing.assert_allclose(gmm.means[pdf_id], own.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gmm.variances[pdf_id], own.var(0), rtol=1e-5)


def test_reestimation_never_lowers_the_likelihood() -> None:
    frames, pdf_ids = draw_frames(make_gmm(), 6000)
    gmm = make_gmm(seed=7)
    curve = [log_likelihood_of(gmm, frames, pdf_ids)]
    for _ in range(12):
        gmm = accumulate(gmm, frames, pdf_ids).estimate(gmm)
        curve.append(log_likelihood_of(gmm, frames, pdf_ids))
    assert np.diff(curve).min() > -1e-5
    assert curve[-1] > curve[0] + 0.5
    # No better than what the frames were drawn from, but for what a finite sample lets one overfit.
    assert curve[-1] < log_likelihood_of(make_gmm(), frames, pdf_ids) + 0.05


def test_a_component_with_too_few_frames_goes() -> None:
    gmm = make_gmm()
    occupancies = np.array([100.0, 3.0, 50.0, 0.0, 1.0, 5.0, 0.0])
    totals = np.repeat(10 * occupancies[:, None], DIMENSION, axis=1)
    estimated = GmmStatistics(occupancies, totals, 11 * totals).estimate(gmm)
    np.testing.assert_array_equal(estimated.starts, [0, 2, 3, 4])
    # The second pdf-id's last one stays, with fewer frames than it should have; the third was not seen.
    np.testing.assert_allclose(np.exp(estimated.log_weights), [2 / 3, 1 / 3, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(estimated.occupancies, [100, 50, 5, 0])
    np.testing.assert_allclose(estimated.means[:3], 10)
    np.testing.assert_allclose(estimated.variances[:3], 10)
    np.testing.assert_array_equal(estimated.means[3], gmm.means[6])


def test_of_equally_poor_components_the_first_stays() -> None:
    occupancies = np.array([2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 30.0])
    moments = np.ones((2, 7, DIMENSION))
    estimated = GmmStatistics(occupancies, *moments).estimate(make_gmm())
    np.testing.assert_array_equal(estimated.starts, [0, 1, 3, 4])


def test_variance_has_a_floor() -> None:
    frames = np.full((100, 2), 4.0, np.float32)
    flat = DiagonalGmm.flat(1, np.zeros(2), np.ones(2))
    estimated = accumulate(flat, frames, np.zeros(100, np.int64)).estimate(flat)
    np.testing.assert_allclose(estimated.variances, VARIANCE_FLOOR)
    np.testing.assert_allclose(DiagonalGmm.of_frames(frames, np.zeros(100, int), 2).variances, VARIANCE_FLOOR)


def test_growing_conserves_weight_mean_and_occupancy() -> None:
    gmm = make_gmm()
    grown = grow_mixtures(gmm, 24)
    assert gmm.num_components == 7
    assert 21 <= grown.num_components == grown.starts[-1] <= 27
    weights = np.exp(grown.log_weights)
    np.testing.assert_allclose(sum_by_pdf(grown, weights), 1, rtol=1e-6)
    np.testing.assert_allclose(
        sum_by_pdf(grown, grown.occupancies), sum_by_pdf(gmm, gmm.occupancies), rtol=1e-6
    )
    means = [sum_by_pdf(g, np.exp(g.log_weights)[:, None] * g.means) for g in (gmm, grown)]
    np.testing.assert_allclose(*means, rtol=1e-5, atol=1e-5)
    # New components are apart, else estimation could never tell them from each other.
    for pdf_id in range(NUM_PDFS):
        used = grown.means[components_of(grown, pdf_id)]
        distances = np.abs(used[:, None] - used).max(2) + np.eye(len(used))
        assert distances.min() > 0.01


def test_a_split_component_leaves_two_of_half_its_weight() -> None:
    one = DiagonalGmm.flat(1, np.array([1.0, 2.0]), np.array([4.0, 0.25]))
    one.occupancies[:] = 40
    two = grow_mixtures(one, 2)
    np.testing.assert_allclose(np.exp(two.log_weights), 0.5)
    np.testing.assert_allclose(np.sort(two.means, axis=0), [[0.6, 1.9], [1.4, 2.1]], rtol=1e-6)
    np.testing.assert_array_equal(two.variances, np.repeat(one.variances, 2, axis=0))
    np.testing.assert_array_equal(two.occupancies, 20)
    assert grow_mixtures(two, 4).num_components == 2  # 20 frames are too few to be halved


def test_growing_gives_the_frequent_more() -> None:
    flat = DiagonalGmm.flat(3, np.zeros(2), np.ones(2))
    flat.occupancies[:] = [160_000, 10_000, 30]
    # 160000 ** 0.25 : 10000 ** 0.25 = 20 : 10; 30 frames are too few for two components.
    np.testing.assert_array_equal(np.diff(grow_mixtures(flat, 13).starts), [8, 4, 1])


def test_growing_never_takes_away() -> None:
    gmm = make_gmm()
    for name, array in vars(grow_mixtures(gmm, 3)).items():
        np.testing.assert_array_equal(array, getattr(gmm, name), name)


def test_written_mixtures_are_read_again_and_by_anyone(tmp_path: Path) -> None:
    gmm, path = make_gmm(), tmp_path / "gmm.safetensors"
    gmm.write(path)
    again, stored = vars(DiagonalGmm.read(path)), load_file(path)
    for name, array in vars(gmm).items():
        for found in (again[name], stored[name]):
            np.testing.assert_array_equal(found, array, name)
            assert found.dtype == array.dtype
    first = hashlib.sha256(path.read_bytes()).hexdigest()
    DiagonalGmm.read(path).write(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == first


def test_what_is_no_mixture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gmm.safetensors"
    with pytest.raises(ContractError, match=r"gmm\.safetensors: not found; the align stage writes them"):
        DiagonalGmm.read(path)
    path.write_bytes(b"no mixture")
    with pytest.raises(ContractError, match="damaged or another version"):
        DiagonalGmm.read(path)
    save_file({"means": np.zeros((2, 3), np.float32)}, path)
    with pytest.raises(ContractError, match="expected the arrays starts, log_weights, means"):
        DiagonalGmm.read(path)
