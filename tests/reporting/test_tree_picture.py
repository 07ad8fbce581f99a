"""Pictures of decision trees: everything is there, in full where asked for, and nothing on top of another."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pytest

from asrdistill.errors import UserError
from asrdistill.hmm.decision_tree import Leaf, Node, Question, Side, leaves
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates
from asrdistill.reporting.tree_picture import draw_tree

NASTY = '<b>&"x"'
PHONES = (SILENCE_PHONE, NASTY, *(f"P{number}" for number in range(20)))
SVG = "{http://www.w3.org/2000/svg}"


def grow_at_random(num_leaves: int, rng: np.random.Generator, pdf_ids: Iterator[int]) -> Node:
    if num_leaves == 1:
        return Leaf(next(pdf_ids), int(rng.integers(1_000_000)))
    num_yes = int(rng.integers(1, num_leaves))
    asked = tuple(phone for phone in PHONES if rng.random() < 0.5) or (NASTY,)
    side: Side = "left" if rng.random() < 0.5 else "right"
    yes = grow_at_random(num_yes, rng, pdf_ids)
    no = grow_at_random(num_leaves - num_yes, rng, pdf_ids)
    return Question(side, asked, float(rng.exponential(5000)), yes, no)


def make_inventory(num_leaves: tuple[int, int, int], seed: int = 0) -> TiedStates:
    """The second phone has trees of so many leaves, the others have one."""
    rng, pdf_ids = np.random.default_rng(seed), itertools.count()
    sizes = {phone: num_leaves if phone == NASTY else (1, 1, 1) for phone in PHONES}
    trees = [tuple(grow_at_random(size, rng, pdf_ids) for size in sizes[phone]) for phone in PHONES]
    return TiedStates(PHONES, tuple(trees))


@dataclass(frozen=True)
class Box:
    """About the room that a text takes."""

    text: str
    left: float
    right: float
    top: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def list_boxes(root: ElementTree.Element) -> list[Box]:
    boxes = []
    for element in root.iter(f"{SVG}text"):
        size = re.search(r"(\d+)px", element.attrib["style"])
        assert size is not None
        text, height = "".join(element.itertext()), float(size[1])
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        boxes.append(Box(text, x, x + 0.62 * height * len(text), y - 0.8 * height, y + 0.2 * height))
    return boxes


def list_questions(node: Node) -> list[Question]:
    if isinstance(node, Leaf):
        return []
    return [node, *list_questions(node.yes), *list_questions(node.no)]


def test_every_leaf_and_every_question_is_drawn() -> None:
    tied_states = make_inventory((12, 1, 5))
    root = ElementTree.fromstring(draw_tree(tied_states, NASTY))
    texts = [box.text for box in list_boxes(root)]
    trees = tied_states.trees[PHONES.index(NASTY)]
    for tree in trees:
        for leaf in leaves(tree):
            assert f"pdf-id {leaf.pdf_id}{leaf.num_frames:,} frames" in texts
    titles = [element.text or "" for element in root.iter(f"{SVG}title")]
    questions = [question for tree in trees for question in list_questions(tree)]
    assert len(titles) == len(questions) == 11 + 4
    for question, title in zip(questions, titles, strict=True):
        assert f"Is the {question.side} neighbour one of {' '.join(question.phones)}?" in title
        assert f"{question.gain:,.1f}" in title
    headings = [text for text in texts if text.startswith("state ")]
    assert [heading.partition(",")[0] for heading in headings] == [
        "state 0: 12 tied states",
        "state 1: 1 tied state",
        "state 2: 5 tied states",
    ]


def test_the_wider_fork_won_more() -> None:
    tied_states = make_inventory((9, 9, 9))
    root = ElementTree.fromstring(draw_tree(tied_states, NASTY))
    widths = [
        float(re.findall(r"stroke-width: ([\d.]+)", element.attrib["style"])[0])
        for element in root.iter(f"{SVG}path")
    ]
    trees = tied_states.trees[PHONES.index(NASTY)]
    gains = [question.gain for tree in trees for question in list_questions(tree)]
    assert [width for _, width in sorted(zip(gains, widths, strict=True))] == sorted(widths)
    assert 1 <= min(widths) < max(widths) == 5


@pytest.mark.parametrize("num_leaves", [(1, 1, 1), (2, 3, 4), (60, 60, 60)])
@pytest.mark.parametrize("seed", range(3))
def test_no_text_lies_on_another_or_outside(num_leaves: tuple[int, int, int], seed: int) -> None:
    root = ElementTree.fromstring(draw_tree(make_inventory(num_leaves, seed), NASTY))
    boxes = list_boxes(root)
    for first, second in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), (first, second)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 < box.left < box.right <= width and 0 < box.top < box.bottom <= height for box in boxes)


def test_colours_are_the_pages_or_the_pictures_own() -> None:
    drawing = draw_tree(make_inventory((3, 1, 1)), NASTY)
    assert "var(--text, #1c2024)" in drawing
    assert set(re.findall(r"var\(--(\w+)", drawing)) <= {"text", "muted", "ensemble", "distilled", "paper"}
    assert draw_tree(make_inventory((3, 1, 1)), NASTY) == drawing


def test_splits_that_won_nothing_can_be_drawn() -> None:
    tree = Question("left", ("a",), 0.0, Leaf(3), Leaf(4))
    single = tuple(Leaf(number) for number in range(3))
    tied_states = TiedStates((SILENCE_PHONE, "a"), (single, (tree, Leaf(5), Leaf(6))))
    assert "left: a" in draw_tree(tied_states, "a")


def test_an_unknown_phone_is_refused() -> None:
    with pytest.raises(UserError, match=r"phone 'p7' is not in the inventory; did you mean P7\?"):
        draw_tree(make_inventory((1, 1, 1)), "p7")
