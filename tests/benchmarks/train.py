"""Speed of training against that of nothing but its matrix products."""

from functools import partial

from corpus import draw_splits
from engine import NUM_MEMBERS, plan_frames, train
from measure import Benchmark, Measurement, Setting, measure_peak, require_fast_bf16

from asrdistill.nn.precision import PrecisionChoice

NUM_EPOCHS, EPOCH_S = 2, 5
REPEATS = 2
# By width and precision.
WANTED = {(512, "fp32"): 0.6, (1024, "fp32"): 0.75, (512, "bf16"): 0.45, (1024, "bf16"): 0.6}


def measure(setting: Setting, width: int, precision: PrecisionChoice) -> Measurement:
    """Operations a second of whole epochs, over the peak before and after them."""
    if precision == "bf16":
        require_fast_bf16(setting)
    frames, width = plan_frames(setting, width, EPOCH_S, precision), setting.shrink_width(width)
    shape = (NUM_MEMBERS, setting.batch_size, width)
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
