"""The n best word sequences of a lattice.

A* search forwards over pairs of a state and the words so far, with the exact cost to the end as its
estimate: the first time that a pair is reached is the cheapest, later ones are dropped, so paths that differ
in timing alone cost nothing more. Only beginnings of the sequences that are found are ever entered, but for
ties: at most n times the lattice's states.
Shapes: A arcs, S states.
"""

import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from asrdistill.decoding.lattice import Lattice
from asrdistill.experiment import atomic_path


@dataclass(frozen=True)
class Hypothesis:
    """A word sequence and the cheapest path that bears it.

    Attributes:
        words: word ids.
        cost: graph cost + acoustic scale * acoustic cost + insertion penalty * number of words.
        graph_cost: of language model, lexicon and HMM transitions.
        acoustic_cost: negative scaled log likelihood, unscaled.
        arcs: int32, the path.
    """

    words: tuple[int, ...]
    cost: float
    graph_cost: float
    acoustic_cost: float
    arcs: np.ndarray


def find_n_best(
    lattice: Lattice, acoustic_scale: float, insertion_penalty: float, n: int
) -> list[Hypothesis]:
    """The n cheapest word sequences, no two alike, cheapest first; fewer where the lattice has fewer.

    Args:
        lattice: the hypotheses.
        acoustic_scale: factor on acoustic costs.
        insertion_penalty: cost of each word, natural log units.
        n: how many, at least 1.

    Raises:
        ValueError: n is less than 1.
    """
    if n < 1:
        raise ValueError(f"n-best: n is {n}; expected a number of hypotheses of at least 1")
    costs = lattice.arc_costs(acoustic_scale, insertion_penalty)
    to_end = _find_costs_to_end(lattice.source, lattice.destination, costs, lattice.num_states)
    path_arcs, lengths = _search(lattice.source, lattice.destination, lattice.word, costs, to_end, n)
    paths = np.split(path_arcs, np.cumsum(lengths)[:-1])
    return [_describe_path(lattice, costs, arcs) for arcs in paths]


def write_n_best(path: Path, n_best: Mapping[str, Sequence[Hypothesis]], words: Sequence[str]) -> None:
    """Publish hypotheses as JSON lines: utterance `id`, `rank` from 1, `cost`, its parts, and `text`.

    Args:
        path: of the file.
        n_best: utterance id -> its hypotheses, best first.
        words: word of each word id.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for utterance_id, hypotheses in n_best.items():
            for rank, hypothesis in enumerate(hypotheses, 1):
                line = {
                    "id": utterance_id,
                    "rank": rank,
                    "cost": round(hypothesis.cost, 4),
                    "graph_cost": round(hypothesis.graph_cost, 4),
                    "acoustic_cost": round(hypothesis.acoustic_cost, 4),
                    "text": " ".join(words[word_id] for word_id in hypothesis.words),
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _describe_path(lattice: Lattice, costs: np.ndarray, arcs: np.ndarray) -> Hypothesis:
    return Hypothesis(
        tuple(lattice.path_words(arcs)),
        float(costs[arcs].sum()),
        float(lattice.graph_cost[arcs].sum(dtype=np.float64)),
        float(lattice.acoustic_cost[arcs].sum(dtype=np.float64)),
        arcs,
    )


@numba.njit(cache=True)
def _find_costs_to_end(
    source: np.ndarray, destination: np.ndarray, costs: np.ndarray, num_states: int
) -> np.ndarray:
    """Cost of the cheapest path from each state to the end, float64 (S,)."""
    to_end = np.full(num_states, np.inf)
    to_end[-1] = 0.0
    for arc in range(len(source) - 1, -1, -1):
        to_end[source[arc]] = min(to_end[source[arc]], to_end[destination[arc]] + costs[arc])
    return to_end


@numba.njit(cache=True)
def _search(
    source: np.ndarray,
    destination: np.ndarray,
    word: np.ndarray,
    costs: np.ndarray,
    to_end: np.ndarray,
    n: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Arcs of the paths that are found, one path after the other, and how many arcs each of them has.

    A history is a sequence of words: 0 is the empty one, the others are numbered as they come up.
    """
    num_states = len(to_end)
    num_words = np.int64(word.max()) + 1 if len(word) else 1
    first_arc = np.searchsorted(source, np.arange(num_states + 1))
    longer = {np.int64(-1): np.int64(0)}  # history * num_words + word -> history
    entered = {np.int64(-1)}  # history * num_states + state
    step_arc, step_before = [np.int64(-1)], [np.int64(-1)]  # how each step of a path goes on from another
    # Estimated cost of the whole; minus the state, so that ties are finished first; step; cost; history.
    queue = [(to_end[0], np.int64(0), np.int64(0), 0.0, np.int64(0))]
    found = [np.int64(-1) for _ in range(0)]
    while queue and len(found) < n:
        _, minus_state, step, cost, history = heapq.heappop(queue)
        state = -minus_state
        if history * num_states + state in entered:
            continue
        entered.add(history * num_states + state)
        if state == num_states - 1:
            found.append(step)
            continue
        for arc in range(first_arc[state], first_arc[state + 1]):
            history_after = history
            if word[arc] != 0:
                history_after = longer.setdefault(history * num_words + word[arc], np.int64(len(longer)))
            after = np.int64(destination[arc])
            if history_after * num_states + after in entered:
                continue
            cost_after = cost + costs[arc]
            step_after = np.int64(len(step_arc))
            heapq.heappush(queue, (cost_after + to_end[after], -after, step_after, cost_after, history_after))
            step_arc.append(np.int64(arc))
            step_before.append(step)
    return _trace_steps(found, step_arc, step_before)


@numba.njit(cache=True)
def _trace_steps(
    found: list[int], step_arc: list[int], step_before: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    arcs = []
    lengths = np.zeros(len(found), np.int64)
    for number in range(len(found) - 1, -1, -1):
        step = found[number]
        while step > 0:
            arcs.append(step_arc[step])
            lengths[number] += 1
            step = step_before[step]
    return np.array(arcs[::-1], np.int32), lengths
