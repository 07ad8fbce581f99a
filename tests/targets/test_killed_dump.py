"""A dump and the student's training that are killed at random moments end with the same bytes as others.

`make test-kill` does it 200 times, the ordinary test run a few.
"""

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from asrdistill.pipeline import open_experiment
from asrdistill.stages import soft_targets, student

pytestmark = pytest.mark.end_to_end

NUM_KILLS = int(os.environ.get("NUM_KILLS", "8"))


def dump(experiment_dir: Path) -> None:
    experiment, recipe = open_experiment(experiment_dir)
    soft_targets.run(recipe, experiment)


def distill(experiment_dir: Path) -> None:
    experiment, recipe = open_experiment(experiment_dir)
    student.run(recipe, experiment)


@dataclass(frozen=True)
class Task:
    """What is killed: its work, the folder that it fills, what it leaves there half-way, and its results."""

    run: Callable[[Path], None]
    folder: str
    half_way: str
    results: str


DUMP = Task(dump, "soft_targets/shards", "train-*.tar", "[!.]*")
STUDENT = Task(distill, "student", "*.checkpoint.safetensors", "model.safetensors")


def read_results(experiment_dir: Path, task: Task) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (experiment_dir / task.folder).glob(task.results)}


@pytest.mark.parametrize("task", [DUMP, STUDENT], ids=["dump", "student"])
def test_killing_it_often_changes_no_byte(task: Task, transformed: Path, tmp_path: Path) -> None:
    """Half of the kills each; begun anew whenever it got to the end. Some kills must come half-way.

    Shards are also those of the fixture; weights follow the number of threads, which was another one there.
    """
    copy = tmp_path / "tiny"
    shutil.copytree(transformed, copy)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asrdistill.stages.soft_targets", "asrdistill.stages.student"])

    def live(seconds: float) -> bool:
        """Whether it got to the end within that time; else it is killed."""
        worker = context.Process(target=task.run, args=(copy,))
        worker.start()
        worker.join(seconds)
        if worker.exitcode is None:
            worker.kill()
            worker.join()
            return False
        assert worker.exitcode == 0
        return True

    def check() -> None:
        found = read_results(copy, task)
        assert found.keys() == expected.keys()
        assert found == expected

    shutil.rmtree(copy / task.folder)
    assert live(300)
    expected = read_results(copy, task)
    assert len(expected) > (5 if task is DUMP else 0)
    if task is DUMP:
        assert expected == read_results(transformed, task)
    shutil.rmtree(copy / task.folder)
    start = time.monotonic()
    assert live(300)
    undisturbed_s = time.monotonic() - start  # with everything compiled
    check()
    rng = np.random.default_rng(762)
    num_killed = num_half_way = num_whole = 0
    is_whole = True
    while num_killed < NUM_KILLS / 2 or not num_half_way:
        if is_whole:
            shutil.rmtree(copy / task.folder)
        is_whole = live(float(rng.uniform(0, undisturbed_s)))
        if is_whole:
            check()
        num_whole += is_whole
        num_killed += not is_whole
        num_half_way += not is_whole and any((copy / task.folder).glob(task.half_way))
    assert is_whole or live(300)
    check()
    print(f"{num_killed} kills, {num_half_way} of them half-way, {num_whole} times to the end")
