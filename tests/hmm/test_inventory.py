"""What is told about triphones and about the inventory."""

import re

import pytest

from asrdistill.errors import UserError
from asrdistill.hmm.decision_tree import Leaf, Node, Question
from asrdistill.hmm.inventory import (
    abbreviate_phones,
    describe_inventory,
    describe_triphone,
    parse_triphone,
    total_gain,
)
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER")
PHONES = (SILENCE_PHONE, *VOWELS, "B", "D", "T", "UH-X", "X+Y", "ZH")
FRONT = Question(
    "left", VOWELS, 1200.5, Question("right", ("B", "T"), 99.5, Leaf(0, 1234), Leaf(0, 50)), Leaf(0, 7)
)


def make_inventory() -> TiedStates:
    """Leaves everywhere but in the first state of B."""
    count = 0

    def number(node: Node) -> Node:
        nonlocal count
        if isinstance(node, Leaf):
            count += 1
            return Leaf(count - 1, node.num_frames)
        return Question(node.side, node.phones, node.gain, number(node.yes), number(node.no))

    trees = []
    for phone in PHONES:
        first: Node = FRONT if phone == "B" else Leaf(0, 10)
        trees.append(tuple(number(node) for node in (first, Leaf(0, 10), Leaf(0, 10))))
    return TiedStates(PHONES, tuple(trees))


TIED = make_inventory()


def test_a_triphone_is_told_state_by_state() -> None:
    assert describe_triphone(TIED, "AH-B+T").splitlines() == [
        "B between AH and T",
        "",
        "state 0: pdf-id 27, made from 1,234 frames",
        "  is left one of AA AE AH AO AW … (8 phones)?  yes (AH)",
        "  is right one of B T?                         yes (T)",
        "",
        "state 1: pdf-id 30, made from 10 frames",
        "  the same between all phones",
        "",
        "state 2: pdf-id 31, made from 10 frames",
        "  the same between all phones",
    ]
    assert "no  (SIL)" in describe_triphone(TIED, "SIL-B+T")


@pytest.mark.parametrize("triphone", ["AH-B+T", "SIL-B+SIL", "AA-B+X+Y", "UH-X-UH-X+UH-X", "X+Y-X+Y+X+Y"])
def test_pdf_ids_are_those_of_the_inventory(triphone: str) -> None:
    parts = parse_triphone(TIED, triphone)
    assert triphone == "{}-{}+{}".format(*parts)
    told = re.findall(r"pdf-id (\d+)", describe_triphone(TIED, triphone))
    assert tuple(map(int, told)) == TIED.pdf_ids(*parts)


@pytest.mark.parametrize("triphone", ["", "B", "AH-B", "B+T", "AH+B-T", "-B+T", "AH-+T", "AH-B+", "AH B T"])
def test_what_is_no_triphone_is_refused(triphone: str) -> None:
    with pytest.raises(UserError, match=r"not of the form left-phone\+right, such as AH-B\+T"):
        describe_triphone(TIED, triphone)


@pytest.mark.parametrize(
    ("triphone", "complaint"),
    [
        ("ah-B+T", r"'ah-B\+T': phone 'ah' is not in the inventory; did you mean AH\?"),
        ("AH-B+EHH", r"phone 'EHH' is not in the inventory; did you mean EH\?"),
        ("AH-Q+T", "phone 'Q' is not in the inventory; expected one of SIL AA AE"),
    ],
)
def test_unknown_phones_are_refused(triphone: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        describe_triphone(TIED, triphone)


def test_sets_are_abbreviated_to_what_is_shortest_to_tell() -> None:
    assert abbreviate_phones(("B", "T"), PHONES) == "B T"
    assert abbreviate_phones(PHONES[1:], PHONES) == "any but SIL"
    assert abbreviate_phones(PHONES, PHONES) == "any phone"
    assert abbreviate_phones(VOWELS[:7], PHONES) == "AA AE AH AO AW … (7 phones)"
    assert abbreviate_phones(VOWELS, PHONES, most=3) == "AA AE … (8 phones)"


def test_the_inventory_is_told_with_the_leaves_of_every_state() -> None:
    told = describe_inventory(TIED)
    num_frames = 10 * (3 * len(PHONES) - 1) + 1234 + 50 + 7
    assert f"15 phones, {TIED.num_pdfs} tied states of triphones" in told
    assert f"made from {num_frames:,} frames" in told
    assert f"log-likelihood of {1300 / num_frames:.2f} a frame" in told
    cells = re.findall(r"(\S+) +(\d+) +(\d+) +(\d+)(?= |$)", told.partition("0, 1 and 2:")[2], re.MULTILINE)
    assert {cell[0]: tuple(map(int, cell[1:])) for cell in cells} == {
        phone: (3 if phone == "B" else 1, 1, 1) for phone in PHONES
    }
    assert max(map(len, told.splitlines())) <= 100
    assert total_gain(TIED) == 1300


def test_monophones_are_told_as_such() -> None:
    told = describe_inventory(TiedStates.of_monophones({"a"}))
    assert told.startswith("2 phones, 6 tied states of monophones\n")
    assert "frames" not in told
