"""A dump and the student's training that are killed at random moments end with the same bytes as others.

`make test-kill` does it 200 times, the ordinary test run a few.
"""

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from asrdistill.pipeline import open_experiment
from asrdistill.stages import soft_targets, student

pytestmark = pytest.mark.end_to_end

NUM_KILLS = int(os.environ.get("NUM_KILLS", "8"))
# Both together take some seconds; kills come so early that they need many attempts.
LONGEST_LIFE_S = 1.2


def dump_and_distill(experiment_dir: Path) -> None:
    experiment, recipe = open_experiment(experiment_dir)
    if not (experiment_dir / "soft_targets/shards/index.json").is_file():
        soft_targets.run(recipe, experiment)
    student.run(recipe, experiment)


def read_results(experiment_dir: Path) -> dict[str, bytes]:
    """Shards and weights."""
    files = [*experiment_dir.glob("soft_targets/shards/[!.]*"), experiment_dir / "student/model.safetensors"]
    return {path.name: path.read_bytes() for path in files}


def remove_results(experiment_dir: Path) -> None:
    shutil.rmtree(experiment_dir / "soft_targets/shards")
    shutil.rmtree(experiment_dir / "student")


def test_killing_a_dump_and_a_student_often_changes_no_byte(transformed: Path, tmp_path: Path) -> None:
    expected_dir, copy = tmp_path / "undisturbed", tmp_path / "tiny"
    for folder in (expected_dir, copy):
        shutil.copytree(transformed, folder)
        remove_results(folder)
    dump_and_distill(expected_dir)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asrdistill.stages.soft_targets", "asrdistill.stages.student"])
    rng = np.random.default_rng(762)
    num_killed, is_whole = 0, False
    while num_killed < NUM_KILLS or not is_whole:
        if is_whole:  # once more from the start
            remove_results(copy)
        worker = context.Process(target=dump_and_distill, args=(copy,))
        worker.start()
        worker.join(float(rng.uniform(0, LONGEST_LIFE_S)) if num_killed < NUM_KILLS else 300)
        is_whole = worker.exitcode is not None
        if not is_whole:
            worker.kill()
            worker.join()
            num_killed += 1
            continue
        assert worker.exitcode == 0
        found, expected = read_results(copy), read_results(expected_dir)
        assert found.keys() == expected.keys() and len(found) > 5
        assert found == expected
    shards = read_results(transformed)
    assert all(expected[name] == shards[name] for name in shards if name != "model.safetensors")
