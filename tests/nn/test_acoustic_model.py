"""The stacked model against single networks of torch.nn."""

import torch

from asrdistill.features.context import ContextConfig
from asrdistill.nn.acoustic_model import AcousticModelConfig, StackedAcousticModel

SIZES = (6, 16, 12, 5)
SEEDS = (1, 2, 3)


def make_model() -> StackedAcousticModel:
    model = StackedAcousticModel(SIZES, len(SEEDS)).initialize(SEEDS)
    with torch.no_grad():
        for bias in model.biases:
            bias.normal_(generator=torch.Generator().manual_seed(0))
    return model


def build_plain_network(model: StackedAcousticModel, member: int) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for weight, bias in zip(model.weights, model.biases, strict=True):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[2])
        linear.load_state_dict({"weight": weight[member].T, "bias": bias[member, 0]})
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


@torch.no_grad()
def test_members_equal_plain_networks() -> None:
    model = make_model()
    windows = torch.randn(9, SIZES[0], generator=torch.Generator().manual_seed(1)).half()
    logits = model(windows)
    assert logits.shape == (3, 9, 5)
    for member in range(3):
        expected = build_plain_network(model, member)(windows.float())
        torch.testing.assert_close(logits[member], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bf16_gives_float32_logits_nearby() -> None:
    model = make_model()
    windows = torch.randn(9, SIZES[0], generator=torch.Generator().manual_seed(1)).half()
    exact = model(windows)
    model.compute_dtype = torch.bfloat16
    rough = model(windows)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_a_members_weights_depend_on_its_own_seed() -> None:
    stack = StackedAcousticModel(SIZES, 3).initialize(SEEDS)
    for member, seed in enumerate(SEEDS):
        alone = StackedAcousticModel(SIZES, 1).initialize([seed])
        for stacked, single in zip(stack.parameters(), alone.parameters(), strict=True):
            assert torch.equal(stacked[member], single[0])
    assert not torch.equal(stack.weights[0][0], stack.weights[0][1])


def test_hidden_activations_keep_their_scale() -> None:
    """He et al. (2015): with ReLU, the mean square of what enters each layer stays the same."""
    model = StackedAcousticModel((400, 400, 400, 400), 1).initialize([0])
    hidden = torch.randn(200, 400, generator=torch.Generator().manual_seed(0))
    for weight in model.weights[:-1]:
        hidden = torch.relu(hidden @ weight[0].detach())
        assert 0.8 < float(hidden.square().mean()) < 1.25


@torch.no_grad()
def test_selected_members_are_copies() -> None:
    model = make_model()
    model.compute_dtype = torch.bfloat16
    selected = model.select_members([2, 0])
    assert selected.num_members == 2
    assert selected.compute_dtype == torch.bfloat16
    windows = torch.ones(4, SIZES[0])
    assert torch.equal(selected(windows), model(windows)[[2, 0]])
    selected.weights[0].zero_()
    assert model.weights[0][2].abs().max() > 0


def test_parameters_are_counted() -> None:
    config = AcousticModelConfig(num_hidden_layers=2, hidden_size=7, context=ContextConfig(past=1, future=2))
    model = StackedAcousticModel(config.layer_sizes(3, 5), 1)
    assert model.num_pdfs == 5
    assert config.count_parameters(3, 5) == sum(p.numel() for p in model.parameters())


def test_the_papers_model() -> None:
    """8 hidden layers of 2560 units and 14,000 tied states: the paper says about 85 million weights."""
    config = AcousticModelConfig(num_hidden_layers=8, hidden_size=2560)
    assert 80e6 < config.count_parameters(40, 14_000) < 90e6
