"""What the score stage wrote of every utterance is read back as it was."""

import json
from pathlib import Path

import numpy as np
import pytest

from asrdistill.corpus.manifest import Utterance, write_manifest
from asrdistill.scoring.outcomes import Outcomes
from asrdistill.scoring.scorer import write_hypotheses

HYPOTHESES = {"b b": ["go", "now"], "a": [], "c\u2028c": ["stop", "it"]}
PHONES = {"b b": "GO", "a": "STO", "c\u2028c": ""}  # the last one was not aligned
CORRECT = np.array([1, 0] * 5 + [0, 1, 1, 1, 0, 0, 1, 1, 0, 1], bool)
TEXTS = {"b b": "go right now", "a": "stop", "c\u2028c": "stop it"}


def make_experiment(folder: Path, speakers: dict[str, str | None]) -> Outcomes:
    """Three utterances in another order than that of their ids, one system."""
    for name in ("prepare/manifests", "score/systems"):
        (folder / name).mkdir(parents=True)
    utterances = [Utterance(name, "/x.wav", 0, 1, TEXTS[name], speakers[name]) for name in sorted(TEXTS)]
    write_manifest(folder / "prepare/manifests/test.jsonl", utterances)
    counted = {"utterances": list(HYPOTHESES), "frames": [10, 10, 0]}
    (folder / "score/test_frames.json").write_text(json.dumps(counted))
    np.save(folder / "score/systems/ensemble.test_frames.npy", np.packbits(CORRECT))
    write_hypotheses(folder / "score/systems/ensemble.test.txt", HYPOTHESES)
    write_hypotheses(folder / "score/test_phones.txt", {name: list(said) for name, said in PHONES.items()})
    write_hypotheses(
        folder / "score/systems/ensemble.test.phones.txt", {"b b": [], "a": ["S"], "c\u2028c": []}
    )
    return Outcomes(folder)


def test_every_utterance_has_its_own_errors(tmp_path: Path) -> None:
    """Whatever is in its id."""
    outcomes = make_experiment(tmp_path, dict.fromkeys(TEXTS))
    outcome = outcomes.read("ensemble", "other name")
    assert outcome.name == "other name"
    words, phones = outcome.recognised["wer"], outcome.recognised["per"]
    assert words.alignments == ["CDC", "D", "CC"]
    np.testing.assert_array_equal(words.errors, [1, 1, 0])
    assert phones.alignments == ["DD", "CDD", ""]
    np.testing.assert_array_equal(phones.errors, [2, 2, 0])
    np.testing.assert_array_equal(outcome.correct, CORRECT)
    np.testing.assert_array_equal(outcome.wrong_frames, [5, 4, 0])
    np.testing.assert_array_equal(outcomes.speech.sizes["wer"], [3, 1, 2])
    np.testing.assert_array_equal(outcomes.speech.sizes["per"], [2, 3, 0])
    np.testing.assert_array_equal(outcomes.speech.num_frames, [10, 10, 0])


def test_without_words_there_are_frames(tmp_path: Path) -> None:
    outcomes = make_experiment(tmp_path, dict.fromkeys(TEXTS))
    for suffix in ("test.txt", "test.phones.txt"):
        (tmp_path / f"score/systems/ensemble.{suffix}").unlink()
    outcome = outcomes.read("ensemble")
    assert (outcome.name, outcome.recognised) == ("ensemble", {})


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
