"""The loss against torch.nn.functional and autograd."""

import pytest
import torch
from torch.nn import functional

from asrdistill.nn.loss import distillation_loss, hard_cross_entropy, loss_and_gradient, soft_cross_entropy

NUM_MEMBERS, NUM_FRAMES, NUM_PDFS = 3, 7, 5
HARD_WEIGHTS = torch.tensor([1.0, 0.5, 0.1])


def draw_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (M, B, P), pdf-ids (B,), soft targets (B, P)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(NUM_MEMBERS, NUM_FRAMES, NUM_PDFS, generator=generator)
    pdf_ids = torch.randint(NUM_PDFS, (NUM_FRAMES,), generator=generator)
    soft = torch.softmax(torch.randn(NUM_FRAMES, NUM_PDFS, generator=generator), 1)
    return logits, pdf_ids, soft


def test_hard_loss_is_torchs_cross_entropy() -> None:
    logits, pdf_ids, _ = draw_batch()
    expected = torch.stack([functional.cross_entropy(member, pdf_ids) for member in logits])
    torch.testing.assert_close(hard_cross_entropy(logits, pdf_ids), expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
def test_soft_loss_is_torchs_cross_entropy_with_probabilities(temperature: float) -> None:
    logits, _, soft = draw_batch()
    expected = torch.stack([functional.cross_entropy(member / temperature, soft) for member in logits])
    torch.testing.assert_close(soft_cross_entropy(logits, soft, temperature), temperature**2 * expected)


def test_soft_loss_with_one_hot_targets_is_the_hard_loss() -> None:
    logits, pdf_ids, _ = draw_batch()
    one_hot = functional.one_hot(pdf_ids, NUM_PDFS).float()
    torch.testing.assert_close(soft_cross_entropy(logits, one_hot, 1.0), hard_cross_entropy(logits, pdf_ids))


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_the_mixture_is_the_weighted_sum(temperature: float) -> None:
    logits, pdf_ids, soft = draw_batch()
    for member, weight in enumerate(HARD_WEIGHTS):
        hard = functional.cross_entropy(logits[member], pdf_ids)
        divergence = functional.kl_div(
            functional.log_softmax(logits[member] / temperature, 1), soft, reduction="batchmean"
        )
        entropy = torch.special.entr(soft).sum(1).mean()
        expected = weight * hard + (1 - weight) * temperature**2 * (divergence + entropy)
        found = distillation_loss(logits, pdf_ids, HARD_WEIGHTS, soft, temperature)[member]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("is_soft", [False, True])
def test_gradient_is_autograds(temperature: float, is_soft: bool) -> None:
    logits, pdf_ids, soft = draw_batch()
    targets = soft if is_soft else None
    logits.requires_grad_()
    expected = distillation_loss(logits, pdf_ids, HARD_WEIGHTS, targets, temperature)
    expected.sum().backward()
    before = logits.detach().clone()
    loss, gradient = loss_and_gradient(logits.detach(), pdf_ids, HARD_WEIGHTS, targets, temperature)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, logits.grad)
    assert torch.equal(logits.detach(), before), "the logits are the caller's"


def test_temperature_keeps_the_scale_of_the_soft_gradient() -> None:
    """Hinton et al. (2015), equation 4: for high T the gradient tends to that of matching the logits."""
    logits, pdf_ids, _ = draw_batch()
    teacher = 2 * torch.randn(NUM_FRAMES, NUM_PDFS, generator=torch.Generator().manual_seed(9))
    zero = torch.zeros(NUM_MEMBERS)
    difference = (logits - logits.mean(2, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = difference / (NUM_PDFS * NUM_FRAMES)

    def distance(temperature: float) -> float:
        soft = torch.softmax(teacher / temperature, 1)
        _, gradient = loss_and_gradient(logits, pdf_ids, zero, soft, temperature)
        return float((gradient - limit).norm() / limit.norm())

    assert distance(1) > 0.2
    assert distance(100) < 0.03
    assert distance(300) < distance(100) < distance(10)


def test_no_gradient_where_the_student_agrees() -> None:
    logits, pdf_ids, _ = draw_batch()
    soft = torch.softmax(logits[0] / 3, 1)
    _, gradient = loss_and_gradient(logits[:1], pdf_ids, torch.zeros(1), soft, 3.0)
    assert gradient.abs().max() < 1e-7
