"""The inventory of tied states."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from asrdistill.errors import ContractError
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

TIED = TiedStates.of_monophones({"x", "y", SILENCE_PHONE})


def test_every_state_has_a_pdf_id_of_its_own() -> None:
    pdf_ids = [TIED.pdf_ids(phone) for phone in TIED.phones]
    assert sorted(chain(*pdf_ids)) == list(range(TIED.num_pdfs))
    assert sorted(TIED.phones) == sorted({"x", "y", SILENCE_PHONE})
    for phone, own in zip(TIED.phones, pdf_ids, strict=True):
        assert [TIED.phone_of_pdf(pdf_id) for pdf_id in own] == [phone] * 3
        np.testing.assert_array_equal(TIED.is_last_state(np.array(own)), [False, False, True])


def test_order_of_the_phones_does_not_matter() -> None:
    assert TiedStates.of_monophones({"y", "x"}) == TiedStates.of_monophones({"x", "y"})
    assert TiedStates.of_monophones({"y", "x"}).phones[0] == SILENCE_PHONE


def test_round_trip(tmp_path: Path) -> None:
    TIED.write(tmp_path / "tied_states.json")
    assert TiedStates.read(tmp_path / "tied_states.json") == TIED


def test_missing_or_other_inventories_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tied_states.json"
    with pytest.raises(ContractError, match="align stage writes them"):
        TiedStates.read(path)
    path.write_text(json.dumps({"schema": 1, "kind": "triphone", "phones": []}))
    with pytest.raises(ContractError, match="'triphone', expected 'monophone'"):
        TiedStates.read(path)
