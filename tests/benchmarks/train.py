"""Speed of training against that of nothing but its matrix products."""

from functools import partial

from corpus import draw_splits
from engine import NUM_HIDDEN_LAYERS, NUM_MEMBERS, plan_frames, train
from measure import Benchmark, Measurement, Setting, measure_peak, require_fast_bf16

from asrdistill.nn.precision import PrecisionChoice

NUM_EPOCHS, EPOCH_S = 2, 5
REPEATS = 2
Kind = tuple[str, int, int, PrecisionChoice]
"""Architecture, members, width and precision."""
WANTED: dict[Kind, float] = {
    ("dnn", 10, 512, "fp32"): 0.6,
    ("dnn", 10, 1024, "fp32"): 0.75,
    ("dnn", 10, 512, "bf16"): 0.45,
    ("dnn", 10, 1024, "bf16"): 0.6,
    ("tdnn", 1, 256, "bf16"): 0.4,
    ("tdnn", 10, 256, "bf16"): 0.5,
}


def measure(setting: Setting, kind: Kind) -> Measurement:
    """Operations a second of whole epochs, over the peak before and after them."""
    architecture, num_members, width, precision = kind
    if precision == "bf16":
        require_fast_bf16(setting)
    frames = plan_frames(setting, width, EPOCH_S, precision, architecture)
    frames, width = frames * NUM_MEMBERS // num_members, setting.shrink_width(width)
    shape = (num_members, setting.batch_size, width)
    splits = draw_splits(frames)
    measured = Measurement()
    for _ in range(setting.limit_repeats(REPEATS)):
        peak = measure_peak(*shape, precision)
        config = {"num_epochs": NUM_EPOCHS, "precision": precision}
        run = train(setting, width, splits, range(num_members), config, architecture)
        peak = max(peak, measure_peak(*shape, precision))
        operations = 6 * run.state.model.num_parameters * frames * NUM_EPOCHS * num_members
        measured.pairs.append((operations / run.loop_s, peak))
        measured.remark = (
            f"{operations / run.loop_s / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s, {run.loop_s:.1f} s; "
            f"start {run.start_s:.1f} s"
        )
    return measured


def describe(kind: Kind) -> Benchmark:
    """The row of one kind of model."""
    architecture, num_members, width, precision = kind
    sizes = f"{NUM_HIDDEN_LAYERS[architecture]} x {width}"
    prefix = "" if architecture == "dnn" else f"{architecture},"
    return Benchmark(
        f"train_over_gemm[{prefix}{num_members}x{width},{precision}]",
        f"floating-point operations a second of training a stack of {num_members}, {architecture}, {sizes}, "
        f"{precision}: 6 x parameters x frames x members over the time of whole epochs with batches, "
        "optimiser, dev evaluation, checkpoints and metrics",
        "the best of several torch.bmm of the same members, batch, width and type",
        partial(measure, kind=kind),
        at_least=WANTED[kind],
    )


BENCHMARKS = [describe(kind) for kind in WANTED]
