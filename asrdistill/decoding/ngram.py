"""A word n-gram language model: interpolated Witten-Bell smoothing, kept in back-off form.

    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h))

where t(h) is the number of different words seen after the history h, and h' is h without its first
word. The unigram is interpolated in the same way with the uniform distribution over the vocabulary and
the end of the sentence, so every word of the vocabulary has a probability after every history.

For a word that was never seen after h this is backoff(h) p(w | h') with backoff(h) = t(h) / (c(h) + t(h)):
the model is its own back-off form, and the probability of a seen word is never below its backed-off one.

A word outside the vocabulary is no event: it is counted, it ends the history of the words after it.

Source: Witten & Bell (1991), IEEE Trans. Inf. Theory 37(4); interpolated form as in Chen & Goodman (1998),
section 2.6.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.decoding.transducer import Arcs
from asrdistill.errors import CorpusError

SENTENCE_START = "<s>"
SENTENCE_END = "</s>"

History = tuple[str, ...]


class NgramConfig(Config):
    """Settings of the language model."""

    order: int = Field(3, ge=1, le=6, description="words in an n-gram, the predicted one included")


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
class NgramModel:
    """An n-gram model in back-off form.

    Attributes:
        order: words in an n-gram.
        vocabulary: the words that have a probability, sorted; without sentence start and end.
        log_probs: history -> word (or sentence end) -> log probability, for what was seen in training;
            the empty history has every word.
        log_backoffs: history -> log of the weight of the shorter history; of every history but the empty one.
        num_oov: running words of the training text that lie outside the vocabulary.
    """

    order: int
    vocabulary: tuple[str, ...]
    log_probs: dict[History, dict[str, float]]
    log_backoffs: dict[History, float]
    num_oov: int

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
                f"language model: word {word!r} is not in the vocabulary; add it to the lexicon"
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
            for word, history in _events(words, self.order, vocabulary):
                log_prob += self.log_prob(word, history)
                num_events += 1
        perplexity = math.exp(-log_prob / num_events) if num_events else math.nan
        return Perplexity(perplexity, num_events, num_oov)

    def to_acceptor(self, word_ids: dict[str, int], backoff_id: int) -> Arcs:
        """The grammar G: one state a history, words as labels, back-off arcs with a label of their own.

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

    Raises:
        CorpusError: the vocabulary is empty.
    """
    words = tuple(sorted(set(vocabulary)))
    if not words:
        raise CorpusError("language model: the vocabulary is empty; give a lexicon with at least one word")
    counts, num_oov = _count_ngrams(sentences, set(words), config.order)
    uniform = -math.log(len(words) + 1)
    log_probs: dict[History, dict[str, float]] = {(): dict.fromkeys((*words, SENTENCE_END), uniform)}
    model = NgramModel(config.order, words, log_probs, {}, num_oov)
    # Shorter histories first: a longer one is interpolated with what is already there.
    for history in sorted(counts, key=len):
        followers = counts[history]
        total = followers.total() + len(followers)
        log_backoff = math.log(len(followers) / total)
        shorter = history[1:]
        seen = {
            word: math.log(count / total + math.exp(log_backoff + model.log_prob(word, shorter)))
            for word, count in followers.items()
        }
        if history:
            model.log_backoffs[history] = log_backoff
            model.log_probs[history] = seen
        else:
            unseen = dict.fromkeys(log_probs[()], log_backoff + uniform)
            log_probs[()] = unseen | seen
    return model


def _count_ngrams(
    sentences: Iterable[Sequence[str]], vocabulary: set[str], order: int
) -> tuple[dict[History, Counter[str]], int]:
    counts: dict[History, Counter[str]] = {}
    num_oov = 0
    for words in sentences:
        num_oov += sum(word not in vocabulary for word in words)
        for word, history in _events(words, order, vocabulary):
            for first in range(len(history) + 1):
                counts.setdefault(history[first:], Counter())[word] += 1
    return counts, num_oov


def _events(words: Sequence[str], order: int, vocabulary: set[str]) -> Iterator[tuple[str, History]]:
    """Each known word and the sentence's end, with the known words before it (order - 1 at most)."""
    history: History = (SENTENCE_START,)[: order - 1]
    for word in words:
        if word in vocabulary:
            yield word, history
            history = (*history, word)[-(order - 1) :] if order > 1 else ()
        else:
            history = ()
    yield SENTENCE_END, history
