"""The hand-written gradient against autograd through the model."""

import pytest
import torch

from asrdistill.nn.acoustic_model import StackedAcousticModel
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.frames import Batch
from asrdistill.nn.gradient import StackedGradient
from asrdistill.nn.loss import distillation_loss

SIZES = (6, 24, 17, 24, 5)
NUM_FRAMES = 32
SEEDS = (3, 4, 5)
HARD_WEIGHTS = torch.tensor([1.0, 0.5, 0.0])
STEP = 11


def make_model() -> StackedAcousticModel:
    model = StackedAcousticModel(SIZES, len(SEEDS)).initialize(SEEDS)
    with torch.no_grad():
        for bias in model.biases:
            bias.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return model


def draw_batch(is_soft: bool) -> Batch:
    generator = torch.Generator().manual_seed(0)
    windows = torch.randn(NUM_FRAMES, SIZES[0], generator=generator).half()
    pdf_ids = torch.randint(SIZES[-1], (NUM_FRAMES,), generator=generator)
    soft = torch.softmax(torch.randn(NUM_FRAMES, SIZES[-1], generator=generator), 1)
    return Batch(windows, pdf_ids, soft if is_soft else None)


def differentiate(
    model: StackedAcousticModel, batch: Batch, temperature: float, masks: list[torch.Tensor] | None = None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients by autograd; with masks, hidden layers are multiplied by them."""
    if masks is None:
        logits = model(batch.windows)
    else:
        hidden = batch.windows.float().expand(model.num_members, -1, -1)
        for weight, bias, mask in zip(model.weights[:-1], model.biases[:-1], masks, strict=True):
            hidden = torch.relu(hidden @ weight + bias) * mask
        logits = hidden @ model.weights[-1] + model.biases[-1]
    loss = distillation_loss(logits, batch.pdf_ids, HARD_WEIGHTS, batch.soft_targets, temperature)
    return loss.detach(), list(torch.autograd.grad(loss.sum(), list(model.parameters())))


def assert_same(
    model: StackedAcousticModel, found: torch.Tensor, expected: tuple[torch.Tensor, list[torch.Tensor]]
) -> None:
    torch.testing.assert_close(found, expected[0], atol=1e-5, rtol=1e-5)
    for (name, parameter), gradient in zip(model.named_parameters(), expected[1], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("is_soft", "temperature"), [(False, 1.0), (True, 1.0), (True, 5.0)])
def test_without_dropout(is_soft: bool, temperature: float) -> None:
    model, batch = make_model(), draw_batch(is_soft)
    expected = differentiate(model, batch, temperature)
    gradient = StackedGradient(model, NUM_FRAMES, Dropout(0.0, SEEDS))
    assert_same(model, gradient.compute(batch, HARD_WEIGHTS, temperature, STEP), expected)


@pytest.mark.parametrize("is_soft", [False, True])
def test_with_dropout(is_soft: bool) -> None:
    """What was dropped is read from the layers' outputs; a unit off by ReLU has no gradient either way."""
    model, batch = make_model(), draw_batch(is_soft)
    dropout = Dropout(0.25, SEEDS)
    gradient = StackedGradient(model, NUM_FRAMES, dropout)
    found = gradient.compute(batch, HARD_WEIGHTS, 2.0, STEP)
    masks = [(output > 0) / 0.75 for output in gradient.outputs[:-1]]
    assert all(0.2 < float((mask == 0).float().mean()) < 0.9 for mask in masks)
    assert_same(model, found, differentiate(model, batch, 2.0, masks))


def test_gradients_are_replaced_not_added() -> None:
    model, batch = make_model(), draw_batch(True)
    gradient = StackedGradient(model, NUM_FRAMES, Dropout(0.0, SEEDS))
    for _ in range(2):
        found = gradient.compute(batch, HARD_WEIGHTS, 2.0, STEP)
    assert_same(model, found, differentiate(model, batch, 2.0))


def test_bf16_points_the_same_way() -> None:
    model, batch = make_model(), draw_batch(True)
    _, expected = differentiate(model, batch, 2.0)
    model.compute_dtype = torch.bfloat16
    StackedGradient(model, NUM_FRAMES, Dropout(0.0, SEEDS)).compute(batch, HARD_WEIGHTS, 2.0, STEP)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        cosine = torch.cosine_similarity(parameter.grad.flatten(), gradient.flatten(), 0)
        assert cosine > 0.999
