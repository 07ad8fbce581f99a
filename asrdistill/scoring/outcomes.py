"""What the score stage left of every test utterance, read back to compare systems."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asrdistill.corpus.manifest import Utterance, read_manifest
from asrdistill.scoring.comparison import Outcome, RecognisedSpeech, ScoredSpeech
from asrdistill.scoring.word_alignment import align_words
from asrdistill.scoring.word_errors import count_utterance_errors

# Files of what a system recognised, by the name of the error rate.
HYPOTHESES = {"wer": "test.txt", "per": "test.phones.txt"}
# More of them make an interval no better, only slower.
MOST_BLOCKS = 1000
Transcripts = dict[str, list[str]]


class Outcomes:
    """Of all systems of an experiment.

    Attributes:
        utterances: of test, by id, in the order of all that follows.
        speech: what is known of them.
        references: by the name of the error rate, what was said in each.
    """

    def __init__(self, experiment_dir: Path, score_dir: Path | None = None) -> None:
        """Read what all systems share.

        Args:
            experiment_dir: of the experiment.
            score_dir: with what its systems made of test; None: that of the score stage.
        """
        self._dir = score_dir or experiment_dir / "score"
        self._outcomes: dict[str, Outcome] = {}
        known = {u.id: u for u in read_manifest(experiment_dir / "prepare/manifests/test.jsonl")}
        counted: dict[str, Any] = json.loads((self._dir / "test_frames.json").read_text(encoding="utf-8"))
        self.utterances: dict[str, Utterance] = {name: known[name] for name in counted["utterances"]}
        words = {name: utterance.words for name, utterance in self.utterances.items()}
        phones = read_transcripts(self._dir / "test_phones.txt", self.utterances)
        self.references: dict[str, Transcripts] = {"wer": words, "per": phones}
        speakers = [utterance.speaker for utterance in self.utterances.values()]
        told = [speaker for speaker in speakers if speaker is not None]
        has_speakers = len(told) == len(speakers) and len(set(told)) > 1
        blocks, block = (told, "speaker") if has_speakers else _group(list(self.utterances))
        self.speech = ScoredSpeech(
            np.array(counted["frames"], np.int64),
            {
                rate: np.array([len(said) for said in references.values()], np.int64)
                for rate, references in self.references.items()
            },
            blocks,
            block,
        )

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where the frames of each utterance begin and end, in a row: int64 (U + 1,)."""
        return np.cumsum([0, *self.speech.num_frames])

    @property
    def systems(self) -> list[str]:
        """Names of all systems that were scored, sorted."""
        return sorted(path.name.split(".")[0] for path in self._dir.glob("systems/*.test_frames.npy"))

    def read(self, system: str, name: str | None = None) -> Outcome:
        """That of one system, such as `teacher_00`; under another name, if one is given."""
        if system not in self._outcomes:
            self._outcomes[system] = self._read_outcome(system)
        return replace(self._outcomes[system], name=name or system)

    def _read_outcome(self, system: str) -> Outcome:
        bits = np.load(self._dir / "systems" / f"{system}.test_frames.npy", allow_pickle=False)
        correct = np.unpackbits(bits, count=int(self._ends[-1])).astype(bool)
        counts = np.diff(np.concatenate([[0], np.cumsum(correct)])[self._ends])
        recognised = {rate: self._align(hypotheses, rate) for rate, hypotheses in self._read(system).items()}
        return Outcome(system, correct, self.speech.num_frames - counts, recognised)

    def read_words(self, system: str) -> Transcripts | None:
        """What a system understood of each utterance; None where no words were decoded."""
        return self._read(system).get("wer")

    def _read(self, system: str) -> dict[str, Transcripts]:
        paths = {rate: self._dir / "systems" / f"{system}.{suffix}" for rate, suffix in HYPOTHESES.items()}
        return {rate: read_transcripts(p, self.utterances) for rate, p in paths.items() if p.is_file()}

    def _align(self, hypotheses: Transcripts, rate: str) -> RecognisedSpeech:
        pairs = [(said, hypotheses[name]) for name, said in self.references[rate].items()]
        errors = [sum(count_utterance_errors(*pair)[:3]) for pair in pairs]
        return RecognisedSpeech(np.array(errors, np.int64), [align_words(*pair) for pair in pairs])


def _group(names: Sequence[str]) -> tuple[list[str], str]:
    """Utterances as blocks, which are independent of each other; and what a block is."""
    if len(names) <= MOST_BLOCKS:
        return list(names), "utterance"
    return [str(place * MOST_BLOCKS // len(names)) for place in range(len(names))], "utterance group"


def read_transcripts(path: Path, utterances: Iterable[str]) -> Transcripts:
    """What `write_hypotheses` wrote of these utterances, in their order; ids may have spaces in them."""
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return {name: line.removeprefix(name).split() for name, line in zip(utterances, lines, strict=True)}
