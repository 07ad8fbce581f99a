"""Praat's TextGrids, as the Montreal Forced Aligner writes them: words and phones of a recording, in seconds.

Long and short format are one: what counts, in both, are the quoted texts, the numbers and the flags such as
<exists> that stand between white space; all else (`xmin =`, `intervals [1]:`) and what follows a `!` is for
people. Ours are in the long format, an empty interval for silence.
Source: Praat's manual, "TextGrid file formats".
Read here and not with praatio, which takes a file that was cut for a shorter one and says nothing.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asrdistill.errors import CorpusError
from asrdistill.experiment import atomic_path
from asrdistill.hmm.segments import Segment, TimedSegment, fill_gaps
from asrdistill.hmm.topology import SILENCE_PHONE

TOKEN = re.compile(r'"((?:[^"]|"")*)"(?=\s|$)|!.*|\S+')
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
# With several speakers in a recording, the Montreal Forced Aligner puts the speaker first.
PHONE_TIER = re.compile(r"(.+ - )?phones?", re.IGNORECASE)
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
Tiers = dict[str, list[TimedSegment]]


def read_textgrid(path: Path) -> Tiers:
    """Intervals of each interval tier by the tier's name; point tiers are left alone.

    Raises:
        CorpusError: the file cannot be read, is no TextGrid, or was cut.
    """
    values = _Values(path)
    if not values.take_text().startswith("ooTextFile") or values.take_text() != "TextGrid":
        raise values.complain("expected the texts ooTextFile and TextGrid at the start")
    values.take_number()
    values.take_number()
    tiers: Tiers = {}
    for _ in range(values.take_count()):
        kind, name = values.take_text(), values.take_text()
        values.take_number()
        values.take_number()
        if kind == "IntervalTier":
            if name in tiers:
                raise values.complain(f"two tiers are called {name!r}, expected one of each name")
            tiers[name] = [values.take_interval() for _ in range(values.take_count())]
        elif kind == "TextTier":
            for _ in range(values.take_count()):
                values.take_number()
                values.take_text()
        else:
            raise values.complain(f"a tier is of class {kind!r}, expected IntervalTier or TextTier")
    values.take_end()
    return tiers


def find_phone_tier(tiers: Tiers, path: Path) -> list[TimedSegment]:
    """The intervals of the tier `phones` or `<speaker> - phones`.

    Raises:
        CorpusError: there is none, or there are those of several speakers.
    """
    names = [name for name in tiers if PHONE_TIER.fullmatch(name)]
    if len(names) != 1:
        raise CorpusError(
            f"TextGrid {path}: tiers {', '.join(tiers) or 'none'}; expected one tier called phones, or "
            "`<speaker> - phones` of one speaker: align single utterances, or rename the tier"
        )
    return tiers[names[0]]


class _Values:
    """The texts and numbers of a TextGrid, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_taken = 0
        self._values = self._list_values(_read_text(path))

    def _list_values(self, text: str) -> Iterator[str | float]:
        for token in TOKEN.finditer(text):
            if token[1] is not None:
                yield token[1].replace('""', '"')
            elif NUMBER.fullmatch(token[0]):
                yield float(token[0])
            elif token[0].startswith('"'):
                raise self.complain(f"the text {token[0][:20]} has no closing quote")

    def _take(self, expected: str) -> str | float:
        self.num_taken += 1
        value = next(self._values, None)
        if value is None:
            raise self.complain(f"it ends where {expected} should come")
        return value

    def take_text(self) -> str:
        value = self._take("a text")
        if not isinstance(value, str):
            raise self.complain(f"found {value:g} where a text should be")
        return value

    def take_number(self) -> float:
        value = self._take("a number")
        if isinstance(value, str):
            raise self.complain(f"found {value!r} where a number should be")
        return value

    def take_count(self) -> int:
        value = self.take_number()
        if value < 0 or not value.is_integer():
            raise self.complain(f"found {value:g} where a count should be")
        return int(value)

    def take_interval(self) -> TimedSegment:
        start_s, end_s, name = self.take_number(), self.take_number(), self.take_text()
        if not 0 <= start_s <= end_s < math.inf:
            raise self.complain(f"an interval goes from {start_s:g} s to {end_s:g} s")
        return TimedSegment(name.strip(), start_s, end_s)

    def take_end(self) -> None:
        if next(self._values, None) is not None:
            raise self.complain("more comes after what its counts tell")

    def complain(self, found: str) -> CorpusError:
        return CorpusError(
            f"TextGrid {self.path}, value {self.num_taken}: {found}; expected a whole TextGrid in Praat's "
            "long or short text format: write it again"
        )


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig")
    except OSError as error:
        raise CorpusError(
            f"TextGrid {path}: cannot be read ({error.strerror}); make it readable for you"
        ) from error
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"TextGrid {path}: neither UTF-8 nor UTF-16 with its mark ({error}); in Praat, choose UTF-8 in "
            "Text writing preferences and save it again"
        ) from error


def make_file_name(utterance_id: str) -> str:
    """The name of an utterance's TextGrid: its id, but no slash."""
    return utterance_id.replace("%", "%25").replace("/", "%2F") + ".TextGrid"


def write_textgrids(
    folder: Path,
    words: Mapping[str, Sequence[Segment]],
    phones: Mapping[str, Sequence[Segment]],
    num_frames: Mapping[str, int],
    frame_shift_s: float,
) -> None:
    """Publish a TextGrid for each utterance of `phones`: tiers `words` and `phones`, from 0 to its end."""
    for utterance_id, spoken in phones.items():
        tiers = {
            "words": words[utterance_id],
            "phones": [replace(s, name="") if s.name == SILENCE_PHONE else s for s in spoken],
        }
        with atomic_path(folder / make_file_name(utterance_id)) as temporary:
            lines = _format_textgrid(tiers, num_frames[utterance_id], frame_shift_s)
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _format_textgrid(
    tiers: Mapping[str, Sequence[Segment]], num_frames: int, frame_shift_s: float
) -> Iterator[str]:
    end = f"xmax = {_to_seconds(num_frames, frame_shift_s)}"
    yield from ('File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", end)
    yield from ("tiers? <exists>", f"size = {len(tiers)}", "item []:")
    for number, (name, segments) in enumerate(tiers.items(), 1):
        intervals = fill_gaps(segments, "", num_frames)
        head = ('class = "IntervalTier"', f'name = "{name}"', "xmin = 0", end)
        yield f"    item [{number}]:"
        yield from (f"        {line}" for line in (*head, f"intervals: size = {len(intervals)}"))
        for place, interval in enumerate(intervals, 1):
            text = interval.name.replace('"', '""')
            yield f"        intervals [{place}]:"
            yield f"            xmin = {_to_seconds(interval.start, frame_shift_s)}"
            yield f"            xmax = {_to_seconds(interval.end, frame_shift_s)}"
            yield f'            text = "{text}"'


def _to_seconds(frame: int, frame_shift_s: float) -> str:
    """To the microsecond: without what a product of floats has after it."""
    return f"{frame * frame_shift_s:.6f}".rstrip("0").rstrip(".")
