"""Best paths through lattices against enumeration of all paths."""

import numpy as np
import pytest

from asrdistill.decoding.lattice import Lattice, best_path


def make_lattice(rng: np.random.Generator, num_states: int = 7) -> Lattice:
    """A random acyclic lattice whose states are all on a path."""
    pairs = [(s, s + 1) for s in range(num_states - 1)]
    pairs += [tuple(sorted(rng.choice(num_states, 2, replace=False))) for _ in range(10)]
    source, destination = np.array(sorted(pairs), np.int32).T
    word = rng.integers(0, 5, len(pairs)).astype(np.int32)
    graph_cost, acoustic_cost = rng.normal(0, 3, (2, len(pairs))).astype(np.float32)
    return Lattice(source, destination, word, graph_cost, acoustic_cost, num_states, True)


def enumerate_paths(lattice: Lattice, state: int = 0) -> list[list[int]]:
    if state == lattice.num_states - 1:
        return [[]]
    arcs = np.flatnonzero(lattice.source == state)
    return [[arc, *rest] for arc in arcs for rest in enumerate_paths(lattice, lattice.destination[arc])]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("scale", "penalty"), [(1.0, 0.0), (0.1, 2.0), (2.0, -1.5)])
def test_best_path_is_the_best_of_all_paths(seed: int, scale: float, penalty: float) -> None:
    lattice = make_lattice(np.random.default_rng(seed))

    def cost(path: list[int]) -> float:
        costs = lattice.graph_cost[path] + scale * lattice.acoustic_cost[path]
        return costs.sum() + penalty * np.count_nonzero(lattice.word[path])

    best = min(enumerate_paths(lattice), key=cost)
    assert best_path(lattice, scale, penalty) == [word for word in lattice.word[best].tolist() if word]
