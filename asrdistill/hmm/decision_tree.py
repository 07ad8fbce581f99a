"""Decision trees: which tied state a phone's HMM state uses, by the phones to its left and right.

An inner node asks whether the left, or the right, neighbour is one of a set of phones; a leaf is a tied
state. A tree answers for every pair of neighbours, so a triphone that training never saw finds its leaf too.
Shapes: P phones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Leaf:
    """A tied state.

    Attributes:
        pdf_id: its integer.
        num_frames: frames of the training split that it was made from.
    """

    pdf_id: int
    num_frames: int = 0


@dataclass(frozen=True)
class Question:
    """An inner node: is the neighbour on this side one of these phones?

    Attributes:
        side: which neighbour.
        phones: the set, in the inventory's order.
        gain: log-likelihood of the training split that the split won.
        yes: where the answer leads.
        no: likewise.
    """

    side: Side
    phones: tuple[str, ...]
    gain: float
    yes: "Node"
    no: "Node"

    def answer(self, left: str, right: str) -> bool:
        return (left if self.side == "left" else right) in self.phones


Node = Leaf | Question


def trace(node: Node, left: str, right: str) -> tuple[list[tuple[Question, bool]], Leaf]:
    """The questions that a pair of neighbours is asked, with the answers, and the leaf it ends in."""
    asked = []
    while isinstance(node, Question):
        is_yes = node.answer(left, right)
        asked.append((node, is_yes))
        node = node.yes if is_yes else node.no
    return asked, node


def leaves(node: Node) -> Iterator[Leaf]:
    """The leaves from left to right, `yes` before `no`."""
    if isinstance(node, Leaf):
        yield node
    else:
        yield from leaves(node.yes)
        yield from leaves(node.no)


def tabulate(node: Node, phone_ids: dict[str, int]) -> np.ndarray:
    """The pdf-id of every pair of neighbours, int32 (P, P), left neighbour first."""
    table = np.empty((len(phone_ids), len(phone_ids)), np.int32)

    def fill(node: Node, is_left: np.ndarray, is_right: np.ndarray) -> None:
        if isinstance(node, Leaf):
            table[np.ix_(is_left, is_right)] = node.pdf_id
            return
        in_set = np.zeros(len(phone_ids), bool)
        in_set[[phone_ids[phone] for phone in node.phones]] = True
        for branch, chosen in ((node.yes, in_set), (node.no, ~in_set)):
            if node.side == "left":
                fill(branch, is_left & chosen, is_right)
            else:
                fill(branch, is_left, is_right & chosen)

    everyone = np.ones(len(phone_ids), bool)
    fill(node, everyone, everyone)
    return table


def to_json(node: Node) -> dict[str, Any]:
    """The tree as nested plain values, for people to read."""
    if isinstance(node, Leaf):
        return {"pdf_id": node.pdf_id, "num_frames": node.num_frames}
    return {
        "ask": node.side,
        "phones": " ".join(node.phones),
        "gain": node.gain,
        "yes": to_json(node.yes),
        "no": to_json(node.no),
    }


def of_json(stored: dict[str, Any]) -> Node:
    """What `to_json` wrote."""
    if "pdf_id" in stored:
        return Leaf(stored["pdf_id"], stored["num_frames"])
    phones = tuple(stored["phones"].split())
    return Question(stored["ask"], phones, stored["gain"], of_json(stored["yes"]), of_json(stored["no"]))
