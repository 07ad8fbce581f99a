"""What the score stage left of every test utterance, read back to compare systems."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from asrdistill.corpus.manifest import read_manifest
from asrdistill.scoring.comparison import Outcome, ScoredSpeech
from asrdistill.scoring.word_alignment import align_words
from asrdistill.scoring.word_errors import count_utterance_errors


class Outcomes:
    """Of all systems of an experiment.

    Attributes:
        speech: the test utterances.
    """

    def __init__(self, experiment_dir: Path) -> None:
        """Read what all systems share."""
        self._dir = experiment_dir / "score"
        utterances = {u.id: u for u in read_manifest(experiment_dir / "prepare/manifests/test.jsonl")}
        counted: dict[str, Any] = json.loads((self._dir / "test_frames.json").read_text(encoding="utf-8"))
        self._systems = counted["systems"]
        self._references = {name: utterances[name].words for name in counted["utterances"]}
        num_frames = next(iter(self._systems.values()))["frames"]
        num_words = [len(words) for words in self._references.values()]
        speakers = [utterances[name].speaker for name in self._references]
        known = [speaker for speaker in speakers if speaker is not None]
        has_speakers = len(known) == len(speakers) and len(set(known)) > 1
        self.speech = ScoredSpeech(
            np.array(num_frames, np.int64),
            np.array(num_words, np.int64),
            known if has_speakers else list(self._references),
            "speaker" if has_speakers else "utterance",
        )

    def read(self, system: str, name: str | None = None) -> Outcome:
        """That of one system, such as `teacher_00`; under another name, if one is given."""
        wrong = self.speech.num_frames - np.array(self._systems[system]["correct"], np.int64)
        path = self._dir / "systems" / f"{system}.test.txt"
        if not path.is_file():
            return Outcome(name or system, wrong, None, None)
        # In the same order; ids may have spaces in them.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        pairs = [
            (words, line.removeprefix(name).split())
            for (name, words), line in zip(self._references.items(), lines, strict=True)
        ]
        errors = [sum(count_utterance_errors(*pair)[:3]) for pair in pairs]
        alignments = [align_words(*pair) for pair in pairs]
        return Outcome(name or system, wrong, np.array(errors, np.int64), alignments)
