"""Which number format the matrix products run in: measured, not guessed."""

import time
from typing import Literal

import torch

PrecisionChoice = Literal["auto", "fp32", "bf16"]
MIN_SPEEDUP = 1.2
NUM_ROUNDS = 6
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
    """Of bf16 over fp32, by the shortest times; in turn, so that what else runs meanwhile slows down both."""
    dtypes = (torch.float32, torch.bfloat16)
    seconds = [[_time_product(shape, dtype) for dtype in dtypes] for _ in range(NUM_ROUNDS)]
    fp32, bf16 = (min(times) for times in zip(*seconds, strict=True))
    return fp32 / bf16


def _time_product(shape: tuple[int, int, int], dtype: torch.dtype) -> float:
    """Time of one batched product, the second one, in seconds."""
    hidden = torch.ones(shape, dtype=dtype)
    weight = torch.ones(shape[0], shape[2], shape[2], dtype=dtype)
    torch.bmm(hidden, weight)
    start = time.perf_counter()
    torch.bmm(hidden, weight)
    return time.perf_counter() - start


def name_precision(dtype: torch.dtype) -> PrecisionChoice:
    """The choice that gives this compute type."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"
