"""What the score stage wrote of every utterance is read back as it was."""

import json
from pathlib import Path

import numpy as np
import pytest

from asrdistill.corpus.manifest import Utterance, write_manifest
from asrdistill.scoring.outcomes import Outcomes
from asrdistill.scoring.scorer import write_hypotheses

HYPOTHESES = {"b b": ["go", "now"], "a": [], "c\u2028c": ["stop", "it"]}
TEXTS = {"b b": "go right now", "a": "stop", "c\u2028c": "stop it"}


def make_experiment(folder: Path, speakers: dict[str, str | None]) -> Outcomes:
    """Three utterances in another order than that of their ids, one system."""
    for name in ("prepare/manifests", "score/systems"):
        (folder / name).mkdir(parents=True)
    utterances = [Utterance(name, "/x.wav", 0, 1, TEXTS[name], speakers[name]) for name in sorted(TEXTS)]
    write_manifest(folder / "prepare/manifests/test.jsonl", utterances)
    frames = {"correct": [5, 6, 0], "frames": [10, 10, 0]}
    counted = {"utterances": list(HYPOTHESES), "systems": {"ensemble": frames}}
    (folder / "score/test_frames.json").write_text(json.dumps(counted))
    write_hypotheses(folder / "score/systems/ensemble.test.txt", HYPOTHESES)
    return Outcomes(folder)


def test_every_utterance_has_its_own_errors(tmp_path: Path) -> None:
    """Whatever is in its id."""
    outcomes = make_experiment(tmp_path, dict.fromkeys(TEXTS))
    outcome = outcomes.read("ensemble", "other name")
    assert outcome.name == "other name"
    assert outcome.alignments == ["CDC", "D", "CC"]
    np.testing.assert_array_equal(outcome.word_errors, [1, 1, 0])
    np.testing.assert_array_equal(outcome.wrong_frames, [5, 4, 0])
    np.testing.assert_array_equal(outcomes.speech.num_words, [3, 1, 2])
    np.testing.assert_array_equal(outcomes.speech.num_frames, [10, 10, 0])


def test_without_words_there_are_frames(tmp_path: Path) -> None:
    outcomes = make_experiment(tmp_path, dict.fromkeys(TEXTS))
    (tmp_path / "score/systems/ensemble.test.txt").unlink()
    outcome = outcomes.read("ensemble")
    assert (outcome.name, outcome.word_errors, outcome.alignments) == ("ensemble", None, None)


@pytest.mark.parametrize(
    ("speakers", "block", "blocks"),
    [
        ({"b b": "bea", "a": "ann", "c\u2028c": "ann"}, "speaker", ["bea", "ann", "ann"]),
        ({"b b": "ann", "a": "ann", "c\u2028c": "ann"}, "utterance", list(TEXTS)),
        ({"b b": "bea", "a": None, "c\u2028c": "ann"}, "utterance", list(TEXTS)),
    ],
    ids=["two speakers", "one speaker", "not all known"],
)
def test_speakers_are_drawn_where_there_are_some(
    tmp_path: Path, speakers: dict[str, str | None], block: str, blocks: list[str]
) -> None:
    speech = make_experiment(tmp_path, speakers).speech
    assert (speech.block, list(speech.blocks)) == (block, blocks)
