"""The stacked time-delay network against torch.nn.Conv1d."""

import pytest
import torch

from asrdistill.nn.architecture import AcousticModelConfig, TdnnConfig
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.tdnn import Tdnn, convolve

NUM_BINS, NUM_PDFS, SEEDS = 5, 7, (1, 2, 3)


def make_model(kernel_size: int = 3, dilations: tuple[int, ...] = (1, 2)) -> Tdnn:
    config = AcousticModelConfig(
        architecture="tdnn",
        num_hidden_layers=3,
        hidden_size=12,
        tdnn=TdnnConfig(kernel_size=kernel_size, dilations=dilations),
    )
    model = Tdnn(config, NUM_BINS, NUM_PDFS, len(SEEDS)).initialize(SEEDS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for bias in [*model.biases, model.output[1]]:
            bias.normal_(0, 0.3, generator=generator)
    return model


def build_plain_network(model: Tdnn, member: int, dilations: tuple[int, ...]) -> torch.nn.Sequential:
    """Convolutions without padding, over (S, F, T)."""
    layers: list[torch.nn.Module] = []
    for weight, bias, dilation in zip(model.weights, model.biases, dilations, strict=True):
        taps, num_inputs, size = weight.shape[1:]
        layer = torch.nn.Conv1d(num_inputs, size, taps, dilation=dilation)
        layer.load_state_dict({"weight": weight[member].permute(2, 1, 0), "bias": bias[member, 0]})
        layers += [layer, torch.nn.ReLU()]
    output = torch.nn.Conv1d(weight.shape[3], NUM_PDFS, 1)
    output_weight, output_bias = model.output
    output.load_state_dict({"weight": output_weight[member].T[..., None], "bias": output_bias[member, 0]})
    return torch.nn.Sequential(*layers, output)


def draw_inputs(num_frames: int) -> torch.Tensor:
    return torch.randn(4, num_frames, NUM_BINS, generator=torch.Generator().manual_seed(1)).half()


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("dilations", "expected"),
    [((1,), (1, 1, 1)), ((1, 3), (1, 3, 3)), ((3, 1, 2), (3, 1, 2)), ((2, 1, 4, 9), (2, 1, 4))],
)
def test_members_and_gradients_equal_those_of_plain_convolutions(
    kernel_size: int, dilations: tuple[int, ...], expected: tuple[int, ...], is_training: bool
) -> None:
    model = make_model(kernel_size, dilations)
    assert model.past + model.future == (kernel_size - 1) * sum(expected)
    assert 0 <= model.past - model.future <= 1
    inputs = draw_inputs(model.past + 9 + model.future)
    logits = model(inputs, dropout=Dropout(0, SEEDS) if is_training else None)
    assert logits.shape == (len(SEEDS), 4 * 9, NUM_PDFS)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits * weights).sum().backward()
    for member in range(len(SEEDS)):
        plain = build_plain_network(model, member, expected)
        wanted = plain(inputs.float().transpose(1, 2)).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(logits[member], wanted, atol=1e-5, rtol=1e-5)
        (wanted * weights[member]).sum().backward()
        layers = [layer for layer in plain if isinstance(layer, torch.nn.Conv1d)]
        for layer, weight, bias in zip(layers, model.weights, model.biases, strict=False):
            of_layer = layer.weight.grad.permute(2, 1, 0)
            torch.testing.assert_close(weight.grad[member], of_layer, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(bias.grad[member, 0], layer.bias.grad, atol=1e-4, rtol=1e-4)
        of_output = layers[-1].weight.grad[..., 0].T
        torch.testing.assert_close(model.output[0].grad[member], of_output, atol=1e-4, rtol=1e-4)


def test_dropout_scales_and_hides_the_same_units_on_the_way_back() -> None:
    """Against the plain operations with the masks that the layer drew: a unit that gave 0 was dropped."""
    model = make_model(dilations=(1,))
    inputs = draw_inputs(model.past + 9 + model.future)
    dropout = Dropout(0.5, SEEDS)
    logits = model(inputs, dropout=dropout)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits * weights).sum().backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    hidden = inputs.float().flatten(0, 1).expand(len(SEEDS), -1, -1)
    for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        mask = torch.ones(len(SEEDS), hidden.shape[1] - 2, 12)
        dropout.bias_relu(mask, torch.zeros(len(SEEDS), 1, 12), layer)
        assert set(mask.unique().tolist()) == {0.0, 2.0}
        hidden = convolve(hidden, weight, bias, 1).relu() * mask
    reach = model.past + model.future
    rows = torch.nn.functional.pad(hidden, (0, 0, 0, reach)).unflatten(1, (4, 9 + reach))[:, :, :9]
    wanted = torch.baddbmm(model.output[1], rows.flatten(1, 2), model.output[0])
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)
    (wanted * weights).sum().backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-4, rtol=1e-4)


def test_what_a_frame_sees() -> None:
    """Each logit depends on the frames from `past` before to `future` after it, on the outermost ones too."""
    model = make_model(dilations=(1, 2, 3))
    inputs = draw_inputs(model.past + 20 + model.future)[:1].float().requires_grad_()
    model(inputs)[0, 10].sum().backward()
    seen = inputs.grad[0].abs().sum(1).nonzero()[:, 0]
    assert (model.past, model.future) == (6, 6)
    assert (int(seen.min()), int(seen.max())) == (10, 10 + 12)


def test_only_whole_windows_are_convolved() -> None:
    frames, weight = torch.ones(2, 8, 3), torch.ones(2, 2, 3, 4)
    result = convolve(frames, weight, torch.ones(2, 1, 4), 3)
    assert torch.equal(result, torch.full((2, 5, 4), 7.0))


def test_costs_are_counted() -> None:
    model = make_model(3, (1, 2, 3))
    weights = 3 * 5 * 12 + 2 * 3 * 12 * 12 + 12 * 7
    assert model.num_parameters == weights + 3 * 12 + 7
    # The 12 frames around the utterance cost a little too.
    assert 2 * weights <= model.count_flops_a_frame() <= 1.03 * 2 * weights


def test_rows_that_fill_up_a_batch_are_not_counted() -> None:
    """A reach of 28 frames, at most, around the 500 that the costs are of: no multiple of 64."""
    config = AcousticModelConfig(architecture="tdnn", num_hidden_layers=6, hidden_size=12)
    model = Tdnn(config, 5, 7, 1)
    weights = 3 * 5 * 12 + 5 * 3 * 12 * 12 + 12 * 7
    assert 2 * weights <= model.count_flops_a_frame() <= (1 + 28 / 500) * 2 * weights
