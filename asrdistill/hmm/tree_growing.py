"""Growing decision trees: which triphone states are tied, by what their frames tell.

One tree for each state of each phone; silence is not split. Greedy: of all leaves of all trees, and all sets
of phones asked of the left or the right neighbour, the split is made that wins most log-likelihood of the
training frames, each leaf being one Gaussian with diagonal covariance, until there are as many leaves as
wanted. Ties: the leaf that has been there longer (at first in the order of phones and states, then `yes`
before `no`); then left before right; then the question that comes first.

Shapes: N frames of D coefficients, n triphone states seen, P phones, Q questions; moments as in
hmm/questions.py.
Source: Young, Odell & Woodland (1994), "Tree-based state tying for high accuracy acoustic modelling"; Kaldi's
`acc-tree-stats` and `build-tree`.
Differs from Kaldi: a floor on the frames of a leaf, as in the paper; leaves are not merged again afterwards.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.corpus.source import UserPath
from asrdistill.hmm.decision_tree import Leaf, Node, Question, Side
from asrdistill.hmm.questions import (
    DECIMALS,
    PhoneSet,
    derive_questions,
    gaussian_log_likelihood,
    read_questions,
)
from asrdistill.hmm.topology import (
    NOT_ALIGNED,
    NUM_STATES_PER_PHONE,
    SILENCE_PHONE,
    TiedStates,
    list_phones,
)

SIDES: tuple[Side, Side] = ("left", "right")


class TiedStatesConfig(Config):
    """Which states of triphones are tied."""

    num_leaves: int = Field(
        1000,
        ge=1,
        description="tied states of all phones together, at most; fewer than 3 a phone: those of monophones",
    )
    min_occupancy: float = Field(100.0, gt=0, description="frames of training that a tied state must have")
    questions: UserPath | None = Field(
        None,
        description="file of the sets of phones that neighbours may be asked for, a line each, phones "
        "separated by spaces; none: derived from how the phones sound",
    )


@dataclass(frozen=True)
class TriphoneStatistics:
    """Moments of the frames aligned to each triphone state; those of other frames can be added.

    Attributes:
        codes: int64 (n,), of the states seen (hmm/topology.py), ascending, each once.
        counts: float64 (n,), frames.
        sums: float64 (n, D).
        squares: float64 (n, D), sums of the squares.
    """

    codes: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    def __add__(self, other: "TriphoneStatistics") -> "TriphoneStatistics":
        codes = np.union1d(self.codes, other.codes)
        dimension = self.sums.shape[1]
        total = TriphoneStatistics(codes, np.zeros(len(codes)), *np.zeros((2, len(codes), dimension)))
        for part in (self, other):
            places = np.searchsorted(codes, part.codes)
            total.counts[places] += part.counts
            total.sums[places] += part.sums
            total.squares[places] += part.squares
        return total

    @property
    def moments(self) -> np.ndarray:
        """All three side by side, float64 (n, 1 + 2 D)."""
        return np.concatenate([self.counts[:, None], self.sums, self.squares], axis=1)


def accumulate_statistics(codes: np.ndarray, frames: np.ndarray) -> TriphoneStatistics:
    """Sum up frames; give it many utterances at once, and add what it gives for the next.

    Args:
        codes: int (N,), of the triphone state that each frame is aligned to; frames that are NOT_ALIGNED are
            left out.
        frames: float32 (N, D).

    Raises:
        ValueError: there are not as many codes as frames.
    """
    if len(codes) != len(frames):
        raise ValueError(f"statistics of triphone states: {len(codes)} codes for {len(frames)} frames")
    seen, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    sums, squares = np.zeros((2, len(seen), frames.shape[1]))
    _add_frames(places, frames, sums, squares)
    aligned = slice(int(NOT_ALIGNED in seen), None)  # it is the lowest
    return TriphoneStatistics(
        seen[aligned].astype(np.int64), counts[aligned].astype(np.float64), sums[aligned], squares[aligned]
    )


@numba.njit(cache=True, nogil=True)
def _add_frames(places: np.ndarray, frames: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> None:
    for number, place in enumerate(places):
        for coefficient in range(frames.shape[1]):
            value = np.float64(frames[number, coefficient])
            sums[place, coefficient] += value
            squares[place, coefficient] += value * value


def grow_trees(
    statistics: TriphoneStatistics, phones: Sequence[str] | set[str], config: TiedStatesConfig
) -> TiedStates:
    """Tie the triphone states; the log-likelihood that it won is `inventory.total_gain` of the result.

    Args:
        statistics: of the training split.
        phones: those of the inventory by which the codes are numbered.
        config: how far to go.

    Raises:
        CorpusError: the file of questions cannot be used.
        ValueError: a code is not one of these phones' triphones.
    """
    names = list_phones(phones)
    moments, contexts = statistics.moments, _decode(statistics.codes, len(names))
    if config.questions is None:
        questions = derive_questions(names, _sum_by_state(moments, contexts, len(names)))
    else:
        questions = read_questions(config.questions, names)
    grower = _Grower(moments, contexts, names, questions, config.min_occupancy)
    roots = [
        [grower.plant(phone, state) for state in range(NUM_STATES_PER_PHONE)] for phone in range(len(names))
    ]
    splittable = [root for name, trees in zip(names, roots, strict=True) for root in trees
                  if name != SILENCE_PHONE]  # fmt: skip
    grower.grow(splittable, config.num_leaves - NUM_STATES_PER_PHONE * len(names))
    pdf_ids = itertools.count()
    return TiedStates(names, tuple(tuple(grower.finish(root, pdf_ids) for root in trees) for trees in roots))


@dataclass(frozen=True)
class _Contexts:
    """What triphone states are, as phone ids: all int (n,)."""

    left: np.ndarray
    phone: np.ndarray
    right: np.ndarray
    state: np.ndarray


def _decode(codes: np.ndarray, num_phones: int) -> _Contexts:
    """Undo `TiedStates.code`."""
    num_codes = NUM_STATES_PER_PHONE * num_phones**3
    if len(codes) and not 0 <= codes[0] <= codes[-1] < num_codes:
        raise ValueError(
            f"statistics of triphone states: codes from {codes[0]} to {codes[-1]}; {num_phones} phones have "
            f"those from 0 to {num_codes - 1}"
        )
    triphones, state = np.divmod(codes, NUM_STATES_PER_PHONE)
    pairs, right = np.divmod(triphones, num_phones)
    left, phone = np.divmod(pairs, num_phones)
    return _Contexts(left, phone, right, state)


def _sum_by_state(moments: np.ndarray, contexts: _Contexts, num_phones: int) -> np.ndarray:
    """Moments of each state of each phone in whatever context, float64 (P, 3, 1 + 2 D)."""
    sums = np.zeros((num_phones, NUM_STATES_PER_PHONE, moments.shape[1]))
    np.add.at(sums, (contexts.phone, contexts.state), moments)
    return sums


@dataclass(frozen=True)
class _Split:
    """The best question of a leaf."""

    gain: float
    side: int
    question: int


@dataclass
class _Part:
    """A node while its tree grows.

    Attributes:
        rows: int, triphone states in it, as places in the statistics.
        moments: float64 (1 + 2 D), of their frames.
        split: the best there is, if any.
        children: where it was made, `yes` first.
    """

    rows: np.ndarray
    moments: np.ndarray
    split: _Split | None
    children: tuple["_Part", "_Part"] | None = None


class _Grower:
    """Finds and makes splits."""

    def __init__(
        self,
        moments: np.ndarray,
        contexts: _Contexts,
        phones: tuple[str, ...],
        questions: tuple[PhoneSet, ...],
        min_occupancy: float,
    ) -> None:
        self.moments = moments
        self.contexts = contexts
        self.neighbours = (contexts.left, contexts.right)
        self.questions = questions
        self.min_occupancy = min_occupancy
        # Whether each question's set has each phone, float64 (Q, P).
        self.membership = np.array([[float(phone in asked) for phone in phones] for asked in questions])

    def plant(self, phone: int, state: int) -> _Part:
        """A tree of one leaf."""
        is_own = (self.contexts.phone == phone) & (self.contexts.state == state)
        return self._make_part(np.flatnonzero(is_own))

    def grow(self, leaves: list[_Part], num_splits: int) -> None:
        """Make the best split of all, `num_splits` times or until there is none."""
        order = itertools.count()
        heap: list[tuple[float, int, _Part]] = []

        def offer(part: _Part) -> None:
            number = next(order)
            if part.split is not None:
                heapq.heappush(heap, (-part.split.gain, number, part))

        for leaf in leaves:
            offer(leaf)
        for _ in range(num_splits):
            if not heap:
                return
            _, _, part = heapq.heappop(heap)
            part.children = self._divide(part)
            for child in part.children:
                offer(child)

    def finish(self, part: _Part, pdf_ids: Iterator[int]) -> Node:
        """The tree that was grown, its leaves numbered."""
        if part.children is None or part.split is None:
            return Leaf(next(pdf_ids), round(part.moments[0]))
        yes, no = (self.finish(child, pdf_ids) for child in part.children)
        split = part.split
        return Question(SIDES[split.side], self.questions[split.question], split.gain, yes, no)

    def _make_part(self, rows: np.ndarray) -> _Part:
        total = self.moments[rows].sum(0)
        return _Part(rows, total, self._find_split(rows, total))

    def _divide(self, part: _Part) -> tuple[_Part, _Part]:
        assert part.split is not None
        asked = self.membership[part.split.question] > 0
        is_yes = asked[self.neighbours[part.split.side][part.rows]]
        return self._make_part(part.rows[is_yes]), self._make_part(part.rows[~is_yes])

    def _find_split(self, rows: np.ndarray, total: np.ndarray) -> _Split | None:
        """The best split that leaves enough frames on both sides and wins anything."""
        if total[0] < 2 * self.min_occupancy:
            return None
        yes = np.concatenate([self.membership @ self._sum_by_neighbour(rows, side) for side in range(2)])
        no = total - yes
        candidates = np.flatnonzero(np.minimum(yes[:, 0], no[:, 0]) >= self.min_occupancy)
        if not len(candidates):
            return None
        both = gaussian_log_likelihood(np.stack([yes[candidates], no[candidates]])).sum(0)
        gains = np.round(both - gaussian_log_likelihood(total), DECIMALS)
        best = int(np.argmax(gains))  # the first among equals
        if gains[best] <= 0:
            return None
        side, question = divmod(int(candidates[best]), len(self.questions))
        return _Split(float(gains[best]), side, question)

    def _sum_by_neighbour(self, rows: np.ndarray, side: int) -> np.ndarray:
        """Moments of the triphone states that have each phone as neighbour, float64 (P, 1 + 2 D)."""
        sums = np.zeros((self.membership.shape[1], self.moments.shape[1]))
        np.add.at(sums, self.neighbours[side][rows], self.moments[rows])
        return sums
