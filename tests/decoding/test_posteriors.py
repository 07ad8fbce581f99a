"""Posteriors and confidences against enumeration of all paths, and against closed forms."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.decoding.lattice import Lattice, best_path
from asrdistill.decoding.posteriors import arc_posteriors, word_confidences

SEEDS = st.integers(0, 2**32 - 1)
WEIGHTS = st.sampled_from([(1.0, 0.0), (0.3, 1.5), (2.0, -1.0)])


def make_lattice(pairs: Sequence[tuple[int, int]], words: Sequence[int], rng: np.random.Generator) -> Lattice:
    """A lattice of these arcs in the order of their sources, with random costs."""
    source, destination = np.array(pairs, np.int32).T
    graph_cost, acoustic_cost = rng.normal(0, 1, (2, len(pairs))).astype(np.float32)
    num_states = int(destination.max()) + 1
    return Lattice(
        source, destination, np.array(words, np.int32), graph_cost, acoustic_cost, num_states, True
    )


def make_random_lattice(rng: np.random.Generator, num_states: int = 7) -> Lattice:
    pairs = [(s, s + 1) for s in range(num_states - 1)]
    pairs += [tuple(sorted(rng.choice(num_states, 2, replace=False).tolist())) for _ in range(10)]
    return make_lattice(sorted(pairs), rng.integers(0, 5, len(pairs)).tolist(), rng)


def enumerate_paths(lattice: Lattice, state: int = 0) -> Iterator[list[int]]:
    if state == lattice.num_states - 1:
        yield []
    for arc in np.flatnonzero(lattice.source == state).tolist():
        for rest in enumerate_paths(lattice, lattice.destination[arc]):
            yield [arc, *rest]


def weigh_paths(lattice: Lattice, scale: float, penalty: float) -> list[tuple[list[int], float]]:
    """Every path with its probability."""
    paths = list(enumerate_paths(lattice))
    costs = [
        lattice.graph_cost[path].sum()
        + scale * lattice.acoustic_cost[path].sum()
        + penalty * np.count_nonzero(lattice.word[path])
        for path in paths
    ]
    weights = np.exp(-np.array(costs, np.float64))
    return list(zip(paths, (weights / weights.sum()).tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, weights=WEIGHTS)
def test_posteriors_are_those_of_enumeration(seed: int, weights: tuple[float, float]) -> None:
    lattice = make_random_lattice(np.random.default_rng(seed))
    expected = np.zeros(len(lattice.source))
    for path, probability in weigh_paths(lattice, *weights):
        expected[path] += probability
    found = arc_posteriors(lattice, *weights)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for cut in range(lattice.num_states - 1):
        crosses = (lattice.source <= cut) & (lattice.destination > cut)
        assert found[crosses].sum() == pytest.approx(1, abs=1e-9)


def test_posteriors_of_unlikely_paths_do_not_overflow() -> None:
    lattice = make_lattice([(0, 1), (0, 1), (1, 2)], [1, 2, 3], np.random.default_rng(0))
    lattice.acoustic_cost[:] = 4000, 2000, -5000
    np.testing.assert_allclose(arc_posteriors(lattice, 1.0), [0, 1, 1], atol=1e-12)
    np.testing.assert_allclose(word_confidences(lattice, [1, 3], 1.0), [0, 1], atol=1e-12)


def align(path: Sequence[int], hypothesis: Sequence[int]) -> Iterator[tuple[int, frozenset[int]]]:
    """Every alignment: its number of errors, and which words of the hypothesis it has right."""
    if not path or not hypothesis:
        yield len(path) + len(hypothesis), frozenset()
        return
    is_right = path[-1] == hypothesis[-1]
    for errors, right in align(path[:-1], hypothesis[:-1]):
        yield errors + (not is_right), right | ({len(hypothesis) - 1} if is_right else set())
    for errors, right in align(path[:-1], hypothesis):
        yield errors + 1, right
    for errors, right in align(path, hypothesis[:-1]):
        yield errors + 1, right


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, weights=WEIGHTS)
def test_confidences_are_those_of_enumeration_where_paths_do_not_meet(
    seed: int, weights: tuple[float, float]
) -> None:
    """Between what all best alignments of each path have right and what any of them has."""
    rng = np.random.default_rng(seed)
    num_paths, num_stages = 4, 4
    end = num_paths * (num_stages - 1) + 1
    pairs = [
        (0 if stage == 0 else path * (num_stages - 1) + stage, stage_end)
        for path in range(num_paths)
        for stage, stage_end in enumerate(
            [path * (num_stages - 1) + stage for stage in range(1, num_stages)] + [end]
        )
    ]
    lattice = make_lattice(sorted(pairs), rng.integers(0, 4, len(pairs)).tolist(), rng)
    hypothesis = best_path(lattice, *weights)
    least, most = np.zeros(len(hypothesis)), np.zeros(len(hypothesis))
    for path, probability in weigh_paths(lattice, *weights):
        alignments = list(align(lattice.path_words(path), hypothesis))
        best = [right for errors, right in alignments if errors == min(alignments, key=lambda a: a[0])[0]]
        for position in range(len(hypothesis)):
            least[position] += probability * all(position in right for right in best)
            most[position] += probability * any(position in right for right in best)
    found = word_confidences(lattice, hypothesis, *weights)
    assert (least - 1e-5 <= found).all() and (found <= most + 1e-5).all()


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, weights=WEIGHTS)
def test_confidence_in_a_row_of_choices_is_the_posterior_of_the_choice(
    seed: int, weights: tuple[float, float]
) -> None:
    """Five places with words of their own; in each, two arcs of one word, one of another, one of none."""
    rng = np.random.default_rng(seed)
    pairs = [(place, place + 1) for place in range(5) for _ in range(4)]
    words = [word for place in range(5) for word in (2 * place + 1, 2 * place + 2, 2 * place + 1, 0)]
    lattice = make_lattice(pairs, words, rng)
    hypothesis = [2 * place + 1 + int(rng.integers(2)) for place in range(5)]
    posteriors = arc_posteriors(lattice, *weights)
    expected = [posteriors[lattice.word == word].sum() for word in hypothesis]
    np.testing.assert_allclose(word_confidences(lattice, hypothesis, *weights), expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_a_word_that_every_path_has_is_certain(seed: int) -> None:
    """The same words on every path, sooner on one and later on another."""
    rng = np.random.default_rng(seed)
    pairs = [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (3, 4), (4, 5), (5, 6)]
    words = [7, 0, 0, 0, 8, 7, 7, 8, 7]
    lattice = make_lattice(pairs, words, rng)
    np.testing.assert_allclose(word_confidences(lattice, [7, 8, 7], 1.0), 1, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, weights=WEIGHTS)
def test_confidences_are_probabilities(seed: int, weights: tuple[float, float]) -> None:
    lattice = make_random_lattice(np.random.default_rng(seed), num_states=9)
    hypothesis = best_path(lattice, *weights)
    found = word_confidences(lattice, hypothesis, *weights)
    assert found.shape == (len(hypothesis),) and (found >= 0).all() and (found <= 1).all()


def test_a_lattice_of_no_frames_has_no_confidences() -> None:
    assert word_confidences(Lattice.empty(), [], 1.0).shape == (0,)
    assert arc_posteriors(Lattice.empty(), 1.0).shape == (0,)
