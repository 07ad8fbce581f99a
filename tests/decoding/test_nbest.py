"""The n best word sequences against enumeration of all paths."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.decoding.lattice import Lattice, best_path, find_best_arcs
from asrdistill.decoding.nbest import find_n_best, write_n_best


def make_lattice(rng: np.random.Generator, num_states: int, has_ties: bool) -> Lattice:
    """A random acyclic lattice; where it has ties, costs are small whole numbers."""
    pairs = [(s, s + 1) for s in range(num_states - 1)]
    pairs += [tuple(sorted(rng.choice(num_states, 2, replace=False))) for _ in range(2 * num_states)]
    source, destination = np.array(sorted(pairs), np.int32).T
    word = rng.integers(0, 4, len(pairs)).astype(np.int32)
    graph_cost, acoustic_cost = rng.normal(0, 3, (2, len(pairs))).astype(np.float32)
    if has_ties:
        graph_cost, acoustic_cost = np.round(graph_cost / 4), np.round(acoustic_cost / 4)
    return Lattice(source, destination, word, graph_cost, acoustic_cost, num_states, True)


def enumerate_paths(lattice: Lattice, state: int = 0) -> Iterator[list[int]]:
    if state == lattice.num_states - 1:
        yield []
    for arc in np.flatnonzero(lattice.source == state).tolist():
        for rest in enumerate_paths(lattice, lattice.destination[arc]):
            yield [arc, *rest]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_states=st.integers(2, 7),
    n=st.integers(1, 60),
    scale=st.sampled_from([0.25, 1.0, 2.0]),
    penalty=st.sampled_from([-2.0, 0.0, 1.5]),
    has_ties=st.booleans(),
)
def test_n_best_is_that_of_enumeration(
    seed: int, num_states: int, n: int, scale: float, penalty: float, has_ties: bool
) -> None:
    lattice = make_lattice(np.random.default_rng(seed), num_states, has_ties)
    least: dict[tuple[int, ...], float] = {}
    for path in enumerate_paths(lattice):
        words = tuple(word for word in lattice.word[path].tolist() if word)
        cost = float(lattice.graph_cost[path].sum() + scale * lattice.acoustic_cost[path].sum())
        least[words] = min(least.get(words, np.inf), cost + penalty * len(words))

    found = find_n_best(lattice, scale, penalty, n)
    assert len(found) == min(n, len(least)) == len({hypothesis.words for hypothesis in found})
    costs = [hypothesis.cost for hypothesis in found]
    assert costs == pytest.approx(sorted(least.values())[:n], abs=1e-4)
    assert costs == pytest.approx([least[hypothesis.words] for hypothesis in found], abs=1e-4)
    assert found[0].cost == pytest.approx(
        lattice.arc_costs(scale, penalty)[find_best_arcs(lattice, scale, penalty)].sum(), abs=1e-9
    )
    for hypothesis in found:
        arcs = hypothesis.arcs
        assert lattice.source[arcs[0]] == 0 and lattice.destination[arcs[-1]] == num_states - 1
        assert (lattice.destination[arcs[:-1]] == lattice.source[arcs[1:]]).all()
        assert lattice.path_words(arcs) == list(hypothesis.words)
        weighted = hypothesis.graph_cost + scale * hypothesis.acoustic_cost
        assert hypothesis.cost == pytest.approx(weighted + penalty * len(hypothesis.words), abs=1e-4)


def test_many_paths_of_the_same_words_cost_nothing() -> None:
    """300 stages of three arcs each have 3^300 paths; words stand in three of the stages."""
    num_stages = 300
    source = np.repeat(np.arange(num_stages, dtype=np.int32), 3)
    word = np.zeros(len(source), np.int32)
    choice_cost = np.tile(np.float32([0, 1, 2]), num_stages)
    for stage in (10, 150, 290):
        word[3 * stage : 3 * stage + 3] = 1, 2, 3
    lattice = Lattice(source, source + 1, word, choice_cost, np.zeros_like(choice_cost), num_stages + 1, True)
    found = find_n_best(lattice, 1.0, 0.0, 100)
    assert len(found) == 27
    assert [hypothesis.cost for hypothesis in found] == sorted(sum(h.words) - 3 for h in found)
    assert found[0].words == (1, 1, 1) and found[-1].words == (3, 3, 3)


def test_a_lattice_of_no_frames_has_one_hypothesis() -> None:
    (only,) = find_n_best(Lattice.empty(), 0.1, 0.0, 10)
    assert only.words == () and only.cost == 0 and not len(only.arcs)


def test_no_hypotheses_are_refused() -> None:
    with pytest.raises(ValueError, match="n is 0"):
        find_n_best(Lattice.empty(), 0.1, 0.0, 0)


def test_hypotheses_are_written_as_json_lines(tmp_path: Path) -> None:
    lattice = make_lattice(np.random.default_rng(3), 6, has_ties=False)
    found = find_n_best(lattice, 0.5, 1.0, 3)
    words = ("<eps>", "one", "zwölf", "three")
    write_n_best(tmp_path / "dev.nbest.jsonl", {"b": found, "a": []}, words)
    lines = [
        json.loads(line) for line in (tmp_path / "dev.nbest.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["rank"] for line in lines] == [1, 2, 3] and {line["id"] for line in lines} == {"b"}
    assert lines[0]["text"].split() == [words[word_id] for word_id in best_path(lattice, 0.5, 1.0)]
    for line in lines:
        penalties = 1.0 * len(line["text"].split())
        expected = line["graph_cost"] + 0.5 * line["acoustic_cost"] + penalties
        assert line["cost"] == pytest.approx(expected, abs=3e-4)
