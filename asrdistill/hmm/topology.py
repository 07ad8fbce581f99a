"""Phones, their HMM states, and which tied state (pdf-id) each of them uses.

Every phone is a left-to-right chain of three emitting states, each with a self-loop, none skippable. A
triphone is a phone between two neighbours, across word boundaries; its states are tied by a decision tree for
each state of each phone. Silence depends on no neighbour, and stands for what is before and after the
utterance. Monophones are trees of one leaf each. Everything else asks `TiedStates` and never computes a
pdf-id itself.

A triphone state's code is ((left * P + phone) * P + right) * 3 + state, of phone ids; P phones.

Of another system often no more is known than how many pdf-ids it has. Such tied states have no phones, a
pdf-id is its own code, and no words can be decoded with them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.experiment import write_json
from asrdistill.hmm.decision_tree import Leaf, Node, leaves, of_json, tabulate, to_json

SILENCE_PHONE = "SIL"
NUM_STATES_PER_PHONE = 3
# Stands for pdf-id and code of a frame that has none.
NOT_ALIGNED = -1
SCHEMA = 2


@dataclass(frozen=True)
class TiedStates:
    """The inventory of tied states.

    Attributes:
        phones: phone names; an index into it is a phone id. The first one is silence.
        trees: of every phone, of each of its states; leaves are numbered in this order.
        num_unknown: pdf-ids of another system, of whose phones nothing is known; then there are no trees.
    """

    phones: tuple[str, ...]
    trees: tuple[tuple[Node, ...], ...]
    num_unknown: int = 0

    @classmethod
    def of_monophones(cls, phones: set[str], num_frames: np.ndarray | None = None) -> "TiedStates":
        """Give each of the three states of each phone, and of silence, a pdf-id of its own.

        Args:
            phones: their names.
            num_frames: that each pdf-id was made from, int (pdf-ids,).
        """
        names = list_phones(phones)
        num_pdfs = NUM_STATES_PER_PHONE * len(names)
        counts = [0] * num_pdfs if num_frames is None else num_frames.tolist()
        pdf_ids = range(num_pdfs)
        found = [Leaf(pdf_id, count) for pdf_id, count in zip(pdf_ids, counts, strict=True)]
        return cls(
            names, tuple(tuple(found[i : i + NUM_STATES_PER_PHONE]) for i in pdf_ids[::NUM_STATES_PER_PHONE])
        )

    @classmethod
    def of_unknown_phones(cls, num_pdfs: int) -> "TiedStates":
        """The pdf-ids of another system, of whose phones nothing is known."""
        return cls((), (), num_pdfs)

    @property
    def num_pdfs(self) -> int:
        return self.num_unknown or len(self._owners)

    @property
    def has_phones(self) -> bool:
        """Whether it is known which phones the pdf-ids belong to, so that words can be decoded."""
        return not self.num_unknown

    @property
    def is_context_dependent(self) -> bool:
        return self.has_phones and self.num_pdfs > NUM_STATES_PER_PHONE * len(self.phones)

    @cached_property
    def phone_ids(self) -> dict[str, int]:
        return {phone: number for number, phone in enumerate(self.phones)}

    @cached_property
    def _owners(self) -> np.ndarray:
        """Phone id and state of every pdf-id, int32 (pdf-ids, 2)."""
        owners = [
            (phone, state)
            for phone, trees in enumerate(self.trees)
            for state, tree in enumerate(trees)
            for _ in leaves(tree)
        ]
        return np.array(owners, np.int32)

    @cached_property
    def table(self) -> np.ndarray:
        """The pdf-id of every code, int32: (P * P * P * 3,), or (pdf-ids,) where no phones are known."""
        if not self.has_phones:
            return np.arange(self.num_unknown, dtype=np.int32)
        tables = [[tabulate(tree, self.phone_ids) for tree in trees] for trees in self.trees]
        by_phone = np.array(tables)  # phone, state, left, right
        return np.ascontiguousarray(by_phone.transpose(2, 0, 3, 1)).reshape(-1)

    def code(self, left: str, phone: str, right: str) -> int:
        """The code of the first state of a triphone; those of the others follow."""
        ids = self.phone_ids
        triphone = (ids[left] * len(ids) + ids[phone]) * len(ids) + ids[right]
        return NUM_STATES_PER_PHONE * triphone

    def pdf_ids(self, left: str, phone: str, right: str) -> tuple[int, int, int]:
        """The pdf-ids of a phone's states, first to last, between two neighbours.

        Raises:
            KeyError: one of the phones is not in the inventory.
        """
        code = self.code(left, phone, right)
        first, second, third = self.table[code : code + NUM_STATES_PER_PHONE].tolist()
        return first, second, third

    def phone_of_pdf(self, pdf_id: int) -> str:
        return self.phones[self._owners[pdf_id, 0]]

    def state_of_pdf(self, pdf_id: int) -> int:
        """Which state of its phone, 0 to 2."""
        return int(self._owners[pdf_id, 1])

    def is_last_state(self, pdf_ids: np.ndarray) -> np.ndarray:
        """Whether each pdf-id belongs to the last state of its phone: bool, the shape of `pdf_ids`."""
        last: np.ndarray = self._owners[pdf_ids, 1] == NUM_STATES_PER_PHONE - 1
        return last

    def write(self, path: Path) -> None:
        inventory = {
            "schema": SCHEMA,
            "num_pdfs": self.num_pdfs,
            "states_per_phone": NUM_STATES_PER_PHONE,
            "phones": self.phones,
            "trees": {
                phone: [to_json(tree) for tree in trees]
                for phone, trees in zip(self.phones, self.trees, strict=True)
            },
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
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            schema = stored.get("schema")
        except (ValueError, AttributeError) as error:
            raise ContractError(
                f"tied states {path}: damaged ({error}); run again with --force align"
            ) from error
        if schema != SCHEMA:
            raise ContractError(
                f"tied states {path}: schema {schema!r}, expected {SCHEMA}: an earlier version "
                "wrote them; run again with --force align"
            )
        trees = tuple(tuple(of_json(tree) for tree in stored["trees"][phone]) for phone in stored["phones"])
        return cls(tuple(stored["phones"]), trees, 0 if stored["phones"] else stored["num_pdfs"])


def list_phones(phones: Sequence[str] | set[str]) -> tuple[str, ...]:
    """Phone names in the order of their ids: silence, then the others by name."""
    return (SILENCE_PHONE, *sorted(set(phones) - {SILENCE_PHONE}))
