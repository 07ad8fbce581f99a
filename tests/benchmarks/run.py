"""Run the benchmarks: `make bench`, or `make bench ONLY=train`. README.md beside this file lists them."""

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

import alignment
import checkpoints
import plain_loop
import scoring
import shards
import stacked
import torch
import train
import waiting
from corpus import draw_splits
from engine import NUM_MEMBERS, warm_up
from measure import DTYPES, Benchmark, Measurement, Setting, SkippedError, measure_peak

from asrdistill.experiment import write_json
from asrdistill.nn.precision import choose_dtype
from asrdistill.nn.training import TrainingConfig

MODULES = {
    module.__name__: module
    for module in (train, stacked, plain_loop, waiting, checkpoints, alignment, shards, scoring)
}
REHEARSAL_SHRINK = 64
PEAK_SHAPE = (NUM_MEMBERS, 1024, 512)


def choose(only: str) -> list[Benchmark]:
    """The benchmarks of the module of that name, else those with that in their names; for "" all."""
    modules = [MODULES[only]] if only in MODULES else MODULES.values()
    found = [benchmark for module in modules for benchmark in module.BENCHMARKS]
    return found if only in MODULES else [benchmark for benchmark in found if only in benchmark.name]


def measure_all(
    benchmarks: list[Benchmark], setting: Setting, out: Path
) -> tuple[dict[str, Measurement], bool]:
    """Run one after the other and write the rows so far after each.

    Returns:
        What was measured, by name; and whether none failed.
    """
    measured: dict[str, Measurement] = {}
    all_ran = True
    for number, benchmark in enumerate(benchmarks, 1):
        start = time.perf_counter()
        title = f"{number}/{len(benchmarks)} {benchmark.name}"
        try:
            one = measured[benchmark.name] = benchmark.run(setting)
        except SkippedError as reason:
            print(f"{title}: skipped: {reason}", flush=True)
            continue
        except Exception:
            print(f"{title}: failed", flush=True)
            traceback.print_exc()
            all_ran = False
            continue
        print(f"{title}: {one.ratio:.3f} ({time.perf_counter() - start:.0f} s; {one.remark})", flush=True)
        write_json(out, [b.make_row(measured[b.name]) for b in benchmarks if b.name in measured])
    return measured, all_ran


def measure_peaks() -> dict[str, float]:
    """The speed of matrix products, by which the benchmarks are cut to length."""
    fastest = choose_dtype("auto", *PEAK_SHAPE)
    wanted = [name for name, dtype in DTYPES.items() if dtype in (torch.float32, fastest)]
    return {name: measure_peak(*PEAK_SHAPE, name) for name in wanted}


def describe_table(benchmarks: list[Benchmark], measured: dict[str, Measurement]) -> str:
    """All rows for people; a ratio that misses what is wanted is marked."""
    lines = [f"{'name':<42}{'ratio':>8}{'min':>8}{'max':>8}  wanted"]
    for benchmark in benchmarks:
        if benchmark.name in measured:
            one = measured[benchmark.name]
            numbers = "".join(f"{value:>8.3f}" for value in (one.ratio, min(one.ratios), max(one.ratios)))
            missed = "" if benchmark.is_met(one.ratio) else "  missed"
            lines.append(f"{benchmark.name:<42}{numbers}  {benchmark.wanted}{missed}")
    return "\n".join(lines)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="a module's name, or a part of rows' names"
    )
    parser.add_argument("--list", action="store_true", help="print the names and what is wanted, and stop")
    parser.add_argument("--out", type=Path, default=Path("exp/bench.json"), help="where the results go")
    batch_size = TrainingConfig().batch_size
    parser.add_argument("--batch-size", type=int, default=batch_size, help="frames of an optimiser step")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="everything tiny: shows that all runs, the ratios mean nothing",
    )
    return parser.parse_args()


def main() -> int:
    arguments = read_arguments()
    benchmarks = choose(arguments.only)
    if not benchmarks:
        print(f"error: no benchmark is called like {arguments.only!r}; modules: {', '.join(MODULES)}")
        return 2
    if arguments.list:
        print(*(f"{benchmark.name}\t{benchmark.wanted}" for benchmark in benchmarks), sep="\n")
        return 0
    start = time.perf_counter()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out.parent, prefix=".bench-") as scratch:
        shrink = REHEARSAL_SHRINK if arguments.rehearse else 1
        setting = Setting(arguments.batch_size // shrink, Path(scratch), measure_peaks(), shrink)
        peaks = ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in setting.peaks.items())
        print(
            f"{len(benchmarks)} benchmarks, batches of {setting.batch_size}, {torch.get_num_threads()} "
            f"threads; matrix products: {peaks}",
            flush=True,
        )
        warm_up(setting, draw_splits(640))
        measured, all_ran = measure_all(benchmarks, setting, arguments.out)
    print(f"\n{describe_table(benchmarks, measured)}")
    if any(benchmark in benchmarks for benchmark in stacked.BENCHMARKS):
        print(f"\n{stacked.describe_matrix(measured)}")
    print(f"\n{arguments.out}: {len(measured)} rows, {time.perf_counter() - start:.0f} s")
    return 0 if all_ran else 1


if __name__ == "__main__":
    sys.exit(main())
