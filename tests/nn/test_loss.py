"""The loss against torch.nn.functional and autograd."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from asrdistill.nn.frames import Batch
from asrdistill.nn.loss import LossGradient, distillation_loss, hard_cross_entropy, soft_cross_entropy
from asrdistill.nn.soft_targets import SparseRows, SparseTargets

NUM_MEMBERS, NUM_FRAMES, NUM_PDFS = 3, 7, 5
HARD_WEIGHTS = torch.tensor([1.0, 0.5, 0.1])


def draw_batch(is_soft: bool = True, num_sets: int = 1, weight_sets: int = 0) -> tuple[torch.Tensor, Batch]:
    """Logits (M, B, P) and targets: of `num_sets` members, weights of `weight_sets`; 1 for all alike."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(NUM_MEMBERS, NUM_FRAMES, NUM_PDFS, generator=generator)
    pdf_ids = torch.randint(NUM_PDFS, (num_sets, NUM_FRAMES), generator=generator)
    soft = torch.softmax(torch.randn(num_sets, NUM_FRAMES, NUM_PDFS, generator=generator), 2)
    weights = torch.randint(4, (weight_sets, NUM_FRAMES), generator=generator).float()
    return logits, Batch(
        torch.empty(0), None, pdf_ids, NUM_FRAMES, weights if weight_sets else None, soft if is_soft else None
    )


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_uniform_soft_targets_are_label_smoothing(smoothing: float) -> None:
    """At T = 1, with a hard weight of one minus the smoothing; loss and gradient are torch's."""
    logits, batch = draw_batch(is_soft=False)
    batch = replace(batch, soft_targets=torch.full((1, NUM_FRAMES, NUM_PDFS), 1 / NUM_PDFS))
    weights = torch.full((NUM_MEMBERS,), 1 - smoothing)
    written_out = LossGradient()
    losses = written_out.compute(logits.clone(), batch, weights, 1.0)
    logits.requires_grad_()
    expected = [
        functional.cross_entropy(member, batch.pdf_ids[0], label_smoothing=smoothing) for member in logits
    ]
    torch.testing.assert_close(losses, torch.stack(expected).detach())
    (gradient,) = torch.autograd.grad(sum(expected), logits)
    torch.testing.assert_close(written_out.gradient, gradient)


def draw_sparse(num_sets: int, has_rest: bool, seed: int = 3) -> SparseRows:
    """Soft targets of which each frame keeps 1 to 3 pdf-ids; without a rest one may come twice, as draws do.

    They sum to a little more than 1, or less, as those do that were rounded.
    """
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, num_sets * NUM_FRAMES)
    drawn = [rng.choice(NUM_PDFS, count, replace=not has_rest) for count in counts]
    pdf_ids = np.concatenate(drawn).astype(np.int32)
    shares = [rng.uniform(0.9, 1.1) * rng.dirichlet(np.ones(count + has_rest)) for count in counts]
    targets = SparseTargets(
        np.cumsum([0, *counts]),
        pdf_ids,
        np.concatenate([share[:count] for share, count in zip(shares, counts, strict=True)]).astype(
            np.float32
        ),
        np.array([share[-1] for share in shares], np.float32) if has_rest else None,
    )
    return targets.take(torch.arange(num_sets * NUM_FRAMES).view(num_sets, NUM_FRAMES))


def fill_in(soft: SparseRows, posteriors: torch.Tensor) -> torch.Tensor:
    """The dense soft targets, float32 (M, B, P), of which a student with these posteriors is told as much."""
    filled = torch.zeros_like(posteriors)
    for member in range(len(posteriors)):
        row = member % len(soft.pdf_ids)
        for frame in range(posteriors.shape[1]):
            kept = soft.pdf_ids[row, frame][soft.is_kept[row, frame]]
            target = posteriors[member, frame].clone()
            target[kept] = 0
            target *= 0 if soft.rest is None else soft.rest[row, frame] / target.sum()
            target.index_add_(0, kept, soft.probabilities[row, frame][soft.is_kept[row, frame]])
            filled[member, frame] = target
    return filled


def keep_frames(batch: Batch, num_frames: int) -> Batch:
    """The first frames alone."""
    weights, soft = batch.weights, batch.soft_targets
    assert not isinstance(soft, SparseRows)
    return Batch(
        batch.inputs,
        None,
        batch.pdf_ids[:, :num_frames],
        num_frames,
        None if weights is None else weights[:, :num_frames],
        None if soft is None else soft[:, :num_frames],
    )


def compute(
    logits: torch.Tensor, batch: Batch, hard_weights: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient as the training loop gets them."""
    written_out = LossGradient()
    return written_out.compute(logits.clone(), batch, hard_weights, temperature), written_out.gradient


every_target_set = pytest.mark.parametrize("num_sets", [1, NUM_MEMBERS])
every_weight_set = pytest.mark.parametrize("weight_sets", [0, 1, NUM_MEMBERS])


@every_target_set
@every_weight_set
def test_hard_loss_is_torchs_cross_entropy(num_sets: int, weight_sets: int) -> None:
    logits, batch = draw_batch(num_sets=num_sets, weight_sets=weight_sets)
    found = hard_cross_entropy(logits, batch)
    for member in range(NUM_MEMBERS):
        losses = functional.cross_entropy(logits[member], batch.pdf_ids[member % num_sets], reduction="none")
        if batch.weights is not None:
            losses *= batch.weights[member % weight_sets]
        torch.testing.assert_close(found[member], losses.sum() / NUM_FRAMES)


@every_target_set
@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
def test_soft_loss_is_torchs_cross_entropy_with_probabilities(num_sets: int, temperature: float) -> None:
    logits, batch = draw_batch(num_sets=num_sets)
    soft = batch.soft_targets
    assert isinstance(soft, torch.Tensor)
    expected = [functional.cross_entropy(logits[m] / temperature, soft[m % num_sets]) for m in range(3)]
    found = soft_cross_entropy(logits, batch, temperature)
    torch.testing.assert_close(found, temperature**2 * torch.stack(expected))


def test_soft_loss_with_one_hot_targets_is_the_hard_loss() -> None:
    logits, batch = draw_batch(weight_sets=3)
    batch = replace(batch, soft_targets=functional.one_hot(batch.pdf_ids, NUM_PDFS).float())
    torch.testing.assert_close(soft_cross_entropy(logits, batch, 1.0), hard_cross_entropy(logits, batch))


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_the_mixture_is_the_weighted_sum(temperature: float) -> None:
    logits, batch = draw_batch()
    soft = batch.soft_targets
    assert isinstance(soft, torch.Tensor)
    for member, weight in enumerate(HARD_WEIGHTS):
        hard = functional.cross_entropy(logits[member], batch.pdf_ids[0])
        divergence = functional.kl_div(
            functional.log_softmax(logits[member] / temperature, 1), soft[0], reduction="batchmean"
        )
        entropy = torch.special.entr(soft[0]).sum(1).mean()
        expected = weight * hard + (1 - weight) * temperature**2 * (divergence + entropy)
        found = distillation_loss(logits, batch, HARD_WEIGHTS, temperature)[member]
        torch.testing.assert_close(found, expected)


@every_target_set
@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_frame_without_hard_target_has_the_soft_term_alone(num_sets: int, is_sparse: bool) -> None:
    """Against torch's cross-entropies, of which the hard one leaves such frames out."""
    logits, batch = draw_batch(num_sets=num_sets)
    if is_sparse:
        batch = replace(batch, soft_targets=draw_sparse(num_sets, False))
    batch.pdf_ids[:, ::3] = -1
    dense = batch.soft_targets
    if isinstance(dense, SparseRows):
        dense = fill_in(dense, torch.softmax(logits / 2, 2))
    assert dense is not None
    logits.requires_grad_()
    losses = []
    for member, weight in enumerate(HARD_WEIGHTS):
        pdf_ids, soft = batch.pdf_ids[member % num_sets], dense[member % len(dense)]
        hard = functional.cross_entropy(logits[member], pdf_ids, reduction="sum", ignore_index=-1)
        told = functional.cross_entropy(logits[member] / 2, soft, reduction="sum")
        losses.append((weight * hard + (1 - weight) * 4 * told) / NUM_FRAMES)
    expected = torch.stack(losses)
    expected.sum().backward()
    torch.testing.assert_close(
        distillation_loss(logits.detach(), batch, HARD_WEIGHTS, 2.0), expected.detach()
    )
    loss, gradient = compute(logits.detach(), batch, HARD_WEIGHTS, 2.0)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, logits.grad)


def test_without_soft_targets_only_the_hard_ones_count() -> None:
    logits, batch = draw_batch(is_soft=False)
    found = distillation_loss(logits, batch, HARD_WEIGHTS, 5.0)
    assert torch.equal(found, hard_cross_entropy(logits, batch))


@every_target_set
@every_weight_set
@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("kind", ["hard", "soft", "corrected"])
def test_gradient_is_autograds(num_sets: int, weight_sets: int, temperature: float, kind: str) -> None:
    logits, batch = draw_batch(kind != "hard", num_sets, weight_sets)
    if kind == "corrected":  # less than nothing here and there, and another sum than 1
        assert batch.soft_targets is not None
        signs = torch.tensor([-1, 0, 1, 0, -1, -1, 0])[:, None] * torch.tensor([1, 0, 0, 1, 0])
        batch = replace(batch, soft_targets=batch.soft_targets + 0.3 * signs)
    logits.requires_grad_()
    expected = distillation_loss(logits, batch, HARD_WEIGHTS, temperature)
    expected.sum().backward()
    loss, gradient = compute(logits.detach(), batch, HARD_WEIGHTS, temperature)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, logits.grad)


@every_target_set
@every_weight_set
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("has_rest", [False, True])
def test_gradient_of_sparse_targets_is_that_of_dense_ones(
    num_sets: int, weight_sets: int, temperature: float, has_rest: bool
) -> None:
    """Those in which the rest is divided as the student divides it; and autograd's of the same loss."""
    logits, batch = draw_batch(False, num_sets, weight_sets)
    sparse = replace(batch, soft_targets=draw_sparse(num_sets, has_rest))
    assert isinstance(sparse.soft_targets, SparseRows)
    filled = fill_in(sparse.soft_targets, torch.softmax(logits / temperature, 2))
    dense = replace(batch, soft_targets=filled)
    _, expected = compute(logits, dense, HARD_WEIGHTS, temperature)
    loss, gradient = compute(logits, sparse, HARD_WEIGHTS, temperature)
    torch.testing.assert_close(gradient, expected)
    logits.requires_grad_()
    of_autograd = distillation_loss(logits, sparse, HARD_WEIGHTS, temperature)
    of_autograd.sum().backward()
    torch.testing.assert_close(loss, of_autograd.detach())
    torch.testing.assert_close(gradient, logits.grad)


def test_sparse_targets_that_keep_everything_are_dense_ones() -> None:
    logits, batch = draw_batch()
    assert isinstance(batch.soft_targets, torch.Tensor)
    probabilities = batch.soft_targets[0].numpy()
    targets = SparseTargets(
        NUM_PDFS * np.arange(NUM_FRAMES + 1),
        np.tile(np.arange(NUM_PDFS, dtype=np.int32), NUM_FRAMES),
        probabilities.ravel(),
        np.zeros(NUM_FRAMES, np.float32),
    )
    sparse = replace(batch, soft_targets=targets.take(torch.arange(NUM_FRAMES)[None]))
    for one, other in zip(
        compute(logits, sparse, HARD_WEIGHTS, 2.0), compute(logits, batch, HARD_WEIGHTS, 2.0), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_rest_that_the_student_leaves_nothing_for_is_no_infinity() -> None:
    logits, batch = draw_batch(False)
    logits[:, :, 0] = 500
    targets = SparseTargets(
        np.arange(NUM_FRAMES + 1),
        np.zeros(NUM_FRAMES, np.int32),
        np.full(NUM_FRAMES, np.float32(0.5)),
        np.full(NUM_FRAMES, np.float32(0.5)),
    )
    batch = replace(batch, soft_targets=targets.take(torch.arange(NUM_FRAMES)[None]))
    for found in compute(logits, batch, torch.zeros(NUM_MEMBERS), 1.0):
        assert found.isfinite().all()


def test_buffers_keep_nothing_of_the_batch_before() -> None:
    """Hard alone, soft, weighted, hard alone again, fewer frames and more again, in the same buffers."""
    written_out = LossGradient()
    kinds = [(False, 1, 0), (True, 3, 0), (True, 1, 3), (False, 3, 1), (True, 1, 0), (True, 3, 0)]
    for (is_soft, num_sets, weight_sets), num_frames in zip(kinds, (5, 5, 5, 5, 2, 7), strict=True):
        logits, batch = draw_batch(is_soft, num_sets, weight_sets)
        logits, batch = logits[:, :num_frames], keep_frames(batch, num_frames)
        loss = written_out.compute(logits.clone(), batch, HARD_WEIGHTS, 2.0)
        expected_loss, expected_gradient = compute(logits, batch, HARD_WEIGHTS, 2.0)
        assert torch.equal(loss, expected_loss)
        assert torch.equal(written_out.gradient, expected_gradient)


@pytest.mark.parametrize("is_soft", [False, True])
def test_a_weight_says_how_often_a_frame_counts(is_soft: bool) -> None:
    """Weights 0, 1, 2, ... give the sum over frames that are there 0, 1, 2, ... times."""
    logits, batch = draw_batch(is_soft, weight_sets=1)
    weights = torch.arange(NUM_FRAMES)
    batch = replace(batch, weights=weights[None].float())
    soft = None if batch.soft_targets is None else batch.soft_targets.repeat_interleave(weights, 1)
    repeated = Batch(
        batch.inputs, None, batch.pdf_ids.repeat_interleave(weights, 1), NUM_FRAMES, soft_targets=soft
    )
    found = distillation_loss(logits, batch, HARD_WEIGHTS, 2.0)
    expected = distillation_loss(logits.repeat_interleave(weights, 1), repeated, HARD_WEIGHTS, 2.0)
    torch.testing.assert_close(found, expected)
    loss, gradient = compute(logits, batch, HARD_WEIGHTS, 2.0)
    torch.testing.assert_close(loss, expected)
    assert (gradient[:, 0] == 0).all()


def test_temperature_keeps_the_scale_of_the_soft_gradient() -> None:
    """Hinton et al. (2015), equation 4: for high T the gradient tends to that of matching the logits."""
    logits, batch = draw_batch()
    teacher = 2 * torch.randn(NUM_FRAMES, NUM_PDFS, generator=torch.Generator().manual_seed(9))
    zero = torch.zeros(NUM_MEMBERS)
    difference = (logits - logits.mean(2, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = difference / (NUM_PDFS * NUM_FRAMES)

    def distance(temperature: float) -> float:
        soft = torch.softmax(teacher / temperature, 1)[None]
        _, gradient = compute(logits, replace(batch, soft_targets=soft), zero, temperature)
        return float((gradient - limit).norm() / limit.norm())

    assert distance(1) > 0.2
    assert distance(100) < 0.03
    assert distance(300) < distance(100) < distance(10)


def test_no_gradient_where_the_student_agrees() -> None:
    logits, batch = draw_batch()
    batch = replace(batch, soft_targets=torch.softmax(logits[:1] / 3, 2))
    _, gradient = compute(logits[:1], batch, torch.zeros(1), 3.0)
    assert gradient.abs().max() < 1e-7


@pytest.mark.parametrize("num_pdfs", [64, 1031])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_long_rows_have_torchs_loss_and_gradient(num_pdfs: int, temperature: float) -> None:
    """Of soft targets that do not sum to 1, in float64."""
    generator = torch.Generator().manual_seed(num_pdfs)
    logits = 4 * torch.randn(1, NUM_FRAMES, num_pdfs, generator=generator)
    soft = 1.1 * torch.softmax(2 * torch.randn(1, NUM_FRAMES, num_pdfs, generator=generator), 2)
    pdf_ids = torch.randint(num_pdfs, (1, NUM_FRAMES), generator=generator)
    batch = Batch(torch.empty(0), None, pdf_ids, NUM_FRAMES, None, soft)
    loss, gradient = compute(logits, batch, torch.tensor([0.3]), temperature)
    exact = logits[0].double().requires_grad_()
    hard = functional.cross_entropy(exact, pdf_ids[0])
    softened = functional.cross_entropy(exact / temperature, soft[0].double())
    expected = 0.3 * hard + 0.7 * temperature**2 * softened
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(loss[0].double(), expected.detach(), rtol=2e-6, atol=0)
    torch.testing.assert_close(gradient[0].double(), expected_gradient, rtol=2e-5, atol=1e-7)
