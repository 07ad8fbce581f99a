"""A dump that was tampered with, flipped bit by flipped bit, is seen, and repaired to the byte."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrdistill.targets.transform import Codebook
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


def test_other_teachers_are_found_and_whole_shards_kept(experiment: Path, asrdistill: Command) -> None:
    path = experiment / "teachers/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4000:] = bytes(4000)  # of float32 weights
    path.write_bytes(content)
    outcome = asrdistill("verify", experiment)
    assert outcome.status == 1
    assert outcome.stdout.startswith(f"{path}\n  not the file that the shards were made from")
    before = read_all(experiment / "soft_targets/shards")
    refused = asrdistill("repair", experiment)
    assert refused.status == 1 and "stage teachers, which comes before, is not finished" in refused.error
    assert read_all(experiment / "soft_targets/shards") == before


def test_frames_that_changed_are_found(experiment: Path, asrdistill: Command) -> None:
    """Of the same lengths: what the teachers say of them now is not what is stored."""
    path = experiment / "features/dev.f16"
    frames = np.fromfile(path, np.float16)
    status = path.stat()
    (frames[::-1]).tofile(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    outcome = asrdistill("verify", experiment)
    assert outcome.status == 1
    assert "dev-000000.tar" in outcome.stdout
    assert "the teachers of this experiment give other targets" in outcome.stdout
    refused = asrdistill("repair", experiment)
    assert refused.status == 1 and "no shard is damaged, but" in refused.error


def test_shards_of_a_codebook_that_was_lost_are_made_again(experiment: Path, asrdistill: Command) -> None:
    """One that is learnt again may be another one; here it is, and nothing that it wrote not may stay."""
    shards_dir = experiment / "soft_targets/shards"
    whole = read_all(shards_dir)
    path = shards_dir / "codebook_t2.safetensors"
    codebook = Codebook.read(path)
    replace(codebook, components=-codebook.components).write(path)
    (shards_dir / "index.json").unlink()
    (experiment / "soft_targets/stamp.json").rename(experiment / "stamp.json")
    stamp = json.loads((experiment / "stamp.json").read_text())
    origin = json.dumps(
        [stamp["settings"], {p: was["sha256"] for p, was in stamp["reads"].items()}], sort_keys=True
    )
    digest = hashlib.sha256(origin.encode()).hexdigest()
    (experiment / "soft_targets/progress.json").write_text(json.dumps({"origin": digest}))
    words = ("--set", "soft_targets.codec={kind: transform}", "--stage", "soft-targets")
    outcome = asrdistill("run", experiment / "recipe.yaml", "--exp", experiment, *words)
    assert outcome.status == 0, outcome.stderr
    assert "written with another codebook; it is made again" in outcome.stderr
    assert asrdistill("verify", experiment).status == 0
    found = read_all(shards_dir)
    assert found.keys() == whole.keys()
    assert all(found[name] != whole[name] for name in whole)


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
    assert outcome.status == 1 and not outcome.stdout
    assert (
        "neither an experiment (no recipe.yaml in it) nor a folder of shards (no index.json)" in outcome.error
    )
