"""A word n-gram language model in back-off form, estimated from transcripts.

The probability of every n-gram that was seen includes its share of the shorter histories' probability; a
word that was never seen after h has backoff(h) p(w | h'). So an interpolated model is its own back-off form,
and the probability of a seen word is never below its backed-off one.

How counts become probabilities: `smoothing.py`. Models of other programs: `arpa.py`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.corpus.source import UserPath
from asrdistill.decoding.smoothing import (
    SENTENCE_END,
    SENTENCE_START,
    History,
    count_ngrams,
    list_events,
    smooth_kneser_ney,
    smooth_witten_bell,
)
from asrdistill.decoding.transducer import Arcs
from asrdistill.errors import CorpusError

SMOOTHINGS = {"witten_bell": smooth_witten_bell, "kneser_ney": smooth_kneser_ney}


class NgramConfig(Config):
    """Settings of the language model."""

    order: int = Field(
        3, ge=1, le=6, description="words in an n-gram, the predicted one included; a file has its own order"
    )
    smoothing: Literal["witten_bell", "kneser_ney"] = Field(
        "kneser_ney",
        description="how n-grams that were never seen get their probability, both interpolated; kneser_ney: "
        "modified Kneser-Ney; a file brings its own",
    )
    path: UserPath | None = Field(
        None,
        description="ARPA file, gzipped or not, of a language model to use; none: one is estimated from the "
        "training transcripts",
    )


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts a text.

    Attributes:
        perplexity: per event, natural.
        num_events: words and sentence ends that were predicted.
        num_oov: words outside the vocabulary; they are not among the events.
    """

    perplexity: float
    num_events: int
    num_oov: int


@dataclass(frozen=True)
class FileCoverage:
    """How the words of a language model's file and those of the lexicon go together.

    Attributes:
        num_shared_words: words of the lexicon that the file has.
        num_unknown_words: words of the lexicon that it does not have, and that share its <unk> equally.
        num_missing_words: words of the lexicon that it does not have, nor <unk> instead: they cannot
            be recognised.
        num_dropped_words: words of the file that are not used: the lexicon does not have them, or in another
            spelling, or their probability is zero.
        num_dropped_ngrams: n-grams of the file, of two words or more, left out for a word of theirs.
        upper_cased: whether the file's words were upper-cased to match.
    """

    num_shared_words: int
    num_unknown_words: int
    num_missing_words: int
    num_dropped_words: int
    num_dropped_ngrams: int
    upper_cased: bool

    def __str__(self) -> str:
        """In words, for people."""
        return (
            f"{self.num_shared_words} words of the lexicon are in the file"
            f"{' once upper-cased' if self.upper_cased else ''}, {self.num_unknown_words} share its <unk>, "
            f"{self.num_missing_words} cannot be recognised; {self.num_dropped_words} words of the file "
            f"are not used, {self.num_dropped_ngrams} n-grams with such words were dropped"
        )


@dataclass(frozen=True)
class NgramModel:
    """An n-gram model in back-off form.

    Attributes:
        order: words in an n-gram.
        vocabulary: the words that have a probability, sorted; without sentence start and end.
        log_probs: history -> word (or sentence end) -> log probability, for n-grams with one of their own;
            the empty history has every word; with a history come all endings of it.
        log_backoffs: history -> log of the weight of the shorter history; of every history but the empty one.
        num_oov: running words of the training text that lie outside the vocabulary; 0 where a file was read.
        coverage: which words were found in the file that was read; none where the model was estimated.
    """

    order: int
    vocabulary: tuple[str, ...]
    log_probs: dict[History, dict[str, float]]
    log_backoffs: dict[History, float]
    num_oov: int
    coverage: FileCoverage | None = None

    def log_prob(self, word: str, history: Sequence[str]) -> float:
        """Log probability of a word, or of the sentence's end, after the words before it.

        Args:
            word: a word of the vocabulary or `SENTENCE_END`.
            history: words before it, oldest first, from `SENTENCE_START` on; what is too old is ignored.

        Raises:
            CorpusError: the word is outside the vocabulary.
        """
        if word not in self.log_probs[()]:
            raise CorpusError(
                f"language model: word {word!r} is not in the vocabulary; add it to the lexicon, and to the "
                "file of language_model.path where that is set"
            )
        context = self.longest_context(tuple(history))
        cost = 0.0
        while word not in self.log_probs[context]:
            cost += self.log_backoffs[context]
            context = context[1:]
        return cost + self.log_probs[context][word]

    def longest_context(self, history: History) -> History:
        """The longest ending of a history after which something was seen."""
        context = history[max(0, len(history) - self.order + 1) :]
        while context not in self.log_probs:
            context = context[1:]
        return context

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> Perplexity:
        """Perplexity over words and sentence ends; words outside the vocabulary are only counted."""
        vocabulary = set(self.vocabulary)
        log_prob, num_events, num_oov = 0.0, 0, 0
        for words in sentences:
            num_oov += sum(word not in vocabulary for word in words)
            for word, history in list_events(words, self.order, vocabulary):
                log_prob += self.log_prob(word, history)
                num_events += 1
        perplexity = math.exp(-log_prob / num_events) if num_events else math.nan
        return Perplexity(perplexity, num_events, num_oov)

    def to_acceptor(self, word_ids: dict[str, int], backoff_id: int) -> Arcs:
        """The grammar G: one state a history, words as labels, back-off arcs with a label of their own.

        A path may back off although the longer n-gram was seen, as in Kaldi's G.fst; what it then costs is
        rarely, and by little, less than `log_prob` says.

        Args:
            word_ids: label of every word of the vocabulary.
            backoff_id: input label of back-off arcs (`#0`); their output is empty.

        Returns:
            Arcs weighted with negative log probabilities.
        """
        states = {context: state for state, context in enumerate(self.log_probs)}
        final = np.full(len(states), np.inf, np.float32)
        rows: list[tuple[int, int, int, int, float]] = []
        for context, followers in self.log_probs.items():
            source = states[context]
            for word, log_prob in followers.items():
                if word == SENTENCE_END:
                    final[source] = -log_prob
                    continue
                label = word_ids[word]
                destination = states[self.longest_context((*context, word))]
                rows.append((source, destination, label, label, -log_prob))
            if context:
                rows.append((source, states[context[1:]], backoff_id, 0, -self.log_backoffs[context]))
        start = states[self.longest_context((SENTENCE_START,))]
        return Arcs.of_rows(start, rows, final)


def estimate_ngrams(
    sentences: Iterable[Sequence[str]], vocabulary: Iterable[str], config: NgramConfig
) -> NgramModel:
    """Estimate a model from transcripts.

    Args:
        sentences: the words of each training transcript.
        vocabulary: every word that the model shall know (the lexicon's words).
        config: order and smoothing.

    Raises:
        CorpusError: the vocabulary is empty.
    """
    words = list_vocabulary(vocabulary)
    counts, num_oov = count_ngrams(sentences, config.order, set(words))
    uniform = -math.log(len(words) + 1)
    log_probs: dict[History, dict[str, float]] = {(): dict.fromkeys((*words, SENTENCE_END), uniform)}
    model = NgramModel(config.order, words, log_probs, {}, num_oov)
    # Shorter histories first: a longer one is interpolated with what is already there.
    for history, discounted, backoff in SMOOTHINGS[config.smoothing](counts):
        shorter, log_backoff = history[1:], math.log(backoff)
        seen = {
            word: math.log(probability + math.exp(log_backoff + model.log_prob(word, shorter)))
            for word, probability in discounted.items()
        }
        if history:
            model.log_backoffs[history] = log_backoff
            model.log_probs[history] = seen
        else:
            unseen = dict.fromkeys(log_probs[()], log_backoff + uniform)
            log_probs[()] = unseen | seen
    return model


def list_vocabulary(vocabulary: Iterable[str]) -> tuple[str, ...]:
    """The words, sorted.

    Raises:
        CorpusError: there is none.
    """
    words = tuple(sorted(set(vocabulary)))
    if not words:
        raise CorpusError("language model: the vocabulary is empty; give a lexicon with at least one word")
    return words
