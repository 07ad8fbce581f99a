"""A disk that is full in the middle of a dump: a clear error, and it goes on when there is room."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py


def mount(folder: Path, size_bytes: int, *more: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size_bytes}", *more]), "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(finished: Path, finished_copy: Path) -> Iterator[Path]:
    """Where a copy of the finished experiment has its soft targets: with room for half of them, and empty."""
    folder = finished_copy / "soft_targets"
    shutil.rmtree(folder)
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("no small disk can be mounted here")
    mount(folder, _count_bytes(finished / "soft_targets/shards") // 2)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _count_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_full_disk_is_told_and_the_dump_goes_on(
    finished_copy: Path, finished: Path, tiny_recipe: Path, small_disk: Path, asrdistill_process: Command
) -> None:
    shards_dir = small_disk / "shards"
    words = ("run", tiny_recipe, "--exp", finished_copy, "--stage", "soft-targets")
    outcome = asrdistill_process(*words)
    assert outcome.status == 1
    assert "the disk is full" in outcome.error and "make room" in outcome.error
    kept = {path.name: path.stat().st_mtime_ns for path in shards_dir.glob("*.tar")}
    assert kept and not (shards_dir / "index.json").exists()
    mount(small_disk, 4 * _count_bytes(finished / "soft_targets/shards"), "remount")
    again = asrdistill_process(*words)
    assert again.status == 0, again.stderr
    assert f"train: {len(kept)} of" in again.stderr
    for path in (finished / "soft_targets/shards").iterdir():
        assert (shards_dir / path.name).read_bytes() == path.read_bytes()
    assert all((shards_dir / name).stat().st_mtime_ns == time for name, time in kept.items())
