"""The stacked model against single networks of torch.nn."""

from typing import Literal

import numpy as np
import pytest
import torch

from asrdistill.features.context import ContextConfig
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.models import build_model

CONFIG = AcousticModelConfig(num_hidden_layers=2, hidden_size=16, context=ContextConfig(past=1, future=0))
NUM_BINS, NUM_PDFS, NUM_INPUTS = 3, 5, 6
SEEDS = (1, 2, 3)


def make_dnn(num_members: int = len(SEEDS)) -> Dnn:
    return Dnn(CONFIG, NUM_BINS, NUM_PDFS, num_members)


def make_model() -> Dnn:
    model = make_dnn().initialize(SEEDS)
    with torch.no_grad():
        for bias in model.biases:
            bias.normal_(generator=torch.Generator().manual_seed(0))
        model.weights[-1].mul_(10)
    return model


def draw_windows(num_sets: int = 1, num_frames: int = 9) -> torch.Tensor:
    shape = (num_sets, num_frames, NUM_INPUTS)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).half()


def build_plain_network(model: Dnn, member: int) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for weight, bias in zip(model.weights, model.biases, strict=True):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[2])
        linear.load_state_dict({"weight": weight[member].T, "bias": bias[member, 0]})
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


@torch.no_grad()
@pytest.mark.parametrize("num_sets", [1, 3])
def test_members_equal_plain_networks(num_sets: int) -> None:
    """Whether they read the same windows or each its own."""
    model, windows = make_model(), draw_windows(num_sets)
    logits = model(windows)
    assert logits.shape == (3, 9, 5)
    for member in range(3):
        expected = build_plain_network(model, member)(windows[member % num_sets].float())
        torch.testing.assert_close(logits[member], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bf16_gives_float32_logits_nearby() -> None:
    model, windows = make_model(), draw_windows()
    exact = model(windows)
    model.compute_dtype = torch.bfloat16
    rough = model(windows)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_a_members_weights_depend_on_its_own_seed() -> None:
    stack = make_dnn().initialize(SEEDS)
    for member, seed in enumerate(SEEDS):
        alone = make_dnn(1).initialize([seed])
        for stacked, single in zip(stack.parameters(), alone.parameters(), strict=True):
            assert torch.equal(stacked[member], single[0])
    assert not torch.equal(stack.weights[0][0], stack.weights[0][1])


def test_hidden_activations_keep_their_scale() -> None:
    """He et al. (2015): with ReLU, the mean square of what enters each layer stays the same."""
    config = AcousticModelConfig(
        num_hidden_layers=3, hidden_size=400, context=ContextConfig(past=9, future=0)
    )
    model = Dnn(config, 40, 20, 1).initialize([0])
    hidden = torch.randn(200, 400, generator=torch.Generator().manual_seed(0))
    for weight in model.weights[:-1]:
        hidden = torch.relu(hidden @ weight[0].detach())
        assert 0.8 < float(hidden.square().mean()) < 1.25
    logits = hidden @ model.weights[-1][0].detach()
    assert 0 < float(logits.square().mean()) < 0.05, "every pdf-id about as likely at first"


@torch.no_grad()
def test_selected_members_are_copies() -> None:
    model = make_model()
    model.compute_dtype = torch.bfloat16
    selected = model.select_members([2, 0])
    assert selected.num_members == 2
    assert selected.compute_dtype == torch.bfloat16
    windows = torch.ones(1, 4, NUM_INPUTS)
    assert torch.equal(selected(windows), model(windows)[[2, 0]])
    selected.weights[0].zero_()
    assert model.weights[0][2].abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_in_the_compute_type_says_the_same(dtype: torch.dtype) -> None:
    model = make_model()
    model.compute_dtype = dtype
    cast = model.in_compute_dtype()
    assert {parameter.dtype for parameter in cast.parameters()} == {dtype}
    assert not any(parameter.requires_grad for parameter in cast.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    windows = draw_windows()
    assert torch.equal(cast(windows), model(windows))
    if dtype != torch.float32:  # there it is the model's own memory
        cast.weights[0].zero_()
    assert model.weights[0].abs().max() > 0


def test_logits_of_an_utterance_are_those_of_its_windows() -> None:
    model = make_model()
    frames = np.random.default_rng(0).normal(size=(7, NUM_BINS)).astype(np.float16)
    windows = np.stack([np.concatenate([frames[max(t - 1, 0)], frames[t]]) for t in range(7)])
    for given in (frames, torch.from_numpy(frames)):
        found = model.compute_logits(given)
        assert found.shape == (3, 7, NUM_PDFS)
        with torch.no_grad():
            torch.testing.assert_close(found, model(torch.from_numpy(windows)[None]), atol=1e-6, rtol=1e-6)


def test_a_model_of_utterances_gets_its_edges_repeated(utterance_model_type: type[AcousticModel]) -> None:
    config = AcousticModelConfig(num_hidden_layers=1, hidden_size=8, context=ContextConfig(past=2, future=1))
    model = utterance_model_type(config, NUM_BINS, NUM_PDFS, 2).initialize([1, 2])
    of_windows = Dnn(config, NUM_BINS, NUM_PDFS, 2)
    of_windows.load_state_dict(model.state_dict())
    for num_frames in (1, 2, 7):
        frames = np.random.default_rng(0).normal(size=(num_frames, NUM_BINS)).astype(np.float16)
        torch.testing.assert_close(
            model.compute_logits(frames), of_windows.compute_logits(frames), atol=1e-6, rtol=1e-6
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["dnn", "tdnn", "conformer"])
def test_several_utterances_are_to_a_model_what_each_is_alone(
    architecture: Literal["dnn", "tdnn", "conformer"], dtype: torch.dtype
) -> None:
    config = CONFIG.model_copy(update={"architecture": architecture})
    model = build_model(config, NUM_BINS, NUM_PDFS, len(SEEDS)).initialize(SEEDS)
    model.compute_dtype = dtype
    rng = np.random.default_rng(0)
    utterances = [rng.normal(size=(length, NUM_BINS)).astype(np.float16) for length in (30, 1, 64, 7)]
    found = model.compute_logits_of_several(utterances)
    alone = torch.cat([model.compute_logits(frames) for frames in utterances], 1)
    torch.testing.assert_close(found, alone, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=1e-4)


def test_parameters_and_operations_are_counted() -> None:
    config = AcousticModelConfig(num_hidden_layers=2, hidden_size=7, context=ContextConfig(past=1, future=2))
    products = [(12, 7), (7, 7), (7, 5)]
    model = build_model(config, 3, 5, 4)
    assert isinstance(model, Dnn)
    assert model.num_parameters == sum(a * b + b for a, b in products)
    assert 4 * model.num_parameters == sum(p.numel() for p in model.parameters())
    model.compute_dtype = torch.bfloat16
    assert model.count_flops_a_frame() == 2 * sum(a * b for a, b in products)
    assert model.compute_dtype == torch.bfloat16


def test_the_papers_model() -> None:
    """8 hidden layers of 2560 units and 14,000 tied states: the paper says about 85 million weights."""
    config = AcousticModelConfig(num_hidden_layers=8, hidden_size=2560)
    with torch.device("meta"):
        assert 80e6 < build_model(config, 40, 14_000).num_parameters < 90e6


def test_stacks_are_joined_member_after_member() -> None:
    model = make_model()
    joined = AcousticModel.join([model.select_members([2]), model.select_members([0, 1])])
    windows = draw_windows()
    torch.testing.assert_close(joined(windows), model(windows)[[2, 0, 1]])
    assert joined.num_members == 3
    odd = model.select_members([0])
    odd.compute_dtype = torch.bfloat16
    with pytest.raises(AssertionError):
        AcousticModel.join([model, odd])
