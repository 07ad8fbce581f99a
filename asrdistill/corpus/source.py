"""What all sources of a corpus share: the base of their settings, and reading their text files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from asrdistill.config import Config
from asrdistill.errors import CorpusError

SPLITS = ("train", "dev", "test")
# Speech that only a student hears: it has soft targets and no hard ones.
UNTRANSCRIBED = "untranscribed"
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
# One spelling, so that the same folder named otherwise is no change of the recipe; links are kept.
FolderPath = Annotated[Path, AfterValidator(lambda path: Path(os.path.abspath(path.expanduser())))]  # noqa: PTH100


class SourceConfig(Config):
    """Settings of every source."""

    sampling_rate_hz: int = Field(
        16000,
        ge=4000,
        description="rate at which features are computed (Hz); recordings at higher rates are resampled, "
        "lower ones refused",
    )
    transcribed_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the training utterances whose transcripts are used; those of other speakers "
        "are put away, and their speech is untranscribed, to find out what transcripts are worth",
    )


class FolderConfig(SourceConfig):
    """Settings of a source that lies in a folder of the user's."""

    path: FolderPath = Field(description="folder of the corpus; --set corpus.path=DIR")


def normalise_text(text: str) -> str:
    """Upper-case a transcript, words separated by single spaces: the form of transcripts and lexicon."""
    return " ".join(text.upper().split())


def normalise_gender(text: str) -> str | None:
    """Lower-case a gender; `female` and `male` become `f` and `m`, `unknown` and nothing None."""
    gender = text.strip().lower()
    return {"female": "f", "male": "m", "unknown": None, "": None}.get(gender, gender)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and stripped text of the lines that are not empty.

    Raises:
        CorpusError: the file is missing, not readable or not UTF-8.
    """
    if not path.is_file():
        raise CorpusError(f"{path}: no such file; set corpus.path to the folder that holds the corpus")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror}); make it readable for you") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 ({error}); convert it, for example with iconv") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.strip()
