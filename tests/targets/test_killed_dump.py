"""A dump that is killed at random moments ends with the same bytes as one that is not.

`make test-kill` does it 200 times, the ordinary test run a few.
"""

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from asrdistill.pipeline import open_experiment
from asrdistill.stages import soft_targets

pytestmark = pytest.mark.end_to_end

NUM_KILLS = int(os.environ.get("NUM_KILLS", "8"))
# A dump takes some seconds; kills come so early that it needs many attempts.
LONGEST_LIFE_S = 1.2


def dump(experiment_dir: Path) -> None:
    experiment, recipe = open_experiment(experiment_dir)
    soft_targets.run(recipe, experiment)


def test_a_dump_that_is_killed_often_gives_the_same_bytes(transformed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(transformed, copy)
    shards_dir = copy / "soft_targets/shards"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asrdistill.stages.soft_targets"])
    rng = np.random.default_rng(762)
    num_killed, is_whole = 0, False
    shutil.rmtree(shards_dir)
    while num_killed < NUM_KILLS or not is_whole:
        if is_whole:  # once more from the start
            shutil.rmtree(shards_dir)
        worker = context.Process(target=dump, args=(copy,))
        worker.start()
        worker.join(float(rng.uniform(0, LONGEST_LIFE_S)) if num_killed < NUM_KILLS else 300)
        is_whole = worker.exitcode is not None
        if not is_whole:
            worker.kill()
            worker.join()
            num_killed += 1
            continue
        assert worker.exitcode == 0
        found, expected = (
            {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".tmp"}
            for folder in (shards_dir, transformed / "soft_targets/shards")
        )
        assert found == expected
