"""Kaldi's archives of pdf-ids: by hand, against Kaldi's own code, and damaged in every place."""

import gzip
import struct
from pathlib import Path

import kaldi_native_io
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.errors import CorpusError
from asrdistill.hmm.kaldi_alignments import read_archives

Vectors = dict[str, list[int]]
# fmt: off
BY_HAND = (
    b"u1 \0B\x04\x02\0\0\0" b"\x04\x05\0\0\0" b"\x04\x2c\x01\0\0"
    b"u2 \0B\x04\0\0\0\0"
    b"\xc3\xa9-3 \0B\x04\x01\0\0\0" b"\x04\0\0\0\0"
)
# fmt: on
EXPECTED: Vectors = {"u1": [5, 300], "u2": [], "é-3": [0]}
ANY_VECTORS = st.dictionaries(
    st.text("aZ0_.é-", min_size=1, max_size=12),
    st.lists(st.integers(0, 2**31 - 2), max_size=20),
    max_size=5,
)


def read(*paths: Path, num_pdfs: int = 2**31 - 1) -> Vectors:
    found = list(read_archives(paths, num_pdfs))
    assert all(pdf_ids.dtype == np.int32 for _, pdf_ids in found)
    return {utterance_id: pdf_ids.tolist() for utterance_id, pdf_ids in found}


def read_content(folder: Path, content: bytes, num_pdfs: int = 2**31 - 1) -> Vectors:
    path = folder / "ali.1"
    path.write_bytes(content)
    return read(path, num_pdfs=num_pdfs)


def pack(vectors: Vectors) -> bytes:
    return b"".join(
        name.encode() + b" \0B" + b"".join(struct.pack("<bi", 4, value) for value in (len(vector), *vector))
        for name, vector in vectors.items()
    )


def test_binary(tmp_path: Path) -> None:
    assert pack(EXPECTED) == BY_HAND
    assert read_content(tmp_path, BY_HAND) == EXPECTED
    assert read_content(tmp_path, b"") == {}


@pytest.mark.parametrize(
    "text",
    ["u1 5 300 \nu2 \né-3 0 \n", "u1  5\t300\nu2\n\né-3 0", "u1 5 300\r\nu2\r\né-3 0\r\n"],
    ids=["kaldi", "by hand", "other line ends"],
)
def test_text(tmp_path: Path, text: str) -> None:
    assert read_content(tmp_path, text.encode()) == EXPECTED


def test_gzip_under_any_name(tmp_path: Path) -> None:
    assert read_content(tmp_path, gzip.compress(BY_HAND)) == EXPECTED
    assert read_content(tmp_path, gzip.compress(b"u1 5 300 \nu2 \n\xc3\xa9-3 0 \n")) == EXPECTED


@settings(deadline=None, max_examples=25)
@given(vectors=ANY_VECTORS, form=st.sampled_from(["ark", "ark,t"]))
def test_what_kaldi_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, vectors: Vectors, form: str
) -> None:
    path = tmp_path_factory.mktemp("kaldi") / "ali.ark"
    with kaldi_native_io.Int32VectorWriter(f"{form}:{path}") as writer:
        for name, vector in vectors.items():
            writer.write(name, vector)
    assert read(path) == vectors


def test_several_archives(tmp_path: Path) -> None:
    (tmp_path / "ali.1.gz").write_bytes(gzip.compress(pack({"u1": [1]})))
    (tmp_path / "ali.2").write_bytes(b"u2 2\n")
    assert read(tmp_path / "ali.1.gz", tmp_path / "ali.2") == {"u1": [1], "u2": [2]}
    (tmp_path / "ali.2").write_bytes(b"u1 2\n")
    with pytest.raises(CorpusError, match=r"ali\.2: utterance u1 comes a second time, after .*ali\.1\.gz"):
        read(tmp_path / "ali.1.gz", tmp_path / "ali.2")


def test_an_archive_that_was_cut_is_refused_wherever_it_was(tmp_path: Path) -> None:
    ends = {len(pack(dict(list(EXPECTED.items())[:number]))): number for number in range(4)}
    for end in range(len(BY_HAND) + 1):
        if end in ends:
            assert list(read_content(tmp_path, BY_HAND[:end])) == list(EXPECTED)[: ends[end]]
        else:
            with pytest.raises(CorpusError, match=r"archive .*(damaged|was cut)"):
                read_content(tmp_path, BY_HAND[:end])


def test_a_gzipped_archive_that_was_cut_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(BY_HAND)
    for end in range(3, len(whole)):
        with pytest.raises(CorpusError, match="damaged"):
            read_content(tmp_path, whole[:end])


def test_damage_names_the_utterance(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="utterance u1: ends after 7 of the vector's 10 bytes"):
        read_content(tmp_path, BY_HAND[:17])
    with pytest.raises(CorpusError, match="after utterance u2: found an utterance id that is not UTF-8"):
        read_content(tmp_path, BY_HAND.replace(b"\xc3\xa9", b"\xe9"))
    with pytest.raises(CorpusError, match=r"utterance u1: .*not a 4-byte integer"):
        read_content(tmp_path, BY_HAND.replace(b"\x04\x05", b"\x08\x05"))
    with pytest.raises(CorpusError, match=r"utterance u1: .*length of the vector"):
        read_content(tmp_path, BY_HAND.replace(b"\x04\x02\0\0\0", b"\x04\x02\0\0\x80"))
    with pytest.raises(CorpusError, match="utterance u2: ends before its vector"):
        read_content(tmp_path, BY_HAND[:23])
    with pytest.raises(CorpusError, match="after its start: found b'xxx"):
        read_content(tmp_path, b"x" * 2000)


@settings(deadline=None)
@given(content=st.binary(max_size=60) | st.tuples(st.just(b"u1 \0B\4"), st.binary(max_size=30)).map(b"".join))
def test_anything_else_is_told_as_an_error_of_the_users(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    try:
        read_content(tmp_path_factory.getbasetemp(), content, num_pdfs=2**31)
    except CorpusError as error:
        assert "ali.1" in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"u1 \0BFM \x04\x02\0\0\0", "utterance u1: found b'BFM '.*expected a vector of pdf-ids"),
        (b"u1 SIL x y\n", "utterance u1: found b'SIL x y.*expected pdf-ids"),
        (b"u1 /exp/ali.ark:3\n", "utterance u1: found b'/exp/ali.ark:3.*name its archives"),
        (b"u1 99999999999\n", "utterance u1: found b'99999999999"),
        (b"u1 4 ; 5 2\n", "utterance u1: found b'4 ; 5 2"),
    ],
)
def test_other_kinds_of_archive(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_content(tmp_path, content)


@pytest.mark.parametrize("content", [pack({"u1": [8, 0], "u2": [3, 9, 10]}), b"u1 8 0\nu2 3 9 -1\n"])
def test_pdf_ids_out_of_range(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"utterance u2, frame 1: pdf-id 9; expected 0 to 8: .*ali-to-pdf"):
        read_content(tmp_path, content, num_pdfs=9)
    with pytest.raises(CorpusError, match="frame 0: pdf-id -1"):
        read_content(tmp_path, b"u1 -1\n")
