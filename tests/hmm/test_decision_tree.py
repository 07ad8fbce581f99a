"""Decision trees: tables and files against asking every question of every pair of neighbours."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.hmm.decision_tree import Leaf, Node, Question, leaves, of_json, tabulate, to_json, trace
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

PHONES = (SILENCE_PHONE, "a", "b", "ç")

phone_sets = st.sets(st.sampled_from(PHONES)).map(lambda asked: tuple(p for p in PHONES if p in asked))
gains = st.floats(0, 1e9, allow_nan=False)
unnumbered = st.recursive(
    st.builds(Leaf, st.just(0), st.integers(0, 10**9)),
    lambda nodes: st.builds(Question, st.sampled_from(["left", "right"]), phone_sets, gains, nodes, nodes),
    max_leaves=10,
)


def number(node: Node, pdf_ids: Iterator[int]) -> Node:
    if isinstance(node, Leaf):
        return replace(node, pdf_id=next(pdf_ids))
    yes = number(node.yes, pdf_ids)
    return replace(node, yes=yes, no=number(node.no, pdf_ids))


@st.composite
def inventories(draw: st.DrawFn) -> TiedStates:
    pdf_ids = itertools.count()
    trees = [tuple(number(draw(unnumbered), pdf_ids) for _ in range(3)) for _ in PHONES]
    return TiedStates(PHONES, tuple(trees))


def ask(node: Node, left: str, right: str) -> int:
    """The pdf-id, question by question."""
    if isinstance(node, Leaf):
        return node.pdf_id
    neighbour = {"left": left, "right": right}[node.side]
    return ask(node.yes if neighbour in set(node.phones) else node.no, left, right)


@given(tree=unnumbered.map(lambda node: number(node, itertools.count())))
def test_table_equals_asking_every_pair(tree: Node) -> None:
    table = tabulate(tree, {phone: place for place, phone in enumerate(PHONES)})
    for (i, left), (j, right) in itertools.product(enumerate(PHONES), repeat=2):
        asked, leaf = trace(tree, left, right)
        assert table[i, j] == leaf.pdf_id == ask(tree, left, right)
        assert all(is_yes == question.answer(left, right) for question, is_yes in asked)


@given(tree=unnumbered.map(lambda node: number(node, itertools.count())))
def test_leaves_come_in_the_order_of_their_pdf_ids(tree: Node) -> None:
    found = [leaf.pdf_id for leaf in leaves(tree)]
    assert found == list(range(len(found)))


@given(tree=unnumbered)
def test_round_trip_of_a_tree(tree: Node) -> None:
    assert of_json(json.loads(json.dumps(to_json(tree)))) == tree


@settings(deadline=None, max_examples=30)
@given(tied_states=inventories())
def test_inventories_of_trees(tied_states: TiedStates, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Written and read they are equal; the table has the leaf of every state of every triphone."""
    path = tmp_path_factory.mktemp("inventory") / "tied_states.json"
    tied_states.write(path)
    assert TiedStates.read(path) == tied_states
    assert tied_states.table.shape == (3 * len(PHONES) ** 3,)
    for left, phone, right in itertools.product(PHONES, repeat=3):
        trees = tied_states.trees[PHONES.index(phone)]
        expected = tuple(trace(tree, left, right)[1].pdf_id for tree in trees)
        code = tied_states.code(left, phone, right)
        assert (
            tuple(tied_states.table[code : code + 3]) == expected == tied_states.pdf_ids(left, phone, right)
        )
        assert [tied_states.phone_of_pdf(pdf_id) for pdf_id in expected] == [phone] * 3
        assert [tied_states.state_of_pdf(pdf_id) for pdf_id in expected] == [0, 1, 2]
