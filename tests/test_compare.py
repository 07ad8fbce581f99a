"""`asrdistill compare`: two experiments of one corpus beside each other, and what cannot be compared."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py


def read_report(experiment_dir: Path) -> Any:
    return json.loads((experiment_dir / "report/report.json").read_text(encoding="utf-8"))


def test_an_experiment_does_not_differ_from_itself(
    finished: Path, asrdistill: Command, tmp_path: Path
) -> None:
    out = tmp_path / "same.json"
    outcome = asrdistill("compare", finished, finished, "--json", out)
    assert outcome.status == 0, outcome.stderr
    assert "Their settings are the same." in outcome.stdout
    compared = json.loads(out.read_text(encoding="utf-8"))
    assert [pair["system"] for pair in compared["pairs"]] == [
        "one teacher", "ensemble", "distilled", "control on hard targets alone",
        "control with label smoothing", "control of equal compute", "GMM-HMM",
    ]  # fmt: skip
    for pair in compared["pairs"]:
        for measure in ("frame_accuracy", "wer", "per"):
            found = pair[measure]
            assert (found["difference"], found["ci95"], found["p_value"]) == (0, [0, 0], 1)


def test_what_differs_is_told(
    tiny_recipe: Path, finished: Path, finished_copy: Path, asrdistill: Command, tmp_path: Path
) -> None:
    """Of another student alone; its teachers are the same."""
    change = ("--set", "student.training.num_epochs=3")
    assert asrdistill("run", tiny_recipe, "--exp", finished_copy, *change).status == 0
    out = tmp_path / "difference.json"
    outcome = asrdistill("compare", finished, finished_copy, "--json", out)
    assert outcome.status == 0, outcome.stderr
    compared = json.loads(out.read_text(encoding="utf-8"))
    assert compared["settings"] == [["student.training.num_epochs", 2, 3]]
    assert compared["same_targets"]
    reports = [read_report(folder)["systems"] for folder in (finished, finished_copy)]
    pairs = {pair["system"]: pair for pair in compared["pairs"]}
    assert pairs["ensemble"]["wer"]["difference"] == 0
    first, second = (report["distilled"]["members"][0] for report in reports)
    found = pairs["distilled"]
    expected = first["frame_accuracy"]["test"] - second["frame_accuracy"]["test"]
    assert found["frame_accuracy"]["difference"] == pytest.approx(expected) != 0
    for rate in ("wer", "per"):
        expected = first[rate]["test"]["wer"] - second[rate]["test"]["wer"]
        assert found[rate]["difference"] == pytest.approx(expected)
        assert found[rate]["p_corrected"] >= found[rate]["p_value"]
    for told in (
        "student.training.num_epochs   2   3",
        "p of MAPSSWE",
        "p of McNemar",
        "over the 2 speakers",
    ):
        assert told in outcome.stdout


def test_what_cannot_be_compared_is_refused(
    finished: Path, finished_copy: Path, asrdistill: Command, tmp_path: Path
) -> None:
    outcome = asrdistill("compare", finished, tmp_path)
    assert outcome.status == 1 and "not an experiment (no recipe.yaml in it)" in outcome.error
    (finished_copy / "score/stamp.json").unlink()
    outcome = asrdistill("compare", finished, finished_copy)
    assert outcome.status == 1 and "stage score, which comes before, is not finished" in outcome.error
