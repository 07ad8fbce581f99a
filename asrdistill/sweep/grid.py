"""The grid of a sweep, as a YAML file declares it: a base recipe, and rows that differ in what they set."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from asrdistill.config import Config, as_tuple
from asrdistill.errors import RecipeError
from asrdistill.recipe import PIPELINES_DIR, Recipe, find_recipe, list_recipes, load_recipe

# What a row may set: nothing that would change the teachers, which all rows share.
SECTIONS = ("student.", "soft_targets.")


class RowConfig(Config):
    """One way of distilling."""

    name: str = Field(min_length=1, description="of the row, in the table")
    part: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(
        (), description="one or several of the grid that it belongs to, so that a part can be run alone"
    )
    source: str = Field("", description="where the method comes from")
    values: dict[str, Any] = Field({}, alias="set", description="settings in which it differs from the base")
    uses_hard_targets_alone: bool = Field(False, alias="hard_targets", description="no soft targets")
    teacher: str | None = Field(
        None,
        description="whose soft targets it learns from: teacher_00, ..., one of the teachers; the name of an "
        "earlier row: its first seed; null: the ensemble's",
    )

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        for key in self.values:
            if not key.startswith(SECTIONS):
                raise ValueError(
                    f"row {self.name}: sets {key}; all rows share the teachers, so expected settings of "
                    f"{' or '.join(section.removesuffix('.') for section in SECTIONS)}"
                )
        if self.uses_hard_targets_alone and self.teacher:
            raise ValueError(f"row {self.name}: has hard_targets and a teacher; expected one of them")
        return self

    @property
    def folder(self) -> str:
        """A name for files: `born_again_2`."""
        return "_".join(re.findall(r"[a-z0-9.]+", self.name.lower())) or "row"


class QuickConfig(Config):
    """What makes a grid small."""

    num_seeds: int = Field(1, ge=1, description="students of each row")
    values: dict[str, Any] = Field({}, alias="set", description="settings of the base")
    rows: tuple[str, ...] | None = Field(None, description="names of the rows that are run; null: all")


class GridConfig(Config):
    """A sweep over ways of distilling."""

    recipe: str = Field(description="the base: a YAML file, or the name of one in pipelines/")
    values: dict[str, Any] = Field({}, alias="set", description="settings in which the base differs from it")
    num_seeds: int = Field(3, ge=1, description="students of each row, which differ in their seeds")
    rows: tuple[RowConfig, ...] = Field(min_length=1, description="the ways that are compared")
    quick: QuickConfig = Field(QuickConfig(), description="what `--quick` changes")

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        seen: dict[str, str] = {}
        for row in self.rows:
            if row.folder in seen:
                raise ValueError(f"rows {seen[row.folder]!r} and {row.name!r}: names are to differ")
            if row.teacher and row.teacher not in seen.values() and not _is_teacher(row.teacher):
                raise ValueError(
                    f"row {row.name}: teacher is {row.teacher}; expected teacher_00 or the like, or the name "
                    f"of a row before it: {', '.join(seen.values()) or 'there is none'}"
                )
            seen[row.folder] = row.name
        unknown = sorted(set(self.quick.rows or ()) - set(seen.values()))
        if unknown:
            raise ValueError(f"quick.rows: {unknown[0]} is the name of no row")
        return self


def _is_teacher(name: str) -> bool:
    return re.fullmatch(r"teacher_\d\d", name) is not None


class Grid:
    """A grid that was read, with what the command line changed.

    Attributes:
        name: of its file.
        rows: that are to be run, those whose students others learn from included.
        rows_of_all_parts: these, and those of parts that are not asked for now.
        num_seeds: students of each.
    """

    def __init__(
        self, path: Path, overrides: Sequence[str] = (), is_quick: bool = False, part: str | None = None
    ) -> None:
        """Args:
        path: of the YAML file.
        overrides: of the base recipe, such as `corpus.path=DIR`.
        is_quick: whether the grid is to be small.
        part: of the rows; None: all.

        Raises:
            RecipeError: not a grid, or settings that a recipe does not take: says which row.
        """
        self.config = config = _read(path)
        self.name = f"{path.stem}_quick" if is_quick else path.stem
        self.num_seeds = config.quick.num_seeds if is_quick else config.num_seeds
        quick = config.quick.values if is_quick else {}
        # How many students a row has, the grid says, whatever the recipe does.
        seeds = _as_overrides({"student.num_seeds": 1})
        self._base = [*_as_overrides(config.values), *_as_overrides(quick), *overrides, *seeds]
        self._recipe_path = find_recipe(config.recipe)
        wanted = config.quick.rows if is_quick else None
        self.rows = _choose(config.rows, wanted, part)
        self.rows_of_all_parts = _choose(config.rows, wanted, None)
        for row in self.rows_of_all_parts:
            self.recipe_of(row)

    @cached_property
    def base(self) -> Recipe:
        """The recipe whose teachers all rows share."""
        return load_recipe(self._recipe_path, self._base)

    def recipe_of(self, row: RowConfig) -> Recipe:
        """That of one row.

        Raises:
            RecipeError: its settings are not such as a recipe takes.
        """
        try:
            recipe = load_recipe(self._recipe_path, [*self._base, *_as_overrides(row.values)])
        except RecipeError as error:
            raise RecipeError(f"row {row.name}: {error}") from error
        if len(recipe.student.hard_weight) > 1:
            raise RecipeError(
                f"row {row.name}: student.hard_weight is {list(recipe.student.hard_weight)}; expected one: "
                "each row of a grid is one way, so write two rows"
            )
        if row.uses_hard_targets_alone and recipe.student.has_sequences:
            raise RecipeError(
                f"row {row.name}: sequences are those of soft targets, but it has hard targets alone"
            )
        return recipe


def _read(path: Path) -> GridConfig:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"grid {path}: not readable as YAML: {' '.join(str(error).split())}; give a file such as "
            "pipelines/methods.yaml"
        ) from error
    try:
        return GridConfig.model_validate(values)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'grid'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        )
        raise RecipeError(
            f"grid {path}: {found}; expected recipe, set, num_seeds, rows (name, part, source, set, "
            "hard_targets, teacher) and quick, as in pipelines/methods.yaml"
        ) from error


def _as_overrides(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _choose(
    rows: Sequence[RowConfig], wanted: Sequence[str] | None, part: str | None
) -> tuple[RowConfig, ...]:
    """Rows of a part, in their order, with the rows that they learn from."""
    parts = sorted({part for row in rows for part in row.part})
    if part is not None and part not in parts:
        raise RecipeError(f"--part {part}: no row belongs to it; the parts are {', '.join(parts) or 'none'}")
    by_name = {row.name: row for row in rows}
    chosen: set[str] = set()
    for row in rows:
        if (wanted is None or row.name in wanted) and (part is None or part in row.part):
            follower: RowConfig | None = row
            while follower is not None:
                chosen.add(follower.name)
                follower = by_name.get(follower.teacher or "")
    if not chosen:
        raise RecipeError(f"--part {part}: quick.rows names no row of it; leave --quick or --part out")
    return tuple(row for row in rows if row.name in chosen)


def find_grid(name: str) -> Path:
    """The file of a grid given by path, or by name as in `pipelines/`.

    Raises:
        RecipeError: there is no such grid.
    """
    for path in (Path(name), PIPELINES_DIR / f"{name}.yaml"):
        if path.is_file():
            return path
    recipes = list_recipes()
    known = [path.stem for path in sorted(PIPELINES_DIR.glob("*.yaml")) if path not in recipes]
    raise RecipeError(
        f"grid {name}: no such file, and no grid of that name in {PIPELINES_DIR} (known: {', '.join(known)}; "
        "or give the path of a YAML file)"
    )
