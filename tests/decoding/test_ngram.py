"""The language model against hand-worked numbers and the textbook's formula, and its grammar against it."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.decoding.ngram import SENTENCE_END, SENTENCE_START, NgramConfig, NgramModel, estimate_ngrams
from asrdistill.decoding.smoothing import FALLBACK_DISCOUNTS, estimate_discounts
from asrdistill.errors import CorpusError

Smoothing = Literal["witten_bell", "kneser_ney"]
SMOOTHINGS: tuple[Smoothing, ...] = ("witten_bell", "kneser_ney")
SENTENCES = [text.split() for text in ("a b a c", "a a", "b c", "c a b a", "a b", "")]
VOCABULARY = ("a", "b", "c", "never")
WITTEN_BELL = NgramConfig(order=2, smoothing="witten_bell")
CORPORA = st.lists(st.lists(st.sampled_from(("a", "b", "c", "mystery")), max_size=6), max_size=8)


def make_large_corpus() -> list[list[str]]:
    """Sentences in which all counts of counts are there; one word in seventy is unknown."""
    generator = np.random.default_rng(1)
    words = np.array([f"w{number}" for number in range(40)] + ["mystery"])
    chances = 1 / np.arange(2, 43)
    lengths = generator.integers(0, 9, 300)
    return [generator.choice(words, length, p=chances / chances.sum()).tolist() for length in lengths]


LARGE_CORPUS = make_large_corpus()


def test_hand_worked_witten_bell_bigram() -> None:
    model = estimate_ngrams([["a", "b"], ["a", "a"]], ["a", "b"], WITTEN_BELL)
    # unigram: a 3, b 1, end 2; 6 events, 3 types; uniform 1/3
    assert math.exp(model.log_prob("a", [])) == pytest.approx((3 + 3 / 3) / 9)
    assert math.exp(model.log_prob("b", [])) == pytest.approx(2 / 9)
    # after <s>: a twice; after a: a, b and end once each
    assert math.exp(model.log_prob("a", [SENTENCE_START])) == pytest.approx((2 + 4 / 9) / 3)
    assert math.exp(model.log_prob("b", [SENTENCE_START])) == pytest.approx((2 / 9) / 3)
    assert math.exp(model.log_prob("b", ["a"])) == pytest.approx(5 / 18)
    assert math.exp(model.log_prob(SENTENCE_END, ["b", "a"])) == pytest.approx((1 + 3 * 3 / 9) / 6)


def test_hand_worked_kneser_ney_bigram() -> None:
    config = NgramConfig(order=2, smoothing="kneser_ney")
    model = estimate_ngrams([["a", "b"], ["a", "a"]], ["a", "b"], config)
    # No count is 3 or 4, so discounts are 0.5, 1, 1.5. Different words before a: <s>, a; before b: a; before
    # the end: b, a. Those are 5 in all, discounted by 1 + 0.5 + 1, so half of the uniform 1/3 is added.
    assert math.exp(model.log_prob("a", [])) == pytest.approx(1 / 5 + 1 / 6)
    assert math.exp(model.log_prob("b", [])) == pytest.approx(1 / 10 + 1 / 6)
    # after <s>: a twice, discounted by 1; after a: a, b and end once each, discounted by 0.5
    assert math.exp(model.log_prob("a", [SENTENCE_START])) == pytest.approx(1 / 2 + 1 / 2 * 11 / 30)
    assert math.exp(model.log_prob("b", [SENTENCE_START])) == pytest.approx(1 / 2 * 8 / 30)
    assert math.exp(model.log_prob("b", ["a"])) == pytest.approx(1 / 6 + 1 / 2 * 8 / 30)
    assert math.exp(model.log_prob(SENTENCE_END, ["b", "a"])) == pytest.approx(1 / 6 + 1 / 2 * 11 / 30)


def test_discounts_by_hand() -> None:
    # n1 to n4 are 6, 3, 2, 1; Y = 6 / 12
    counts = [1] * 6 + [2] * 3 + [3] * 2 + [4] + [9] * 5
    assert estimate_discounts(counts) == pytest.approx((1 - 1 / 2, 2 - 3 / 2 * 2 / 3, 3 - 4 / 2 * 1 / 2))
    assert estimate_discounts([1, 1, 2, 3]) == FALLBACK_DISCOUNTS  # nothing occurs four times
    assert estimate_discounts([1, 2, 3, 3, 3, 3, 3, 4]) == FALLBACK_DISCOUNTS  # D2 would be 2 - 5
    assert estimate_discounts([]) == FALLBACK_DISCOUNTS


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@settings(deadline=None, max_examples=40)
@given(sentences=CORPORA)
def test_probabilities_sum_to_one_after_every_history(
    sentences: list[list[str]], order: int, smoothing: Smoothing
) -> None:
    model = estimate_ngrams(sentences, VOCABULARY, NgramConfig(order=order, smoothing=smoothing))
    histories = list_histories(VOCABULARY, order)
    assert set(model.log_probs) <= set(histories)
    for history in histories:
        probabilities = [math.exp(model.log_prob(word, history)) for word in (*VOCABULARY, SENTENCE_END)]
        assert min(probabilities) > 0
        assert sum(probabilities) == pytest.approx(1, abs=1e-12), history


def list_histories(vocabulary: Sequence[str], order: int) -> list[tuple[str, ...]]:
    """All histories of up to order - 1 words, the start of the sentence among them."""
    histories: list[tuple[str, ...]] = [()]
    for length in range(1, order):
        histories += itertools.product(vocabulary, repeat=length)
        rest = itertools.product(vocabulary, repeat=length - 1)
        histories += [(SENTENCE_START, *words) for words in rest]
    return histories


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_is_the_textbook_formula(order: int) -> None:
    vocabulary = sorted({word for words in LARGE_CORPUS for word in words} - {"mystery"})
    check_against_textbook(LARGE_CORPUS, vocabulary, order)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@settings(deadline=None, max_examples=40)
@given(sentences=CORPORA)
def test_kneser_ney_is_the_textbook_formula_on_tiny_corpora(sentences: list[list[str]], order: int) -> None:
    check_against_textbook(sentences, VOCABULARY, order)


def check_against_textbook(sentences: list[list[str]], vocabulary: Sequence[str], order: int) -> None:
    model = estimate_ngrams(sentences, vocabulary, NgramConfig(order=order, smoothing="kneser_ney"))
    textbook = work_out_kneser_ney(sentences, vocabulary, order)
    for history in [*model.log_probs, (vocabulary[-1],) * (order - 1), (*vocabulary[:2], vocabulary[0])]:
        for word in (*vocabulary[:5], vocabulary[-1], SENTENCE_END):
            recent = history[len(history) - order + 1 :] if len(history) >= order else history
            assert math.exp(model.log_prob(word, history)) == pytest.approx(textbook(word, recent), rel=1e-9)


def work_out_kneser_ney(
    sentences: list[list[str]], vocabulary: Sequence[str], order: int
) -> Callable[[str, tuple[str, ...]], float]:
    """Chen & Goodman's recursion, written down n-gram by n-gram."""
    known = {*vocabulary, SENTENCE_START, SENTENCE_END}
    occurrences: Counter[tuple[str, ...]] = Counter()
    for sentence in sentences:
        tokens = [token if token in known else "?" for token in (SENTENCE_START, *sentence, SENTENCE_END)]
        for length in range(1, order + 1):
            occurrences.update(
                tuple(tokens[first : first + length]) for first in range(len(tokens) - length + 1)
            )

    def adjusted(ngram: tuple[str, ...]) -> int:
        if len(ngram) == order or ngram[0] == SENTENCE_START:
            return occurrences[ngram]
        return sum(1 for before in (*known, "?") if occurrences[(before, *ngram)] > 0)

    events = {g for g in occurrences if "?" not in g and g != (SENTENCE_START,)}
    counts = {ngram: adjusted(ngram) for ngram in events}
    followers: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
    for ngram, count in counts.items():
        followers.setdefault(ngram[:-1], {})[ngram] = count
    discounts = {}
    for length in range(1, order + 1):
        n = [sum(len(g) == length and counts[g] == times for g in events) for times in range(5)]
        discounts[length] = (0.5, 1.0, 1.5)
        if all(n[1:]):
            y = n[1] / (n[1] + 2 * n[2])
            exact = tuple(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
            if all(0 < discount < k for k, discount in enumerate(exact, 1)):
                discounts[length] = exact

    def probability(word: str, history: tuple[str, ...]) -> float:
        shorter = probability(word, history[1:]) if history else 1 / (len(vocabulary) + 1)
        after = followers.get(history, {})
        if not after:
            return shorter
        d1, d2, d3 = discounts[len(history) + 1]
        total = sum(after.values())
        num_once = sum(count == 1 for count in after.values())
        num_twice = sum(count == 2 for count in after.values())
        gamma = (d1 * num_once + d2 * num_twice + d3 * (len(after) - num_once - num_twice)) / total
        count = after.get((*history, word), 0)
        discount = 0.0 if count == 0 else d1 if count == 1 else d2 if count == 2 else d3
        return max(count - discount, 0) / total + gamma * shorter

    return probability


def test_large_corpus_has_discounts_of_its_own() -> None:
    """Else the comparison above would see the fall-back alone."""
    occurrences = Counter(pair for words in LARGE_CORPUS for pair in itertools.pairwise(words))
    assert estimate_discounts(occurrences.values()) != FALLBACK_DISCOUNTS


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_backing_off_never_gives_a_seen_word_more(order: int, smoothing: Smoothing) -> None:
    model = estimate_ngrams(SENTENCES, VOCABULARY, NgramConfig(order=order, smoothing=smoothing))
    for history, log_backoff in model.log_backoffs.items():
        for word, log_prob in model.log_probs[history].items():
            assert log_prob >= log_backoff + model.log_prob(word, history[1:])


def test_perplexity_counts_unknown_words_and_leaves_them_out() -> None:
    model = estimate_ngrams([["a", "b"], ["a", "a"]], ["a", "b"], WITTEN_BELL)
    result = model.perplexity([["a", "mystery", "b"]])
    probability = (22 / 27) * (2 / 9) * math.exp(model.log_prob(SENTENCE_END, ["b"]))
    assert (result.num_events, result.num_oov) == (3, 1)
    assert result.perplexity == pytest.approx(probability ** (-1 / 3))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_unknown_training_word_ends_the_history(smoothing: Smoothing) -> None:
    config = NgramConfig(order=2, smoothing=smoothing)
    model = estimate_ngrams([["a", "mystery", "b"]], ["a", "b"], config)
    assert model.num_oov == 1
    assert set(model.log_probs) == {(), (SENTENCE_START,), ("b",)}


def test_word_outside_the_vocabulary_is_refused() -> None:
    model = estimate_ngrams(SENTENCES, ["a", "b", "c"], NgramConfig())
    with pytest.raises(CorpusError, match=r"'mystery'.*lexicon"):
        model.log_prob("mystery", [])
    with pytest.raises(CorpusError, match="empty"):
        estimate_ngrams(SENTENCES, [], NgramConfig())


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_grammar_gives_each_sentence_its_probability(order: int, smoothing: Smoothing) -> None:
    model = estimate_ngrams(SENTENCES, VOCABULARY, NgramConfig(order=order, smoothing=smoothing))
    for sentence in [*SENTENCES, ["never", "a", "b"], ["c", "c", "b", "a", "never"]]:
        words = [SENTENCE_START, *sentence, SENTENCE_END]
        expected = -sum(model.log_prob(words[i], words[:i]) for i in range(1, len(words)))
        assert _walk_grammar(model, sentence) == pytest.approx(expected, rel=1e-5)


def _walk_grammar(model: NgramModel, sentence: list[str]) -> float:
    """Cost of a sentence where back-off is taken only by need."""
    word_ids = {word: number for number, word in enumerate(model.vocabulary, 1)}
    backoff = len(word_ids) + 1
    arcs = model.to_acceptor(word_ids, backoff)
    step = {
        (source, label): (destination, weight)
        for source, destination, label, weight in zip(
            arcs.source.tolist(),
            arcs.destination.tolist(),
            arcs.input_label.tolist(),
            arcs.weight.tolist(),
            strict=True,
        )
    }
    state, cost = arcs.start, 0.0
    for label in [word_ids[word] for word in sentence]:
        while (state, label) not in step:
            state, weight = step[state, backoff]
            cost += weight
        state, weight = step[state, label]
        cost += weight
    while math.isinf(arcs.final[state]):
        state, weight = step[state, backoff]
        cost += weight
    return cost + float(arcs.final[state])
