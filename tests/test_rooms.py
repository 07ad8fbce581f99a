"""The rules of the house: who may import whom, and what every stage and every setting must have."""

import ast
import importlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import asrdistill
from asrdistill.config import Config
from asrdistill.pipeline import STAGES
from asrdistill.recipe import Recipe, list_recipes, load_recipe

LIBRARY_DIR = Path(asrdistill.__file__).parent
# A room imports from rooms above it alone; those on one line do not know each other.
ROOMS = (
    ("errors", "config", "parallel", "progress"),
    ("experiment",),
    ("corpus",),
    ("features",),
    ("hmm",),
    ("nn",),
    ("targets",),
    ("decoding",),
    ("scoring",),
    ("reporting",),
    ("recipe",),
    ("stages",),
    ("codec_comparison", "sweep"),
    ("pipeline",),
    ("experiment_comparison", "status"),
    ("cli",),
    ("__main__",),
)
LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted(path for path in LIBRARY_DIR.rglob("*.py") if path != LIBRARY_DIR / "__init__.py")


def name_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(LIBRARY_DIR).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def find_imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Our own modules that a file imports, anywhere in it, as parts below `asrdistill`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")[1:]) for name in names if name.startswith("asrdistill."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(name_of(path)))
def test_imports_only_from_rooms_above(path: Path) -> None:
    room = name_of(path)[0]
    wrong = [
        ".".join(found)
        for found in find_imports(path)
        if found[0] in LEVELS and found[0] != room and LEVELS[found[0]] >= LEVELS[room]
    ]
    assert not wrong


def test_every_room_is_known() -> None:
    assert {name_of(path)[0] for path in MODULES} <= LEVELS.keys()


def test_an_import_from_below_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("def late() -> None:\n    from asrdistill.stages.align import run\n")
    assert list(find_imports(path)) == [("stages", "align", "run")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    imports = find_imports(LIBRARY_DIR / "stages" / f"{stage}.py")
    assert not [found for found in imports if found[0] == "stages"]


def test_workers_of_the_decoder_do_not_load_torch() -> None:
    script = "import sys, asrdistill.decoding.decoder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=300).returncode == 0


def test_the_command_line_answers_without_loading_torch() -> None:
    script = "import sys, asrdistill.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=300).returncode == 0


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_does(name: str) -> None:
    module = STAGES[name]
    assert module.__doc__
    assert module.run.__doc__
    assert list(inspect.signature(module.run).parameters) == ["recipe", "experiment"]
    assert all(written.split("/")[0] == name for written in module.WRITES)
    assert module.WRITES


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_what_earlier_stages_write(name: str) -> None:
    earlier = list(STAGES)[: list(STAGES).index(name)]
    written = [path for stage in earlier for path in (*STAGES[stage].WRITES, f"{stage}/stamp.json")]
    for path in STAGES[name].READS:
        assert any(path == w or (w.endswith("/") and path.startswith(w)) for w in written), path


@pytest.mark.parametrize("name", STAGES)
def test_settings_of_a_stage_are_in_the_recipe(name: str) -> None:
    for key in STAGES[name].SETTINGS:
        options: list[type[Config]] = [Recipe]
        for part in key.split("."):
            fields = [option.model_fields[part] for option in options if part in option.model_fields]
            assert fields, key
            options = [found for field in fields for found in list_configs(field.annotation)]


def test_every_section_of_the_recipe_belongs_to_a_stage() -> None:
    used = {key.split(".")[0] for name in STAGES if name != "report" for key in STAGES[name].SETTINGS}
    assert used == set(Recipe.model_fields) - {"name"}


def list_configs(annotation: object) -> list[type[Config]]:
    """The configs in an annotation, be it one, an optional one or a union."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [found for argument in typing.get_args(annotation) for found in list_configs(argument)]


def all_configs() -> list[type[Config]]:
    for path in MODULES:
        if path.stem != "__main__":
            importlib.import_module(".".join(("asrdistill", *name_of(path))))
    found: list[type[Config]] = []
    pending: list[type[Config]] = [Config]
    while pending:
        subclasses = pending.pop().__subclasses__()
        found += subclasses
        pending += subclasses
    return found


@pytest.mark.parametrize("config", all_configs(), ids=lambda config: config.__name__)
def test_every_setting_is_described(config: type[Config]) -> None:
    assert config.__doc__
    for name, field in config.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("path", list_recipes(), ids=lambda path: path.stem)
def test_recipes_load(path: Path) -> None:
    needs_path = "kind: espeak" not in path.read_text(encoding="utf-8")
    recipe = load_recipe(path, ["corpus.path=/corpus"] if needs_path else [])
    assert path.read_text(encoding="utf-8").startswith("#"), "a recipe begins with what it is for"
    assert load_recipe(path, ["corpus.path=/corpus"] if needs_path else []) == recipe


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(name_of(path)))
def test_public_names_have_docstrings(path: Path) -> None:
    """Modules, classes and functions; properties and short methods named by their verb need none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.name not in ("__main__.py",):
        assert ast.get_docstring(tree)
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [node for node in nodes if not node.name.startswith("_")]
    assert not [node.name for node in public if not ast.get_docstring(node)]


def test_stages_are_modules_in_the_order_of_the_help() -> None:
    from asrdistill.cli import EPILOG

    assert all(isinstance(module, ModuleType) for module in STAGES.values())
    places = [EPILOG.index(f"\n  {name.replace('_', '-')} ") for name in STAGES]
    assert places == sorted(places)
