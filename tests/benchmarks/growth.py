"""Time and peak memory over hours of speech: an experiment's corpus taken once, twice and four times.

    .venv/bin/python tests/benchmarks/growth.py exp/speechocean762

Not part of `make bench`, because it needs a corpus, and as long as seven runs of the stages take. Every run
is a process of its own; seconds and memory are those of the stages' stamps. Utterances and speakers of a
copy have names of their own; the recordings are the same.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from asrdistill.corpus.manifest import Utterance, read_manifest, write_manifest
from asrdistill.corpus.source import SPLITS
from asrdistill.pipeline import STAGES

COPIES = (1, 2, 4)
COLUMNS = ("copies", "hours", "stage", "time (s)", "s an hour", "peak memory (MB)", "growth (MB an hour)")


def repeat(utterances: list[Utterance], num_copies: int) -> list[Utterance]:
    """The utterances several times over, ids and speakers told apart."""
    return [
        dataclasses.replace(u, id=f"{u.id}-{copy}", speaker=u.speaker and f"{u.speaker}-{copy}")
        for copy in range(num_copies)
        for u in utterances
    ]


def run(experiment_dir: Path, num_copies: int, last: str, folder: Path) -> tuple[float, dict[str, dict]]:
    """Run the stages on so many copies; gives hours of speech, and the stamp of every stage."""
    recipe = yaml.safe_load((experiment_dir / "recipe.yaml").read_text(encoding="utf-8"))
    hours = 0.0
    for split in SPLITS:
        utterances = repeat(read_manifest(experiment_dir / f"prepare/manifests/{split}.jsonl"), num_copies)
        write_manifest(folder / f"{split}.jsonl", utterances)
        hours += sum(u.duration for u in utterances) / 3600
    kept = {key: value for key, value in recipe["corpus"].items() if key == "sampling_rate_hz"}
    recipe["corpus"] = {"kind": "nemo", "path": str(folder), **kept}
    lexicon_path = (experiment_dir / "prepare/lexicon.txt").absolute()
    recipe["lexicon"] = {"path": str(lexicon_path), "strip_stress": False}  # stripped already
    recipe["alignment"]["imported"] = None  # it knows no copies
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "asrdistill", "run", folder / "recipe.yaml", "--exp", folder / "exp"]
    subprocess.run([*command, "--stage", last], check=True)
    stages = list(STAGES)[: list(STAGES).index(last) + 1]
    return hours, {s: json.loads((folder / f"exp/{s}/stamp.json").read_text()) for s in stages}


def describe(runs: list[tuple[int, float, dict[str, dict]]]) -> str:
    """A table, stage by stage; the growth is from the run before."""
    rows = []
    for stage in runs[0][2]:
        before = None
        for copies, hours, stamps in runs:
            seconds, peak = stamps[stage]["seconds"], stamps[stage]["peak_memory_mb"]
            growth = "" if before is None else f"{(peak - before[1]) / (hours - before[0]):.0f}"
            rows.append((str(copies), f"{hours:.2f}", stage, f"{seconds:.0f}", f"{seconds / hours:.1f}",
                         f"{peak:.0f}", growth))  # fmt: skip
            before = hours, peak
    lines = (COLUMNS, ["---:"] * len(COLUMNS), *rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    """Run, and print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", type=Path, help="an experiment whose prepare stage is done")
    parser.add_argument("--stage", default="align", choices=STAGES, help="last stage to run (default: align)")
    parser.add_argument("--copies", type=int, nargs="+", default=COPIES, help="default: 1 2 4")
    arguments = parser.parse_args()
    runs = []
    for num_copies in arguments.copies:
        with tempfile.TemporaryDirectory(prefix=".growth-", dir=arguments.experiment.parent) as folder:
            runs.append((num_copies, *run(arguments.experiment, num_copies, arguments.stage, Path(folder))))
    print(describe(runs))


if __name__ == "__main__":
    main()
