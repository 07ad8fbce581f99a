"""Kaldi's alignments: archives of the pdf-id of every frame, as `ali-to-pdf` writes them.

An archive is a sequence of records: utterance id, space, vector. In binary, the vector is `\\0B`, then its
length and its elements, each a byte 4 and four bytes of a little-endian integer; in text, its elements up to
the end of the line. An archive may be gzipped.
Source: Kaldi, src/util/kaldi-holder-inl.h (BasicVectorHolder) and src/base/io-funcs-inl.h.
Read here and not with kaldiio, which reads one element at a time and tells damage as an AssertionError or
struct.error that names neither file nor utterance.
"""

from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from asrdistill.errors import CorpusError
from asrdistill.hmm.imported_files import open_file

ELEMENT = np.dtype([("size_bytes", "i1"), ("value", "<i4")])
MAX_ID_BYTES = 1000
MAX_FRAMES = 1 << 24  # 46 hours at 10 ms: what claims to be longer is damaged


def read_archives(paths: Sequence[Path], num_pdfs: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield utterance id and pdf-ids, int32 (frames,), of every utterance of some archives.

    Raises:
        CorpusError: an archive is damaged or holds something else, an utterance comes twice, or a pdf-id is
            not in [0, num_pdfs).
    """
    found_in: dict[str, Path] = {}
    for path in paths:
        with open_file(path) as file:
            for utterance_id, pdf_ids in _read_records(file, path):
                if utterance_id in found_in:
                    raise CorpusError(
                        f"archive {path}: utterance {utterance_id} comes a second time, after "
                        f"{found_in[utterance_id]}; expected one alignment for each: name the archives of "
                        "one alignment only"
                    )
                found_in[utterance_id] = path
                _check_range(pdf_ids, num_pdfs, f"archive {path}, utterance {utterance_id}")
                yield utterance_id, pdf_ids


def _read_records(file: BufferedIOBase, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    last = "its start"
    while True:
        name, separator = _read_id(file)
        if not name:
            return
        subject = f"archive {path}, after {last}"
        if not separator.isspace():
            raise _damage(subject, f"found {name[:20]!r}... where an utterance id and a space should be")
        try:
            utterance_id = name.decode()
        except UnicodeDecodeError as error:
            raise _damage(subject, f"found an utterance id that is not UTF-8 ({name[:20]!r})") from error
        subject = f"archive {path}, utterance {utterance_id}"
        empty = separator in b"\r\n"
        yield utterance_id, np.zeros(0, np.int32) if empty else _read_vector(file, subject)
        last = f"utterance {utterance_id}"


def _read_id(file: BufferedIOBase) -> tuple[bytes, bytes]:
    """The next utterance id, empty at the end of the file, and the byte after it."""
    name = bytearray()
    while (byte := file.read(1)) and len(name) < MAX_ID_BYTES:
        if not byte.isspace():
            name += byte
        elif name:
            break
    return bytes(name), byte


def _read_vector(file: BufferedIOBase, subject: str) -> np.ndarray:
    first = file.read(1)
    if not first:
        raise _damage(subject, "ends before its vector")
    if first == b"\0":
        return _read_binary_vector(file, subject)
    line = first if first == b"\n" else first + file.readline()
    try:
        return np.array([int(token) for token in line.split()], np.int32)
    except (ValueError, OverflowError) as error:
        raise CorpusError(
            f"{subject}: found {line[:40]!r}; expected pdf-ids, whole numbers up to the end of the line, as "
            "ali-to-pdf writes them: name its archives"
        ) from error


def _read_binary_vector(file: BufferedIOBase, subject: str) -> np.ndarray:
    header = file.read(6)
    if len(header) == 6 and not header.startswith(b"B\4"):
        raise CorpusError(
            f"{subject}: found {header[:4]!r}, the head of something else (a matrix begins with B and FM); "
            "expected a vector of pdf-ids, as ali-to-pdf writes it: name its archives"
        )
    length = int.from_bytes(header[2:], "little", signed=True)
    if len(header) < 6 or not 0 <= length <= MAX_FRAMES:
        raise _damage(subject, "found no length of the vector, or an impossible one")
    elements = np.frombuffer(_read_fully(file, length * ELEMENT.itemsize, subject), ELEMENT)
    if (elements["size_bytes"] != 4).any():
        raise _damage(subject, "found an element that is not a 4-byte integer")
    return elements["value"].astype(np.int32)


def _read_fully(file: BufferedIOBase, size_bytes: int, subject: str) -> bytes:
    content = file.read(size_bytes)
    if len(content) < size_bytes:
        raise _damage(subject, f"ends after {len(content)} of the vector's {size_bytes} bytes")
    return content


def _damage(subject: str, found: str) -> CorpusError:
    return CorpusError(f"{subject}: {found}; the archive is damaged or was cut: copy or write it again")


def _check_range(pdf_ids: np.ndarray, num_pdfs: int, subject: str) -> None:
    wrong = np.flatnonzero((pdf_ids < 0) | (pdf_ids >= num_pdfs))
    if len(wrong):
        raise CorpusError(
            f"{subject}, frame {wrong[0]}: pdf-id {pdf_ids[wrong[0]]}; expected 0 to {num_pdfs - 1}: set "
            "num_pdfs to the model's (hmm-info final.mdl), or, if these are transition-ids (ali.*.gz as "
            "Kaldi's scripts leave them), convert them with ali-to-pdf"
        )
