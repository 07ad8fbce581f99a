"""Finite-state transducers as numpy arrays, to and from kaldifst.

kaldifst's iterators cost a microsecond an arc and cannot change labels; its binary files (OpenFst's vector
format, little-endian) are read and written here as arrays instead.

The format: a header, then for each state its final weight, the number of its arcs (int64) and the arcs:
input label, output label, weight, next state (int32 each; a weight is one float32, or two in a lattice).
Source: OpenFst 1.8, fst/fst.h (FstHeader) and fst/vector-fst.h (VectorFstImpl::Read).
"""

import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import numba
import numpy as np

_MAGIC = 2125659606
_VECTOR_VERSION = 2
_EXPANDED_AND_MUTABLE = 3  # the only properties that we promise; OpenFst works out the others when asked


Row = tuple[int, int, int, int, float]
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Arcs:
    """A transducer as columns: A arcs sorted by source, S states.

    Attributes:
        start: the start state.
        source: int32 (A,).
        destination: int32 (A,).
        input_label: int32 (A,); 0 is empty.
        output_label: int32 (A,); 0 is empty.
        weight: float32 (A,) cost; in a lattice (A, 2), graph cost and acoustic cost.
        final: float32 (S,) cost of ending in a state, infinite where no path may end; (S, 2) in a lattice.
    """

    start: int
    source: np.ndarray
    destination: np.ndarray
    input_label: np.ndarray
    output_label: np.ndarray
    weight: np.ndarray
    final: np.ndarray

    @classmethod
    def of_rows(cls, start: int, rows: Iterable[Row], final: np.ndarray) -> "Arcs":
        """Make a transducer of (source, destination, input label, output label, weight) in any order."""
        source, destination, input_label, output_label, weight = map(np.array, zip(*rows, strict=True))
        arcs = cls(start, source, destination, input_label, output_label, weight, final)
        return arcs.sorted_by_source()

    @property
    def num_states(self) -> int:
        return len(self.final)

    def sorted_by_source(self) -> "Arcs":
        """The same transducer, its arcs in the order of their sources (those of one source keep theirs)."""
        order = np.argsort(self.source, kind="stable")
        return Arcs(
            self.start,
            self.source[order],
            self.destination[order],
            self.input_label[order],
            self.output_label[order],
            self.weight[order],
            self.final,
        )


def to_fst(arcs: Arcs) -> kaldifst.StdVectorFst:
    """Make a kaldifst transducer of arcs with one weight each."""
    with _scratch_file() as path:
        with path.open("wb") as file:
            file.write(_header(arcs))
            _records(arcs).tofile(file)
        return kaldifst.StdVectorFst.read(str(path))


def of_fst(fst: kaldifst.StdVectorFst | kaldifst.Lattice) -> Arcs:
    """Read the arcs of a kaldifst transducer or lattice (in a lattice, every weight has two parts)."""
    num_weights = 2 if isinstance(fst, kaldifst.Lattice) else 1
    num_states = fst.num_states
    with _scratch_file() as path:
        if not fst.write(str(path)):
            raise OSError(f"{path}: the transducer could not be written; is the temporary folder full?")
        content = path.read_bytes()
    body = np.frombuffer(content, np.int32, offset=_header_size(content))
    num_arcs = (len(body) - num_states * (num_weights + 2)) // (3 + num_weights)
    source, fields, final = _split_records(body, num_states, num_arcs, num_weights)
    weight = fields[:, 2:-1].view(np.float32)
    final = final.view(np.float32)
    if num_weights == 1:
        weight, final = weight[:, 0], final[:, 0]
    return Arcs(fst.start, source, fields[:, -1], fields[:, 0], fields[:, 1], weight, final)


def _header(arcs: Arcs) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<i", len(value)) + value.encode()

    numbers = struct.pack(
        "<iiQqqq", _VECTOR_VERSION, 0, _EXPANDED_AND_MUTABLE, arcs.start, arcs.num_states, len(arcs.source)
    )
    return struct.pack("<i", _MAGIC) + text("vector") + text("standard") + numbers


def _header_size(content: bytes) -> int:
    position = 4
    for _ in ("kind of transducer", "kind of arc"):
        position += 4 + struct.unpack_from("<i", content, position)[0]
    (flags,) = struct.unpack_from("<i", content, position + 4)
    assert flags == 0, "symbol tables are never attached"
    return position + struct.calcsize("<iiQqqq")


def _records(arcs: Arcs) -> np.ndarray:
    """The states and arcs as OpenFst lays them out, in int32 words: a state takes 3, an arc 4."""
    num_arcs = np.bincount(arcs.source, minlength=arcs.num_states)
    arcs_before = np.cumsum(num_arcs) - num_arcs
    words = np.empty(3 * arcs.num_states + 4 * len(arcs.source), np.int32)
    state_at = 3 * np.arange(arcs.num_states) + 4 * arcs_before
    words[state_at] = arcs.final.astype(np.float32).view(np.int32)
    words[state_at + 1] = num_arcs
    words[state_at + 2] = 0
    arc_at = 3 * (arcs.source + 1) + 4 * np.arange(len(arcs.source))
    weight = arcs.weight.astype(np.float32).view(np.int32)
    for field, column in enumerate((arcs.input_label, arcs.output_label, weight, arcs.destination)):
        words[arc_at + field] = column
    return words


@numba.njit(cache=True)
def _split_records(
    body: np.ndarray, num_states: int, num_arcs: int, num_weights: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source = np.empty(num_arcs, np.int32)
    fields = np.empty((num_arcs, 3 + num_weights), np.int32)
    final = np.empty((num_states, num_weights), np.int32)
    position = arc = 0
    for state in range(num_states):
        final[state] = body[position : position + num_weights]
        position += num_weights
        arcs_here = body[position]
        position += 2
        for _ in range(arcs_here):
            source[arc] = state
            fields[arc] = body[position : position + 3 + num_weights]
            position += 3 + num_weights
            arc += 1
    return source, fields, final


@contextmanager
def _scratch_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "transducer.fst"
