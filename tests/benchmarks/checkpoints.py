"""What checkpoints cost a training run."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from corpus import draw_splits
from engine import NUM_MEMBERS, Run, Splits, plan_frames, train
from measure import Benchmark, Measurement, Setting

from asrdistill.nn import training
from asrdistill.nn.checkpoint import CheckpointWriter, TrainingState

WIDTH = 1024
EPOCH_S, NUM_EPOCHS, REPEATS = 5, 2, 2
WANTED = 1.035
# By default the first one of such a model comes after two minutes, the next ones every minute or so.
TIMES_AS_OFTEN = 8


class EagerWriter(CheckpointWriter):
    """Writes more often than by default, at once for the first time, and notes what each one costs it."""

    MAX_SHARE = TIMES_AS_OFTEN * CheckpointWriter.MAX_SHARE
    costs: list[float]

    def _is_due(self, state: TrainingState) -> bool:
        if self.cost_s is None and self.writing is None:
            self.cost_s = 0.0
        return super()._is_due(state)

    def _write(self, position: str, copying_s: float) -> float:
        cost = super()._write(position, copying_s)
        self.costs.append(cost)
        return cost


@contextmanager
def eager_writer() -> Iterator[list[float]]:
    """Let training take the eager writer; gives the cost in seconds of every checkpoint."""
    EagerWriter.costs = []
    training.CheckpointWriter = EagerWriter  # type: ignore[misc]
    try:
        yield EagerWriter.costs
    finally:
        training.CheckpointWriter = CheckpointWriter  # type: ignore[misc]


def measure(setting: Setting, width: int) -> Measurement:
    """Runs without and with many checkpoints; the difference is scaled to as many as by default."""
    splits = draw_splits(plan_frames(setting, width, EPOCH_S))
    width = setting.shrink_width(width)
    measured = Measurement()
    for _ in range(setting.limit_repeats(REPEATS)):
        without = _train(setting, width, splits, math.inf)
        with eager_writer() as costs:
            many = _train(setting, width, splits, 0.0)
        # By default, copying and writing are so large a share of the time; what training loses may differ.
        lost_share = CheckpointWriter.MAX_SHARE * (many.loop_s - without.loop_s) / sum(costs)
        measured.pairs.append((without.loop_s * (1 + lost_share), without.loop_s))
        measured.remark = (
            f"{without.loop_s:.2f} s without, {many.loop_s:.2f} s with {len(costs)} of "
            f"{sum(costs) / len(costs):.2f} s each"
        )
    return measured


def _train(setting: Setting, width: int, splits: Splits, interval_s: float) -> Run:
    config = {"num_epochs": NUM_EPOCHS}
    return train(setting, width, splits, range(NUM_MEMBERS), config, checkpoint_interval_s=interval_s)


BENCHMARKS = [
    Benchmark(
        f"checkpoint_cost[{NUM_MEMBERS}x{WIDTH}]",
        f"time of training ten members of 4 x {WIDTH} with checkpoints as often as by default; measured with "
        f"{TIMES_AS_OFTEN} times as many, and the time that they take scaled down",
        "time of the same training without",
        partial(measure, width=WIDTH),
        at_most=WANTED,
    )
]
