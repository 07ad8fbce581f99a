"""A small grid, run as the command runs it: every kind of row, stopped, changed and run again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asrdistill.nn.checkpoint import load_model
from asrdistill.targets.shards import ShardReader

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py
GRID = """\
recipe: {recipe}
set: {{student.hard_weight: 0.5, soft_targets.guide: 1, soft_targets.num_views: 0, controls.kinds: []}}
num_seeds: 2
rows:
  - {{name: hard targets alone, part: losses, hard_targets: true}}
  - {{name: soft targets, part: losses, source: Hinton}}
  - {{name: conditional, part: losses, set: {{student.soft_term.kind: conditional}}}}
  - {{name: weighted, part: losses, set: {{soft_targets.wrong_weight: 0.5}}}}
  - {{name: born again, part: students, teacher: teacher_02}}
  - {{name: born again 2, part: students, teacher: born again}}
  - name: small and guided
    part: students
    set:
      student.model: {{num_hidden_layers: 1, hidden_size: 32}}
      student.extra_terms: [{{kind: hidden_states}}]
  - name: from a teacher
    part: students
    set: {{student.initial_weights: guide, student.training.dropout: 0}}
  - name: little
    part: students
    set: {{student.train_share: 0.2, student.training.keeps: last}}
quick: {{rows: [soft targets]}}
"""


@pytest.fixture(scope="module")
def grid(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grids") / "small.yaml"
    path.write_text(GRID.format(recipe=tiny_recipe))
    return path


@pytest.fixture(scope="module")
def swept(grid: Path, asrdistill_process: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment whose grid was run in two parts; only read it."""
    experiment_dir = tmp_path_factory.mktemp("swept") / "small"
    for part in ("students", "losses"):
        outcome = asrdistill_process("sweep", grid, "--exp", experiment_dir, "--part", part)
        assert outcome.status == 0, outcome.stderr
    return experiment_dir


def read(experiment_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((experiment_dir / "sweep/sweep.json").read_text())
    return found


def test_both_parts_are_in_one_table(swept: Path) -> None:
    rows = {row["name"]: row for row in read(swept)["rows"]}
    assert list(rows) == [
        "hard targets alone", "soft targets", "conditional", "weighted", "born again", "born again 2",
        "small and guided", "from a teacher", "little",
    ]  # fmt: skip
    for row in rows.values():
        assert len({student["frame_accuracy"]["test"] for student in row["students"]}) == 2
        assert all(student["wer"]["test"]["wer"] > 0 for student in row["students"])
    plain, small = rows["soft targets"], rows["small and guided"]
    assert small["num_parameters"] < plain["num_parameters"] / 1.5
    assert rows["little"]["frames_seen"] == pytest.approx(0.2 * plain["frames_seen"], rel=0.1)
    # A guide that is asked costs as much as a forward pass of it.
    assert small["training_flops"] > 3 * small["flops_a_frame"] * small["frames_seen"]
    assert plain["training_flops"] == 3 * plain["flops_a_frame"] * plain["frames_seen"]
    # One speed for each architecture, whatever the row.
    speeds = {name: row["seconds_a_frame"] for name, row in rows.items()}
    assert len(set(speeds.values())) == 2
    assert speeds["soft targets"] == speeds["born again"] != speeds["small and guided"]
    assert all(seconds > 0 for seconds in speeds.values())
    assert read(swept)["references"]["seconds_a_frame"].keys() == {"baseline", "ensemble"}
    for name in ("sweep.md", "sweep.html"):
        assert all(row in (swept / "sweep" / name).read_text() for row in rows)


def test_the_transfer_is_that_of_the_means(swept: Path) -> None:
    found = read(swept)
    references = found["references"]
    baseline = np.mean([teacher["frame_accuracy"]["test"] for teacher in references["teachers"]])
    gain = references["ensemble"]["frame_accuracy"]["test"] - baseline
    for row in found["rows"]:
        kept = np.mean([student["frame_accuracy"]["test"] for student in row["students"]]) - baseline
        value = row["transfer"]["frame_accuracy"]["value"]
        if abs(gain) < 1e-9:  # as may be of networks trained so little
            assert value is None
        else:
            assert value == pytest.approx(kept / gain)
    words = [one["wer"]["test"]["wer"] for one in (*references["teachers"], references["ensemble"])]
    gain = words[-1] - np.mean(words[:-1])
    assert abs(gain) > 1e-9
    for row in found["rows"]:
        kept = np.mean([one["wer"]["test"]["wer"] for one in row["students"]]) - np.mean(words[:-1])
        assert row["transfer"]["wer"]["value"] == pytest.approx(kept / gain)


def test_rows_learn_from_whom_they_say(swept: Path) -> None:
    """The soft targets of one teacher are its own posteriors; those of a row are its first student's."""
    dumps = [ShardReader(path.parent) for path in sorted(swept.glob("sweep/shards/*/index.json"))]
    teachers, described = load_model(swept / "teachers/model.safetensors")
    seeds = {tuple(reader.index["teachers"]["seeds"]) for reader in dumps}
    first_student = load_model(swept / "sweep/rows/born_again/model.safetensors")[0].select_members([0])
    assert seeds == {tuple(described["seeds"]), (described["seeds"][2],), (101,)}
    for reader in dumps:
        own = reader.index["teachers"]["seeds"]
        if len(own) == 1:
            model = teachers.select_members([2]) if own != [101] else first_student
            frames = reader.load("dev", 2.0)
            utterance = frames.frames[: frames.starts[1]]
            expected = torch.softmax(model.compute_logits(utterance)[0] / 2, 1)
            assert frames.soft_targets is not None
            stored = frames.soft_targets.take(torch.arange(len(utterance))[None])
            assert isinstance(stored, torch.Tensor)
            torch.testing.assert_close(stored[0], expected, atol=2e-3, rtol=0)


def test_the_guide_lies_beside_the_shards(swept: Path) -> None:
    reader = ShardReader(swept / "soft_targets/shards")
    teachers, _ = load_model(swept / "teachers/model.safetensors")
    for weight, other in zip(
        reader.load_guide().parameters(), teachers.select_members([1]).parameters(), strict=True
    ):
        assert torch.equal(weight, other)


def test_what_is_there_is_not_made_again_and_a_changed_row_is(
    grid: Path, swept: Path, tmp_path: Path, asrdistill: Command, take_snapshot: Callable[[Path], Any]
) -> None:
    rows = swept / "sweep/rows"
    before = take_snapshot(rows)
    outcome = asrdistill("sweep", grid, "--exp", swept)
    assert outcome.status == 0, outcome.stderr
    assert take_snapshot(rows) == before
    assert outcome.stderr.count("scored already") == 1 + 9
    changed = tmp_path / "small.yaml"
    changed.write_text(grid.read_text().replace("wrong_weight: 0.5", "wrong_weight: 0.9"))
    assert asrdistill("sweep", changed, "--exp", swept, "--part", "losses").status == 0
    after = take_snapshot(rows)
    assert {path.split("/")[0] for path in before if before[path] != after.get(path)} == {"weighted"}


def test_an_experiment_may_move(
    grid: Path, swept: Path, tmp_path: Path, asrdistill: Command, take_snapshot: Callable[[Path], Any]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(swept, moved)
    before = take_snapshot(moved / "sweep/rows")
    outcome = asrdistill("sweep", grid, "--exp", moved, "--part", "students")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stderr.count("scored already") == 1 + 5
    assert take_snapshot(moved / "sweep/rows") == before


def test_quick_is_an_experiment_of_its_own(
    grid: Path, tmp_path: Path, asrdistill: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings need not suit the rows that it leaves out."""
    monkeypatch.chdir(tmp_path)
    text = grid.read_text()
    for old, new in (
        ("set: {student.hard", "set: {soft_targets.temperatures: [2, 1], student.hard"),
        ("rows:\n", "rows:\n  - {name: colder, set: {student.temperature: 1}}\n"),
        ("quick: {", "quick: {set: {soft_targets.temperatures: [2]}, "),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    small = tmp_path / "small.yaml"
    small.write_text(text)
    outcome = asrdistill("sweep", small, "--quick")
    assert outcome.status == 0, outcome.stderr
    found = read(tmp_path / "exp/small_quick")
    assert [row["name"] for row in found["rows"]] == ["soft targets"]
    assert len(found["rows"][0]["students"]) == 1
    assert "one teacher" in outcome.stdout and "soft targets" in outcome.stdout


def test_mistakes_are_told_in_a_paragraph(grid: Path, tmp_path: Path, asrdistill: Command) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(grid.read_text().replace("teacher: teacher_02", "teacher: teacher_07"))
    for words, expected in (
        ((tmp_path / "none.yaml",), "no such file, and no grid of that name"),
        ((grid, "--part", "nothing"), "the parts are losses, students"),
        ((grid, "--set", "student.sed=1"), "did you mean seed"),
    ):
        outcome = asrdistill("sweep", *words, "--exp", tmp_path / "exp")
        assert (outcome.status, expected in outcome.error) == (1, True), outcome.stderr
    assert not (tmp_path / "exp").exists()
