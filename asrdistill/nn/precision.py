"""Which number format the matrix products run in: measured, not guessed."""

import time
from typing import Literal

import torch

PrecisionChoice = Literal["auto", "fp32", "bf16"]
MIN_SPEEDUP = 1.2
# More of them take longer, and the ratio is the same.
PROBED_MEMBERS = 2
# A processor without bf16 is a hundred times slower with it: small products tell, large ones take minutes.
SMALL_SHAPE = (2, 256, 256)
HOPELESS_SPEEDUP = 0.3


def choose_dtype(choice: PrecisionChoice, num_members: int, batch_size: int, width: int) -> torch.dtype:
    """The compute type for products of this shape: bf16 where it is at least 1.2 times as fast as fp32."""
    if choice != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[choice]
    if _measure_speedup(SMALL_SHAPE) < HOPELESS_SPEEDUP:
        return torch.float32
    speedup = _measure_speedup((min(num_members, PROBED_MEMBERS), batch_size, width))
    return torch.bfloat16 if speedup >= MIN_SPEEDUP else torch.float32


def _measure_speedup(shape: tuple[int, int, int]) -> float:
    """Of bf16 over fp32."""
    return _time_product(shape, torch.float32) / _time_product(shape, torch.bfloat16)


def _time_product(shape: tuple[int, int, int], dtype: torch.dtype, repeats: int = 5) -> float:
    """Shortest time of one batched product, in seconds."""
    hidden = torch.ones(shape, dtype=dtype)
    weight = torch.ones(shape[0], shape[2], shape[2], dtype=dtype)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.bmm(hidden, weight)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
