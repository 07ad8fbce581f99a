"""CTM: a line `utterance channel start duration name [confidence ...]` for each phone or word, in seconds.

Lines that begin with `;;` are comments.
Source: NIST SCTK, format `ctm`; Kaldi writes phones so with `ali-to-phones --ctm-output`. In those files an
utterance stands where NIST has a recording, and times count from its start.
"""

import math
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asrdistill.errors import CorpusError
from asrdistill.experiment import atomic_path
from asrdistill.hmm.imported_files import open_file
from asrdistill.hmm.segments import Segment, TimedSegment, to_frames


def write_ctm(path: Path, segments: Mapping[str, Sequence[Segment]], frame_shift_s: float) -> None:
    """Publish the segments of each utterance, times to the millisecond, confidences if there are any.

    Utterances come in the order of their ids, as sclite wants them.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(_format_lines(segments, frame_shift_s))


def _format_lines(segments: Mapping[str, Sequence[Segment]], frame_shift_s: float) -> Iterator[str]:
    for utterance_id in sorted(segments):
        for s in segments[utterance_id]:
            start_s, duration_s = s.start * frame_shift_s, (s.end - s.start) * frame_shift_s
            confidence = "" if s.confidence is None else f" {s.confidence:.4f}"
            yield f"{utterance_id} 1 {start_s:.3f} {duration_s:.3f} {s.name}{confidence}\n"


def read_ctm(path: Path) -> dict[str, list[TimedSegment]]:
    """Segments of each utterance, in the file's order; channel and confidence are left alone.

    Raises:
        CorpusError: the file cannot be read, or a line of it is not CTM.
    """
    segments: dict[str, list[TimedSegment]] = {}
    with open_file(path) as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(BOM_UTF8).strip()
            if line and not line.startswith(b";;"):
                utterance_id, segment = _parse_line(line, f"CTM {path}, line {number}")
                segments.setdefault(utterance_id, []).append(segment)
    return segments


def read_ctm_frames(path: Path, frame_shift_s: float) -> dict[str, list[Segment]]:
    """Segments of each utterance of a CTM file, on frames.

    Raises:
        CorpusError: the file cannot be read, or a line of it is not CTM, or segments overlap.
    """
    return {name: to_frames(many, frame_shift_s, name) for name, many in read_ctm(path).items()}


def _parse_line(line: bytes, subject: str) -> tuple[str, TimedSegment]:
    try:
        utterance_id, _, start, duration, name, *_ = line.decode().split()
        start_s, duration_s = float(start), float(duration)
        if not (math.isfinite(start_s + duration_s) and min(start_s, duration_s) >= 0):
            raise ValueError("start and duration must be finite and not negative")
    except ValueError as error:
        raise CorpusError(
            f"{subject}: found {line!r}; expected `utterance channel start duration name`, start and "
            f"duration in seconds: correct the line ({error})"
        ) from error
    return utterance_id, TimedSegment(name, start_s, start_s + duration_s)
