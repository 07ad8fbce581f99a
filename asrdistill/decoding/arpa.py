r"""Language models in ARPA form: those of SRILM, KenLM and others read, our own written.

An ARPA file has for each n-gram the log10 of its probability and of its back-off weight (0 where none is
given). A file knows other words than the lexicon does:

- A word of the file that the lexicon does not have is dropped, and all n-grams with it.
- A word of the lexicon that the file does not have, or has with probability zero (-99), can be recognised
  only if the file has <unk>: all such words share the probability of <unk> as a unigram equally. Longer
  n-grams with <unk> are dropped: they would have to be repeated for each of these words.
- The file's words are upper-cased if more words of the lexicon match so than as they are written. Of several
  spellings that become one word the most probable is taken, the others are dropped.

Then the model is conditioned on what can be recognised: with Z(h) the sum of p(w | h) over the words that
are left and the sentence's end,

    p'(w | h) = p(w | h) / Z(h)        backoff'(h) = backoff(h) Z(h') / Z(h)

so that probabilities sum to one after every history, and those of two words keep their ratio.

Source: SRILM's ngram-format(5).
Differs: where backing off gives a seen word more than its own probability, as it may in models that are not
interpolated, `to_acceptor` leaves both ways open, as Kaldi does.
"""

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from asrdistill.decoding.ngram import (
    FileCoverage,
    NgramConfig,
    NgramModel,
    estimate_ngrams,
    list_vocabulary,
)
from asrdistill.decoding.smoothing import SENTENCE_END, SENTENCE_START, UNKNOWN, History
from asrdistill.errors import CorpusError
from asrdistill.experiment import atomic_path

LOG10_ZERO = -99.0
LOG_10 = math.log(10)
ROUNDING = 1e-5  # what a log10 probability of 1 may be printed above 0
SPECIAL_WORDS = {word.upper(): word for word in (SENTENCE_START, SENTENCE_END, UNKNOWN)}

LogProbs = dict[History, dict[str, float]]
LogBackoffs = dict[History, float]


def load_language_model(
    config: NgramConfig, sentences: Iterable[Sequence[str]], vocabulary: Iterable[str]
) -> NgramModel:
    """The language model that is asked for: read if a file is given, else estimated.

    Args:
        config: a file, or order and smoothing.
        sentences: the words of each training transcript; not looked at where a file is given.
        vocabulary: the lexicon's words.

    Raises:
        CorpusError: the vocabulary is empty, or the file cannot be used.
    """
    if config.path is None:
        return estimate_ngrams(sentences, vocabulary, config)
    return read_arpa(config.path, vocabulary)


def read_arpa(path: Path, vocabulary: Iterable[str]) -> NgramModel:
    """Read a model, gzipped or not, and condition it on the words of a vocabulary.

    Args:
        path: the file.
        vocabulary: the lexicon's words.

    Returns:
        A model over the words that can be recognised; `coverage` counts what was dropped and what is missing.

    Raises:
        CorpusError: the vocabulary is empty, the file cannot be read, is damaged, has no end of sentence, or
            none of the words.
    """
    wanted = set(list_vocabulary(vocabulary))
    reader = _ArpaReader(path)
    unigrams = _read_unigrams(reader)
    names = _match_words(unigrams, wanted)
    log_probs, log_backoffs, num_dropped_ngrams = _select(reader, unigrams, names)
    reader.expect("\\end\\")
    absent = wanted - set(names.values())
    has_unknown = UNKNOWN in unigrams and not unigrams[UNKNOWN].is_impossible
    if has_unknown and absent:
        share = unigrams[UNKNOWN].log_prob - math.log(len(absent))
        log_probs[()] |= dict.fromkeys(sorted(absent), share)
    coverage = FileCoverage(
        num_shared_words=len(names),
        num_unknown_words=len(absent) if has_unknown else 0,
        num_missing_words=0 if has_unknown else len(absent),
        num_dropped_words=len(unigrams.keys() - names.keys() - set(SPECIAL_WORDS.values())),
        num_dropped_ngrams=num_dropped_ngrams,
        upper_cased=any(spelling != word for spelling, word in names.items()),
    )
    words = tuple(sorted(log_probs[()].keys() - {SENTENCE_END}))
    return _normalise(NgramModel(reader.order, words, log_probs, log_backoffs, 0, coverage))


class _Ngram(NamedTuple):
    """A line of an ARPA file, in natural logarithms."""

    words: History
    log_prob: float
    log_backoff: float

    @property
    def is_impossible(self) -> bool:
        return self.log_prob <= LOG10_ZERO * LOG_10


class _ArpaReader:
    """Goes through an ARPA file, section by section, and checks its form."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = _read_lines(path)
        self._number, self._text = 0, ""
        self._advance()
        while self._text not in ("", "\\data\\"):
            self._advance()
        self.expect("\\data\\")
        self._counts: list[int] = []
        while match := re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", self._text):
            if int(match[1]) != len(self._counts) + 1:
                raise self.damage(f"`ngram {len(self._counts) + 1}=`: the lengths of n-grams go up by one")
            self._counts.append(int(match[2]))
            self._advance()
        if not self._counts:
            raise self.damage("`ngram 1=` and the number of 1-grams")

    @property
    def order(self) -> int:
        return len(self._counts)

    def expect(self, text: str) -> None:
        """Go past a line that must stand here."""
        if self._text != text:
            raise self.damage(f"`{text}`")
        self._advance()

    def read_section(self, length: int) -> Iterator[_Ngram]:
        """Yield the n-grams of one length; sections must be read one after the other."""
        self.expect(f"\\{length}-grams:")
        count, num_read = self._counts[length - 1], 0
        while self._text and not self._text.startswith("\\"):
            yield self._parse(length)
            num_read += 1
            self._advance()
        if num_read != count:
            raise self.damage(f"{count} {length}-grams before that, as the header says, not {num_read}")

    def damage(self, expected: str) -> CorpusError:
        """The error to raise because of the line at hand."""
        shown = self._text if len(self._text) <= 60 else self._text[:57] + "..."
        found = f"found `{shown}`" if self._text else "the file ends here"
        return CorpusError(
            f"language model {self.path}, line {self._number}: {found}; expected {expected}; "
            "give language_model.path an undamaged file in ARPA form"
        )

    def _parse(self, length: int) -> _Ngram:
        fields = re.findall(r"[^ \t]+", self._text)
        has_backoff = length < self.order
        if len(fields) - length not in ((1, 2) if has_backoff else (1,)):
            shape = f"{length} word{'s' if length > 1 else ''}"
            raise self.damage(f"a number, {shape}{', a number or nothing' if has_backoff else ''}")
        words = tuple(SPECIAL_WORDS.get(field, field) for field in fields[1 : length + 1])
        log10_prob, *log10_backoff = map(self._parse_number, (fields[0], *fields[length + 1 :]))
        if log10_prob > ROUNDING and words != (SENTENCE_START,):
            raise self.damage("the logarithm of a probability, at most 0")
        return _Ngram(words, min(log10_prob, 0) * LOG_10, sum(log10_backoff) * LOG_10)

    def _parse_number(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        # A nan compares false. SRILM knows nothing below -99, others write -inf.
        if not value <= -LOG10_ZERO:
            raise self.damage(f"a log10 number of at most {-LOG10_ZERO:g} instead of {text!r}")
        return max(value, LOG10_ZERO)

    def _advance(self) -> None:
        self._number, self._text = next(self._lines, (self._number, ""))


def refuse_missing(path: Path) -> None:
    """Raises:
    CorpusError: there is no such file.
    """
    if not path.is_file():
        raise CorpusError(
            f"language model {path}: no such file; give language_model.path the path of an ARPA file, or "
            "leave it out to have a model estimated"
        )


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of the lines that are not empty."""
    refuse_missing(path)
    number = 0
    try:
        with path.open("rb") as raw:
            is_packed = raw.peek(2)[:2] == b"\x1f\x8b"
            stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if is_packed else raw
            with io.TextIOWrapper(stream, encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if text := line.strip(" \t\n"):
                        yield number, text
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"language model {path}, after line {number}: not UTF-8 ({error}); convert it, for example with "
            "iconv"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(
            f"language model {path}, after line {number}: cannot be read ({error}); make it readable for "
            "you, or get the file anew"
        ) from error


def _read_unigrams(reader: _ArpaReader) -> dict[str, _Ngram]:
    unigrams: dict[str, _Ngram] = {}
    for ngram in reader.read_section(1):
        if ngram.words[0] in unigrams:
            raise reader.damage("each word once")
        unigrams[ngram.words[0]] = ngram
    if SENTENCE_END not in unigrams or unigrams[SENTENCE_END].is_impossible:
        raise CorpusError(
            f"language model {reader.path}: {SENTENCE_END} is not among the 1-grams, or has probability "
            "zero; expected a model of whole sentences; estimate it with their ends"
        )
    return unigrams


def _match_words(unigrams: dict[str, _Ngram], vocabulary: set[str]) -> dict[str, str]:
    """The file's spelling -> word of the vocabulary, one to one: as they are, or upper-cased."""
    possible = sorted(
        (ngram.log_prob, spelling)
        for spelling, ngram in unigrams.items()
        if spelling not in SPECIAL_WORDS.values() and not ngram.is_impossible
    )
    as_they_are = {spelling: spelling for _, spelling in possible if spelling in vocabulary}
    # The most probable spelling comes last and stays.
    spellings = {spelling.upper(): spelling for _, spelling in possible}
    upper_cased = {spelling: word for word, spelling in spellings.items() if word in vocabulary}
    return max(as_they_are, upper_cased, key=len)


def _select(
    reader: _ArpaReader, unigrams: dict[str, _Ngram], names: dict[str, str]
) -> tuple[LogProbs, LogBackoffs, int]:
    """Keep the n-grams that can occur, under the lexicon's names; with each history come all its endings.

    Returns:
        log probabilities, log back-off weights, number of n-grams of two words or more that were dropped.
    """
    if not names:
        examples = ", ".join(sorted(unigrams.keys() - set(SPECIAL_WORDS.values()))[:3])
        raise CorpusError(
            f"language model {reader.path}: none of its words (such as {examples}) is in the lexicon; "
            "expected the lexicon's language and spelling; give language_model.path another model"
        )
    names = names | {SENTENCE_START: SENTENCE_START, SENTENCE_END: SENTENCE_END}
    log_probs: LogProbs = {(): {}}
    all_backoffs: LogBackoffs = {}
    num_dropped = 0
    longer = chain.from_iterable(reader.read_section(length) for length in range(2, reader.order + 1))
    for ngram in chain(unigrams.values(), longer):
        words = tuple(names[word] for word in ngram.words if word in names)
        if len(words) < len(ngram.words) or SENTENCE_START in words[1:] or SENTENCE_END in words[:-1]:
            num_dropped += len(ngram.words) > 1
            continue
        if ngram.log_backoff:
            all_backoffs[words] = ngram.log_backoff
        if words != (SENTENCE_START,):
            followers = log_probs.setdefault(words[:-1], {})
            if words[-1] in followers:
                raise reader.damage("each n-gram once")
            followers[words[-1]] = ngram.log_prob
    for history in list(log_probs):
        for first in range(1, len(history)):
            log_probs.setdefault(history[first:], {})
    return log_probs, {h: all_backoffs.get(h, 0.0) for h in log_probs if h}, num_dropped


def _normalise(model: NgramModel) -> NgramModel:
    """Make probabilities sum to one after every history, see the module's docstring."""
    log_probs: LogProbs = {}
    log_backoffs: LogBackoffs = {}
    log_sums: dict[History, float] = {}
    for history in sorted(model.log_probs, key=len):
        followers, shorter = model.log_probs[history], history[1:]
        total = sum(map(math.exp, followers.values()))
        if history:
            log_backoff = model.log_backoffs[history]
            seen = sum(math.exp(model.log_prob(word, shorter)) for word in followers)
            total += math.exp(log_backoff) * max(math.exp(log_sums[shorter]) - seen, 0)
            log_backoffs[history] = log_backoff + log_sums[shorter] - math.log(total)
        log_sums[history] = math.log(total)
        log_probs[history] = {word: p - log_sums[history] for word, p in followers.items()}
    return NgramModel(model.order, model.vocabulary, log_probs, log_backoffs, model.num_oov, model.coverage)


def write_arpa(path: Path, model: NgramModel) -> None:
    """Publish a model in ARPA form, gzipped if the name ends in `.gz`; same model, same bytes."""
    with atomic_path(path) as temporary, temporary.open("wb") as raw:
        stream: BinaryIO | gzip.GzipFile = raw
        if path.suffix == ".gz":
            stream = gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
        with io.TextIOWrapper(stream, encoding="utf-8", newline="\n") as file:
            file.writelines(_format(model))


def _format(model: NgramModel) -> Iterator[str]:
    sections = _list_sections(model)
    yield "\\data\\\n"
    yield from (f"ngram {length}={len(section)}\n" for length, section in enumerate(sections, 1))
    for length, section in enumerate(sections, 1):
        yield f"\n\\{length}-grams:\n"
        for words, log_prob in sorted(section.items()):
            line = f"{log_prob / LOG_10:.8f}\t{' '.join(words)}"
            # A history after which nothing was seen has no weight but one.
            backoff = f"\t{model.log_backoffs[words] / LOG_10:.8f}" if model.log_probs.get(words) else ""
            yield f"{line}{backoff}\n"
    yield "\n\\end\\\n"


def _list_sections(model: NgramModel) -> list[dict[History, float]]:
    """The n-grams of each length with their log probabilities; every history is among them."""
    sections: list[dict[History, float]] = [{} for _ in range(model.order)]
    sections[0][(SENTENCE_START,)] = LOG10_ZERO * LOG_10
    for history, followers in model.log_probs.items():
        sections[len(history)] |= {(*history, word): log_prob for word, log_prob in followers.items()}
    for history in [history for history, followers in model.log_probs.items() if followers]:
        while history and history not in sections[len(history) - 1]:
            sections[len(history) - 1][history] = model.log_prob(history[-1], history[:-1])
            history = history[:-1]
    while not sections[-1]:
        sections.pop()
    return sections
