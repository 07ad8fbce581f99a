"""How long training waits for its batches."""

import tempfile
from functools import partial
from pathlib import Path

from corpus import draw_splits, map_from_disk
from engine import NUM_MEMBERS, plan_frames, train
from measure import Benchmark, Measurement, Setting

WIDTH = 512
EPOCH_S, NUM_POOLS, REPEATS = 8, 8, 2
WANTED = 0.02


def measure(setting: Setting, num_pools: int) -> Measurement:
    """Seconds waited for batches, over all seconds of an epoch, from a memory-mapped store."""
    train_frames, dev_frames = draw_splits(plan_frames(setting, WIDTH, EPOCH_S))
    config = {"num_epochs": 1}
    measured = Measurement()
    with tempfile.TemporaryDirectory(dir=setting.scratch_dir) as folder:
        splits = map_from_disk(train_frames, Path(folder) / "train.f16"), dev_frames
        for _ in range(setting.limit_repeats(REPEATS)):
            run = train(
                setting,
                setting.shrink_width(WIDTH),
                splits,
                range(NUM_MEMBERS),
                config,
                pool_frames=-(-len(train_frames) // num_pools),
            )
            measured.pairs.append((run.waiting_s, run.loop_s))
            measured.remark = f"{run.waiting_s:.3f} of {run.loop_s:.2f} s"
    return measured


BENCHMARKS = [
    Benchmark(
        f"waiting_for_data[{NUM_MEMBERS}x{WIDTH}{suffix}]",
        f"time that training ten members of 4 x {WIDTH} waits for batches from a memory-mapped store{how}",
        "time of the whole epoch",
        partial(measure, num_pools=num_pools),
        at_most=WANTED,
    )
    for suffix, num_pools, how in (
        ("", 1, ", shuffled as a whole"),
        (",pools", NUM_POOLS, f", shuffled in {NUM_POOLS} pools, each read while the one before is used"),
    )
]
