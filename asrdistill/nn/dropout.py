"""Bias, ReLU and dropout in one pass over the activations, in place, and the same way back.

A unit's fate follows from (seed of its member, step, layer, frame, unit) by a counter-based generator
(SplitMix64, Steele et al. 2014), so that a member's dropout does not depend on the stack it is in, on the
number of threads, or on a stop in between.
Written for numba because as torch operations these passes took as long as the matrix products of a
10 x (4 x 1024) model in bf16; the inner loops are kept so plain that they vectorise.
Shapes: M members, B frames, H hidden units.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba.extending import overload

BYTE_RANGE = 256
# Units that one thread sums at a time: narrower stripes of a row read memory more slowly.
BLOCK = 512
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Dropout:
    """Drops hidden units, each member by its own seed; what is kept grows by 1 / (1 - rate).

    Attributes:
        step: the optimiser step, to be set before each; part of the seed.
    """

    def __init__(self, rate: float, seeds: Sequence[int]) -> None:
        """Args:
        rate: share of units dropped, rounded to 1/256.
        seeds: one for each member.
        """
        self.threshold = np.uint8(round(rate * BYTE_RANGE))
        self.scale = np.float32(BYTE_RANGE / (BYTE_RANGE - int(self.threshold)))
        self.seeds = np.array(seeds, np.uint64)
        self.step = 0

    def bias_relu(self, values: torch.Tensor, bias: torch.Tensor, layer: int) -> None:
        """Replace values (M, B, H) by the ReLU of their sum with a bias, float32 (M, 1, H), some dropped."""
        place = np.array([self.step, layer], np.uint64)
        _bias_relu_dropout(_as_numpy(values), bias.numpy(), self.seeds, place, self.threshold, self.scale)

    def bias_relu_backward(
        self, gradient: torch.Tensor, outputs: torch.Tensor, bias_gradient: torch.Tensor
    ) -> None:
        """Turn the gradient (M, B, H) of what `bias_relu` gave into that of its sum, in place.

        Args:
            gradient: (M, B, H).
            outputs: what `bias_relu` gave.
            bias_gradient: float32 (M, 1, H), filled.
        """
        _backward(_as_numpy(gradient), _as_numpy(outputs), bias_gradient.numpy(), self.scale)


def relu_dropout(values: torch.Tensor, dropout: Dropout | None, layer: int) -> torch.Tensor:
    """ReLU with dropout for autograd: values (M, B, H), contiguous."""
    if dropout is None:
        return torch.relu(values)
    outputs: torch.Tensor = _ReluDropout.apply(values, dropout, layer)
    return outputs


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, dropout: Dropout, layer: int) -> torch.Tensor:
        outputs = values.clone(memory_format=torch.contiguous_format)
        dropout.bias_relu(outputs, torch.zeros(len(values), 1, values.shape[2]), layer)
        ctx.save_for_backward(outputs)
        ctx.scale = float(dropout.scale)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (outputs,) = ctx.saved_tensors
        return torch.where(outputs != 0, gradients[0] * ctx.scale, 0), None, None


def _as_numpy(values: torch.Tensor) -> np.ndarray:
    """The same memory as a numpy array; numpy has no bfloat16, so that comes as its bits, uint16."""
    return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()


def _as_float(value: Any) -> Any:
    """The float32 that a float32, or the bits of a bfloat16, stand for."""


def _like(value: Any, example: Any) -> Any:
    """A float32 as it is, or as the bits of the nearest bfloat16, as the example is."""


@numba.njit(cache=True, inline="always")
def _round_to_bfloat16(value: np.float32) -> np.uint16:
    bits = np.float32(value).view(np.uint32)
    to_even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.uint16((bits + to_even) >> np.uint32(16))


# numba compares the signatures with those above, annotations too; lambdas can have none on either side.
@overload(_as_float)
def _choose_as_float(value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    if isinstance(value, numba.types.Float):
        return lambda value: value
    return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)


@overload(_like)
def _choose_like(value, example):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    if isinstance(example, numba.types.Float):
        return lambda value, example: value
    return lambda value, example: _round_to_bfloat16(value)


@numba.njit(cache=True, inline="always")
def _mix(counter: np.uint64) -> np.uint64:
    counter = (counter ^ (counter >> np.uint64(30))) * _MIX_1
    counter = (counter ^ (counter >> np.uint64(27))) * _MIX_2
    return counter ^ (counter >> np.uint64(31))


@numba.njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def _bias_relu_dropout(
    values: np.ndarray,
    bias: np.ndarray,
    seeds: np.ndarray,
    place: np.ndarray,
    threshold: np.uint8,
    scale: np.float32,
) -> None:
    num_members, num_frames, width = values.shape
    num_words = (width + 7) // 8
    zero = np.float32(0)
    for row in numba.prange(num_members * num_frames):
        member, frame = row // num_frames, row % num_frames
        line, addend = values[member, frame], bias[member, 0]
        base = _mix(seeds[member] + _GOLDEN)
        base = _mix(base + (place[0] + np.uint64(1)) * _GOLDEN)
        base = _mix(base + (place[1] + np.uint64(1)) * _GOLDEN)
        base = _mix(base + np.uint64(frame + 1) * _GOLDEN)
        words = np.empty(num_words, np.uint64)
        for word in range(num_words):
            words[word] = _mix(base + np.uint64(word + 1) * _GOLDEN)
        noise = words.view(np.uint8)
        for unit in range(width):
            value = (_as_float(line[unit]) + addend[unit]) * scale
            keep = (noise[unit] >= threshold) & (not value <= zero)  # what is no number stays none
            line[unit] = _like(value if keep else zero, line[unit])


@numba.njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def _backward(
    gradient: np.ndarray, outputs: np.ndarray, bias_gradient: np.ndarray, scale: np.float32
) -> None:
    num_members, num_frames, width = gradient.shape
    num_blocks = (width + BLOCK - 1) // BLOCK
    zero = np.float32(0)
    for block in numba.prange(num_members * num_blocks):
        member, start = block // num_blocks, block % num_blocks * BLOCK
        end = min(start + BLOCK, width)
        total = np.zeros(end - start, np.float32)
        for frame in range(num_frames):
            line, output = gradient[member, frame, start:end], outputs[member, frame, start:end]
            for unit in range(end - start):
                value = _as_float(line[unit]) * scale if output[unit] != 0 else zero
                total[unit] += value
                line[unit] = _like(value, line[unit])
        bias_gradient[member, 0, start:end] = total
