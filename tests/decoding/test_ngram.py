"""The language model against hand-worked numbers, and its grammar against the model."""

import math

import pytest

from asrdistill.decoding.ngram import SENTENCE_END, SENTENCE_START, NgramConfig, NgramModel, estimate_ngrams
from asrdistill.errors import CorpusError

SENTENCES = [text.split() for text in ("a b a c", "a a", "b c", "c a b a", "a b", "")]


def test_hand_worked_bigram() -> None:
    model = estimate_ngrams([["a", "b"], ["a", "a"]], ["a", "b"], NgramConfig(order=2))
    # unigram: a 3, b 1, end 2; 6 events, 3 types; uniform 1/3
    assert math.exp(model.log_prob("a", [])) == pytest.approx((3 + 3 / 3) / 9)
    assert math.exp(model.log_prob("b", [])) == pytest.approx(2 / 9)
    # after <s>: a twice; after a: a, b and end once each
    assert math.exp(model.log_prob("a", [SENTENCE_START])) == pytest.approx((2 + 4 / 9) / 3)
    assert math.exp(model.log_prob("b", [SENTENCE_START])) == pytest.approx((2 / 9) / 3)
    assert math.exp(model.log_prob("b", ["a"])) == pytest.approx(5 / 18)
    assert math.exp(model.log_prob(SENTENCE_END, ["b", "a"])) == pytest.approx((1 + 3 * 3 / 9) / 6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_after_every_history(order: int) -> None:
    model = estimate_ngrams(SENTENCES, ["a", "b", "c", "never"], NgramConfig(order=order))
    histories = [*model.log_probs, ("never", "a"), ("c", "c", "c"), (SENTENCE_START, "never")]
    for history in histories:
        total = sum(math.exp(model.log_prob(word, history)) for word in (*model.vocabulary, SENTENCE_END))
        assert total == pytest.approx(1, abs=1e-12), history


def test_perplexity_counts_unknown_words_and_leaves_them_out() -> None:
    model = estimate_ngrams([["a", "b"], ["a", "a"]], ["a", "b"], NgramConfig(order=2))
    result = model.perplexity([["a", "mystery", "b"]])
    probability = (22 / 27) * (2 / 9) * math.exp(model.log_prob(SENTENCE_END, ["b"]))
    assert (result.num_events, result.num_oov) == (3, 1)
    assert result.perplexity == pytest.approx(probability ** (-1 / 3))


def test_unknown_training_word_ends_the_history() -> None:
    model = estimate_ngrams([["a", "mystery", "b"]], ["a", "b"], NgramConfig(order=2))
    assert model.num_oov == 1
    assert "b" not in model.log_probs.get(("a",), {})
    assert all("mystery" not in history for history in model.log_probs)


def test_word_outside_the_vocabulary_is_refused() -> None:
    model = estimate_ngrams(SENTENCES, ["a", "b", "c"], NgramConfig())
    with pytest.raises(CorpusError, match=r"'mystery'.*lexicon"):
        model.log_prob("mystery", [])
    with pytest.raises(CorpusError, match="empty"):
        estimate_ngrams(SENTENCES, [], NgramConfig())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_grammar_gives_each_sentence_its_probability(order: int) -> None:
    model = estimate_ngrams(SENTENCES, ["a", "b", "c", "never"], NgramConfig(order=order))
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
