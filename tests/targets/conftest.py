"""An experiment whose soft targets have a codebook."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]  # gives the Outcome of conftest.py


@pytest.fixture(scope="session")
def transformed(
    tiny_recipe: Path, finished: Path, asrdistill_process: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An experiment up to its soft targets, which have a codebook."""
    copy = tmp_path_factory.mktemp("transformed") / "tiny"
    shutil.copytree(finished, copy)
    words = ("--set", "soft_targets.codec={kind: transform}", "--stage", "soft-targets")
    assert asrdistill_process("run", tiny_recipe, "--exp", copy, *words).status == 0
    return copy
