"""Phones in seconds become triphone states: against the definition, frame by frame."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.errors import CorpusError
from asrdistill.hmm.segments import Segment, TimedSegment, fill_gaps, find_phone, spell_codes, to_frames
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

TIED = TiedStates.of_monophones({"x", "y", "AH"})
SHIFT_S = 0.01
Phones = list[tuple[str, int]]


def time(phones: Phones, frame_shift_s: float = SHIFT_S) -> list[TimedSegment]:
    """Phones that last so many frames, one after the other."""
    ends = np.cumsum([length for _, length in phones]).tolist()
    return [
        TimedSegment(name, (end - length) * frame_shift_s, end * frame_shift_s)
        for (name, length), end in zip(phones, ends, strict=True)
    ]


def spell(phones: list[TimedSegment], num_frames: int, tolerance: int = 2) -> list[int]:
    codes = spell_codes(phones, num_frames, SHIFT_S, TIED, "u1", tolerance)
    assert codes.dtype == np.int32
    return codes.tolist()


def define(phones: Phones) -> list[int]:
    """The codes by the definition in hmm/topology.py; silence has no neighbours."""
    names = [SILENCE_PHONE, *(name for name, _ in phones), SILENCE_PHONE]
    codes = []
    for place, (name, length) in enumerate(phones):
        around = (names[place], name, names[place + 2]) if name != SILENCE_PHONE else (SILENCE_PHONE,) * 3
        for frame in range(length):
            state = 2 if frame == length - 1 else 3 * frame // length
            codes.append(TIED.code(*around) + state)
    return codes


def alternate(lengths: list[int], names: list[str]) -> Phones:
    """Phones no two of which, side by side, are silence."""
    chosen = [name for place, name in enumerate(names) if not (name == "SIL" and place % 2)]
    return list(zip(chosen, lengths, strict=False))


PHONES = st.builds(
    alternate,
    st.lists(st.integers(1, 20), min_size=1, max_size=8),
    st.lists(st.sampled_from(["SIL", "x", "y", "AH"]), min_size=8, max_size=8),
).filter(lambda phones: bool(phones) and all(a[0] != "SIL" or b[0] != "SIL" for a, b in pairwise(phones)))


@given(phones=PHONES)
def test_codes_are_those_of_the_definition(phones: Phones) -> None:
    assert spell(time(phones), sum(length for _, length in phones), tolerance=0) == define(phones)


@given(length=st.integers(1, 60))
def test_states_share_a_phones_frames_equally(length: int) -> None:
    states = [code % 3 for code in spell(time([("x", length)]), length)]
    counts = [states.count(state) for state in range(3)]
    assert states == sorted(states)
    assert states[-1] == 2
    if length >= 3:
        assert max(counts) - min(counts) <= 1
        assert min(counts) >= 1


def test_phones_of_one_and_two_frames_keep_them() -> None:
    codes = spell(time([("x", 1), ("y", 2), ("x", 4)]), 7)
    assert [TIED.phones[code // 3 // 4 % 4] for code in codes] == ["x", "y", "y", "x", "x", "x", "x"]
    assert [code % 3 for code in codes] == [2, 0, 2, 0, 0, 1, 2]


@pytest.mark.parametrize("frame_shift_s", [0.005, 0.01, 0.0125])
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_frames_of_times_are_the_frames_they_came_from(frame_shift_s: float, lengths: list[int]) -> None:
    phones = [("xy"[place % 2], length) for place, length in enumerate(lengths)]
    ends = np.cumsum(lengths).tolist()
    expected = [Segment(name, end - length, end) for (name, length), end in zip(phones, ends, strict=True)]
    timed = time(phones, frame_shift_s)
    assert to_frames(timed, frame_shift_s, "u1") == expected
    assert to_frames(timed[::-1], frame_shift_s, "u1") == expected


@pytest.mark.parametrize("name", ["", "sil", "SIL", "sp", "spn", "SPN", "<eps>", "SIL_S", "SPN_S", "NSN"])
def test_names_of_silence(name: str) -> None:
    assert find_phone(name, TIED) == SILENCE_PHONE


@pytest.mark.parametrize(
    ("name", "phone"),
    [
        ("x", "x"),
        ("x_B", "x"),
        ("AH0", "AH"),
        ("AH1_E", "AH"),
        ("x1", None),  # a digit that is no stress of ARPAbet
        ("x_T", None),
        ("ah", None),
    ],
)
def test_names_of_phones(name: str, phone: str | None) -> None:
    assert find_phone(name, TIED) == phone


def test_the_name_as_it_is_comes_first() -> None:
    tied_states = TiedStates.of_monophones({"AH", "AH0", "x_B", "sp"})
    assert [find_phone(name, tied_states) for name in ("AH0", "AH1", "x_B", "sp")] == [
        "AH0",
        "AH",
        "x_B",
        "sp",
    ]


def test_what_lies_beside_the_phones_is_one_silence() -> None:
    phones = [TimedSegment("x", 0.05, 0.1), TimedSegment("sp", 0.13, 0.16), TimedSegment("y", 0.2, 0.26)]
    assert spell(phones, 26) == define([("SIL", 5), ("x", 5), ("SIL", 10), ("y", 6)])


def test_less_than_half_a_frame_apart_is_together() -> None:
    phones = [TimedSegment("x", 0.0, 0.0462), TimedSegment("y", 0.0498, 0.1), TimedSegment("x", 0.0961, 0.15)]
    assert to_frames(phones, SHIFT_S, "u1") == [Segment("x", 0, 5), Segment("y", 5, 10), Segment("x", 10, 15)]


def test_overlapping_phones_are_refused() -> None:
    phones = [TimedSegment("x", 0.0, 0.06), TimedSegment("y", 0.05, 0.1)]
    with pytest.raises(CorpusError, match=r"u1: x ends at 0.06 s, but y starts at 0.05 s"):
        spell(phones, 10)


def test_what_is_too_short_for_a_frame_is_no_neighbour() -> None:
    phones = [TimedSegment("x", 0.0, 0.05), TimedSegment("AH", 0.05, 0.053), TimedSegment("y", 0.053, 0.1)]
    assert spell(phones, 10) == define([("x", 5), ("y", 5)])


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (10, [("x", 4), ("y", 6)]),
        (8, [("x", 4), ("y", 4)]),
        (12, [("x", 4), ("y", 8)]),
    ],
)
def test_small_differences_are_the_last_phones(num_frames: int, expected: Phones) -> None:
    assert spell(time([("x", 4), ("y", 6)]), num_frames) == define(expected)


def test_a_phone_beyond_the_end_is_dropped() -> None:
    assert spell(time([("x", 9), ("y", 1)]), 8) == define([("x", 8)])
    assert spell(time([("x", 2)]), 0) == []


@pytest.mark.parametrize("num_frames", [7, 13, 0])
def test_large_differences_are_refused(num_frames: int) -> None:
    message = rf"utterance u1: its imported alignment has 10 frames, its features {num_frames};"
    with pytest.raises(CorpusError, match=message):
        spell(time([("x", 4), ("y", 6)]), num_frames)


def test_nothing_cannot_be_extended() -> None:
    with pytest.raises(CorpusError, match="alignment has 0 frames, its features 2"):
        spell([TimedSegment("x", 0.0, 0.001)], 2)


@pytest.mark.parametrize(
    ("name", "advice"), [("zz", "lexicon.path"), ("17", re.escape("utils/int2sym.pl -f 5 phones.txt"))]
)
def test_an_unknown_phone_is_refused(name: str, advice: str) -> None:
    message = rf"utterance u1: .* phone '{name}', .* known phones: SIL AH x y; .*{advice}"
    with pytest.raises(CorpusError, match=message):
        spell([TimedSegment("x", 0.0, 0.05), TimedSegment(name, 0.05, 0.1)], 10)


@given(num_samples=st.integers(400, 10**7))
def test_a_recordings_length_is_within_the_tolerance(num_samples: int) -> None:
    """Its features lack the frames whose window of 25 ms would reach beyond the end."""
    num_frames = 1 + (num_samples - 400) // 160
    (whole,) = to_frames([TimedSegment("x", 0.0, num_samples / 16000)], SHIFT_S, "u1")
    assert 1 <= whole.end - num_frames <= 2


def test_gaps_are_filled() -> None:
    segments = [Segment("x", 2, 4), Segment("y", 4, 6), Segment("x", 7, 8)]
    assert fill_gaps(segments, "-", 10) == [
        Segment("-", 0, 2),
        Segment("x", 2, 4),
        Segment("y", 4, 6),
        Segment("-", 6, 7),
        Segment("x", 7, 8),
        Segment("-", 8, 10),
    ]
    assert fill_gaps([], "-", 3) == [Segment("-", 0, 3)]
    assert fill_gaps([], "-", 0) == []
