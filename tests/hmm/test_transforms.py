"""LDA against scikit-learn, MLLT against known mixing matrices and the likelihood that scipy computes."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from asrdistill.hmm import transforms
from asrdistill.hmm.gmm import DiagonalGmm, accumulate, grow_mixtures
from asrdistill.hmm.transforms import accumulate_mllt, estimate_lda, estimate_mllt, transform_gmm

NUM_CLASSES, SIZE = 6, 8


def make_mixing(size: int = SIZE, seed: int = 3) -> np.ndarray:
    """A matrix far from diagonal that can be inverted."""
    return np.eye(size) + 0.5 * np.random.default_rng(seed).normal(size=(size, size))


def draw_classes(num_frames: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames of classes that differ in their means, all coefficients mixed; their classes."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, NUM_CLASSES, num_frames)
    spreads = np.linspace(2, 0.2, SIZE)
    frames = rng.normal(size=(NUM_CLASSES, SIZE))[classes] * spreads + rng.normal(size=(num_frames, SIZE))
    return (frames @ make_mixing().T + 5).astype(np.float32), classes


def covariance_within(frames: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Mean over frames of the outer product of what is left without the class's mean."""
    rests = np.concatenate([frames[classes == c] - frames[classes == c].mean(0) for c in range(NUM_CLASSES)])
    return rests.T @ rests / len(frames)


def log_likelihood_of(gmm: DiagonalGmm, frames: np.ndarray, pdf_ids: np.ndarray) -> float:
    """Mean log density of frames under the mixtures of their pdf-ids, by scipy."""
    total = 0.0
    for pdf_id in range(gmm.num_pdfs):
        own = frames[pdf_ids == pdf_id]
        scores = [
            gmm.log_weights[c] + multivariate_normal(gmm.means[c], np.diag(gmm.variances[c])).logpdf(own)
            for c in range(gmm.starts[pdf_id], gmm.starts[pdf_id + 1])
        ]
        total += logsumexp(scores, axis=0).sum()
    return total / len(frames)


def transformed_likelihood(
    gmm: DiagonalGmm, frames: np.ndarray, pdf_ids: np.ndarray, matrix: np.ndarray
) -> float:
    """Mean log density of frames when they and the mixtures are transformed."""
    log_volume = np.linalg.slogdet(matrix.astype(np.float64))[1]
    return float(log_volume) + log_likelihood_of(transform_gmm(gmm, matrix), frames @ matrix.T, pdf_ids)


def train_mixtures(frames: np.ndarray, pdf_ids: np.ndarray, num_components: int) -> DiagonalGmm:
    gmm = DiagonalGmm.of_frames(frames, pdf_ids, NUM_CLASSES)
    gmm = grow_mixtures(gmm, num_components)
    for _ in range(4):
        gmm = accumulate(gmm, frames, pdf_ids).estimate(gmm)
    return gmm


def test_lda_finds_the_directions_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, classes = draw_classes()
    dimension = NUM_CLASSES - 1
    monkeypatch.setattr(transforms, "FRAMES_A_CHUNK", 1500)
    lda = estimate_lda(frames, classes, dimension)
    assert lda.dtype == np.float32
    assert lda.shape == (dimension, SIZE)
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(np.float64(frames), classes).scalings_
    for ours, their in zip(lda, theirs.T[:dimension], strict=True):
        cosine = ours @ their / np.linalg.norm(ours) / np.linalg.norm(their)
        assert abs(cosine) == pytest.approx(1, abs=1e-5)


def test_lda_makes_the_covariance_within_classes_the_identity() -> None:
    frames, classes = draw_classes()
    for dimension in (3, SIZE):  # beyond C - 1 too
        transformed = np.float64(frames) @ estimate_lda(frames, classes, dimension).T
        np.testing.assert_allclose(covariance_within(transformed, classes), np.eye(dimension), atol=1e-4)


def test_lda_puts_the_best_direction_first_and_leaves_out_what_has_no_class() -> None:
    frames, classes = draw_classes()
    lda = estimate_lda(frames, classes, SIZE)
    means = np.stack([(np.float64(frames) @ lda.T)[classes == c].mean(0) for c in range(NUM_CLASSES)])
    assert np.all(np.diff(means.var(0)[: NUM_CLASSES - 1]) < 0)
    noise = 100 * np.random.default_rng(0).normal(size=(500, SIZE)).astype(np.float32)
    with_noise = np.concatenate([noise, frames])
    ids = np.concatenate([np.full(500, -1), classes]).astype(np.int32)
    np.testing.assert_allclose(estimate_lda(with_noise, ids, 3), lda[:3], rtol=1e-3, atol=1e-4)


def test_lda_ignores_coefficients_that_never_vary_and_classes_without_frames() -> None:
    frames, classes = draw_classes()
    lda = estimate_lda(frames, classes, 3)
    padded = np.concatenate([frames, np.full((len(frames), 1), 3, np.float32)], axis=1)
    found = estimate_lda(padded, 2 * classes, 3)
    np.testing.assert_allclose(found[:, :SIZE], lda, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_components", [NUM_CLASSES, 4 * NUM_CLASSES])
def test_mllt_raises_the_likelihood_by_what_its_objective_says(num_components: int) -> None:
    frames, pdf_ids = draw_classes()
    gmm = train_mixtures(frames, pdf_ids, num_components)
    matrix = estimate_mllt(frames, gmm, pdf_ids)
    assert matrix.dtype == np.float32
    statistics = accumulate_mllt(frames, gmm, pdf_ids)
    promised = statistics.objective(matrix) - statistics.objective(np.eye(SIZE))
    gained = transformed_likelihood(gmm, frames, pdf_ids, matrix) - log_likelihood_of(gmm, frames, pdf_ids)
    assert promised > 0.1
    if num_components == NUM_CLASSES:
        assert gained == pytest.approx(promised, abs=1e-3)
    else:  # Posteriors change, for the better (as with any EM step).
        assert gained > promised - 1e-3
    transformed = frames @ matrix.T
    again = accumulate(transform_gmm(gmm, matrix), transformed, pdf_ids).estimate(gmm)
    assert log_likelihood_of(again, transformed, pdf_ids) > log_likelihood_of(
        transform_gmm(gmm, matrix), transformed, pdf_ids
    )


def test_mllt_undoes_a_known_mixing() -> None:
    """Components of different variances are independent before mixing, so only one matrix will do."""
    rng = np.random.default_rng(1)
    deviations = rng.uniform(0.5, 2.0, (NUM_CLASSES, SIZE))
    pdf_ids = rng.integers(0, NUM_CLASSES, 40_000)
    means = rng.normal(0, 3, (NUM_CLASSES, SIZE))
    sources = means[pdf_ids] + deviations[pdf_ids] * rng.normal(size=(len(pdf_ids), SIZE))
    mixing = make_mixing()
    frames = (sources @ mixing.T).astype(np.float32)
    gmm, total = DiagonalGmm.of_frames(frames, pdf_ids, NUM_CLASSES), np.eye(SIZE, dtype=np.float32)
    gains = []
    for _ in range(30):  # variances and transform by turns
        statistics = accumulate_mllt(frames, gmm, pdf_ids)
        matrix = statistics.estimate()
        gains.append(statistics.objective(matrix) - statistics.objective(np.eye(SIZE)))
        frames, total = frames @ matrix.T, matrix @ total
        gmm = transform_gmm(gmm, matrix)
        gmm = accumulate(gmm, frames, pdf_ids).estimate(gmm)
    assert min(gains) > -1e-6
    assert gains[0] > 10 * gains[-1]
    # Each row picks one source: the product is a permutation of scaled rows, but for noise.
    picked = np.abs(total @ mixing)
    picked /= picked.max(1, keepdims=True)
    assert sorted(picked.argmax(1).tolist()) == list(range(SIZE))
    assert np.sort(picked, axis=1)[:, -2].max() < 0.1


def test_mllt_leaves_what_is_independent_alone() -> None:
    rng = np.random.default_rng(2)
    frames = (rng.normal(size=(50_000, 4)) * [1, 2, 0.5, 3]).astype(np.float32)
    pdf_ids = np.zeros(len(frames), np.int32)
    gmm = DiagonalGmm.of_frames(frames, pdf_ids, 1)
    statistics = accumulate_mllt(frames, gmm, pdf_ids)
    gain = statistics.objective(statistics.estimate()) - statistics.objective(np.eye(4))
    assert 0 <= gain < 1e-3


def test_mllt_takes_frames_evenly_and_components_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, pdf_ids = draw_classes()
    pdf_ids[::5] = -1
    gmm = train_mixtures(frames, pdf_ids, 4 * NUM_CLASSES)
    aligned = np.flatnonzero(pdf_ids >= 0)
    monkeypatch.setattr(transforms, "SCATTERS_A_BLOCK", 5)
    monkeypatch.setattr(transforms, "MLLT_FRAMES", 458)
    expected = np.zeros((SIZE, SIZE, SIZE))
    # 458 of 3200 frames, from the first to the last: every seventh.
    assert len(aligned[::7]) == 458
    for row in aligned[::7]:
        components = range(gmm.starts[pdf_ids[row]], gmm.starts[pdf_ids[row] + 1])
        scores = [
            gmm.log_weights[c]
            + multivariate_normal(gmm.means[c], np.diag(gmm.variances[c])).logpdf(frames[row])
            for c in components
        ]
        for component, posterior in zip(components, np.exp(scores - logsumexp(scores)), strict=True):
            offset = np.float64(frames[row]) - gmm.means[component]
            expected += posterior * np.outer(offset, offset) / gmm.variances[component][:, None, None]
    found = accumulate_mllt(frames, gmm, pdf_ids).covariances
    np.testing.assert_allclose(found, expected / 458, rtol=1e-3, atol=1e-4)


def test_mllt_survives_a_coefficient_that_never_varies() -> None:
    frames, pdf_ids = draw_classes()
    frames[:, 0] = 3
    gmm = DiagonalGmm.of_frames(frames, pdf_ids, NUM_CLASSES)
    assert np.isfinite(estimate_mllt(frames, gmm, pdf_ids)).all()


def test_means_are_transformed_and_nothing_else() -> None:
    frames, pdf_ids = draw_classes()
    gmm, matrix = train_mixtures(frames, pdf_ids, 12), make_mixing().astype(np.float32)
    moved = transform_gmm(gmm, matrix)
    np.testing.assert_allclose(moved.means, [matrix @ mean for mean in gmm.means], rtol=1e-4, atol=1e-4)
    for name in ("starts", "log_weights", "variances", "occupancies"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(gmm, name))
