"""Alignments on disk: what is written is read back, phones and words are found, refusals name the stage."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.errors import ContractError
from asrdistill.hmm.aligner import Alignment
from asrdistill.hmm.alignment import read_pdf_ids, read_unaligned, write_alignments
from asrdistill.hmm.ctm import read_ctm_frames
from asrdistill.hmm.graph import chain_codes
from asrdistill.hmm.segments import Segment, find_phones, find_words
from asrdistill.hmm.topology import TiedStates

TIED = TiedStates.of_monophones({"x", "y"})
WORDS = {"u1": ["ONE", "ONE", "TWO"], "u2": ["TWO"], "u3": ["ONE"]}


def spell(*phones: tuple[str, int]) -> np.ndarray:
    """Codes of phones that last so many frames, two for all but the last state."""
    codes = chain_codes([name for name, _ in phones], TIED)
    return np.repeat(codes, [length for _, num_frames in phones for length in (2, 2, num_frames - 4)])


def make_alignments() -> dict[str, Alignment | None]:
    first = spell(("SIL", 6), ("x", 5), ("x", 7), ("y", 9))
    words = np.repeat([-1, 0, 1, 2], [6, 5, 7, 9]).astype(np.int32)
    return {
        "u1": Alignment(first, words, -54.0),
        "u2": None,
        "u3": Alignment(spell(("y", 8)), np.zeros(8, np.int32), -16.0),
    }


def write_split(align_dir: Path, frame_shift_s: float = 0.01) -> None:
    num_frames = {"u1": 27, "u2": 4, "u3": 8}
    write_alignments(align_dir, "dev", make_alignments(), num_frames, WORDS, TIED, frame_shift_s)


@given(
    lengths=st.lists(
        st.tuples(st.sampled_from(["SIL", "x", "y"]), st.integers(5, 12)), min_size=1, max_size=6
    )
)
def test_phones_are_found_even_twice_in_a_row(lengths: list[tuple[str, int]]) -> None:
    ends = np.cumsum([length for _, length in lengths]).tolist()
    expected = [Segment(name, end - length, end) for (name, length), end in zip(lengths, ends, strict=True)]
    assert find_phones(spell(*lengths), TIED.phones) == expected


def test_the_same_word_twice_is_two_words() -> None:
    positions = np.array([-1, 0, 0, 1, 1, 1, -1, -1, 2])
    expected = [Segment("ONE", 1, 3), Segment("ONE", 3, 6), Segment("TWO", 8, 9)]
    assert find_words(positions, WORDS["u1"]) == expected


def test_an_utterance_without_frames_has_no_segments() -> None:
    assert find_phones(np.zeros(0, np.int32), TIED.phones) == []
    assert find_words(np.zeros(0, np.int32), []) == []


def test_pdf_ids_round_trip(tmp_path: Path) -> None:
    write_split(tmp_path)
    alignments = make_alignments()
    first, last = alignments["u1"], alignments["u3"]
    assert first is not None
    assert last is not None
    pdf_ids = read_pdf_ids(tmp_path, "dev", 39)
    assert pdf_ids.dtype == np.int32
    expected = np.concatenate([TIED.table[first.codes], [-1] * 4, TIED.table[last.codes]])
    np.testing.assert_array_equal(pdf_ids, expected)
    assert read_unaligned(tmp_path, "dev") == ["u2"]
    assert json.loads((tmp_path / "dev.json").read_text())["log_likelihood_a_frame"] == -70 / 35


@pytest.mark.parametrize("frame_shift_s", [0.005, 0.01, 0.0125])
def test_ctm_round_trip(tmp_path: Path, frame_shift_s: float) -> None:
    write_split(tmp_path, frame_shift_s)
    assert read_ctm_frames(tmp_path / "dev.phones.ctm", frame_shift_s) == {
        "u1": [Segment("SIL", 0, 6), Segment("x", 6, 11), Segment("x", 11, 18), Segment("y", 18, 27)],
        "u3": [Segment("y", 0, 8)],
    }
    assert read_ctm_frames(tmp_path / "dev.words.ctm", frame_shift_s) == {
        "u1": [Segment("ONE", 6, 11), Segment("ONE", 11, 18), Segment("TWO", 18, 27)],
        "u3": [Segment("ONE", 0, 8)],
    }


def test_ctm_lines_are_nists(tmp_path: Path) -> None:
    """Utterance, channel, start, duration, word: https://www.nist.gov, SCTK, format `ctm`."""
    write_split(tmp_path)
    fields = (tmp_path / "dev.words.ctm").read_text().splitlines()[1].split()
    assert (fields[0], fields[1], float(fields[2]), float(fields[3]), fields[4]) == (
        "u1",
        "1",
        0.11,
        0.07,
        "ONE",
    )


def test_refusals_name_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="align stage writes it"):
        read_pdf_ids(tmp_path, "dev", 39)
    write_split(tmp_path)
    with pytest.raises(
        ContractError, match="39 frames, expected the frame store's 40; run again with --force align"
    ):
        read_pdf_ids(tmp_path, "dev", 40)


def test_a_split_without_utterances(tmp_path: Path) -> None:
    write_alignments(tmp_path, "dev", {}, {}, {}, TIED, 0.01)
    assert read_pdf_ids(tmp_path, "dev", 0).shape == (0,)
    assert read_ctm_frames(tmp_path / "dev.words.ctm", 0.01) == {}
