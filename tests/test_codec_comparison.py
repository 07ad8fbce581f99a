"""Students of several codecs on a finished experiment, as the command trains and scores them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrdistill.codec_comparison import compare_codecs
from asrdistill.errors import ContractError
from asrdistill.pipeline import open_experiment

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py
CODECS = ("{kind: dense}", "{kind: top_k, num_kept: 4}", "{kind: transform, step: 0.5}")


def test_every_codec_has_its_students(finished_copy: Path, finished: Path, asrdistill: Command) -> None:
    words = [word for codec in CODECS for word in ("--codec", codec)]
    outcome = asrdistill("compare-codecs", finished_copy, *words, "--num-seeds", "2")
    assert outcome.status == 0, outcome.stderr
    codecs = json.loads((finished_copy / "codecs/codecs.json").read_text())["codecs"]
    assert tuple(codec["name"] for codec in codecs) == CODECS
    dense, *small = codecs
    for codec in codecs:
        accuracies = [student["frame_accuracy"]["test"] for student in codec["students"]]
        assert len(set(accuracies)) == 2, "seeds are not told apart"
        assert all("wer" in student for student in codec["students"])
    assert all(codec["bytes_per_frame"] < dense["bytes_per_frame"] / 5 for codec in small)
    # The first of them is the experiment's own student of the first hard weight, but for the stack it is in.
    own = json.loads((finished / "score/systems/student_00.json").read_text())["frame_accuracy"]
    assert dense["students"][0]["frame_accuracy"] == pytest.approx(own, abs=1e-3)
    report = json.loads((finished_copy / "report/report.json").read_text())
    assert report["codecs"] == codecs
    assert "<h2>Codecs</h2>" in (finished_copy / "report/report.html").read_text()
    again = asrdistill("compare-codecs", finished_copy, *words, "--num-seeds", "2")
    assert again.stderr.count("measured already") == 3
    # Results of a codec that is another one now are not told.
    asked = finished_copy / "codecs/transform_step_0.5/asked.json"
    asked.write_text(asked.read_text().replace("0.5", "0.7"))
    asrdistill("compare-codecs", finished_copy, "--codec", "{kind: dense}", "--num-seeds", "2")
    names = [
        codec["name"] for codec in json.loads((finished_copy / "codecs/codecs.json").read_text())["codecs"]
    ]
    assert names == list(CODECS[:2])
    scored = sorted(path.name for path in (finished / "score/systems").iterdir())
    assert sorted(path.name for path in (finished_copy / "score/systems").iterdir()) == scored


def test_what_cannot_be_meant_is_refused(transformed: Path, finished: Path, asrdistill: Command) -> None:
    for words, expected in (
        ((transformed,), "stage student, which comes before, is not finished"),
        ((finished, "--num-seeds", "0"), "--num-seeds is 0, expected 1 or more"),
        ((finished, "--codec", "{kind: zip}"), "soft_targets.codec"),
        ((finished, "--codec", "dense"), "soft_targets.codec"),
    ):
        outcome = asrdistill("compare-codecs", *words)
        assert (outcome.status, expected in outcome.error) == (1, True), outcome.stderr
    assert not (finished / "codecs").exists()
    experiment, recipe = open_experiment(transformed)
    with pytest.raises(ContractError, match="codec transform; codecs are compared with dense soft targets"):
        compare_codecs(recipe, experiment, [], 1)
