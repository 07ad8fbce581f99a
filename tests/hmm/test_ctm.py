"""CTM in and out: what is written is read back, NIST's and Kaldi's lines are understood."""

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.errors import CorpusError
from asrdistill.hmm.ctm import read_ctm, read_ctm_frames, write_ctm
from asrdistill.hmm.segments import Segment, TimedSegment

NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=6)


@st.composite
def make_segments(draw: st.DrawFn) -> list[Segment]:
    """Segments with and without gaps between them."""
    steps = draw(st.lists(st.integers(0, 500), min_size=2, max_size=12, unique=True))
    edges = np.sort(steps).tolist()
    many = [Segment(draw(NAMES), start, end) for start, end in pairwise(edges)]
    return [segment for segment in many if draw(st.booleans())] or many


@pytest.mark.parametrize("frame_shift_s", [0.005, 0.008, 0.01, 0.0125])
@settings(deadline=None, max_examples=25)
@given(segments=st.dictionaries(NAMES.filter(lambda name: name[:2] != ";;"), make_segments(), max_size=3))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, frame_shift_s: float, segments: dict[str, list[Segment]]
) -> None:
    path = tmp_path_factory.mktemp("ctm") / "dev.phones.ctm"
    write_ctm(path, segments, frame_shift_s)
    assert read_ctm_frames(path, frame_shift_s) == segments


def test_lines_are_nists(tmp_path: Path) -> None:
    """Utterance, channel, start, duration, name: NIST SCTK, format `ctm`."""
    write_ctm(tmp_path / "a.ctm", {"u1": [Segment("ONE", 11, 18)], "u2": [Segment("TWO", 0, 3)]}, 0.01)
    assert (tmp_path / "a.ctm").read_text() == "u1 1 0.110 0.070 ONE\nu2 1 0.000 0.030 TWO\n"


def test_confidences_are_written_and_utterances_sorted(tmp_path: Path) -> None:
    words = {
        "utterance-b": [Segment("NO", 0, 13, 1.0)],
        "utterance-c": [],
        "utterance-a": [Segment("ÉTÉ", 120, 155, 0.98765), Segment("A", 155, 155, 0.0)],
    }
    write_ctm(tmp_path / "words.ctm", words, 0.01)
    assert (tmp_path / "words.ctm").read_text(encoding="utf-8") == (
        "utterance-a 1 1.200 0.350 ÉTÉ 0.9877\n"
        "utterance-a 1 1.550 0.000 A 0.0000\n"
        "utterance-b 1 0.000 0.130 NO 1.0000\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["words.ctm"]


CONTENT = """\
;; from ali-to-phones --ctm-output and int2sym.pl
u1 1 0.00 0.11 SIL

u1 1 0.110 0.07 AH0_B 0.98
  ;; NIST has more columns
u2\tA\t1e-1  .5 é 1.0 lex ann
u1 1 0.18 0.03 T_E
"""


@pytest.mark.parametrize(
    "content",
    [
        CONTENT.encode(),
        CONTENT.encode("utf-8-sig"),
        CONTENT.replace("\n", "\r\n").encode(),
        gzip.compress(CONTENT.encode()),
    ],
    ids=["plain", "with a mark", "other line ends", "gzip"],
)
def test_what_others_write(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ctm").write_bytes(content)
    found = read_ctm(tmp_path / "ctm")
    assert list(found) == ["u1", "u2"]
    assert [segment.name for segment in found["u1"]] == ["SIL", "AH0_B", "T_E"]
    assert found["u2"] == [TimedSegment("é", 0.1, 0.6)]
    assert read_ctm_frames(tmp_path / "ctm", 0.01)["u1"] == [
        Segment("SIL", 0, 11),
        Segment("AH0_B", 11, 18),
        Segment("T_E", 18, 21),
    ]


def test_an_empty_file(tmp_path: Path) -> None:
    write_ctm(tmp_path / "a.ctm", {}, 0.01)
    assert read_ctm(tmp_path / "a.ctm") == {}


@pytest.mark.parametrize(
    "line",
    [
        b"u1 1 0.0 0.1",
        b"u1 0.0 0.1 AH",
        b"u1 1 zero 0.1 AH",
        b"u1 1 -0.5 0.1 AH",
        b"u1 1 0.5 -0.1 AH",
        b"u1 1 nan 0.1 AH",
        b"u1 1 0.0 inf AH",
        b"u1 1 * * <ALT_BEGIN>",
        b"u1 1 0.0 0.1 \xe9",
    ],
)
def test_lines_that_are_not_ctm(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "a.ctm").write_bytes(b"u1 1 0 0.1 x\n" + line + b"\n")
    with pytest.raises(CorpusError, match=r"CTM .*a\.ctm, line 2: found .*expected `utterance channel"):
        read_ctm(tmp_path / "a.ctm")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        read_ctm(tmp_path / "a.ctm")
