"""Gaussian mixtures against torch.distributions, scipy and plain loops."""

from pathlib import Path

import numpy as np
import scipy.stats
import torch
from safetensors.torch import load_file

from asrdistill.hmm.gmm import VARIANCE_FLOOR, DiagonalGmm, GmmStatistics, grow_mixtures

NUM_PDFS, NUM_PLACES, DIMENSION = 3, 4, 5


def make_gmm(seed: int = 0) -> DiagonalGmm:
    """Random mixtures; the second pdf-id uses two of its four places."""
    generator = torch.Generator().manual_seed(seed)
    shape = (NUM_PDFS, NUM_PLACES, DIMENSION)
    weights = torch.rand(shape[:2], generator=generator) + 0.1
    weights[1, 2:] = 0
    weights /= weights.sum(1, keepdim=True)
    return DiagonalGmm(
        weights.log(),
        2 * torch.randn(shape, generator=generator),
        torch.rand(shape, generator=generator) + 0.3,
        1000 * weights,
    )


def draw_frames(gmm: DiagonalGmm, num_frames: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of random pdf-ids, drawn from the mixtures."""
    rng = np.random.default_rng(seed)
    pdf_ids = rng.integers(0, NUM_PDFS, num_frames)
    places = [rng.choice(NUM_PLACES, p=w / w.sum()) for w in gmm.log_weights.double().exp().numpy()[pdf_ids]]
    means, deviations = gmm.means.numpy()[pdf_ids, places], gmm.variances.numpy()[pdf_ids, places] ** 0.5
    frames = (means + deviations * rng.normal(size=means.shape)).astype(np.float32)
    return torch.from_numpy(frames), torch.from_numpy(pdf_ids)


def log_likelihood_of(gmm: DiagonalGmm, frames: torch.Tensor, pdf_ids: torch.Tensor) -> float:
    return float(gmm.log_likelihoods(frames).gather(1, pdf_ids[:, None]).double().mean())


def test_log_likelihoods_equal_torch_distributions() -> None:
    gmm = make_gmm()
    frames, _ = draw_frames(gmm, 50)
    found = gmm.log_likelihoods(frames)
    for pdf_id in range(NUM_PDFS):
        used = gmm.log_weights[pdf_id] > -torch.inf
        mixture = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(logits=gmm.log_weights[pdf_id, used]),
            torch.distributions.Independent(
                torch.distributions.Normal(gmm.means[pdf_id, used], gmm.variances[pdf_id, used].sqrt()), 1
            ),
        )
        torch.testing.assert_close(found[:, pdf_id], mixture.log_prob(frames), atol=1e-3, rtol=1e-4)


def test_log_likelihoods_of_one_gaussian_equal_scipy() -> None:
    mean, variance = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    gmm = DiagonalGmm.flat(2, mean, variance)
    frames = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    expected = scipy.stats.multivariate_normal(mean.numpy(), np.diag(variance.numpy())).logpdf(frames.numpy())
    for pdf_id in range(2):
        np.testing.assert_allclose(gmm.log_likelihoods(frames)[:, pdf_id], expected, rtol=1e-5, atol=1e-5)
    assert gmm.log_likelihoods(frames[:0]).shape == (0, 2)


def test_statistics_equal_a_loop_over_frames() -> None:
    gmm = make_gmm()
    frames, pdf_ids = draw_frames(gmm, 300)
    occupancies = np.zeros((NUM_PDFS, NUM_PLACES))
    totals, squares = np.zeros((2, NUM_PDFS, NUM_PLACES, DIMENSION))
    for frame, p in zip(frames.numpy().astype(np.float64), pdf_ids.tolist(), strict=True):
        deviations = gmm.variances[p].numpy() ** 0.5
        densities = scipy.stats.norm.pdf(frame, gmm.means[p].numpy(), deviations).prod(1)
        posteriors = gmm.log_weights[p].exp().numpy() * densities
        posteriors /= posteriors.sum()
        occupancies[p] += posteriors
        totals[p] += posteriors[:, None] * frame
        squares[p] += posteriors[:, None] * frame**2
    statistics = GmmStatistics.zeros_for(gmm)
    for part in (slice(0, 100), slice(100, 300)):
        statistics.accumulate(gmm, frames[part], pdf_ids[part])
    np.testing.assert_allclose(statistics.occupancies, occupancies, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(statistics.totals, totals, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(statistics.squares, squares, rtol=1e-3, atol=1e-2)


def test_one_gaussian_becomes_mean_and_variance_of_its_frames() -> None:
    frames, pdf_ids = draw_frames(make_gmm(), 600)
    flat = DiagonalGmm.flat(NUM_PDFS + 1, frames.mean(0), frames.var(0))
    statistics = GmmStatistics.zeros_for(flat)
    statistics.accumulate(flat, frames, pdf_ids)
    gmm = statistics.estimate(flat)
    for pdf_id in range(NUM_PDFS):
        own = frames[pdf_ids == pdf_id]
        torch.testing.assert_close(gmm.means[pdf_id, 0], own.mean(0), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(gmm.variances[pdf_id, 0], own.var(0, correction=0), atol=1e-3, rtol=1e-4)
        assert gmm.occupancies[pdf_id].sum() == len(own)
    # The last pdf-id, which no frame was aligned to, keeps what it had.
    torch.testing.assert_close(gmm.means[NUM_PDFS], flat.means[NUM_PDFS])
    torch.testing.assert_close(gmm.variances[NUM_PDFS], flat.variances[NUM_PDFS])
    torch.testing.assert_close(gmm.log_weights.logsumexp(1), torch.zeros(NUM_PDFS + 1))


def test_reestimation_never_lowers_the_likelihood() -> None:
    frames, pdf_ids = draw_frames(make_gmm(), 6000)
    gmm = make_gmm(seed=7)
    curve = [log_likelihood_of(gmm, frames, pdf_ids)]
    for _ in range(12):
        statistics = GmmStatistics.zeros_for(gmm)
        statistics.accumulate(gmm, frames, pdf_ids)
        gmm = statistics.estimate(gmm)
        curve.append(log_likelihood_of(gmm, frames, pdf_ids))
    assert np.diff(curve).min() > -1e-5
    assert curve[-1] > curve[0] + 0.5
    # No better than what the frames were drawn from, but for what a finite sample lets one overfit.
    assert curve[-1] < log_likelihood_of(make_gmm(), frames, pdf_ids) + 0.05


def test_a_component_with_too_few_frames_goes() -> None:
    gmm = make_gmm()
    statistics = GmmStatistics.zeros_for(gmm)
    statistics.occupancies += torch.tensor([100.0, 3.0, 50.0, 0.0])
    statistics.occupancies[2] = torch.tensor([5.0, 1.0, 2.0, 0.0])
    statistics.squares += 1000
    estimated = statistics.estimate(gmm)
    weights = estimated.log_weights.exp()
    torch.testing.assert_close(weights[0], torch.tensor([2 / 3, 0.0, 1 / 3, 0.0]))
    torch.testing.assert_close(weights[2], torch.tensor([1.0, 0.0, 0.0, 0.0]))  # its last one stays


def test_variance_has_a_floor() -> None:
    frames = torch.full((100, 2), 4.0)
    flat = DiagonalGmm.flat(1, torch.zeros(2), torch.ones(2))
    statistics = GmmStatistics.zeros_for(flat)
    statistics.accumulate(flat, frames, torch.zeros(100, dtype=torch.long))
    torch.testing.assert_close(statistics.estimate(flat).variances, torch.full((1, 1, 2), VARIANCE_FLOOR))


def test_growing_conserves_weight_mean_and_occupancy() -> None:
    gmm = make_gmm()
    grown = grow_mixtures(gmm, 24)
    assert gmm.num_components == 10
    assert 21 <= grown.num_components <= 27
    for before, after in ((gmm, grown),):
        torch.testing.assert_close(after.log_weights.exp().sum(1), torch.ones(NUM_PDFS))
        torch.testing.assert_close(after.occupancies.sum(1), before.occupancies.sum(1))
        means = [(g.log_weights.exp()[..., None] * g.means).sum(1) for g in (before, after)]
        torch.testing.assert_close(*means, atol=1e-5, rtol=1e-5)
    # New components are apart, else estimation could never tell them from each other.
    for pdf_id in range(NUM_PDFS):
        used = grown.means[pdf_id, grown.log_weights[pdf_id] > -torch.inf]
        assert torch.pdist(used).min() > 0.01


def test_growing_gives_the_frequent_more() -> None:
    flat = DiagonalGmm.flat(3, torch.zeros(2), torch.ones(2))
    flat.occupancies = torch.tensor([[160_000.0], [10_000.0], [30.0]])
    counts = torch.isfinite(grow_mixtures(flat, 13).log_weights).sum(1).tolist()
    # 160000 ** 0.25 : 10000 ** 0.25 = 20 : 10; 30 frames are too few for two components.
    assert counts == [8, 4, 1]


def test_written_mixtures_can_be_read_by_anyone(tmp_path: Path) -> None:
    gmm = make_gmm()
    gmm.write(tmp_path / "gmm.safetensors")
    stored = load_file(tmp_path / "gmm.safetensors")
    for name, tensor in vars(gmm).items():
        assert torch.equal(stored[name], tensor), name
