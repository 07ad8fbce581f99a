"""A student from shards alone: the experiment's own, from a copy, from a web server, with all else gone."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py


class QuietHandler(SimpleHTTPRequestHandler):
    """Counts what is asked for."""

    asked: list[str]

    def log_message(self, *_: object) -> None:
        self.asked.append(self.path.rpartition("/")[2])


@pytest.fixture
def shards_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of the shards, nothing else beside it."""
    copy = tmp_path / "carried away"
    shutil.copytree(finished / "soft_targets/shards", copy)
    return copy


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """URL of a folder on a web server, and the files it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (QuietHandler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}", asked
        web.shutdown()


@pytest.fixture
def server(shards_dir: Path) -> Iterator[tuple[str, list[str]]]:
    with serve(shards_dir) as served:
        yield served


def test_a_copy_of_the_shards_trains_the_same_student(
    tiny_recipe: Path, finished: Path, shards_dir: Path, tmp_path: Path, asrdistill: Command
) -> None:
    out = tmp_path / "student"
    outcome = asrdistill("distill", "--shards", shards_dir, "--recipe", tiny_recipe, "--out", out)
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.strip() == str(out / "model.safetensors")
    for name in ("model.safetensors", "curves.json"):
        assert (out / name).read_bytes() == (finished / "student" / name).read_bytes()
    again = asrdistill("distill", "--shards", shards_dir, "--recipe", tiny_recipe, "--out", out)
    assert "is there already" in again.stderr


def test_a_web_server_is_as_good_as_a_folder(
    tiny_recipe: Path,
    finished: Path,
    shards_dir: Path,
    server: tuple[str, list[str]],
    tmp_path: Path,
    asrdistill: Command,
) -> None:
    url, asked = server
    out = tmp_path / "student"
    words = ("distill", "--shards", url, "--recipe", tiny_recipe, "--out", out)
    shard = shards_dir / "train-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:5000] + bytes(100) + content[5100:])
    outcome = asrdistill(*words)
    assert outcome.status == 1
    assert "train-000000.tar: the download has sha256" in outcome.error
    assert not (out / "shards/index.json").exists()
    shard.write_bytes(content)
    fetched = {name for name in asked if (out / "shards" / name).is_file()}
    asked.clear()
    assert asrdistill(*words).status == 0
    assert (out / "model.safetensors").read_bytes() == (finished / "student/model.safetensors").read_bytes()
    assert not fetched & set(asked), "what was there was fetched again"


def test_shards_with_a_codebook_train_the_same_student_from_a_server(
    transformed: Path, tmp_path: Path, asrdistill: Command
) -> None:
    """And another one where frames count by how far their teachers agree."""
    short = ("--set", "student.training={num_epochs: 1, batch_size: 256, precision: fp32}")
    folder, students = transformed / "soft_targets/shards", {}
    with serve(folder) as (url, asked):
        for source, weighting in ((folder, "none"), (url, "none"), (folder, "votes"), (folder, "distance")):
            out = tmp_path / f"{len(students)}"
            words = ("--out", out, *short, "--set", f"student.frame_weights={weighting}")
            assert asrdistill("distill", "--shards", source, *words).status == 0
            students[source, weighting] = (out / "model.safetensors").read_bytes()
    assert "codebook_t2.safetensors" in asked
    assert students[folder, "none"] == students[url, "none"]
    assert len(set(students.values())) == 3


def test_other_settings_train_another_student(
    tiny_recipe: Path, shards_dir: Path, tmp_path: Path, asrdistill: Command
) -> None:
    """In the same folder too; and without a recipe, like one teacher."""
    out = tmp_path / "student"
    short = ("--set", "student.training={num_epochs: 1, batch_size: 256, precision: fp32}")
    contents = []
    for weight in (0.2, 0.7):
        setting = ("--set", f"student.hard_weight={weight}")
        assert asrdistill("distill", "--shards", shards_dir, "--out", out, *short, *setting).status == 0
        curves = json.loads((out / "curves.json").read_text())
        assert [curve["name"] for curve in curves] == [f"hard weight {weight}, seed 101"]
        contents.append((out / "model.safetensors").read_bytes())
    assert contents[0] != contents[1]
    assert json.loads((out / "student.json").read_text())["model"]["hidden_size"] == 64


def test_what_cannot_be_meant_is_refused(
    tiny_recipe: Path, shards_dir: Path, tmp_path: Path, asrdistill: Command
) -> None:
    out = ("--out", tmp_path / "student")
    for words, expected in (
        (("--shards", tmp_path / "nowhere"), "not found; the soft-targets stage writes it last"),
        (("--shards", "http://127.0.0.1:1/shards"), "download failed"),
        (("--shards", shards_dir, "--set", "teachers.seed=3"), "only settings of the student count"),
        (("--shards", shards_dir, "--set", "student.hard_wait=3"), "did you mean hard_weight"),
        (("--shards", shards_dir, "--set", "student.temperature=7"), "no targets at T=7, stored: T=2"),
        (("--shards", shards_dir, "--recipe", "nothing"), "recipe nothing: no such file"),
        (("--shards", "http://127.0.0.1:port/x"), "download failed"),
        (("--shards", "http://127.0.0.1/two words"), "download failed"),
        (
            ("--shards", shards_dir, "--set", "student.hard_weight=[0.5,0.5]"),
            "each weight is to be given once",
        ),
        (
            ("--shards", shards_dir, "--set", "student.annealing.temperature=1"),
            "student.annealing.temperature is 1",
        ),
        (
            ("--shards", shards_dir, "--set", "student.initial_weights=guide"),
            "no teacher's weights lie beside them",
        ),
        (
            ("--shards", shards_dir, "--set", "student.extra_terms=[{kind: sequence}]"),
            "whole utterances",
        ),
    ):
        outcome = asrdistill("distill", *words, *out)
        assert outcome.status == 1, words
        assert expected in outcome.error, words


def test_shards_that_are_not_there_leave_no_folder(tmp_path: Path, asrdistill: Command) -> None:
    out = tmp_path / "student"
    assert asrdistill("distill", "--shards", tmp_path / "nowhere", "--out", out).status == 1
    assert not out.exists()


def test_a_folder_of_another_model_is_left_alone(
    shards_dir: Path, finished: Path, tmp_path: Path, asrdistill: Command
) -> None:
    shutil.copytree(finished / "teachers", tmp_path / "teachers")
    outcome = asrdistill("distill", "--shards", shards_dir, "--out", tmp_path / "teachers")
    assert outcome.status == 1 and "not of a distill command" in outcome.error
    model = "teachers/model.safetensors"
    assert (tmp_path / model).read_bytes() == (finished / model).read_bytes()


@pytest.mark.parametrize("content", ["[]", "{", '{"splits": {"train": [{"file": "../x", "sha256": "0"}]}}'])
def test_what_is_no_index_is_refused(
    shards_dir: Path, server: tuple[str, list[str]], tmp_path: Path, asrdistill: Command, content: str
) -> None:
    (shards_dir / "index.json").write_text(content)
    outcome = asrdistill("distill", "--shards", server[0], "--out", tmp_path / "student")
    assert outcome.status == 1
    assert "index.json" in outcome.error and not (tmp_path / "x").exists()
