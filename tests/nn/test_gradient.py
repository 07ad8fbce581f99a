"""The hand-written gradient against autograd through the model."""

import pytest
import torch

from asrdistill.features.context import ContextConfig
from asrdistill.nn import tdnn
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.frames import Batch
from asrdistill.nn.gradient import AutogradGradient, DnnGradient, make_gradient
from asrdistill.nn.loss import distillation_loss
from asrdistill.nn.models import build_model

CONFIG = AcousticModelConfig(num_hidden_layers=3, hidden_size=21, context=ContextConfig(past=1, future=0))
NUM_BINS, NUM_PDFS, NUM_FRAMES, NUM_MEMBERS = 3, 5, 32, 3
SEEDS = (3, 4, 5)
HARD_WEIGHTS = torch.tensor([1.0, 0.5, 0.0])
STEP = 11


def make_model() -> Dnn:
    model = Dnn(CONFIG, NUM_BINS, NUM_PDFS, NUM_MEMBERS).initialize(SEEDS)
    with torch.no_grad():
        for bias in model.biases:
            bias.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
        model.weights[-1].mul_(10)
    return model


def draw_batch(is_soft: bool = False, num_sets: int = 1, is_weighted: bool = False, seed: int = 0) -> Batch:
    """A batch for all members alike (1 set), or with frames of each member's own (3 sets)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_sets, NUM_FRAMES)
    windows = torch.randn(*shape, 2 * NUM_BINS, generator=generator).half()
    pdf_ids = torch.randint(NUM_PDFS, shape, generator=generator)
    soft = torch.softmax(torch.randn(*shape, NUM_PDFS, generator=generator), 2)
    weights = torch.randint(4, (NUM_MEMBERS, NUM_FRAMES), generator=generator).float()
    return Batch(
        windows, None, pdf_ids, NUM_FRAMES, weights if is_weighted else None, soft if is_soft else None
    )


Expected = tuple[torch.Tensor, list[torch.Tensor]]


def differentiate(model: Dnn, batch: Batch, temperature: float) -> Expected:
    """Loss and gradients by autograd through the model."""
    loss = distillation_loss(model(batch.inputs), batch, HARD_WEIGHTS, temperature)
    return loss.detach(), list(torch.autograd.grad(loss.sum(), list(model.parameters())))


def differentiate_masked(
    model: Dnn,
    batch: Batch,
    temperature: float,
    masks: list[torch.Tensor],
    dtype: torch.dtype = torch.float32,
) -> Expected:
    """The same with plain products in float32; hidden layers are multiplied by masks.

    What is kept in `dtype` is rounded to it on the way up, so that ReLU cuts the same units; not on the way
    back.
    """

    def round_to_dtype(exact: torch.Tensor) -> torch.Tensor:
        return exact + (exact.to(dtype).float() - exact).detach()

    weights = [round_to_dtype(weight) for weight in model.weights]
    hidden = round_to_dtype(batch.inputs.float())
    for weight, bias, mask in zip(weights[:-1], model.biases[:-1], masks, strict=True):
        hidden = round_to_dtype(torch.relu(round_to_dtype(hidden @ weight) + bias) * mask)
    logits = round_to_dtype(hidden @ weights[-1]) + model.biases[-1]
    loss = distillation_loss(logits, batch, HARD_WEIGHTS, temperature)
    return loss.detach(), list(torch.autograd.grad(loss.sum(), list(model.parameters())))


def find_masks(dropout: Dropout) -> list[torch.Tensor]:
    """What dropout multiplies each hidden layer by, seen from units that ReLU keeps all."""
    masks = [torch.ones(NUM_MEMBERS, NUM_FRAMES, CONFIG.hidden_size) for _ in range(3)]
    for layer, mask in enumerate(masks):
        dropout.bias_relu(mask, torch.zeros(NUM_MEMBERS, 1, CONFIG.hidden_size), layer)
    return masks


def assert_same(model: Dnn, found: torch.Tensor, expected: Expected) -> None:
    torch.testing.assert_close(found, expected[0], atol=1e-5, rtol=1e-5)
    for (name, parameter), gradient in zip(model.named_parameters(), expected[1], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4, msg=name)


def assert_near(model: Dnn, found: torch.Tensor, expected: Expected, within: float) -> None:
    """Each member's gradient of each parameter, by the length of the difference."""
    torch.testing.assert_close(found, expected[0], atol=within, rtol=within)
    for (name, parameter), gradient in zip(model.named_parameters(), expected[1], strict=True):
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        off = (parameter.grad - gradient).flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)
        assert off.max() < within, f"{name}: {off.tolist()}"


every_batch = pytest.mark.parametrize("num_sets", [1, NUM_MEMBERS])
every_weighting = pytest.mark.parametrize("is_weighted", [False, True])
every_target = pytest.mark.parametrize(("is_soft", "temperature"), [(False, 1.0), (True, 1.0), (True, 5.0)])


@every_batch
@every_weighting
@every_target
def test_without_dropout(num_sets: int, is_weighted: bool, is_soft: bool, temperature: float) -> None:
    model, batch = make_model(), draw_batch(is_soft, num_sets, is_weighted)
    expected = differentiate(model, batch, temperature)
    gradient = DnnGradient(model, NUM_FRAMES, Dropout(0.0, SEEDS))
    assert_same(model, gradient.compute(batch, HARD_WEIGHTS, temperature), expected)


@every_batch
@every_weighting
@pytest.mark.parametrize("is_soft", [False, True])
def test_with_dropout(num_sets: int, is_weighted: bool, is_soft: bool) -> None:
    model, batch = make_model(), draw_batch(is_soft, num_sets, is_weighted)
    dropout = Dropout(0.25, SEEDS)
    dropout.step = STEP
    found = DnnGradient(model, NUM_FRAMES, dropout).compute(batch, HARD_WEIGHTS, 2.0)
    masks = find_masks(dropout)
    assert all(0.2 < float((mask == 0).float().mean()) < 0.3 for mask in masks)
    assert_same(model, found, differentiate_masked(model, batch, 2.0, masks))


@every_batch
def test_what_autograd_makes_of_the_same_dropout(num_sets: int) -> None:
    """The other way to a gradient, which other architectures take."""
    by_hand, by_autograd, batch = make_model(), make_model(), draw_batch(True, num_sets, True)
    dropout = Dropout(0.25, SEEDS)
    dropout.step = STEP
    other = AutogradGradient(by_autograd, dropout)
    for _ in range(2):  # gradients are replaced, not added
        loss = other.compute(batch, HARD_WEIGHTS, 2.0)
    assert not loss.requires_grad
    expected = [
        parameter.grad.clone() for parameter in by_autograd.parameters() if parameter.grad is not None
    ]
    found = DnnGradient(by_hand, NUM_FRAMES, dropout).compute(batch, HARD_WEIGHTS, 2.0)
    assert_same(by_hand, found, (loss, expected))


def test_every_step_drops_other_units() -> None:
    model, batch, dropout = make_model(), draw_batch(), Dropout(0.25, SEEDS)
    gradient = DnnGradient(model, NUM_FRAMES, dropout)
    losses = []
    for dropout.step in (0, 1, 0):
        losses.append(gradient.compute(batch, HARD_WEIGHTS, 1.0))
    assert torch.equal(losses[0], losses[2])
    assert not torch.isclose(losses[0], losses[1]).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_replaced_not_added_whatever_came_before(dtype: torch.dtype) -> None:
    """One after the other: shared and own windows, with and without soft targets and weights."""
    model = make_model()
    model.compute_dtype = dtype
    gradient = DnnGradient(model, NUM_FRAMES, Dropout(0.0, SEEDS))
    for seed, (num_sets, is_soft, is_weighted) in enumerate(
        [
            (1, True, True),
            (3, False, False),
            (1, False, True),
            (3, True, False),
            (3, True, True),
            (1, True, False),
        ]
    ):
        batch = draw_batch(is_soft, num_sets, is_weighted, seed)
        found = gradient.compute(batch, HARD_WEIGHTS, 2.0).clone()
        fresh = model.select_members(range(NUM_MEMBERS))
        DnnGradient(fresh, NUM_FRAMES, Dropout(0.0, SEEDS)).compute(batch, HARD_WEIGHTS, 2.0)
        for parameter, expected in zip(model.parameters(), fresh.parameters(), strict=True):
            assert parameter.grad is not None and expected.grad is not None
            assert torch.equal(parameter.grad, expected.grad)
        if dtype == torch.float32:
            assert_same(model, found, differentiate(model, batch, 2.0))


@every_batch
@every_weighting
@every_target
def test_bf16_is_near_float32(num_sets: int, is_weighted: bool, is_soft: bool, temperature: float) -> None:
    """bfloat16 keeps 8 bits, 0.4%; a wrong factor or a forgotten term is off by far more."""
    model, batch = make_model(), draw_batch(is_soft, num_sets, is_weighted)
    dropout = Dropout(0.25, SEEDS)
    dropout.step = STEP
    expected = differentiate_masked(model, batch, temperature, find_masks(dropout), torch.bfloat16)
    model.compute_dtype = torch.bfloat16
    found = DnnGradient(model, NUM_FRAMES, dropout).compute(batch, HARD_WEIGHTS, temperature)
    assert_near(model, found, expected, within=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_batch
def test_weights_that_change_are_read_anew(dtype: torch.dtype, num_sets: int) -> None:
    model, batch = make_model(), draw_batch(True, num_sets)
    model.compute_dtype = dtype
    gradient = DnnGradient(model, NUM_FRAMES, Dropout(0.0, SEEDS))
    gradient.compute(batch, HARD_WEIGHTS, 2.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    found = gradient.compute(batch, HARD_WEIGHTS, 2.0)
    expected = differentiate_masked(model, batch, 2.0, find_masks(Dropout(0.0, SEEDS)), dtype)
    assert_near(model, found, expected, within=1e-4 if dtype == torch.float32 else 0.02)


def test_a_member_alone_has_the_gradient_that_it_has_in_the_stack() -> None:
    model, batch = make_model(), draw_batch(True, NUM_MEMBERS, True)
    DnnGradient(model, NUM_FRAMES, Dropout(0.25, SEEDS)).compute(batch, HARD_WEIGHTS, 2.0)
    for member, seed in enumerate(SEEDS):
        row = slice(member, member + 1)
        alone = model.select_members([member])
        assert batch.weights is not None and isinstance(batch.soft_targets, torch.Tensor)
        own = Batch(
            batch.inputs[row],
            None,
            batch.pdf_ids[row],
            NUM_FRAMES,
            batch.weights[row],
            batch.soft_targets[row],
        )
        DnnGradient(alone, NUM_FRAMES, Dropout(0.25, [seed])).compute(own, HARD_WEIGHTS[row], 2.0)
        for stacked, single in zip(model.parameters(), alone.parameters(), strict=True):
            assert stacked.grad is not None and single.grad is not None
            torch.testing.assert_close(stacked.grad[member], single.grad[0], atol=1e-7, rtol=1e-5)


def test_the_fastest_way_is_taken(utterance_model_type: type[AcousticModel]) -> None:
    dropout = Dropout(0.0, SEEDS)
    assert isinstance(make_gradient(make_model(), NUM_FRAMES, dropout), DnnGradient)
    other = utterance_model_type(CONFIG, NUM_BINS, NUM_PDFS, NUM_MEMBERS)
    assert isinstance(make_gradient(other, NUM_FRAMES, dropout), AutogradGradient)


def draw_utterances(lengths: tuple[int, ...], reach: int) -> Batch:
    """Padded utterances with soft targets; padding has weight 0."""
    generator = torch.Generator().manual_seed(sum(lengths))
    longest, shape = max(lengths), (1, len(lengths) * max(lengths))
    return Batch(
        torch.randn(len(lengths), longest + reach, NUM_BINS, generator=generator).half(),
        torch.tensor(lengths),
        torch.randint(NUM_PDFS, shape, generator=generator),
        sum(lengths),
        torch.cat([torch.arange(longest) < length for length in lengths])[None].float(),
        torch.softmax(torch.randn(*shape, NUM_PDFS, generator=generator), 2),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("architecture", ["tdnn", "conformer"])
def test_readers_of_utterances_learn_from_soft_targets(architecture: str, dtype: torch.dtype) -> None:
    """Against autograd through loss and model in float32; batches of several sizes in the same buffers."""
    config = AcousticModelConfig(architecture=architecture, num_hidden_layers=6, hidden_size=16)
    model = build_model(config, NUM_BINS, NUM_PDFS, NUM_MEMBERS).initialize(SEEDS)
    gradient = make_gradient(model, 1024, Dropout(0.0, SEEDS))
    for lengths in ((50, 41), (7,), (70, 66, 70)):
        batch = draw_utterances(lengths, model.past + model.future)
        model.compute_dtype = torch.float32
        logits = model(batch.inputs, batch.lengths)
        loss = distillation_loss(logits, batch, HARD_WEIGHTS, 2.0)
        expected = torch.autograd.grad(loss.sum(), list(model.parameters()))
        model.compute_dtype = dtype
        tolerance = 1e-5 if dtype == torch.float32 else 0.3  # of small gradients through six layers
        torch.testing.assert_close(
            gradient.compute(batch, HARD_WEIGHTS, 2.0), loss.detach(), rtol=tolerance, atol=0
        )
        for parameter, wanted in zip(model.parameters(), expected, strict=True):
            assert parameter.grad is not None
            assert (parameter.grad - wanted).norm() <= tolerance * wanted.norm() + 1e-7


def test_rows_that_fill_up_a_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AcousticModelConfig(architecture="tdnn", num_hidden_layers=6, hidden_size=16)
    model = build_model(config, NUM_BINS, NUM_PDFS, NUM_MEMBERS).initialize(SEEDS)
    model.compute_dtype = torch.bfloat16
    batch = draw_utterances((50, 41), model.past + model.future)
    found = []
    for row_step in (1, tdnn.ROW_STEP):
        monkeypatch.setattr(tdnn, "ROW_STEP", row_step)
        gradient = make_gradient(model, 1024, Dropout(0.2, SEEDS))
        loss = gradient.compute(batch, HARD_WEIGHTS, 2.0)
        found.append([loss, *(parameter.grad for parameter in model.parameters())])
    for plain, filled in zip(*found, strict=True):
        assert plain is not None and filled is not None
        assert (plain - filled).norm() <= 0.01 * plain.norm()
