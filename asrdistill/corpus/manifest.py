"""The manifest: one JSON object a line, one line an utterance, NeMo's field names plus `id` and `speaker`."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from asrdistill.errors import CorpusError
from asrdistill.experiment import atomic_path


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech by one speaker, with its transcript.

    Attributes:
        id: unique in the corpus.
        audio_filepath: absolute path of the recording.
        offset: where the utterance starts in the recording, in seconds.
        duration: its length in seconds.
        text: transcript, words separated by single spaces.
        speaker: None where no speaker is known.
        gender: of the speaker, where known: `f`, `m`, or what the corpus calls it, in lower case.
        age: of the speaker, where known, in years.
    """

    id: str
    audio_filepath: str
    offset: float
    duration: float
    text: str
    speaker: str | None = None
    gender: str | None = None
    age: float | None = None

    @property
    def words(self) -> list[str]:
        return self.text.split()


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Publish a manifest atomically; what is not known is left out."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for utterance in utterances:
            known = {key: value for key, value in asdict(utterance).items() if value is not None}
            file.write(json.dumps(known, ensure_ascii=False, sort_keys=True) + "\n")


def read_manifest(path: Path) -> list[Utterance]:
    """Read one of our own manifests (what `write_manifest` wrote).

    Raises:
        CorpusError: the file is missing or a line is not an utterance.
    """
    if not path.is_file():
        raise CorpusError(f"manifest {path}: not found; the prepare stage writes it: run that stage first")
    utterances = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                utterances.append(Utterance(**json.loads(line)))
            except (json.JSONDecodeError, TypeError) as error:
                raise CorpusError(
                    f"manifest {path}, line {number}: not an utterance ({error}); "
                    "run again with --force prepare"
                ) from error
    return utterances
