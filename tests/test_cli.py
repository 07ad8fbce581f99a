"""The command line: what it teaches, what it says of an experiment, its exit status."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrdistill.experiment import Experiment
from asrdistill.pipeline import STAGES, plan_stage
from asrdistill.recipe import load_recipe

Command = Callable[..., Any]  # gives the Outcome of conftest.py


def test_help_teaches_stages_and_examples(asrdistill: Command) -> None:
    outcome = asrdistill("--help")
    assert outcome.status == 0
    assert all(name.replace("_", "-") in outcome.stdout for name in STAGES)
    assert "asrdistill run espeak" in outcome.stdout
    assert "asrdistill status exp/espeak" in outcome.stdout


def test_help_of_run_teaches_overrides(asrdistill: Command) -> None:
    outcome = asrdistill("run", "--help")
    assert outcome.status == 0
    assert all(option in outcome.stdout for option in ("--exp", "--stage", "--force", "--set"))
    assert "--set teachers.training.num_epochs=12" in outcome.stdout


@pytest.mark.parametrize("words", [(), ("run",), ("train",), ("run", "espeak", "--epochs", "3"), ("status",)])
def test_wrong_usage_exits_with_2(asrdistill: Command, words: tuple[str, ...]) -> None:
    outcome = asrdistill(*words)
    assert outcome.status == 2
    assert outcome.stderr.startswith("usage: asrdistill")


@pytest.mark.parametrize("option", ["--stage", "--force"])
def test_an_unknown_stage_exits_with_1(asrdistill: Command, tmp_path: Path, option: str) -> None:
    outcome = asrdistill("run", "espeak", "--exp", tmp_path / "exp", option, "train")
    assert outcome.status == 1
    assert outcome.error.startswith("stage train: there is no such stage; the stages are prepare, features")
    assert not (tmp_path / "exp").exists()


def test_status_of_a_missing_experiment(asrdistill: Command, tmp_path: Path) -> None:
    outcome = asrdistill("status", tmp_path / "nowhere")
    assert outcome.status == 1
    assert f"{tmp_path / 'nowhere'}: not an experiment (no recipe.yaml in it)" in outcome.error


def test_status_of_an_experiment_of_another_version(asrdistill: Command, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("corpus: {kind: espeak}\nvocoder: {}\n")
    outcome = asrdistill("status", tmp_path)
    assert outcome.status == 1
    assert "unknown key vocoder" in outcome.error


@pytest.mark.end_to_end
def test_status_of_a_finished_experiment(asrdistill: Command, finished: Path) -> None:
    outcome = asrdistill("status", finished)
    assert outcome.status == 0
    header, *lines = outcome.stdout.splitlines()
    assert header.split()[:3] == ["stage", "state", "seconds"]
    assert [line.split()[:2] for line in lines[: len(STAGES)]] == [[name, "finished"] for name in STAGES]
    size_mb = float(lines[0].split()[-1])
    audio_bytes = sum(path.stat().st_size for path in (finished / "prepare").rglob("*.*"))
    assert size_mb == pytest.approx(audio_bytes / 1e6, abs=0.1)


@pytest.mark.end_to_end
def test_status_of_an_interrupted_and_of_a_running_experiment(
    asrdistill: Command, finished_copy: Path
) -> None:
    experiment = Experiment(finished_copy)
    plan = plan_stage("soft_targets", load_recipe(finished_copy / "recipe.yaml"))
    (finished_copy / "soft_targets/shards/train-000001.tar").unlink()
    shutil.rmtree(finished_copy / "student")
    experiment.begin(plan)
    left = len(list((finished_copy / "soft_targets/shards").glob("*.tar")))
    states = {line.split()[0]: line for line in asrdistill("status", finished_copy).stdout.splitlines()}
    assert f"was interrupted; {left} shards done" in states["soft_targets"]
    assert "not done yet" in states["student"]
    assert "student/model.safetensors changed" in states["score"]
    assert "finished" in states["teachers"]
    with experiment.locked():
        running = asrdistill("status", finished_copy)
    assert f"running; {left} shards done" in running.stdout


@pytest.mark.end_to_end
def test_the_table_and_the_place_of_the_report_are_printed(
    asrdistill: Command, tiny_recipe: Path, finished_copy: Path
) -> None:
    outcome = asrdistill("run", tiny_recipe, "--exp", finished_copy)
    assert outcome.status == 0
    lines = outcome.stdout.splitlines()
    assert any(line.startswith("3x ensemble") for line in lines)
    place = next(line for line in lines if line.startswith("report: ")).split()[1]
    assert Path(place).samefile(finished_copy / "report/report.html")
