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
# A dump takes some seconds, and kills come so early that it needs many attempts; a student's first checkpoint
# comes later.
LONGEST_LIFE_S, LONGEST_STUDENTS_LIFE_S = 1.2, 4.0


def dump_and_distill(experiment_dir: Path) -> None:
    experiment, recipe = open_experiment(experiment_dir)
    if not (experiment_dir / "soft_targets/shards/index.json").is_file():
        soft_targets.run(recipe, experiment)
    student.run(recipe, experiment)


def read_results(experiment_dir: Path) -> dict[str, bytes]:
    """Shards and weights."""
    files = [*experiment_dir.glob("soft_targets/shards/[!.]*"), experiment_dir / "student/model.safetensors"]
    return {path.name: path.read_bytes() for path in files}


def test_killing_a_dump_and_a_student_often_changes_no_byte(transformed: Path, tmp_path: Path) -> None:
    """Half of the kills from the start of the dump on, half from that of the student's training on."""
    expected_dir, copy = tmp_path / "undisturbed", tmp_path / "tiny"
    for folder in (expected_dir, copy):
        shutil.copytree(transformed, folder)
        shutil.rmtree(folder / "soft_targets/shards")
        shutil.rmtree(folder / "student")
    dump_and_distill(expected_dir)
    expected = read_results(expected_dir)
    shards = read_results(transformed)
    assert all(expected[name] == shards[name] for name in shards if name != "model.safetensors")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asrdistill.stages.soft_targets", "asrdistill.stages.student"])
    rng = np.random.default_rng(762)
    num_killed, is_whole = 0, False
    num_in_training = 0
    while num_killed < NUM_KILLS or not is_whole:
        if is_whole:  # once more from the start
            shutil.rmtree(copy / "student")
            if num_killed < NUM_KILLS / 2:
                shutil.rmtree(copy / "soft_targets/shards")
        worker = context.Process(target=dump_and_distill, args=(copy,))
        worker.start()
        longest_s = LONGEST_LIFE_S if num_killed < NUM_KILLS / 2 else LONGEST_STUDENTS_LIFE_S
        worker.join(float(rng.uniform(0, longest_s)) if num_killed < NUM_KILLS else 300)
        is_whole = worker.exitcode is not None
        if not is_whole:
            worker.kill()
            worker.join()
            num_killed += 1
            num_in_training += (copy / "student/checkpoint.safetensors").is_file()
            if num_killed == NUM_KILLS // 2:
                shutil.copytree(
                    expected_dir / "soft_targets/shards", copy / "soft_targets/shards", dirs_exist_ok=True
                )
            continue
        assert worker.exitcode == 0
        found = read_results(copy)
        assert found.keys() == expected.keys() and len(found) > 5
        assert found == expected
    print(f"{num_killed} kills, {num_in_training} of them with a checkpoint of the student")
