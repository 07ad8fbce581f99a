"""Publishing, stamps, resuming, the lock and a full disk."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from asrdistill.errors import ExperimentError
from asrdistill.experiment import Experiment, StagePlan, atomic_path, hash_file, write_json

PLAN = StagePlan("student", {"student.seed": 1}, ("teachers/model",), ("student/model", "student/shards/"))


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """An experiment whose student stage has not run yet."""
    experiment = Experiment(tmp_path / "exp")
    (experiment.dir / "teachers").mkdir(parents=True)
    (experiment.dir / "teachers/model").write_text("teachers")
    return experiment


def write_results(experiment: Experiment) -> None:
    shards_dir = experiment.stage_dir("student") / "shards"
    shards_dir.mkdir(parents=True, exist_ok=True)
    for path, text in (("model", "weights"), ("shards/0.tar", "first"), ("shards/1.tar", "second")):
        (experiment.stage_dir("student") / path).write_text(text)


@pytest.fixture
def done(experiment: Experiment) -> Experiment:
    read = experiment.begin(PLAN)
    write_results(experiment)
    experiment.finish(PLAN, read, {"seconds": 1.0, "peak_memory_mb": 1})
    return experiment


def test_published_file_is_complete(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new/dir/file") as temporary:
        temporary.write_text("all of it")
        assert not (tmp_path / "new/dir/file").exists()
    assert [path.name for path in (tmp_path / "new/dir").iterdir()] == ["file"]
    assert (tmp_path / "new/dir/file").read_text() == "all of it"


def test_an_exception_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_an_exception_leaves_the_earlier_file(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", {1, 2})
    assert json.loads((tmp_path / "file.json").read_text()) == [1]
    assert len(list(tmp_path.iterdir())) == 1


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "file"):
        raise FileNotFoundError(errno.ENOENT, "not there", "input.wav")
    assert caught.value.filename == "input.wav"
    assert caught.value.__cause__ is None


def test_a_valid_stamp_needs_no_run(done: Experiment) -> None:
    assert done.why_stale(PLAN) is None
    assert not (done.dir / "student/progress.json").exists()


def test_a_changed_setting_is_named(done: Experiment) -> None:
    changed = replace(PLAN, settings={"student.seed": 2})
    assert done.why_stale(changed) == "student.seed changed from 1 to 2"
    removed = replace(PLAN, settings={})
    assert done.why_stale(removed) == "student.seed changed from 1 to unset"


@pytest.mark.parametrize("text", ["TEACHERS", "longer than before"])
def test_a_changed_input_is_named(done: Experiment, text: str) -> None:
    (done.dir / "teachers/model").write_text(text)
    assert done.why_stale(PLAN) == "teachers/model changed"


def test_other_inputs_are_named(done: Experiment) -> None:
    reason = done.why_stale(replace(PLAN, reads=("teachers/model", "teachers/more")))
    assert reason == "it reads other files: teachers/more"


def test_a_deleted_or_modified_output_is_named(done: Experiment) -> None:
    (done.dir / "student/shards/1.tar").write_text("SECOND")
    assert done.why_stale(PLAN) == "student/shards/1.tar is missing or was changed"
    (done.dir / "student/model").unlink()
    assert done.why_stale(PLAN) == "student/model is missing or was changed"


def test_an_output_that_an_earlier_version_did_not_write_is_named(done: Experiment) -> None:
    grown = replace(PLAN, writes=(*PLAN.writes, "student/cepstra"))
    assert done.why_stale(grown) == "an earlier version did not write student/cepstra"


def test_touched_files_with_the_same_bytes_are_valid(done: Experiment) -> None:
    for path in ("teachers/model", "student/model"):
        os.utime(done.dir / path, ns=(0, 0))
    assert done.why_stale(PLAN) is None


def test_an_input_that_changes_while_the_stage_runs_does_not_count_as_read(experiment: Experiment) -> None:
    read = experiment.begin(PLAN)
    write_results(experiment)
    (experiment.dir / "teachers/model").write_text("others")
    experiment.finish(PLAN, read, {})
    assert experiment.why_stale(PLAN) == "teachers/model changed"


def test_partial_results_of_the_same_origin_are_kept(experiment: Experiment) -> None:
    experiment.begin(PLAN)
    write_results(experiment)
    assert experiment.why_stale(PLAN) == "was interrupted"
    experiment.begin(PLAN)
    assert (experiment.dir / "student/shards/1.tar").read_text() == "second"


@pytest.mark.parametrize("what", ["settings", "input"])
def test_partial_results_of_another_origin_are_removed(experiment: Experiment, what: str) -> None:
    experiment.begin(PLAN)
    write_results(experiment)
    if what == "input":
        (experiment.dir / "teachers/model").write_text("others")
    plan = replace(PLAN, settings={"student.seed": 2}) if what == "settings" else PLAN
    assert experiment.why_stale(plan) == "not done yet"
    experiment.begin(plan)
    assert [path.name for path in (experiment.dir / "student").iterdir()] == ["progress.json"]


def test_results_without_a_note_of_their_origin_are_removed(experiment: Experiment) -> None:
    write_results(experiment)
    experiment.begin(PLAN)
    assert [path.name for path in (experiment.dir / "student").iterdir()] == ["progress.json"]


def test_what_a_killed_writer_left_is_removed(experiment: Experiment) -> None:
    experiment.begin(PLAN)
    write_results(experiment)
    (experiment.dir / "student/shards/.2.tar.1234abcd.tmp").write_text("half")
    experiment.finish(PLAN, experiment.begin(PLAN), {})
    stamp = experiment.stamp_of("student")
    assert stamp is not None
    assert sorted(stamp["writes"]) == ["student/model", "student/shards/0.tar", "student/shards/1.tar"]


@pytest.mark.parametrize("is_noted", [False, True], ids=["stamped", "killed before the note was removed"])
def test_of_a_finished_stage_only_damaged_results_are_dropped(done: Experiment, is_noted: bool) -> None:
    if is_noted:
        stamp = (done.dir / "student/stamp.json").read_text()
        done.begin(PLAN)
        (done.dir / "student/stamp.json").write_text(stamp)
    (done.dir / "student/shards/0.tar").write_text("FIRST")
    (done.dir / "student/shards/1.tar").unlink()
    done.begin(PLAN)
    left = {path.name for path in (done.dir / "student").rglob("*") if path.is_file()}
    assert left == {"model", "progress.json"}


def test_a_finished_stage_of_other_settings_is_removed(done: Experiment) -> None:
    done.begin(replace(PLAN, settings={"student.seed": 2}))
    assert [path.name for path in (done.dir / "student").iterdir()] == ["progress.json"]


def test_a_missing_input_names_the_stage_that_writes_it(experiment: Experiment) -> None:
    (experiment.dir / "teachers/model").unlink()
    with pytest.raises(
        ExperimentError, match=r"stage student: .*teachers/model is missing; the teachers stage"
    ):
        experiment.begin(PLAN)


def test_a_second_run_is_refused(experiment: Experiment) -> None:
    assert not experiment.is_running()
    with experiment.locked():
        assert experiment.is_running()
        with pytest.raises(ExperimentError, match="another run is working in it"), experiment.locked():
            pass
    assert not experiment.is_running()
    with experiment.locked():
        pass


def test_the_lock_of_a_killed_run_is_free(experiment: Experiment) -> None:
    script = (
        "import sys, os, signal; from pathlib import Path; from asrdistill.experiment import Experiment\n"
        "with Experiment(Path(sys.argv[1])).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, experiment.dir], timeout=300).returncode == -9
    with experiment.locked():
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ExperimentError, match=r"file.json: .*; nothing was published there.*run again"):
        write_json(tmp_path / "file.json", [1])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", path], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk takes root")
    yield path
    subprocess.run(["umount", path], check=True)


def write_bytes(path: Path) -> None:
    path.write_bytes(bytes(1 << 20))


def write_tensors(path: Path) -> None:
    save_file({"weights": torch.zeros(1 << 18)}, path)


@pytest.mark.parametrize("write", [write_bytes, write_tensors])
def test_a_full_disk_publishes_nothing(small_disk: Path, write: Callable[[Path], None]) -> None:
    write_json(small_disk / "kept.json", "kept")
    before = hash_file(small_disk / "kept.json")
    with (
        pytest.raises(ExperimentError, match="model: the disk is full"),
        atomic_path(small_disk / "model") as temporary,
    ):
        write(temporary)
    assert [path.name for path in small_disk.iterdir()] == ["kept.json"]
    assert hash_file(small_disk / "kept.json") == before
