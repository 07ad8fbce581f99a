"""Growing trees against trying every split of every leaf on the frames themselves."""

from collections import Counter, defaultdict
from functools import reduce
from itertools import product
from operator import add
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from asrdistill.errors import CorpusError
from asrdistill.hmm.decision_tree import Leaf, Node, Question, leaves, trace
from asrdistill.hmm.inventory import total_gain
from asrdistill.hmm.topology import NOT_ALIGNED, SILENCE_PHONE, TiedStates
from asrdistill.hmm.tree_growing import (
    TiedStatesConfig,
    TriphoneStatistics,
    accumulate_statistics,
    grow_trees,
)

PHONES = (SILENCE_PHONE, "a", "b", "c")
MONOPHONES = TiedStates.of_monophones(set(PHONES))
DIMENSION = 3
VARIANCE_FLOOR = 0.01
NUM_ROOTS = 3 * len(PHONES)

TriphoneState = tuple[str, str, str, int]
"""Left neighbour, phone, right neighbour, state."""
Frames = dict[TriphoneState, np.ndarray]
Leaves = list[set[TriphoneState]]


def draw_frames(seed: int, share: float = 0.8, num_frames: int = 8) -> Frames:
    """Frames of a share of the triphone states; neighbours shift them, the more the nearer they are."""
    rng = np.random.default_rng(seed)
    shifts = rng.normal(0, 1.5, (3, len(PHONES), DIMENSION))
    found = {}
    for left, phone, right, state in product(*[range(len(PHONES))] * 3, range(3)):
        if rng.random() < share:
            centre = shifts[0, left] * (2 - state) + shifts[1, phone] * 3 + shifts[2, right] * state
            own = rng.normal(centre, 1.0, (1 + rng.integers(num_frames), DIMENSION))
            found[PHONES[left], PHONES[phone], PHONES[right], state] = own.astype(np.float32)
    return found


def code_of(triphone_state: TriphoneState) -> int:
    left, phone, right, state = triphone_state
    return MONOPHONES.code(left, phone, right) + state


def flatten(frames: Frames, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N,) and frames (N, D), mixed."""
    codes = np.concatenate([np.full(len(own), code_of(key)) for key, own in frames.items()])
    order = np.random.default_rng(seed).permutation(len(codes))
    return codes[order], np.concatenate(list(frames.values()))[order]


def log_likelihood_of(frames: np.ndarray) -> float:
    """Under the Gaussian of these frames, whose variance has a floor."""
    frames = frames.astype(np.float64)
    deviations = np.sqrt(np.maximum(frames.var(0), VARIANCE_FLOOR))
    return float(scipy.stats.norm.logpdf(frames, frames.mean(0), deviations).sum())


def join(frames: Frames, leaf: set[TriphoneState]) -> np.ndarray:
    return np.concatenate([frames[triphone_state] for triphone_state in sorted(leaf)])


def grow_by_trying(
    frames: Frames, questions: list[set[str]], num_leaves: int, min_occupancy: float
) -> tuple[Leaves, float]:
    """Split again and again where it wins most, as sets of triphone states; with the log-likelihood won."""
    grouped: dict[tuple[str, int], set[TriphoneState]] = defaultdict(set)
    for left, phone, right, state in frames:
        grouped[phone, state].add((left, phone, right, state))
    found, total = list(grouped.values()), 0.0
    while len(found) + (NUM_ROOTS - len(grouped)) < num_leaves:
        splits = []
        for leaf, side, asked in product(found, (0, 2), questions):
            yes = {triphone_state for triphone_state in leaf if triphone_state[side] in asked}
            no = leaf - yes
            sizes = [sum(len(frames[triphone_state]) for triphone_state in part) for part in (yes, no)]
            if next(iter(leaf))[1] != SILENCE_PHONE and min(sizes) >= min_occupancy:
                parts = [log_likelihood_of(join(frames, part)) for part in (yes, no)]
                splits.append((sum(parts) - log_likelihood_of(join(frames, leaf)), leaf, yes, no))
        best = max(splits, key=lambda split: split[0], default=None)
        if best is None or best[0] <= 0:
            break
        gain, leaf, yes, no = best
        total += gain
        found = [other for other in found if other is not leaf] + [yes, no]
    return found, total


def group_by_pdf(tied_states: TiedStates, frames: Frames) -> Leaves:
    groups: dict[int, set[TriphoneState]] = defaultdict(set)
    for left, phone, right, state in frames:
        groups[tied_states.pdf_ids(left, phone, right)[state]].add((left, phone, right, state))
    return list(groups.values())


def list_questions(node: Node) -> list[Question]:
    if isinstance(node, Leaf):
        return []
    return [node, *list_questions(node.yes), *list_questions(node.no)]


def list_leaves(tied_states: TiedStates) -> list[Leaf]:
    return [leaf for trees in tied_states.trees for tree in trees for leaf in leaves(tree)]


def test_statistics_equal_those_of_each_state_apart() -> None:
    frames = draw_frames(0)
    statistics = accumulate_statistics(*flatten(frames))
    assert statistics.codes.tolist() == sorted(map(code_of, frames))
    own = {code_of(key): value.astype(np.float64) for key, value in frames.items()}
    for place, code in enumerate(statistics.codes.tolist()):
        assert statistics.counts[place] == len(own[code])
        np.testing.assert_allclose(statistics.sums[place], own[code].sum(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(statistics.squares[place], (own[code] ** 2).sum(0), rtol=1e-12)


@pytest.mark.parametrize("num_parts", [1, 2, 7])
def test_statistics_of_parts_add_up(num_parts: int) -> None:
    codes, frames = flatten(draw_frames(1))
    whole = accumulate_statistics(codes, frames)
    parts = zip(np.array_split(codes, num_parts), np.array_split(frames, num_parts), strict=True)
    total = reduce(add, [accumulate_statistics(*part) for part in parts])
    nothing = accumulate_statistics(codes[:0], frames[:0])
    for found in (total, total + nothing, nothing + total):
        np.testing.assert_array_equal(found.codes, whole.codes)
        np.testing.assert_array_equal(found.counts, whole.counts)
        np.testing.assert_allclose(found.sums, whole.sums, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.squares, whole.squares, rtol=1e-12)


def test_frames_that_are_not_aligned_are_left_out() -> None:
    codes, frames = flatten(draw_frames(2))
    some = np.arange(len(codes)) % 3 > 0
    expected = accumulate_statistics(codes[some], frames[some])
    found = accumulate_statistics(np.where(some, codes, NOT_ALIGNED), frames)
    for name in ("codes", "counts", "sums", "squares"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_codes_without_frames_are_refused() -> None:
    codes, frames = flatten(draw_frames(3))
    with pytest.raises(ValueError, match=f"{len(codes) - 1} codes for {len(codes)} frames"):
        accumulate_statistics(codes[:-1], frames)
    with pytest.raises(ValueError, match="2 phones have those from 0 to 23"):
        grow_trees(accumulate_statistics(codes, frames), {"a"}, TiedStatesConfig())


@pytest.mark.parametrize(
    ("seed", "num_leaves", "min_occupancy"),
    [(0, 16, 1), (1, 22, 10), (2, 30, 12.5), (3, 1000, 15), (4, 17, 25)],
)
def test_trees_equal_trying_every_split(
    seed: int, num_leaves: int, min_occupancy: float, tmp_path: Path
) -> None:
    frames = draw_frames(seed)
    questions = [{"a", "b"}, {SILENCE_PHONE}, {"b"}, {"b", "c", SILENCE_PHONE}]
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(map(" ".join, questions)))
    config = TiedStatesConfig(num_leaves=num_leaves, min_occupancy=min_occupancy, questions=path)
    grown = grow_trees(accumulate_statistics(*flatten(frames)), PHONES, config)
    expected, gain = grow_by_trying(frames, questions, num_leaves, min_occupancy)
    found = group_by_pdf(grown, frames)
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
    assert total_gain(grown) == pytest.approx(gain, rel=1e-6)
    assert grown.num_pdfs <= num_leaves
    assert gain > 0


def test_gains_are_differences_of_log_likelihoods_of_the_frames() -> None:
    frames = draw_frames(5)
    config = TiedStatesConfig(num_leaves=40, min_occupancy=5)
    grown = grow_trees(accumulate_statistics(*flatten(frames)), PHONES, config)
    reached: dict[int, tuple[Question, list[set[TriphoneState]]]] = {}
    for triphone_state in frames:
        left, phone, right, state = triphone_state
        for question, is_yes in trace(grown.trees[PHONES.index(phone)][state], left, right)[0]:
            _, sides = reached.setdefault(id(question), (question, [set(), set()]))
            sides[is_yes].add(triphone_state)
    assert len(reached) == 40 - NUM_ROOTS
    for question, sides in reached.values():
        apart = sum(log_likelihood_of(join(frames, side)) for side in sides)
        assert question.gain == pytest.approx(
            apart - log_likelihood_of(join(frames, sides[0] | sides[1])), abs=1e-4
        )
    before = sum(map(log_likelihood_of, (join(frames, leaf) for leaf in group_by_pdf(MONOPHONES, frames))))
    after = sum(map(log_likelihood_of, (join(frames, leaf) for leaf in group_by_pdf(grown, frames))))
    assert total_gain(grown) == pytest.approx(after - before, abs=1e-3)


@pytest.mark.parametrize(
    ("num_leaves", "min_occupancy"), [(13, 1.0), (13, 30.0), (25, 1.0), (25, 10.0), (500, 1.0), (500, 20.0)]
)
def test_leaves_are_as_many_and_as_large_as_asked(num_leaves: int, min_occupancy: float) -> None:
    frames = draw_frames(6, share=1.0)
    config = TiedStatesConfig(num_leaves=num_leaves, min_occupancy=min_occupancy)
    grown = grow_trees(accumulate_statistics(*flatten(frames)), PHONES, config)
    counts: Counter[int] = Counter()
    for (left, phone, right, state), own in frames.items():
        counts[grown.pdf_ids(left, phone, right)[state]] += len(own)
    found = list_leaves(grown)
    assert [leaf.pdf_id for leaf in found] == list(range(grown.num_pdfs))
    assert [leaf.num_frames for leaf in found] == [counts[pdf_id] for pdf_id in range(grown.num_pdfs)]
    assert grown.num_pdfs == num_leaves or num_leaves == 500 > grown.num_pdfs > 15
    assert min(counts.values()) >= min_occupancy
    for question in (q for trees in grown.trees for tree in trees for q in list_questions(tree)):
        assert question.gain > 0


def test_fewer_leaves_than_states_are_monophones() -> None:
    statistics = accumulate_statistics(*flatten(draw_frames(7)))
    grown = grow_trees(statistics, PHONES, TiedStatesConfig(num_leaves=5, min_occupancy=1))
    assert grown.num_pdfs == NUM_ROOTS
    assert not grown.is_context_dependent
    np.testing.assert_array_equal(grown.table, MONOPHONES.table)
    assert total_gain(grown) == 0


def test_silence_and_unseen_phones_are_not_split() -> None:
    frames = {key: own for key, own in draw_frames(8, share=1.0).items() if key[1] != "c"}
    config = TiedStatesConfig(num_leaves=1000, min_occupancy=1)
    grown = grow_trees(accumulate_statistics(*flatten(frames)), PHONES, config)
    for phone in (SILENCE_PHONE, "c"):
        trees = grown.trees[PHONES.index(phone)]
        assert all(isinstance(tree, Leaf) for tree in trees)
        for state, tree in enumerate(trees):
            own = [own for key, own in frames.items() if (key[1], key[3]) == (phone, state)]
            assert next(leaves(tree)).num_frames == sum(map(len, own))
    assert isinstance(grown.trees[1][0], Question)


def test_triphones_that_were_never_seen_find_a_leaf() -> None:
    frames = draw_frames(9, share=0.3)
    config = TiedStatesConfig(num_leaves=40, min_occupancy=3)
    grown = grow_trees(accumulate_statistics(*flatten(frames)), PHONES, config)
    for left, phone, right in product(PHONES, repeat=3):
        for state, pdf_id in enumerate(grown.pdf_ids(left, phone, right)):
            assert (grown.phone_of_pdf(pdf_id), grown.state_of_pdf(pdf_id)) == (phone, state)


def test_no_statistics_at_all_are_monophones() -> None:
    nothing = accumulate_statistics(np.zeros(0, np.int64), np.zeros((0, DIMENSION), np.float32))
    grown = grow_trees(nothing, PHONES, TiedStatesConfig(num_leaves=100))
    assert grown == MONOPHONES


def test_equals_are_decided_as_promised(tmp_path: Path) -> None:
    """Left and right neighbours tell the same, as do two of the questions; so do states 0 and 1 of b."""
    rng = np.random.default_rng(10)
    path = tmp_path / "questions.txt"
    path.write_text("SIL\nc b\nc\na\n")
    own = {phone: rng.normal(10 * place, 1, (30, 2)) for place, phone in enumerate("ac")}
    frames = {(near, "b", near, state): own[near].astype(np.float32) for near in "ac" for state in (1, 0)}
    config = TiedStatesConfig(num_leaves=NUM_ROOTS + 1, min_occupancy=1, questions=path)
    grown = grow_trees(accumulate_statistics(*flatten(frames)), PHONES, config)
    first, second, _ = grown.trees[PHONES.index("b")]
    assert isinstance(first, Question)
    assert isinstance(second, Leaf)
    assert (first.side, first.phones) == ("left", ("b", "c"))


def test_frames_that_are_all_alike_are_not_split() -> None:
    codes, _ = flatten(draw_frames(11))
    frames = np.full((len(codes), DIMENSION), 1.7, np.float32)
    grown = grow_trees(accumulate_statistics(codes, frames), PHONES, TiedStatesConfig(min_occupancy=1))
    assert grown.num_pdfs == NUM_ROOTS


def test_grown_trees_are_read_as_written_and_grow_alike_again(tmp_path: Path) -> None:
    statistics = accumulate_statistics(*flatten(draw_frames(12)))
    config = TiedStatesConfig(num_leaves=45, min_occupancy=2)
    grown = grow_trees(statistics, PHONES, config)
    grown.write(tmp_path / "tied_states.json")
    assert TiedStates.read(tmp_path / "tied_states.json") == grown
    assert grow_trees(statistics, set(PHONES), config) == grown
    copied = TriphoneStatistics(statistics.codes, statistics.counts, statistics.sums, statistics.squares)
    assert grow_trees(copied, PHONES[::-1], config) == grown


def test_a_bad_file_of_questions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("a q\n")
    statistics = accumulate_statistics(*flatten(draw_frames(13)))
    with pytest.raises(CorpusError, match="line 1: phone 'q'"):
        grow_trees(statistics, PHONES, TiedStatesConfig(questions=path))
