"""Grids as their files declare them, and what is no grid."""

from pathlib import Path

import pytest

from asrdistill.errors import RecipeError
from asrdistill.recipe import PIPELINES_DIR
from asrdistill.sweep.grid import Grid, find_grid

SMALL = """\
recipe: espeak
set: {student.hard_weight: 0.5}
num_seeds: 3
rows:
  - {name: first, part: one}
  - {name: colder, part: two, set: {student.temperature: 1, 'soft_targets.temperatures': [1]}}
  - {name: born again, part: one, teacher: teacher_00}
  - {name: "born again, twice", part: two, teacher: born again}
quick: {num_seeds: 1, set: {teachers.num_teachers: 2}, rows: [first]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "small.yaml"
    written.write_text(SMALL)
    return written


def test_rows_differ_from_the_base_in_what_they_set(path: Path) -> None:
    grid = Grid(path, ["teachers.seed=7"])
    assert (grid.name, grid.num_seeds) == ("small", 3)
    assert [row.name for row in grid.rows] == ["first", "colder", "born again", "born again, twice"]
    recipes = [grid.recipe_of(row) for row in grid.rows]
    assert [recipe.student.temperature for recipe in recipes] == [2, 1, 2, 2]
    assert {recipe.teachers.seed for recipe in recipes} == {7}
    assert recipes[0] == grid.base


def test_a_part_brings_the_rows_that_it_learns_from(path: Path) -> None:
    grid = Grid(path, part="two")
    assert [row.name for row in grid.rows] == ["colder", "born again", "born again, twice"]


def test_a_row_may_belong_to_several_parts(path: Path) -> None:
    path.write_text(SMALL.replace("part: one}", "part: [one, two]}", 1))
    assert [row.name for row in Grid(path, part="one").rows] == ["first", "born again"]
    assert [row.name for row in Grid(path, part="two").rows][:2] == ["first", "colder"]


def test_quick_is_small(path: Path) -> None:
    grid = Grid(path, is_quick=True)
    assert (grid.name, grid.num_seeds, grid.base.teachers.num_teachers) == ("small_quick", 1, 2)
    assert [row.name for row in grid.rows] == ["first"]


def test_the_grid_that_is_there_is_one() -> None:
    for is_quick in (False, True):
        grid = Grid(find_grid("methods"), ["corpus.path=nowhere"], is_quick)
        assert len(grid.rows) == (5 if is_quick else len(grid.config.rows))
    assert find_grid("methods") == PIPELINES_DIR / "methods.yaml"
    Grid(find_grid("untranscribed"), ["corpus.path=nowhere"])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("recipe: espeak", "recipe: espaek", "did you mean espeak"),
        ("num_seeds: 3", "num_seeds: 0", "num_seeds: Input should be greater than or equal to 1"),
        ("name: colder", "name: FIRST", "rows 'first' and 'FIRST': names are to differ"),
        ("student.temperature: 1", "teachers.seed: 1", "sets teachers.seed; all rows share the teachers"),
        ("student.temperature: 1", "student.temperatur: 1", "row colder: recipe.*did you mean temperature"),
        ("student.temperature: 1", "student.temperature: 3", "row colder: recipe.*student.temperature is 3"),
        ("student.hard_weight: 0.5", "student.hard_weight: [0.5, 0.1]", "row first.*expected one"),
        ("teacher: teacher_00", "teacher: born again", "teacher is born again; expected teacher_00"),
        ("teacher: teacher_00", "teacher: teacher_00, hard_targets: true", "hard_targets and a teacher"),
        ("rows: [first]", "rows: [second]", "quick.rows: second is the name of no row"),
        ("rows:\n", "lines:\n", "lines: Extra inputs are not permitted"),
        ("rows:\n", "rows: [\n", "not readable as YAML"),
    ],
)
def test_what_is_no_grid_is_refused(path: Path, old: str, new: str, expected: str) -> None:
    assert old in SMALL
    path.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(RecipeError, match=expected):
        Grid(path)


def test_a_part_that_quick_leaves_out_is_refused(path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--part two: quick.rows names no row of it"):
        Grid(path, is_quick=True, part="two")


def test_an_unknown_part_is_refused(path: Path) -> None:
    with pytest.raises(RecipeError, match="no row belongs to it; the parts are one, two"):
        Grid(path, part="three")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"not readable as YAML.*give a file such as pipelines/methods"):
        Grid(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match=r"none\.yaml: no such file.*known: methods, untranscribed"):
        find_grid(str(tmp_path / "none.yaml"))
