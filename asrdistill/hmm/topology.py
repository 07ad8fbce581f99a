"""Phones, their HMM states, and which tied state (pdf-id) each of them uses.

Every phone is a left-to-right chain of three emitting states, each with a self-loop, none skippable.
Monophones: each state of each phone is a tied state of its own. Everything else asks `TiedStates` and
never computes a pdf-id itself, so that context-dependent states can come in here alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.experiment import write_json

SILENCE_PHONE = "SIL"
NUM_STATES_PER_PHONE = 3


@dataclass(frozen=True)
class TiedStates:
    """The inventory of tied states.

    Attributes:
        phones: phone names; an index into it is a phone id. The first one is silence.
    """

    phones: tuple[str, ...]

    @classmethod
    def of_monophones(cls, phones: set[str]) -> "TiedStates":
        """Give each of the three states of each phone, and of silence, a pdf-id of its own."""
        return cls((SILENCE_PHONE, *sorted(phones - {SILENCE_PHONE})))

    @property
    def num_pdfs(self) -> int:
        return NUM_STATES_PER_PHONE * len(self.phones)

    def phone_id(self, phone: str) -> int:
        return self.phones.index(phone)

    def pdf_ids(self, phone: str) -> tuple[int, ...]:
        """The pdf-ids of the phone's states, first to last."""
        first = NUM_STATES_PER_PHONE * self.phone_id(phone)
        return tuple(range(first, first + NUM_STATES_PER_PHONE))

    def phone_of_pdf(self, pdf_id: int) -> str:
        return self.phones[pdf_id // NUM_STATES_PER_PHONE]

    def is_last_state(self, pdf_ids: np.ndarray) -> np.ndarray:
        """Whether each pdf-id belongs to the last state of its phone: bool, the shape of `pdf_ids`."""
        last: np.ndarray = pdf_ids % NUM_STATES_PER_PHONE == NUM_STATES_PER_PHONE - 1
        return last

    def write(self, path: Path) -> None:
        inventory = {
            "schema": 1,
            "kind": "monophone",
            "states_per_phone": NUM_STATES_PER_PHONE,
            "phones": self.phones,
        }
        write_json(path, inventory)

    @classmethod
    def read(cls, path: Path) -> "TiedStates":
        """Read an inventory.

        Raises:
            ContractError: the file is missing or is of another kind.
        """
        if not path.is_file():
            raise ContractError(
                f"tied states {path}: not found; the align stage writes them: run that stage first"
            )
        stored = json.loads(path.read_text())
        if (stored.get("schema"), stored.get("kind")) != (1, "monophone"):
            raise ContractError(
                f"tied states {path}: kind {stored.get('kind')!r}, expected 'monophone'; "
                "run again with --force align"
            )
        return cls(tuple(stored["phones"]))
