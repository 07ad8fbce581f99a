"""What a benchmark is, and how its pairs of measurements become one row of bench.json."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PEAK_PRODUCTS = 15


class SkippedError(Exception):
    """This machine cannot run the benchmark; the message says why."""


@dataclass(frozen=True)
class Setting:
    """How large the benchmarks are.

    Attributes:
        batch_size: frames of an optimiser step.
        scratch_dir: where training keeps its checkpoints and metrics: on the disk of the experiments.
        peaks: floating-point operations a second of a matrix product, by precision; bf16 is there only
            where that is the faster one.
        shrink: 1; more in a rehearsal, which shows that all benchmarks run, and whose ratios mean nothing.
    """

    batch_size: int
    scratch_dir: Path
    peaks: Mapping[str, float]
    shrink: int = 1

    def shrink_width(self, width: int) -> int:
        return max(width // self.shrink, 8)

    def round_frames(self, num_frames: int) -> int:
        """A whole number of batches, two at least: none is left out of an epoch, nor smaller than others."""
        return max(num_frames // self.shrink // self.batch_size, 2) * self.batch_size

    def limit_repeats(self, repeats: int) -> int:
        return repeats if self.shrink == 1 else 1


def require_fast_bf16(setting: Setting) -> None:
    """Go on where bf16 pays, and in a rehearsal.

    Raises:
        SkippedError: elsewhere.
    """
    if "bf16" not in setting.peaks and setting.shrink == 1:
        raise SkippedError("this processor's bf16 products are not faster than its fp32 ones")


def measure_peak(members: int, batch_size: int, width: int, precision: str) -> float:
    """Most floating-point operations a second that a batched product of this shape reached."""
    hidden = torch.randn(members, batch_size, width).to(DTYPES[precision])
    weight = torch.randn(members, width, width).to(DTYPES[precision])
    output = torch.empty_like(hidden)
    seconds = []
    for _ in range(PEAK_PRODUCTS):
        start = time.perf_counter()
        torch.bmm(hidden, weight, out=output)
        seconds.append(time.perf_counter() - start)
    return 2 * members * batch_size * width**2 / min(seconds)


@dataclass
class Measurement:
    """Pairs measured one right after the other, and what is to be told of them beside the ratio.

    Attributes:
        pairs: numerator and denominator of each repeat.
        remark: for people.
        member_frames_a_s: our speed, where a matrix of them is printed.
    """

    pairs: list[tuple[float, float]] = field(default_factory=list)
    remark: str = ""
    member_frames_a_s: float = 0.0

    @property
    def ratio(self) -> float:
        """Of the medians, so that a repeat which other programs disturbed counts little."""
        return median(a for a, _ in self.pairs) / median(b for _, b in self.pairs)

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in self.pairs]


@dataclass(frozen=True)
class Benchmark:
    """One row.

    Attributes:
        name: stable; results are compared by it.
        what: the ratio's numerator.
        against: its denominator.
        run: measures both in turn.
        at_least: the ratio that is wanted, if large ones are good.
        at_most: the ratio that is wanted, if small ones are good.
    """

    name: str
    what: str
    against: str
    run: Callable[[Setting], Measurement]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"

    def is_met(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (
            self.at_most is None or ratio <= self.at_most
        )

    def make_row(self, measured: Measurement) -> dict[str, str | float]:
        """The row as bench.json has it."""
        return {
            "name": self.name,
            "ratio": round(measured.ratio, 4),
            "what": self.what,
            "against": self.against,
            "repeats": len(measured.pairs),
            "min": round(min(measured.ratios), 4),
            "max": round(max(measured.ratios), 4),
        }
