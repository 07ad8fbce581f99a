"""Hidden layers that models hand out: rows of the same frames as the logits', of every architecture."""

import pytest
import torch
from torch.nn import functional

from asrdistill.features.context import ContextConfig
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig, ConformerConfig, TdnnConfig
from asrdistill.nn.conformer import Conformer
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.models import ARCHITECTURES, build_model
from asrdistill.nn.tdnn import Tdnn

NUM_BINS, NUM_PDFS, SIZE, NUM_LAYERS, SEEDS = 5, 7, 12, 3, (1, 2)
LENGTHS = torch.tensor([9, 4, 1])
STEP = 1e-4
DTYPES = [torch.float32, torch.bfloat16]


def make_model(architecture: str, taps: int = 3, dilations: tuple[int, ...] = (1, 2)) -> AcousticModel:
    config = AcousticModelConfig(
        architecture=architecture,
        num_hidden_layers=NUM_LAYERS,
        hidden_size=SIZE,
        context=ContextConfig(past=2, future=1),
        tdnn=TdnnConfig(kernel_size=taps, dilations=dilations),
        conformer=ConformerConfig(num_heads=2, kernel_size=3),
    )
    model = build_model(config, NUM_BINS, NUM_PDFS, len(SEEDS)).initialize(SEEDS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or name == "output.1":
                parameter.normal_(0, 0.3, generator=generator)
    return model


def draw_inputs(model: AcousticModel) -> torch.Tensor:
    """Three utterances of up to 9 frames; of a model of windows, 27 of them."""
    generator = torch.Generator().manual_seed(1)
    if not model.reads_utterances:
        num_frames = model.past + 1 + model.future
        return torch.randn(1, 27, num_frames * NUM_BINS, generator=generator).half()
    return torch.randn(3, model.past + 9 + model.future, NUM_BINS, generator=generator).half()


def find_hidden(
    model: AcousticModel, inputs: torch.Tensor, lengths: torch.Tensor | None = None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    hidden: list[torch.Tensor] = []
    return model(inputs, lengths, None, hidden), hidden


def apply_output_layer(model: AcousticModel, rows: torch.Tensor) -> torch.Tensor:
    if isinstance(model, Conformer):
        rows = functional.layer_norm(rows, (SIZE,))
        weight, bias = model.output_weight, model.output_bias
    elif isinstance(model, Tdnn):
        weight, bias = model.output
    else:
        weight, bias = model.weights[-1], model.biases[-1]
    return rows @ weight.to(rows.dtype) + bias.to(rows.dtype)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_output_layer_makes_the_logits_of_the_last_one(architecture: str, dtype: torch.dtype) -> None:
    model = make_model(architecture)
    model.compute_dtype = dtype
    inputs = draw_inputs(model)
    logits, hidden = find_hidden(model, inputs)
    assert [(rows.shape, rows.dtype) for rows in hidden] == [((2, 27, SIZE), dtype)] * NUM_LAYERS
    assert torch.equal(logits, model(inputs))
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    found = apply_output_layer(model, hidden[-1]).float()
    torch.testing.assert_close(found, logits, atol=tolerance, rtol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("taps", [1, 2, 3, 4])
@pytest.mark.parametrize("dilations", [(1,), (3, 1, 2)])
def test_tdnn_rows_are_of_windows_around_the_frame(
    taps: int, dilations: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Each equals what a network of the layers so far makes of the window that it sees around the frame."""
    model = make_model("tdnn", taps, dilations)
    model.compute_dtype = dtype
    inputs = draw_inputs(model)
    _, hidden = find_hidden(model, inputs)
    for layer, found in enumerate(hidden):
        short = AcousticModelConfig(
            architecture="tdnn",
            num_hidden_layers=layer + 1,
            hidden_size=SIZE,
            tdnn=TdnnConfig(kernel_size=taps, dilations=model.dilations[: layer + 1]),
        )
        part = Tdnn(short, NUM_BINS, NUM_PDFS, len(SEEDS))
        part.load_state_dict({name: model.state_dict()[name] for name in part.state_dict()})
        part.compute_dtype = dtype
        for frame in range(9):
            centre = model.past + frame
            window = inputs[:, centre - part.past : centre + 1 + part.future]
            _, alone = find_hidden(part, window)
            expected = alone[-1]
            tolerance = 1e-5 if dtype == torch.float32 else 0.02
            of_frame = found.unflatten(1, (3, 9))[:, :, frame]
            torch.testing.assert_close(of_frame, expected, atol=tolerance, rtol=tolerance)


def test_a_tdnn_row_of_an_odd_number_of_taps_sees_as_much_before_as_after() -> None:
    model = make_model("tdnn", 3, (1, 2, 3))
    inputs = draw_inputs(model)[:1].float().requires_grad_()
    _, hidden = find_hidden(model, inputs)
    for reach, rows in zip((1, 3, 6), hidden, strict=True):
        (gradient,) = torch.autograd.grad(rows[:, 4].sum(), inputs, retain_graph=True)
        seen = gradient[0].abs().sum(1).nonzero()[:, 0]
        centre = model.past + 4
        assert (int(seen.min()), int(seen.max())) == (centre - reach, centre + reach)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", ["tdnn", "conformer"])
def test_what_an_utterance_is_padded_with_leaves_no_trace(architecture: str, dtype: torch.dtype) -> None:
    model = make_model(architecture)
    model.compute_dtype = dtype
    inputs = draw_inputs(model)
    _, padded = find_hidden(model, inputs, LENGTHS)
    for number, length in enumerate(LENGTHS.tolist()):
        whole = inputs[number : number + 1, : model.past + length + model.future]
        _, alone = find_hidden(model, whole, torch.tensor([length]))
        for one, other in zip(padded, alone, strict=True):
            found = one.unflatten(1, (3, 9))[:, number, :length]
            tolerance = 1e-5 if dtype == torch.float32 else 0.03
            torch.testing.assert_close(found, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rate", [None, 0.0, 0.5])
def test_gradients_flow_from_every_layer_to_those_below(architecture: str, rate: float | None) -> None:
    """Against the slope of the loss, measured; the logits' own gradient is added to it."""
    model = make_model(architecture)
    inputs, dropout = draw_inputs(model), None if rate is None else Dropout(rate, SEEDS)

    def compute_loss() -> torch.Tensor:
        hidden: list[torch.Tensor] = []
        logits = model(inputs, None, dropout, hidden)
        return sum(((n + 1) * (rows**2).mean() for n, rows in enumerate(hidden)), logits.logsumexp(2).mean())

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(compute_loss(), parameters)
    generator = torch.Generator().manual_seed(2)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator)
        losses = []
        with torch.no_grad():
            for step in (STEP, -STEP):
                parameter += step * direction
                losses.append(compute_loss().double())
                parameter -= step * direction
        slope = float(losses[0] - losses[1]) / (2 * STEP)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=0.05, abs=0.05)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_first_layer_alone_trains_nothing_above_it(architecture: str) -> None:
    model = make_model(architecture)
    hidden: list[torch.Tensor] = []
    model(draw_inputs(model), None, Dropout(0.5, SEEDS), hidden)
    gradients = torch.autograd.grad(hidden[0].sum(), list(model.parameters()), allow_unused=True)
    reached = {
        name for (name, _), g in zip(model.named_parameters(), gradients, strict=True) if g is not None
    }
    if architecture == "conformer":
        assert all(not name.startswith(("output", "blocks.1", "blocks.2")) for name in reached)
        assert {"input_weight", "blocks.0.narrow_weight"} <= reached
    else:
        assert reached == {"weights.0", "biases.0"}
