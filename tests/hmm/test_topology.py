"""The inventory of tied states."""

import json
from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest

from asrdistill.errors import ContractError
from asrdistill.hmm.decision_tree import Leaf, Question
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

TIED = TiedStates.of_monophones({"x", "y", SILENCE_PHONE})
# x's first state asks its left neighbour, its last one the right.
TRIPHONES = TiedStates(
    (SILENCE_PHONE, "x", "y"),
    (
        (Leaf(0), Leaf(1), Leaf(2)),
        (
            Question("left", (SILENCE_PHONE, "y"), 3.5, Leaf(3, 20), Leaf(4, 30)),
            Leaf(5),
            Question("right", ("y",), 2.25, Leaf(6, 40), Leaf(7, 50)),
        ),
        (Leaf(8), Leaf(9), Leaf(10)),
    ),
)


def test_every_state_of_a_monophone_has_a_pdf_id_of_its_own() -> None:
    pdf_ids = [TIED.pdf_ids(SILENCE_PHONE, phone, SILENCE_PHONE) for phone in TIED.phones]
    assert sorted(chain(*pdf_ids)) == list(range(TIED.num_pdfs))
    assert sorted(TIED.phones) == sorted({"x", "y", SILENCE_PHONE})
    for phone, own in zip(TIED.phones, pdf_ids, strict=True):
        assert [TIED.phone_of_pdf(pdf_id) for pdf_id in own] == [phone] * 3
        assert [TIED.state_of_pdf(pdf_id) for pdf_id in own] == [0, 1, 2]
        np.testing.assert_array_equal(TIED.is_last_state(np.array(own)), [False, False, True])


def test_neighbours_of_a_monophone_do_not_matter() -> None:
    assert not TIED.is_context_dependent
    for left, phone, right in product(TIED.phones, repeat=3):
        assert TIED.pdf_ids(left, phone, right) == TIED.pdf_ids(SILENCE_PHONE, phone, SILENCE_PHONE)


def test_neighbours_of_a_triphone_decide() -> None:
    assert TRIPHONES.is_context_dependent
    assert TRIPHONES.num_pdfs == 11
    assert TRIPHONES.pdf_ids(SILENCE_PHONE, "x", "x") == (3, 5, 7)
    assert TRIPHONES.pdf_ids("y", "x", "y") == (3, 5, 6)
    assert TRIPHONES.pdf_ids("x", "x", SILENCE_PHONE) == (4, 5, 7)
    assert [TRIPHONES.phone_of_pdf(pdf_id) for pdf_id in range(2, 9)] == [SILENCE_PHONE, *"xxxxx", "y"]
    assert [TRIPHONES.state_of_pdf(pdf_id) for pdf_id in range(3, 8)] == [0, 0, 1, 2, 2]
    np.testing.assert_array_equal(
        TRIPHONES.is_last_state(np.array([[4, 5], [6, 7]])), [[False] * 2, [True] * 2]
    )


def test_codes_count_left_phone_right_and_state() -> None:
    phones = TRIPHONES.phones
    codes = [
        TRIPHONES.code(left, phone, right) + state
        for left, phone, right in product(phones, repeat=3)
        for state in range(3)
    ]
    assert codes == list(range(3 * 3**3))
    assert len(TRIPHONES.table) == len(codes)


def test_a_phone_outside_the_inventory_is_refused() -> None:
    with pytest.raises(KeyError, match="z"):
        TRIPHONES.pdf_ids("x", "z", "y")


def test_order_of_the_phones_does_not_matter() -> None:
    assert TiedStates.of_monophones({"y", "x"}) == TiedStates.of_monophones({"x", "y"})
    assert TiedStates.of_monophones({"y", "x"}).phones[0] == SILENCE_PHONE


@pytest.mark.parametrize("tied_states", [TIED, TRIPHONES], ids=["monophones", "triphones"])
def test_round_trip(tied_states: TiedStates, tmp_path: Path) -> None:
    tied_states.write(tmp_path / "tied_states.json")
    assert TiedStates.read(tmp_path / "tied_states.json") == tied_states


def test_missing_or_earlier_inventories_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tied_states.json"
    with pytest.raises(ContractError, match="align stage writes them"):
        TiedStates.read(path)
    path.write_text(json.dumps({"schema": 1, "kind": "monophone", "phones": [SILENCE_PHONE]}))
    with pytest.raises(
        ContractError, match="schema 1, expected 2: an earlier version wrote them; run again with"
    ):
        TiedStates.read(path)


def test_of_another_systems_pdf_ids_only_their_number_is_known(tmp_path: Path) -> None:
    unknown = TiedStates.of_unknown_phones(7)
    assert (unknown.num_pdfs, unknown.has_phones, unknown.is_context_dependent) == (7, False, False)
    np.testing.assert_array_equal(unknown.table, range(7))
    unknown.write(tmp_path / "tied_states.json")
    assert TiedStates.read(tmp_path / "tied_states.json") == unknown
    assert TIED.has_phones and TRIPHONES.has_phones
