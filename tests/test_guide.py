"""A teacher whose weights lie beside the shards: fetched, checked and copied with them, and learnt from."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from asrdistill.errors import ContractError
from asrdistill.nn.checkpoint import load_model
from asrdistill.targets.codecs import DenseConfig
from asrdistill.targets.fetching import fetch_shards
from asrdistill.targets.rewriting import AddedTeachers, rewrite
from asrdistill.targets.shards import ShardReader
from asrdistill.targets.verification import find_damage

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py
SMALL = "student.model={num_hidden_layers: 1, hidden_size: 16}"
WEIGHTED = ("--set", "soft_targets.wrong_weight=0.5")


@pytest.fixture(scope="module")
def guided(
    tiny_recipe: Path, finished: Path, asrdistill_process: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Shards with a guide, of teachers that count less where they are wrong; only read them."""
    copy = tmp_path_factory.mktemp("guided") / "tiny"
    shutil.copytree(finished, copy)
    words = ("--set", "soft_targets.guide=2", *WEIGHTED, "--stage", "soft-targets")
    outcome = asrdistill_process("run", tiny_recipe, "--exp", copy, *words)
    assert outcome.status == 0, outcome.stderr
    return copy / "soft_targets/shards"


def test_it_is_the_teacher_that_the_recipe_names(guided: Path, finished: Path) -> None:
    teachers, _ = load_model(finished / "teachers/model.safetensors")
    guide = ShardReader(guided).load_guide()
    for weight, other in zip(guide.parameters(), teachers.parameters(), strict=True):
        assert torch.equal(weight[0], other[2])
    assert ShardReader(guided).index["guide"]["teacher"] == 2


@pytest.mark.parametrize(
    "settings",
    [
        ("student.initial_weights=guide",),
        ("student.extra_terms=[{kind: hidden_states}, {kind: relations}]",),
        (
            "student.model={num_hidden_layers: 1, hidden_size: 16}",
            "student.extra_terms=[{kind: hidden_states}]",
        ),
        ("student.model={num_hidden_layers: 1, hidden_size: 16}", "student.initial_weights=guide"),
    ],
)
def test_a_student_learns_from_it_with_all_else_gone(
    guided: Path, tiny_recipe: Path, tmp_path: Path, asrdistill: Command, settings: tuple[str, ...]
) -> None:
    carried = tmp_path / "shards"
    shutil.copytree(guided, carried)
    out = ("--recipe", tiny_recipe, "--out", tmp_path / "student")
    words = [word for setting in settings for word in ("--set", setting)]
    outcome = asrdistill("distill", "--shards", carried, *out, *words)
    assert outcome.status == 0, outcome.stderr
    model, described = load_model(tmp_path / "student/model.safetensors")
    assert model.num_members == len(described["students"]) == 3
    assert all(curve["dev_frame_accuracy"][-1] > 0.02 for curve in described_curves(tmp_path / "student"))


def described_curves(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "curves.json").read_text())
    return found


def test_a_damaged_one_is_found_and_not_used(guided: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(guided, copy)
    assert find_damage(copy) == []
    path = copy / "guide.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert [found.path for found in find_damage(copy)] == [path]
    with pytest.raises(ContractError, match=r"its SHA-256 is not the one in index.json"):
        ShardReader(copy).load_guide()


def test_it_is_fetched_and_rewritten_with_the_shards(
    guided: Path, tmp_path: Path, asrdistill: Command
) -> None:
    fetch_shards(guided.as_uri(), tmp_path / "fetched")
    small = tmp_path / "small"
    outcome = asrdistill("rewrite", guided, "--out", small, "--set", "soft_targets.codec.kind=sampled")
    assert outcome.status == 0, outcome.stderr
    for folder in (tmp_path / "fetched", small):
        assert (folder / "guide.safetensors").read_bytes() == (guided / "guide.safetensors").read_bytes()
        assert find_damage(folder) == []


def test_none_can_be_added_where_the_wrong_count_less(guided: Path, finished: Path, tmp_path: Path) -> None:
    model, _ = load_model(finished / "teachers/model.safetensors")
    with pytest.raises(ContractError, match=r"wrong_weight is 0.5"):
        rewrite(ShardReader(guided), tmp_path / "more", DenseConfig(), AddedTeachers(model, {}))
    assert not (tmp_path / "more").exists()


def test_teachers_that_are_wrong_count_less(guided: Path, finished: Path) -> None:
    """Against the definition, frame by frame in float64."""
    teachers, _ = load_model(finished / "teachers/model.safetensors")
    frames = ShardReader(guided).load("dev", 2.0)
    assert frames.soft_targets is not None
    num_mixed = 0
    for start, end in pairwise(frames.starts[:5].tolist()):
        logits = teachers.compute_logits(frames.frames[start:end]).double()
        stored = frames.soft_targets.take(torch.arange(start, end)[None])
        assert isinstance(stored, torch.Tensor)
        for frame, pdf_id in enumerate(frames.pdf_ids[start:end].tolist()):
            right = [int(of_teacher[frame].argmax()) == pdf_id for of_teacher in logits]
            shares = [1 / 3] * 3
            if any(right) and not all(right):
                num_mixed += 1
                freed = (1 - 0.5) / 3 * right.count(False) / right.count(True)
                shares = [1 / 3 + freed if is_right else 0.5 / 3 for is_right in right]
            pairs = zip(shares, logits[:, frame], strict=True)
            expected = sum(share * torch.softmax(row / 2, 0) for share, row in pairs)
            assert isinstance(expected, torch.Tensor)
            torch.testing.assert_close(stored[0, frame].double(), expected, atol=2e-4, rtol=2e-3)
    assert num_mixed > 10
