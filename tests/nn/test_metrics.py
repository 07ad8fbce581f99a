"""Metrics: lines of JSON and TensorBoard events, and what stays of a killed run's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from asrdistill.nn.metrics import MetricsLog

NAMES = ("teacher 1", "teacher 2", "teacher 3")


@pytest.fixture(autouse=True)
def as_if_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard sorts files of one second and process by their number as text: 10 comes before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def write(folder: Path, steps: list[int], done: int = 0, epoch: int = 0) -> None:
    log = MetricsLog(folder, NAMES, done, epoch)
    for step in steps:
        losses = torch.tensor([step + 0.25, step + 0.5])
        log.write(step, [0, 2], {"train_loss": losses}, {"learning_rate": 0.1, "epoch": epoch})
    log.close()


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def read_events(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_a_line_holds_the_run_and_its_active_members(tmp_path: Path) -> None:
    write(tmp_path, [5, 10])
    assert read_lines(tmp_path) == [
        {
            "step": step,
            "learning_rate": 0.1,
            "epoch": 0,
            "train_loss": {"teacher 1": step + 0.25, "teacher 3": step + 0.5},
        }
        for step in (5, 10)
    ]


def test_tensorboard_shows_the_same(tmp_path: Path) -> None:
    write(tmp_path, [5, 10])
    assert read_events(tmp_path, "train_loss/teacher 3") == [(5, 5.5), (10, 10.5)]
    assert read_events(tmp_path, "run/learning_rate") == [(5, pytest.approx(0.1)), (10, pytest.approx(0.1))]


def test_lines_are_there_while_the_run_goes_on(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, NAMES, 0, 0)
    log.write(5, [0], {}, {"learning_rate": 0.1})
    assert [line["step"] for line in read_lines(tmp_path)] == [5]
    log.close()


def test_going_on_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, [5, 10, 15, 20])
    write(tmp_path, [15, 25], done=12)
    assert [line["step"] for line in read_lines(tmp_path)] == [5, 10, 15, 25]
    assert [step for step, _ in read_events(tmp_path, "train_loss/teacher 1")] == [5, 10, 15, 25]


def test_the_checkpoints_own_step_stays(tmp_path: Path) -> None:
    write(tmp_path, [5, 10, 15])
    write(tmp_path, [15], done=10)
    assert [line["step"] for line in read_lines(tmp_path)] == [5, 10, 15]
    assert [step for step, _ in read_events(tmp_path, "train_loss/teacher 1")] == [5, 10, 15]


def test_a_judgement_that_the_checkpoint_does_not_know_is_dropped(tmp_path: Path) -> None:
    """It is made after an epoch's last step, and made again by the run that goes on from there."""
    write(tmp_path, [5, 10])
    write(tmp_path, [10], done=10, epoch=1)
    write(tmp_path, [15], done=10, epoch=0)
    assert [(line["step"], line["epoch"]) for line in read_lines(tmp_path)] == [(5, 0), (10, 0), (15, 0)]
    write(tmp_path, [15], done=15, epoch=1)
    write(tmp_path, [20], done=15, epoch=1)
    found = [(line["step"], line["epoch"]) for line in read_lines(tmp_path)]
    assert found == [(5, 0), (10, 0), (15, 0), (15, 1), (20, 1)]


@pytest.mark.parametrize("rest", ['{"step": 7, "lear', '{"step": ', "[1]", '{"epoch": 3}'])
def test_an_unfinished_last_line_is_dropped(tmp_path: Path, rest: str) -> None:
    write(tmp_path, [5])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(rest)
    write(tmp_path, [8], done=7)
    assert [line["step"] for line in read_lines(tmp_path)] == [5, 8]


def test_a_run_from_the_start_empties_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    write(folder, [5, 10])
    (folder / "old").mkdir()
    write(folder, [3])
    assert [line["step"] for line in read_lines(folder)] == [3]
    assert [step for step, _ in read_events(folder, "train_loss/teacher 1")] == [3]
    assert not (folder / "old").exists()


def test_metrics_that_were_removed_are_begun_again(tmp_path: Path) -> None:
    write(tmp_path / "metrics", [15], done=12)
    assert [line["step"] for line in read_lines(tmp_path / "metrics")] == [15]
