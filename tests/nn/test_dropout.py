"""Dropout: its rate and scale, and what it must not depend on."""

import numba
import pytest
import torch

from asrdistill.nn.dropout import Dropout

SHAPE = (3, 400, 123)  # a width that eight does not divide
SEEDS = (5, 6, 5)


def draw_values(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)


def apply(
    values: torch.Tensor, seeds: tuple[int, ...] = SEEDS, rate: float = 0.25, step: int = 7, layer: int = 1
) -> torch.Tensor:
    result = values.clone()
    Dropout(rate, seeds).apply_relu(result, step, layer)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_share_of_the_positive_is_dropped_the_rest_is_kept(dtype: torch.dtype, rate: float) -> None:
    values = draw_values(dtype)
    found = apply(values, rate=rate)
    assert torch.equal(found[found != 0], values[found != 0])
    assert (found[values <= 0] == 0).all()
    dropped = (found == 0)[values > 0].float()
    # Four standard deviations of a binomial, and the rate's rounding to 1/256.
    assert abs(float(dropped.mean()) - rate) < 4 * (rate * (1 - rate) / len(dropped)) ** 0.5 + 1 / 512


def test_scale_keeps_the_expectation() -> None:
    values = draw_values().abs()
    for rate in (0.1, 0.5, 0.75):
        kept = apply(values, rate=rate) * Dropout(rate, SEEDS).scale
        assert float(kept.mean() / values.mean()) == pytest.approx(1, abs=0.03)


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


def test_a_member_alone_is_the_member_in_the_stack() -> None:
    values = draw_values()
    stacked = apply(values)
    for member, seed in enumerate(SEEDS):
        alone = apply(values[member : member + 1], seeds=(seed,))
        assert torch.equal(alone[0], stacked[member])


def test_the_number_of_threads_does_not_matter() -> None:
    values = draw_values()
    before = numba.get_num_threads()
    found = []
    try:
        for num_threads in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(num_threads)
            found.append(apply(values))
    finally:
        numba.set_num_threads(before)
    assert torch.equal(found[0], found[-1])


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
