"""Paths through graphs with cross-word context against the inventory, the lexicon and the language model."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.graph import GraphConfig, build_graph
from asrdistill.decoding.ngram import (
    SENTENCE_END,
    SENTENCE_START,
    SMOOTHINGS,
    NgramConfig,
    NgramModel,
    estimate_ngrams,
)
from asrdistill.decoding.transducer import Arcs, of_fst
from asrdistill.hmm.topology import TiedStates

SENTENCES = [text.split() for text in ("a no", "an an", "know a", "no no a", "none", "a know none")]
STAY, LEAVE = -math.log(0.6), -math.log(0.4)
ROUNDING = 0.002  # a phone and once more, as weights are quantised to 1/1024


class Language:
    """A graph beside what it was built from, and what a path through it must cost."""

    def __init__(
        self, lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates, silence_probability: float = 0.3
    ) -> None:
        self.pronunciations, self.ngrams, self.tied_states = lexicon.pronunciations, ngrams, tied_states
        self.silence, self.speech = -math.log(silence_probability), -math.log(1 - silence_probability)
        config = GraphConfig(silence_probability=silence_probability, self_loop_probability=0.6)
        graph = build_graph(lexicon, ngrams, tied_states, config)
        self.words = graph.words
        self.arcs = of_fst(graph.fst)
        self.leaving = list_leaving(self.arcs)

    def split_phones(self, frames: list[int]) -> tuple[str, ...]:
        """The phones of an alignment, each of which must go through its three states in order."""
        phones: list[str] = []
        state, pdf_id = 2, -1
        for found in frames:
            if found == pdf_id:
                continue
            state, pdf_id = (state + 1) % 3, found
            assert self.tied_states.state_of_pdf(pdf_id) == state
            if state == 0:
                phones.append(self.tied_states.phone_of_pdf(pdf_id))
            assert self.tied_states.phone_of_pdf(pdf_id) == phones[-1]
        assert state == 2
        return tuple(phones)

    def pdf_ids(self, phones: tuple[str, ...]) -> list[int]:
        """The states of phones in their context, silence before and after."""
        padded = ("SIL", *phones, "SIL")
        windows = zip(padded, phones, padded[2:], strict=False)
        return [
            pdf_id
            for left, phone, right in windows
            for pdf_id in self.tied_states.pdf_ids(left, phone, right)
        ]

    def cost(self, words: tuple[str, ...], phones: tuple[str, ...], num_frames: int) -> float:
        """What words, phones and an alignment of them must cost."""
        hmm = STAY * (num_frames - 3 * len(phones)) + LEAVE * 3 * len(phones)
        return self.grammar_cost(words) + hmm + min(self.silence_costs(words, phones))

    def grammar_cost(self, words: tuple[str, ...]) -> float:
        """The least cost of words, where any number of shorter histories may be taken before each of them."""
        reached = {(SENTENCE_START,)[: self.ngrams.order - 1]: 0.0}
        for word in (*words, SENTENCE_END):
            after: dict[tuple[str, ...], float] = {}
            for history, cost in reached.items():
                for first in range(len(history) + 1):
                    context = history[first:]
                    if context in self.ngrams.log_probs:
                        if word in self.ngrams.log_probs[context]:
                            destination = self.ngrams.longest_context((*context, word))
                            total = cost - self.ngrams.log_probs[context][word]
                            after[destination] = min(after.get(destination, math.inf), total)
                        cost -= self.ngrams.log_backoffs.get(context, 0.0)
            reached = after
        return min(reached.values())

    def silence_costs(self, words: tuple[str, ...], phones: tuple[str, ...]) -> Iterator[float]:
        """Of all ways to divide phones among words."""
        choices = [(self.speech, phones)]
        if phones[:1] == ("SIL",):
            choices.append((self.silence, phones[1:]))
        for cost, rest in choices:
            if not words and not rest:
                yield cost
            for spoken in self.pronunciations[words[0]] if words else []:
                if rest[: len(spoken)] == spoken:
                    yield from (cost + after for after in self.silence_costs(words[1:], rest[len(spoken) :]))

    def walk(self, rng: np.random.Generator) -> tuple[list[int], tuple[str, ...], float]:
        """A random path from start to end: pdf-id of each frame, words, cost."""
        frames: list[int] = []
        words: list[str] = []
        state, cost = self.arcs.start, 0.0
        while math.isinf(self.arcs.final[state]) or (self.leaving[state] and rng.random() < 0.5):
            choices = self.leaving[state]
            pdf_id, word, weight, state = choices[rng.integers(len(choices))]
            frames += [pdf_id] if pdf_id >= 0 else []
            words += [self.words[word]] if word else []
            cost += weight
        return frames, tuple(words), cost + float(self.arcs.final[state])

    def least_cost(self, frames: list[int], words: tuple[str, ...]) -> float:
        """The least cost of all paths with just these frames and words."""
        wanted = [self.words.index(word) for word in words]

        def step(reached: dict[tuple[int, int], float], pdf_id: int) -> dict[tuple[int, int], float]:
            after = dict(reached) if pdf_id < 0 else {}
            pending = list(reached.items())
            while pending:
                (state, done), cost = pending.pop()
                for label, word, weight, destination in self.leaving[state]:
                    place = destination, done + (word > 0)
                    if label != pdf_id or (word and wanted[done : done + 1] != [word]):
                        continue
                    if cost + weight < after.get(place, math.inf):
                        after[place] = cost + weight
                        if pdf_id < 0:
                            pending.append((place, cost + weight))
            return after

        reached = step({(self.arcs.start, 0): 0.0}, -1)
        for pdf_id in frames:
            reached = step(step(reached, pdf_id), -1)
        return min(c + self.arcs.final[s] for (s, done), c in reached.items() if done == len(words))


def list_leaving(arcs: Arcs) -> dict[int, list[tuple[int, int, float, int]]]:
    """Per state, what leaves it: pdf-id (-1 for none), word id, cost, destination."""
    leaving = defaultdict(list)
    columns = (arcs.source, arcs.input_label - 1, arcs.output_label, arcs.weight, arcs.destination)
    for source, *arc in zip(*(column.tolist() for column in columns), strict=True):
        leaving[source].append(tuple(arc))
    return leaving


ORDERS = [*itertools.product([1, 2, 3, 4], SMOOTHINGS), ("lone word", "kneser_ney")]


@pytest.fixture(scope="module", params=ORDERS, ids=str)
def language(
    request: pytest.FixtureRequest,
    lexicon: Lexicon,
    tied_states: TiedStates,
    grow_random_trees: Callable[[int], TiedStates],
) -> Language:
    """Models of several orders, each with other trees; or a lone word, after which all is as at the start."""
    order, smoothing = request.param
    if order == "lone word":
        lone = Lexicon({"an": lexicon.pronunciations["an"]})
        return Language(lone, estimate_ngrams([["an"]], ["an"], NgramConfig(order=1)), tied_states, 1e-5)
    ngrams = estimate_ngrams(SENTENCES, lexicon.pronunciations, NgramConfig(order=order, smoothing=smoothing))
    return Language(lexicon, ngrams, grow_random_trees(order))


def test_the_language_models_own_cost_is_that_of_the_longest_histories(language: Language) -> None:
    """Taking a shorter history may be a little cheaper in the end, because the next one is then another."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        words = rng.choice(sorted(language.pronunciations), rng.integers(0, 6)).tolist()
        context = [SENTENCE_START, *words, SENTENCE_END]
        own = -sum(language.ngrams.log_prob(context[i], context[:i]) for i in range(1, len(context)))
        assert own - 0.15 <= language.grammar_cost(tuple(words)) <= own + 1e-9


@pytest.mark.parametrize("seed", range(40))
def test_every_path_is_a_sentence_in_its_context(seed: int, language: Language) -> None:
    frames, words, cost = language.walk(np.random.default_rng(seed))
    phones = language.split_phones(frames)
    visited = [pdf_id for i, pdf_id in enumerate(frames) if i == 0 or pdf_id != frames[i - 1]]
    assert visited == language.pdf_ids(phones)
    expected = language.cost(words, phones, len(frames))
    assert cost >= expected - ROUNDING * (1 + len(phones))
    assert language.least_cost(frames, words) == pytest.approx(expected, abs=ROUNDING * (1 + len(phones)))


@pytest.mark.parametrize("seed", range(40))
def test_every_sentence_has_its_path_and_cost(seed: int, language: Language) -> None:
    rng = np.random.default_rng(seed)
    words = tuple(rng.choice(sorted(language.pronunciations), rng.integers(0, 6)).tolist())
    phones: tuple[str, ...] = ("SIL",) if not words or rng.random() < 0.5 else ()
    for word in words:
        choices = language.pronunciations[word]
        phones += choices[rng.integers(len(choices))] + ("SIL",) * int(rng.integers(2))
    pdf_ids = language.pdf_ids(phones)
    frames = np.repeat(pdf_ids, rng.integers(1, 4, len(pdf_ids))).tolist()
    expected = language.cost(words, phones, len(frames))
    assert language.least_cost(frames, words) == pytest.approx(expected, abs=ROUNDING * (1 + len(phones)))
