"""Best paths through lattices against enumeration of all paths, before and after they are made compact."""

from collections.abc import Sequence

import numpy as np
import pytest

from asrdistill.decoding.compaction import merge_chains, sort_topologically
from asrdistill.decoding.lattice import Lattice, best_path, find_best_arcs


def make_lattice(rng: np.random.Generator, num_states: int = 7) -> Lattice:
    """A random acyclic lattice whose states are all on a path."""
    pairs = [(s, s + 1) for s in range(num_states - 1)]
    pairs += [tuple(sorted(rng.choice(num_states, 2, replace=False))) for _ in range(10)]
    source, destination = np.array(sorted(pairs), np.int32).T
    word = rng.integers(0, 5, len(pairs)).astype(np.int32)
    graph_cost, acoustic_cost = rng.normal(0, 3, (2, len(pairs))).astype(np.float32)
    return Lattice(source, destination, word, graph_cost, acoustic_cost, num_states, True)


def enumerate_paths(
    source: np.ndarray, destination: np.ndarray, num_states: int, state: int = 0
) -> list[list[int]]:
    if state == num_states - 1:
        return [[]]
    return [
        [arc, *rest]
        for arc in np.flatnonzero(source == state).tolist()
        for rest in enumerate_paths(source, destination, num_states, destination[arc])
    ]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("scale", "penalty"), [(1.0, 0.0), (0.1, 2.0), (2.0, -1.5)])
def test_best_path_is_the_best_of_all_paths(seed: int, scale: float, penalty: float) -> None:
    lattice = make_lattice(np.random.default_rng(seed))

    def cost(path: list[int]) -> float:
        costs = lattice.graph_cost[path] + scale * lattice.acoustic_cost[path]
        return costs.sum() + penalty * np.count_nonzero(lattice.word[path])

    best = min(enumerate_paths(lattice.source, lattice.destination, lattice.num_states), key=cost)
    assert find_best_arcs(lattice, scale, penalty).tolist() == best
    assert best_path(lattice, scale, penalty) == [word for word in lattice.word[best].tolist() if word]
    assert lattice.arc_costs(scale, penalty)[best].sum() == pytest.approx(cost(best), rel=1e-5)


def make_raw_columns(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Columns as `merge_chains` takes them: 5 frames, few states each, arcs within and between, dead ends."""
    frame = np.sort(np.concatenate([np.arange(6), rng.integers(0, 6, 6)]))
    pairs = [(s, d) for s in range(12) for d in range(s + 1, 12) if frame[d] - frame[s] in (0, 1)]
    kept = rng.random(len(pairs)) < 0.45
    source, destination = np.array([pair for pair, keep in zip(pairs, kept, strict=True) if keep], np.int32).T
    emits = frame[destination] > frame[source]
    input_label = np.where(emits, rng.integers(1, 4, len(source)), 0).astype(np.int32)
    word = (rng.integers(1, 5, len(source)) * (rng.random(len(source)) < 0.4)).astype(np.int32)
    # Costs in eighths, so that sums do not depend on their order.
    graph_cost, acoustic_cost = rng.integers(-40, 40, (2, len(source))).astype(np.float32) / 8
    return source, destination, input_label, word, graph_cost, acoustic_cost


Path = tuple[tuple[tuple[int, int], ...], tuple[int, ...], float, float]


def describe(
    words: np.ndarray, frames: Sequence[int], pdf_ids: Sequence[int], graph: np.ndarray, acoustic: np.ndarray
) -> Path:
    """A path: its words with the frames at which they stand, its pdf-ids, its costs."""
    standing = tuple((word, frame) for word, frame in zip(words.tolist(), frames, strict=True) if word)
    return standing, tuple(pdf_ids), float(graph.sum()), float(acoustic.sum())


@pytest.mark.parametrize("seed", range(60))
def test_merging_chains_keeps_every_path(seed: int) -> None:
    columns = make_raw_columns(np.random.default_rng(seed))
    source, destination, input_label, word, graph, acoustic = columns
    before = []
    for arcs in enumerate_paths(source, destination, 12):
        takes_frame = input_label[arcs] > 0
        frames = (np.cumsum(takes_frame) - takes_frame).tolist()
        pdf_ids = (input_label[arcs][takes_frame] - 1).tolist()
        before.append(describe(word[arcs], frames, pdf_ids, graph[arcs], acoustic[arcs]))

    compact = merge_chains(*columns, 12)
    source, destination, word, graph, acoustic, frame, pdf_ids = compact
    lattice = Lattice(source, destination, word, graph, acoustic, len(frame), True, frame, pdf_ids)
    after = []
    for arcs in enumerate_paths(source, destination, lattice.num_states):
        frames, alignment = frame[source[arcs]].tolist(), lattice.path_alignment(arcs).tolist()
        after.append(describe(word[arcs], frames, alignment, graph[arcs], acoustic[arcs]))
    assert sorted(after) == sorted(before)
    assert (source < destination).all() and (np.diff(source) >= 0).all()


@pytest.mark.parametrize("seed", range(60))
def test_merging_chains_leaves_no_chain_and_no_dead_end(seed: int) -> None:
    compact = merge_chains(*make_raw_columns(np.random.default_rng(seed)), 12)
    source, destination, word, *_, frame, _ = compact
    if not len(source):
        return
    for state in range(1, len(frame) - 1):
        into, out = np.flatnonzero(destination == state), np.flatnonzero(source == state)
        assert len(into) and len(out)
        if len(into) == len(out) == 1:
            takes_frames = frame[state] > frame[source[into[0]]]
            assert word[out[0]] and (word[into[0]] or takes_frames)


def test_topological_order_starts_at_the_start() -> None:
    source, destination = np.array([0, 1, 2, 2, 3], np.int32), np.array([1, 3, 0, 1, 4], np.int32)
    rank = sort_topologically(source, destination, 2, 5)
    assert rank[2] == 0 and sorted(rank) == list(range(5))
    assert (rank[source] < rank[destination]).all()
    with pytest.raises(AssertionError, match="cycle"):
        sort_topologically(np.array([0, 1], np.int32), np.array([1, 0], np.int32), 0, 2)


def test_a_lattice_of_no_frames_has_an_empty_path() -> None:
    lattice = Lattice.empty()
    arcs = find_best_arcs(lattice, 1.0)
    assert not len(arcs) and not len(lattice.path_alignment(arcs)) and lattice.path_words(arcs) == []
