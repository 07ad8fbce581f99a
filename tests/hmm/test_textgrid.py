"""TextGrids in and out: every dialect says the same, praatio reads ours, a cut file is refused."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid as praatio

from asrdistill.errors import CorpusError
from asrdistill.hmm.segments import Segment, TimedSegment, fill_gaps, to_frames
from asrdistill.hmm.textgrid import find_phone_tier, make_file_name, read_textgrid, write_textgrids

LONG = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 0.53 
tiers? <exists> 
size = 2 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "words" 
        xmin = 0 
        xmax = 0.53 
        intervals: size = 2 
        intervals [1]:
            xmin = 0.0 
            xmax = 0.11 
            text = "" 
        intervals [2]:
            xmin = 0.11 
            xmax = 0.53 
            text = "say ""é"" 3 !" 
    item [2]:
        class = "IntervalTier" 
        name = "phones" 
        xmin = 0 
        xmax = 0.53 
        intervals: size = 3 
        intervals [1]:
            xmin = 0.0 
            xmax = 0.11 
            text = "" 
        intervals [2]:
            xmin = 0.11 
            xmax = 0.3 
            text = "S" 
        intervals [3]:
            xmin = 0.3 
            xmax = 0.53 
            text = "EY1" 
"""  # noqa: W291
SHORT = """\
File type = "ooTextFile"
Object class = "TextGrid"

0
0.53
<exists>
2
"IntervalTier"
"words"
0
0.53
2
0.0
0.11
""
0.11
0.53
"say ""é"" 3 !"
"IntervalTier"
"phones"
0
0.53
3
0.0
0.11
""
0.11
0.3
"S"
0.3
0.53
"EY1"
"""
ON_FEW_LINES = """\
File type = "ooTextFile short"
"TextGrid"
0 0.53 <exists> 3 ! from, to, tiers: "3"
"IntervalTier" "words" 0 0.53 2 0 0.11 "" 0.11 0.53 "say ""é"" 3 !"
"TextTier" "clicks" 0 0.53 2 0.2 "one" 0.4 "two"
"IntervalTier" "phones" 0 53e-2 3 0 0.11 " " 0.11 0.3 "S" 0.3 0.53 " EY1
"
"""
TIERS = {
    "words": [TimedSegment("", 0, 0.11), TimedSegment('say "é" 3 !', 0.11, 0.53)],
    "phones": [TimedSegment("", 0, 0.11), TimedSegment("S", 0.11, 0.3), TimedSegment("EY1", 0.3, 0.53)],
}


def read_content(folder: Path, content: str | bytes) -> dict[str, list[TimedSegment]]:
    path = folder / "u1.TextGrid"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_textgrid(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("content", [LONG, SHORT, ON_FEW_LINES], ids=["long", "short", "on few lines"])
def test_dialects(tmp_path: Path, content: str, encoding: str) -> None:
    assert read_content(tmp_path, content.encode(encoding)) == TIERS
    assert read_content(tmp_path, content.replace("\n", "\r\n").encode(encoding)) == TIERS


def test_praats_utf_16_is_big_endian(tmp_path: Path) -> None:
    assert read_content(tmp_path, b"\xfe\xff" + LONG.encode("utf-16-be")) == TIERS


@pytest.mark.parametrize(("content", "step"), [(LONG, 3), (SHORT, 1)], ids=["long", "short"])
def test_a_file_that_was_cut_is_refused_wherever_it_was(tmp_path: Path, content: str, step: int) -> None:
    for end in range(0, len(content.rstrip()), step):
        with pytest.raises(
            CorpusError, match=r"TextGrid .*u1\.TextGrid, value \d+: .*expected a whole TextGrid"
        ):
            read_content(tmp_path, content[:end])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ooTextFile", "Praat chronological", "expected the texts ooTextFile and TextGrid at the start"),
        ('"TextGrid"', '"Pitch"', "expected the texts ooTextFile and TextGrid at the start"),
        ("IntervalTier", "Tier", "a tier is of class 'Tier'"),
        ('"words"', '"phones"', "two tiers are called 'phones'"),
        ("\n3\n", "\n2\n", "more comes after what its counts tell"),
        ("\n3\n", "\n2.5\n", "found 2.5 where a count should be"),
        ("\n3\n", "\n1e999\n", "found inf where a count should be"),
        ("\n0.11\n0.3\n", "\n0.3\n0.11\n", "an interval goes from 0.3 s to 0.11 s"),
        ('"words"\n0', '"words"\n"0"', "found '0' where a number should be"),
        ('"S"', "7", "found 7 where a text should be"),
        ('"S"', '"S', "no closing quote"),
    ],
)
def test_files_that_are_no_textgrid(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert SHORT.replace(old, new) != SHORT
    with pytest.raises(CorpusError, match=message):
        read_content(tmp_path, SHORT.replace(old, new))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="neither UTF-8 nor UTF-16"):
        read_content(tmp_path, LONG.encode("latin-1"))
    with pytest.raises(CorpusError, match="cannot be read"):
        read_textgrid(tmp_path / "u2.TextGrid")


@pytest.mark.parametrize("name", ["phones", "Phone", "ann - phones", "a - b - phones"])
def test_the_tier_of_phones(name: str) -> None:
    tiers = {"words": TIERS["words"], name: TIERS["phones"], "telephones": []}
    assert find_phone_tier(tiers, Path("a")) == TIERS["phones"]


def test_no_tier_of_phones_or_several() -> None:
    with pytest.raises(CorpusError, match="TextGrid a: tiers words; expected one tier called phones"):
        find_phone_tier({"words": []}, Path("a"))
    with pytest.raises(CorpusError, match="tiers ann - phones, bob - phones; expected one"):
        find_phone_tier({"ann - phones": [], "bob - phones": []}, Path("a"))


WORDS = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=6)


@st.composite
def make_segments(draw: st.DrawFn, num_frames: int) -> list[Segment]:
    edges = np.sort(draw(st.lists(st.integers(0, num_frames), max_size=8, unique=True))).tolist()
    many = [Segment(draw(WORDS), start, end) for start, end in pairwise(edges)]
    return [segment for segment in many if draw(st.booleans())]


@pytest.mark.parametrize("frame_shift_s", [0.005, 0.01, 0.0125])
@settings(deadline=None, max_examples=25)
@given(words=make_segments(300), phones=make_segments(300), num_frames=st.integers(300, 400))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    frame_shift_s: float,
    words: list[Segment],
    phones: list[Segment],
    num_frames: int,
) -> None:
    folder = tmp_path_factory.mktemp("textgrids")
    write_textgrids(folder, {"u1": words}, {"u1": phones}, {"u1": num_frames}, frame_shift_s)
    tiers = read_textgrid(folder / "u1.TextGrid")
    assert list(tiers) == ["words", "phones"]
    for name, segments in {"words": words, "phones": phones}.items():
        assert to_frames(tiers[name], frame_shift_s, "u1") == fill_gaps(segments, "", num_frames)
    by_praatio = praatio.openTextgrid(str(folder / "u1.TextGrid"), includeEmptyIntervals=True)
    assert by_praatio.tierNames == ("words", "phones")
    for name, found in tiers.items():
        entries = by_praatio.getTier(name).entries
        assert [TimedSegment(e.label, e.start, e.end) for e in entries] == found


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@settings(deadline=None, max_examples=25)
@given(phones=make_segments(300))
def test_what_praatio_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, form: str, phones: list[Segment]
) -> None:
    """The Montreal Forced Aligner writes with praatio."""
    path = tmp_path_factory.mktemp("praatio") / "u1.TextGrid"
    grid = praatio.Textgrid(0, 3)
    entries = [(s.start / 100, s.end / 100, s.name) for s in phones]
    grid.addTier(praatio.IntervalTier("phones", entries, 0, 3))
    grid.save(str(path), form, includeBlankSpaces=True)
    expected = fill_gaps(phones, "", 300)
    assert to_frames(read_textgrid(path)["phones"], 0.01, "u1") == expected


def test_silence_is_an_empty_interval_of_the_phones_alone(tmp_path: Path) -> None:
    phones = [Segment("SIL", 0, 4), Segment("x", 4, 9)]
    write_textgrids(tmp_path, {"u1": [Segment("SIL", 4, 9)]}, {"u1": phones}, {"u1": 10}, 0.01)
    tiers = read_textgrid(tmp_path / "u1.TextGrid")
    assert [segment.name for segment in tiers["phones"]] == ["", "x", ""]
    assert [segment.name for segment in tiers["words"]] == ["", "SIL", ""]
    assert tiers["phones"][-1].end_s == 0.1


def test_long_format_is_praats(tmp_path: Path) -> None:
    words = {"u1": [Segment('say "é" 3 !', 11, 53)]}
    phones = {"u1": [Segment("SIL", 0, 11), Segment("S", 11, 30), Segment("EY1", 30, 53)]}
    write_textgrids(tmp_path, words, phones, {"u1": 53}, 0.01)
    expected = "".join(f"{line.rstrip()}\n" for line in LONG.splitlines()).replace("0.0\n", "0\n")
    assert (tmp_path / "u1.TextGrid").read_text(encoding="utf-8") == expected


def test_every_utterance_has_a_file_of_its_own(tmp_path: Path) -> None:
    ids = ["a", "a/b", "../a", "a%2Fb", "a.b"]
    assert len({make_file_name(utterance_id) for utterance_id in ids}) == len(ids)
    segments = {utterance_id: [Segment("x", 0, 3)] for utterance_id in ids}
    write_textgrids(tmp_path, segments, segments, dict.fromkeys(ids, 3), 0.01)
    assert {path.name for path in tmp_path.iterdir()} == {
        make_file_name(utterance_id) for utterance_id in ids
    }
