"""Workers share files out: none made twice while its maker lives, none left when a maker dies."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrdistill.errors import ExperimentError
from asrdistill.nn.checkpoint import load_model
from asrdistill.pipeline import open_experiment
from asrdistill.stages import soft_targets
from asrdistill.targets import claims
from asrdistill.targets.claims import drop_leftovers, share_out

Command = Callable[..., Any]  # gives the Outcome of conftest.py
NAMES = [f"{number:02d}" for number in range(12)]


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "POLL_S", 0.02)


def work(folder: Path, log: Path, pause_s: float = 0.01) -> None:
    for name in share_out(folder, NAMES, lease_s=5):
        with log.open("a") as file:
            file.write(f"{os.getpid()} {name}\n")
        time.sleep(pause_s)
        (folder / name).write_text(name)


def test_workers_make_every_file_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(tmp_path / "shards", log)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert sorted(line.split()[1] for line in log.read_text().splitlines()) == NAMES
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == NAMES


def test_what_is_there_is_not_given(tmp_path: Path) -> None:
    (tmp_path / "03").touch()
    given = []
    for name in share_out(tmp_path, NAMES):
        given.append(name)
        (tmp_path / name).touch()
    assert given == [name for name in NAMES if name != "03"]


def test_the_claim_of_a_dead_worker_is_taken_over_when_it_is_old(tmp_path: Path) -> None:
    claim = tmp_path / ".a.claim"
    claim.touch()
    start = time.monotonic()
    for name in share_out(tmp_path, ["a"], lease_s=0.5):
        (tmp_path / name).touch()
    assert 0.4 < time.monotonic() - start < 10
    assert not claim.exists()


@pytest.mark.parametrize(("host", "is_taken"), [(claims._name_machine(), True), ("elsewhere/0", False)])
def test_the_claim_of_a_process_that_is_no_more_is_taken_over_at_once(
    tmp_path: Path, host: str, is_taken: bool
) -> None:
    """On its own machine: of others nothing is known."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / ".a.claim").write_text(f"{host} {ended.pid}\n")
    start = time.monotonic()
    for name in share_out(tmp_path, ["a"], lease_s=1.5):
        (tmp_path / name).touch()
    assert (time.monotonic() - start < 1) == is_taken


def test_the_claim_of_a_worker_that_takes_long_stays_its_own(tmp_path: Path) -> None:
    made: list[str] = []

    def be_slow() -> None:
        for name in share_out(tmp_path, ["a"], lease_s=0.4):
            time.sleep(1.5)
            made.append("slow")
            (tmp_path / name).touch()

    thread = threading.Thread(target=be_slow)
    thread.start()
    while not (tmp_path / ".a.claim").exists():
        time.sleep(0.01)
    for name in share_out(tmp_path, ["a"], lease_s=0.4):
        made.append("other")
        (tmp_path / name).touch()
    thread.join()
    assert made == ["slow"]


def test_a_failure_gives_the_claim_back(tmp_path: Path) -> None:
    def fail() -> None:
        for _ in share_out(tmp_path, NAMES):
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.glob(".*.claim"))


def test_claims_left_behind_are_dropped(tmp_path: Path) -> None:
    (tmp_path / ".a.claim").touch()
    (tmp_path / "a").touch()
    drop_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.end_to_end
def test_helpers_dump_the_same_bytes_while_the_run_is_away(
    transformed: Path, tmp_path: Path, tiny_recipe: Path, asrdistill: Command
) -> None:
    """It is killed as soon as its stage is under way; two helpers make all shards, and it the index."""
    copy = tmp_path / "tiny"
    shutil.copytree(transformed, copy)
    assert "not under way" in asrdistill("dump", copy).error
    words = ("--set", "soft_targets.codec={kind: transform}", "--stage", "soft-targets")
    run = ["run", tiny_recipe, "--exp", copy, *words]
    base = [sys.executable, "-m", "asrdistill"]
    process = subprocess.Popen([*base, *run, "--force", "soft-targets"], stderr=subprocess.PIPE)
    progress, shards_dir = copy / "soft_targets/progress.json", copy / "soft_targets/shards"
    while not progress.is_file():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.communicate()
    helpers = [subprocess.Popen([*base, "dump", copy], stderr=subprocess.PIPE) for _ in range(2)]
    for helper in helpers:
        _, told = helper.communicate(timeout=300)
        assert helper.returncode == 0, told
    names = {path.name for path in (transformed / "soft_targets/shards").iterdir()}
    assert {path.name for path in shards_dir.iterdir() if path.name[0] != "."} == names - {"index.json"}
    outcome = asrdistill(*run)
    assert outcome.status == 0
    assert outcome.stderr.count("shards are there already") == 2
    found, expected = (
        {path.name: path.read_bytes() for path in (folder / "soft_targets/shards").iterdir()}
        for folder in (copy, transformed)
    )
    assert found == expected


@pytest.mark.end_to_end
def test_a_helper_of_a_run_that_was_begun_anew_publishes_nothing(transformed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(transformed, copy)
    experiment, recipe = open_experiment(copy)
    model, _ = load_model(copy / "teachers/model.safetensors")
    shutil.rmtree(copy / "soft_targets/shards")

    def check() -> None:
        raise ExperimentError("begun anew")

    with pytest.raises(ExperimentError, match="begun anew"):
        soft_targets.dump_shards(recipe, experiment, model, copy / "soft_targets/shards", check)
    assert not list((copy / "soft_targets/shards").glob("*.tar"))
