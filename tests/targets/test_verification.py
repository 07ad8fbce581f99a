"""A dump that was tampered with, flipped bit by flipped bit, is seen, and repaired to the byte."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrdistill.targets.verification import find_damage

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py
NUM_FLIPS = 200


@pytest.fixture
def experiment(transformed: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "tiny"
    shutil.copytree(transformed, copy)
    return copy


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_intact_dump_is_found_intact(transformed: Path, asrdistill: Command) -> None:
    for place in (transformed, transformed / "soft_targets/shards"):
        outcome = asrdistill("verify", place)
        assert (outcome.status, outcome.stdout.strip()) == (0, "all shards are what the index says")


def test_every_flipped_bit_is_found_in_the_right_file(experiment: Path) -> None:
    shards_dir = experiment / "soft_targets/shards"
    whole = read_all(shards_dir)
    assert {Path(name).suffix for name in whole} == {".tar", ".json", ".safetensors"}
    rng = np.random.default_rng(0)
    names = [sorted(whole)[n] for n in rng.integers(0, len(whole), NUM_FLIPS)]
    names[: NUM_FLIPS // 4] = ["index.json"] * (NUM_FLIPS // 4)
    for name in names:
        damaged = bytearray(whole[name])
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        (shards_dir / name).write_bytes(damaged)
        assert [found.path.name for found in find_damage(shards_dir)] == [name]
        (shards_dir / name).write_bytes(whole[name])
    assert not find_damage(shards_dir)


def test_repair_makes_the_bytes_again(experiment: Path, asrdistill: Command) -> None:
    shards_dir = experiment / "soft_targets/shards"
    whole = read_all(shards_dir)
    bad = ["codebook_t2.safetensors", "dev-000000.tar", "index.json", "train-000002.tar"]
    for name in bad:
        damaged = bytearray(whole[name])
        damaged[len(damaged) // 2] ^= 16
        (shards_dir / name).write_bytes(damaged)
    (shards_dir / "train-000001.tar").unlink()
    before = {name: (shards_dir / name).stat().st_mtime_ns for name in whole if "000000" in name}
    found = asrdistill("verify", experiment)
    assert found.status == 1 and "asrdistill repair EXP" in found.error
    assert all(name in found.stdout for name in (*bad, "train-000001.tar"))
    outcome = asrdistill("repair", experiment)
    assert outcome.status == 0, outcome.stderr
    assert read_all(shards_dir) == whole
    assert (shards_dir / "train-000000.tar").stat().st_mtime_ns == before["train-000000.tar"]
    assert asrdistill("verify", experiment).status == 0


def test_shards_of_other_teachers_are_found(experiment: Path, asrdistill: Command) -> None:
    """Whose checksums are right."""
    path = experiment / "teachers/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4000:] = bytes(4000)  # of float32 weights
    path.write_bytes(content)
    outcome = asrdistill("verify", experiment)
    assert outcome.status == 1
    assert "the teachers of this experiment give other targets" in outcome.stdout


def test_a_dump_of_other_features_is_found(experiment: Path, asrdistill: Command) -> None:
    index = json.loads((experiment / "features/dev.json").read_text())
    index["num_frames"][0] -= 1
    index["num_frames"][1] += 1
    (experiment / "features/dev.json").write_text(json.dumps(index))
    outcome = asrdistill("verify", experiment)
    assert outcome.status == 1
    assert "dev: other utterances, or other lengths" in outcome.stdout


def test_no_shards_are_refused(tmp_path: Path, asrdistill: Command) -> None:
    outcome = asrdistill("verify", tmp_path)
    assert outcome.status == 1 and "not found; the soft-targets stage writes it last" in outcome.stdout
