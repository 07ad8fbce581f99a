"""Bias, ReLU and dropout in one pass: against torch, rate and scale, and what it must not depend on."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch

from asrdistill.nn.dropout import BLOCK, Dropout, relu_dropout

SHAPE = (3, 400, 123)  # a width that eight does not divide
WIDTHS = (1, 8, 123, BLOCK, BLOCK + 1, 2 * BLOCK + 75)
DTYPES = (torch.float32, torch.bfloat16)
SEEDS = (5, 6, 5)


def draw_values(
    dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE, seed: int = 0
) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def make_dropout(seeds: tuple[int, ...] = SEEDS, rate: float = 0.25, step: int = 7) -> Dropout:
    dropout = Dropout(rate, seeds)
    dropout.step = step
    return dropout


def apply(
    values: torch.Tensor,
    seeds: tuple[int, ...] = SEEDS,
    rate: float = 0.25,
    step: int = 7,
    layer: int = 1,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    result = values.clone()
    if bias is None:
        bias = torch.zeros(len(values), 1, values.shape[2])
    make_dropout(seeds, rate, step).bias_relu(result, bias, layer)
    return result


def find_mask(shape: tuple[int, ...], rate: float = 0.25) -> torch.Tensor:
    """Which units are kept, seen from units that ReLU keeps all."""
    return apply(torch.ones(shape), rate=rate) != 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_share_of_the_positive_is_dropped_the_rest_is_scaled(dtype: torch.dtype, rate: float) -> None:
    values = draw_values(dtype)
    found = apply(values, rate=rate)
    expected = (values.float() * (256 / (256 - round(256 * rate)))).to(dtype)
    assert found.dtype == dtype
    assert torch.equal(found[found != 0], expected[found != 0])
    assert (found[values <= 0] == 0).all()
    dropped = (found == 0)[values > 0].float()
    # Four standard deviations of a binomial, and the rate's rounding to 1/256.
    assert abs(float(dropped.mean()) - rate) < 4 * (rate * (1 - rate) / len(dropped)) ** 0.5 + 1 / 512


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_with_bias_it_is_torchs(dtype: torch.dtype, width: int) -> None:
    """A bfloat16 is rounded once, at the end, to the nearest and in ties to even, as torch does."""
    shape = (3, 21, width)
    values, bias = draw_values(dtype, shape), draw_values(shape=(3, 1, width), seed=1)
    expected = torch.relu((values.float() + bias) * (256 / 192)).to(dtype) * find_mask(shape)
    assert torch.equal(apply(values, bias=bias), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_backward_is_autograds(dtype: torch.dtype, width: int, rate: float) -> None:
    shape = (3, 21, width)
    values, bias = draw_values(dtype, shape), draw_values(shape=(3, 1, width), seed=1)
    passed_down = draw_values(dtype, shape, seed=2)
    inputs, addend = values.float().clone().requires_grad_(), bias.clone().requires_grad_()
    scale = 256 / (256 - round(256 * rate))
    outputs = torch.relu(inputs + addend) * find_mask(shape, rate) * scale
    outputs.backward(passed_down.float())
    assert inputs.grad is not None and addend.grad is not None
    dropout, gradient, bias_gradient = make_dropout(rate=rate), passed_down.clone(), torch.full_like(bias, 9)
    dropout.bias_relu_backward(gradient, apply(values, rate=rate, bias=bias), bias_gradient)
    assert torch.equal(gradient, inputs.grad.to(dtype))
    # The bias's gradient is summed in float32, before rounding.
    torch.testing.assert_close(bias_gradient, addend.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_for_autograd_it_is_a_mask_after_relu(dtype: torch.dtype, width: int) -> None:
    shape = (3, 21, width)
    values, passed_down = draw_values(dtype, shape).requires_grad_(), draw_values(dtype, shape, seed=2)
    found = relu_dropout(values, make_dropout(), 1)
    (gradient,) = torch.autograd.grad(found, values, passed_down)
    plain = values.detach().float().clone().requires_grad_()
    expected = torch.relu(plain) * find_mask(shape) * (256 / 192)
    (expected_gradient,) = torch.autograd.grad(expected, plain, passed_down.float())
    assert found.dtype == gradient.dtype == dtype
    assert torch.equal(found.detach(), expected.detach().to(dtype))
    assert torch.equal(gradient, expected_gradient.to(dtype))


def test_for_autograd_the_values_are_the_callers() -> None:
    values = draw_values()
    before = values.clone()
    relu_dropout(values, make_dropout(), 1)
    assert torch.equal(values, before)
    transposed = draw_values(shape=(3, 20, 30)).transpose(1, 2)
    expected = relu_dropout(transposed.contiguous(), make_dropout(), 1)
    assert torch.equal(relu_dropout(transposed, make_dropout(), 1), expected)


def test_for_autograd_no_dropout_is_plain_relu() -> None:
    assert torch.equal(relu_dropout(draw_values(), None, 1), torch.relu(draw_values()))


def test_scale_keeps_the_expectation() -> None:
    values = draw_values().abs()
    for rate in (0.1, 0.5, 0.75):
        assert float(apply(values, rate=rate).mean() / values.mean()) == pytest.approx(1, abs=0.03)


def test_units_and_frames_fall_independently() -> None:
    kept = (apply(torch.ones(1, 4000, 64), seeds=(1,), rate=0.5)[0] != 0).double()
    between_units = torch.corrcoef(kept.T) - torch.eye(64)
    between_frames = torch.corrcoef(kept[:200]) - torch.eye(200)
    # Five standard deviations, 1 / sqrt(number of observations).
    assert between_units.abs().max() < 5 / 4000**0.5
    assert between_frames.abs().max() < 5 / 64**0.5


def test_rate_0_is_plain_relu() -> None:
    values = draw_values()
    assert torch.equal(apply(values, rate=0.0), torch.relu(values))
    assert Dropout(0.0, SEEDS).scale == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_none(dtype: torch.dtype) -> None:
    """As with torch.relu: or training that diverged would go on unnoticed."""
    values = torch.full((1, 2, 16), float("nan"), dtype=dtype)
    assert apply(values, seeds=(1,), rate=0.0).isnan().all()


def test_a_member_alone_is_the_member_in_the_stack() -> None:
    values, bias = draw_values(), draw_values(shape=(3, 1, 123), seed=1)
    stacked = apply(values, bias=bias)
    for member, seed in enumerate(SEEDS):
        one = slice(member, member + 1)
        assert torch.equal(apply(values[one], seeds=(seed,), bias=bias[one])[0], stacked[member])


PRINT_HASH = """
import hashlib, numba, torch
from asrdistill.nn.dropout import Dropout
values = torch.randn(3, 400, 123, generator=torch.Generator().manual_seed(0))
Dropout(0.25, (5, 6, 5)).bias_relu(values, torch.zeros(3, 1, 123), 1)
print(numba.get_num_threads(), hashlib.sha256(values.numpy().tobytes()).hexdigest())
"""


def test_the_number_of_threads_does_not_matter() -> None:
    environment = {**os.environ, "NUMBA_NUM_THREADS": "3"}
    printed = subprocess.run(
        [sys.executable, "-c", PRINT_HASH], env=environment, capture_output=True, text=True, check=True
    ).stdout
    here = hashlib.sha256(apply(draw_values(), step=0).numpy().tobytes()).hexdigest()
    assert printed.split() == ["3", here]


def test_seed_step_and_layer_each_change_the_pattern() -> None:
    values = torch.ones(1, 50, 64)
    patterns = [
        apply(values, seeds=(seed,), step=step, layer=layer) != 0
        for seed in (1, 2)
        for step in (0, 1)
        for layer in (0, 1)
    ]
    for i, one in enumerate(patterns):
        for other in patterns[:i]:
            # Two independent patterns, each keeping 3/4, agree in 5/8 of the units.
            assert float((one == other).float().mean()) == pytest.approx(0.625, abs=0.05)
    again = apply(values, seeds=(1,), step=0, layer=0) != 0
    assert torch.equal(again, patterns[0])
