"""Members trained as one stack against the same members trained one after the other."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import psutil
import torch
from corpus import NUM_BINS, NUM_PDFS, draw_frames, draw_splits
from engine import NUM_MEMBERS, Run, describe_model, plan_frames, train
from measure import Benchmark, Measurement, Setting, SkippedError

from asrdistill.nn.batches import Batches, Diversity
from asrdistill.nn.checkpoint import make_optimizer
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.frames import Batch, LabelledFrames
from asrdistill.nn.gradient import make_gradient
from asrdistill.nn.models import build_model
from asrdistill.nn.precision import choose_dtype

WIDTHS = (64, 128, 256, 512, 1024, 2560)
MEMBERS = (1, 2, 5, NUM_MEMBERS, 20)
WANTED = {64: 1.0, 128: 2.0, 256: 1.3, 512: 1.0, 1024: 1.0, 2560: 1.0}
# Narrow models are trained on small batches, and at 1024 frames all but the narrowest fill both cores alone.
BATCH_SIZES = {64: 256, 128: 256, 256: 256}
# Of the runs of ten: width -> seconds of an epoch, were there matrix products only, and repeats. The second
# of two epochs is timed: in the first a stack touches its memory for the first time, which small single
# members get from one another.
RUNS = {64: (0.25, 3), 128: (0.45, 3), 256: (0.7, 3), 512: (1.2, 3), 1024: (3.5, 2), 2560: (10, 1)}
NUM_EPOCHS = 2
# Steps are timed in turn for so long, and so often; those that take longer one at a time, and less often.
TIMED_S, STEP_LIMIT, STEP_REPEATS, FEW_REPEATS = 0.25, 40, 7, 2
# Weight, best weight, gradient and two moments in float32, two copies in bfloat16.
BYTES_A_PARAMETER = 24


def measure_runs(setting: Setting, width: int) -> Measurement:
    """One run of ten, ten runs of one, in turn."""
    setting = replace(setting, batch_size=min(setting.batch_size, BATCH_SIZES.get(width, setting.batch_size)))
    epoch_s, repeats = RUNS[width]
    num_frames, width = plan_frames(setting, width, epoch_s), setting.shrink_width(width)
    _check_memory(width, NUM_MEMBERS)
    splits = draw_splits(num_frames)

    def train_members(seeds: Sequence[int]) -> Run:
        # No checkpoints: they have a row of their own, and short runs of one member would have none.
        config = {"num_epochs": NUM_EPOCHS}
        return train(setting, width, splits, seeds, config, checkpoint_interval_s=math.inf)

    measured = Measurement()
    for _ in range(setting.limit_repeats(repeats)):
        sequential_s = sum(train_members([seed]).last_epoch_s for seed in range(NUM_MEMBERS))
        stack = train_members(range(NUM_MEMBERS))
        measured.pairs.append((sequential_s, stack.last_epoch_s))
        measured.member_frames_a_s = NUM_MEMBERS * num_frames / stack.last_epoch_s
        measured.remark = (
            f"{sequential_s:.2f} s against {stack.last_epoch_s:.2f} s, {stack.state.compute_dtype}"
        )
    return measured


class Stepper:
    """Optimiser steps of a stack, as the training loop does them."""

    def __init__(self, setting: Setting, width: int, members: int, frames: LabelledFrames) -> None:
        model = build_model(describe_model(width), NUM_BINS, NUM_PDFS, members)
        model.initialize(range(members))
        model.compute_dtype = choose_dtype("auto", members, setting.batch_size, width)
        self.dropout = Dropout(0.1, range(members))
        self.gradient = make_gradient(model, setting.batch_size, self.dropout)
        self.optimizer = make_optimizer(model)
        self.batches = Batches(frames, model, setting.batch_size, Diversity(1))
        self.endless = self._draw_batches()
        self.hard_weights = torch.ones(members)
        self.time_steps(1)  # allocates, and the optimiser its moments
        self.num_steps = min(max(int(TIMED_S / self.time_steps(1)), 1), STEP_LIMIT)

    def _draw_batches(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from self.batches.of_epoch(epoch).start_at(0)
            epoch += 1

    def time_steps(self, num_steps: int) -> float:
        """Seconds of one step, mean of several."""
        start = time.perf_counter()
        for _ in range(num_steps):
            self.dropout.step += 1
            self.gradient.compute(next(self.endless), self.hard_weights, 1.0)
            self.optimizer.step()
        return (time.perf_counter() - start) / num_steps


def measure_steps(setting: Setting, width: int, members: int) -> Measurement:
    """Steps of one member, times the members, and steps of the stack, in turn."""
    width = setting.shrink_width(width)
    _check_memory(width, members)
    frames = draw_frames(setting.round_frames(20000), 1)
    alone = Stepper(setting, width, 1, frames)
    stack = Stepper(setting, width, members, frames)
    measured = Measurement()
    repeats = STEP_REPEATS if stack.num_steps > 1 else FEW_REPEATS
    for _ in range(setting.limit_repeats(repeats)):
        alone_s, stack_s = (stepper.time_steps(stepper.num_steps) for stepper in (alone, stack))
        measured.pairs.append((members * alone_s, stack_s))
    fastest = min(stack_s for _, stack_s in measured.pairs)
    measured.member_frames_a_s = members * setting.batch_size / fastest
    measured.remark = f"{measured.member_frames_a_s:,.0f} member-frames/s"
    return measured


def _check_memory(width: int, members: int) -> None:
    one = build_model(describe_model(width), NUM_BINS, NUM_PDFS)
    needed = (members + 1) * one.num_parameters * BYTES_A_PARAMETER
    available = psutil.virtual_memory().available
    if needed > 0.9 * available:
        raise SkippedError(f"needs {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} are available")


def describe_matrix(measured: dict[str, Measurement]) -> str:
    """Ratio and member-frames/s by width and members, as far as they were measured."""
    lines = ["stacked_over_sequential (member-frames/s); rows: width, columns: members"]
    lines.append(" " * 6 + "".join(f"{members:>20}" for members in MEMBERS))
    for width in WIDTHS:
        found = (measured.get(f"stacked_over_sequential[{members}x{width}]") for members in MEMBERS)
        cells = (f"{one.ratio:.2f} ({one.member_frames_a_s:,.0f})" if one else "-" for one in found)
        lines.append(f"{width:>6}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _describe_runs(width: int) -> Benchmark:
    return Benchmark(
        f"stacked_over_sequential[{NUM_MEMBERS}x{width}]",
        f"time of training ten members of 4 x {width} one after the other, by the same loop",
        "time of training them as one stack: the second epoch, with dev evaluation",
        partial(measure_runs, width=width),
        at_least=WANTED[width],
    )


def _describe_steps(width: int, members: int) -> Benchmark:
    control = "; a control: the same measured twice, which shows how exact the others are"
    return Benchmark(
        f"stacked_over_sequential[{members}x{width}]",
        f"time of optimiser steps of one member of 4 x {width}, times {members}",
        f"time of optimiser steps of a stack of {members}{control if members == 1 else ''}",
        partial(measure_steps, width=width, members=members),
    )


BENCHMARKS = [_describe_runs(width) for width in WIDTHS] + [
    _describe_steps(width, members) for width in WIDTHS for members in MEMBERS if members != NUM_MEMBERS
]
