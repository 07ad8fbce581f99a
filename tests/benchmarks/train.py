"""Speed of training against that of nothing but its matrix products."""

import time
from functools import partial

import torch
from corpus import draw_splits
from engine import NUM_MEMBERS, train
from measure import Benchmark, Measurement, Setting, SkippedError

from asrdistill.nn.precision import PrecisionChoice, choose_dtype

NUM_EPOCHS = 2
REPEATS = 2
PEAK_PRODUCTS = 15
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Width and precision -> frames of an epoch, which then takes some 10 s on two cores; and the ratio wanted.
FRAMES = {(512, "fp32"): 16384, (1024, "fp32"): 8192, (512, "bf16"): 49152, (1024, "bf16"): 20480}
WANTED = {(512, "fp32"): 0.6, (1024, "fp32"): 0.75, (512, "bf16"): 0.45, (1024, "bf16"): 0.6}


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


def measure(setting: Setting, width: int, precision: PrecisionChoice) -> Measurement:
    """Operations a second of whole epochs, over the peak before and after them."""
    frames, width = setting.round_frames(FRAMES[width, precision]), setting.shrink_width(width)
    shape = (NUM_MEMBERS, setting.batch_size, width)
    if precision == "bf16" and setting.shrink == 1 and choose_dtype("auto", *shape) == torch.float32:
        raise SkippedError("this processor's bf16 products are not faster than its fp32 ones")
    splits = draw_splits(frames)
    measured = Measurement()
    for _ in range(setting.limit_repeats(REPEATS)):
        peak = measure_peak(*shape, precision)
        config = {"num_epochs": NUM_EPOCHS, "precision": precision}
        run = train(setting, width, splits, range(NUM_MEMBERS), config)
        peak = max(peak, measure_peak(*shape, precision))
        operations = 6 * run.state.model.num_parameters * frames * NUM_EPOCHS * NUM_MEMBERS
        measured.pairs.append((operations / run.loop_s, peak))
        measured.remark = (
            f"{operations / run.loop_s / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s, {run.loop_s:.1f} s; "
            f"start {run.start_s:.1f} s"
        )
    return measured


BENCHMARKS = [
    Benchmark(
        f"train_over_gemm[{NUM_MEMBERS}x{width},{precision}]",
        f"floating-point operations a second of training ten members of 4 x {width}, {precision}: 6 x "
        "parameters x frames x members over the time of whole epochs with batches, optimiser, dev "
        "evaluation, checkpoints and metrics",
        "the best of several torch.bmm of the same members, batch, width and type",
        partial(measure, width=width, precision=precision),
        at_least=wanted,
    )
    for (width, precision), wanted in WANTED.items()
]
