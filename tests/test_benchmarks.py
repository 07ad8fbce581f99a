"""The benchmarks run and tell what they promise; how fast anything is, no test asserts."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asrdistill.corpus.manifest import Utterance

BENCHMARKS_DIR = Path(__file__).parent / "benchmarks"
FIELDS = {"name", "ratio", "what", "against", "repeats", "min", "max"}
# What `--only` is given, and what it means. Of every module something, of stacks both ways of measuring.
PARTS: dict[str, Callable[[str], bool]] = {
    "train": lambda name: name.startswith("train_over_gemm["),
    "over_plain": lambda name: name.startswith("train_over_plain_loop["),
    "10x64]": lambda name: name == "stacked_over_sequential[10x64]",
    "[5x128]": lambda name: name == "stacked_over_sequential[5x128]",
    "waiting": lambda name: name.startswith("waiting_for_data["),
    "checkpoints": lambda name: name.startswith("checkpoint_cost["),
    "shards": lambda name: name.startswith(("dump_", "shards_", "shard_")),
    "scoring": lambda name: name == "scoring_over_a_minute",
    "alignment": lambda name: name in ("align_over_loglik_gemm", "gmm_training_over_real_time"),
}


def run_benchmarks(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as make runs it."""
    command = [sys.executable, BENCHMARKS_DIR / "run.py", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def listed() -> dict[str, str]:
    """Every row's name, and what is wanted of it."""
    outcome = run_benchmarks("--list")
    assert outcome.returncode == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    found = dict(line.split("\t") for line in lines)
    assert len(found) == len(lines), "two rows of one name"
    return found


def test_readme_names_every_row_once(listed: dict[str, str]) -> None:
    text = (BENCHMARKS_DIR / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"`(\w+(?:\[[^`]+\])?)`", text)
    assert sorted(name for name in found if "[" in name or name in listed) == sorted(listed)


def test_readme_tells_what_is_wanted(listed: dict[str, str]) -> None:
    text = (BENCHMARKS_DIR / "README.md").read_text(encoding="utf-8")
    in_readme = re.findall(r"^\| `(\S+)` \|[^|]*\| ([<>]=[^|]*) \|[^|]*\|[^|]*\|$", text, re.MULTILINE)
    assert dict(in_readme) == {name: wanted for name, wanted in listed.items() if wanted}


def test_an_unknown_part_is_refused() -> None:
    outcome = run_benchmarks("--only", "nothing of that name")
    assert outcome.returncode == 2
    assert "stacked" in outcome.stdout


@pytest.mark.parametrize("only", PARTS)
def test_bench_json_has_the_rows(only: str, listed: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "exp" / "bench.json"
    outcome = run_benchmarks("--rehearse", "--only", only, "--out", path)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == [name for name in listed if PARTS[only](name)]
    for row in rows:
        assert row.keys() == FIELDS
        assert row["repeats"] >= 1
        assert 0 <= row["min"] <= row["ratio"] <= row["max"]
        assert row["what"] and row["against"]
        in_table = re.search(rf"^{re.escape(row['name'])} +([\d.]+) ", outcome.stdout, re.MULTILINE)
        assert in_table and float(in_table[1]) == pytest.approx(row["ratio"], abs=0.001)
    assert ("rows: width, columns: members" in outcome.stdout) == rows[0]["name"].startswith("stacked")
    assert [entry.name for entry in path.parent.iterdir()] == ["bench.json"], "scratch files are left"


def test_growth_over_copies_of_a_corpus_is_told(finished: Path) -> None:
    command = [
        sys.executable,
        BENCHMARKS_DIR / "growth.py",
        finished,
        "--stage",
        "features",
        "--copies",
        "1",
        "2",
    ]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert outcome.returncode == 0, outcome.stderr
    rows = [line.strip("| ").split(" | ") for line in outcome.stdout.splitlines()[2:]]
    assert [(row[0], row[2]) for row in rows] == [
        (copies, stage) for stage in ("prepare", "features") for copies in "12"
    ]
    assert float(rows[1][1]) == pytest.approx(2 * float(rows[0][1]), abs=0.011)
    assert not list(finished.parent.glob(".growth-*"))


def test_copies_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS_DIR)
    repeat = importlib.import_module("growth").repeat
    known, unknown = (Utterance("u1", "/a.wav", 0, 1, "A", speaker) for speaker in ("s", None))
    assert [(u.id, u.speaker) for u in repeat([known, unknown], 2)] == [
        ("u1-0", "s-0"), ("u1-0", None), ("u1-1", "s-1"), ("u1-1", None)
    ]  # fmt: skip


def test_codecs_at_many_states_are_told(finished: Path) -> None:
    command = [sys.executable, BENCHMARKS_DIR / "many_states.py", finished, "--num-states", "600"]
    short = ["--num-frames", "1500", "--num-seeds", "2", "--num-epochs", "1", "--growth", "0.7"]
    short += ["--num-plan-frames", "4000"]  # as the tiny student has hardly learnt yet
    outcome = subprocess.run([*command, *short], capture_output=True, text=True, timeout=300)
    assert outcome.returncode == 0, outcome.stderr
    rows = [line.strip("| ").split(" | ") for line in outcome.stdout.splitlines()]
    assert [row[0].split(",")[0].strip("{}") for row in rows[2:]] == [
        "kind: dense", *["kind: transform"] * 2, "kind: sampled"
    ]  # fmt: skip
    sizes, angles = ([float(row[place].rstrip("°")) for row in rows[2:]] for place in (1, 2))
    assert sizes[0] > 2 * 600 > 20 * max(sizes[1:])
    assert angles[0] < 0.1 < angles[1] < min(angles[2:])
    reached = re.search(r"perplexity at T=2: (\d+) of .*, (\d+) of 600 \(wanted: (\d+)\)", outcome.stderr)
    assert reached and int(reached[1]) < int(reached[2]) == pytest.approx(int(reached[3]), rel=0.05)
    assert not list(finished.parent.glob(".many-states-*"))
