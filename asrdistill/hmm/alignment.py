"""Alignments on disk: the pdf-id of every frame, in the frame store's order, and words and phones as CTM."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path, write_json
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.training import Alignment

NOT_ALIGNED = -1


@dataclass(frozen=True)
class Segment:
    """A stretch of one utterance: a phone or a word.

    Attributes:
        name: of the phone or word.
        start: first frame.
        end: frame after the last.
    """

    name: str
    start: int
    end: int


def find_phones(pdf_ids: np.ndarray, tied_states: TiedStates) -> list[Segment]:
    """Phones of an utterance, from its pdf-ids, int (frames,): a phone ends where its last state is left."""
    if not len(pdf_ids):
        return []
    left_last_state = tied_states.is_last_state(pdf_ids[:-1]) & (pdf_ids[1:] != pdf_ids[:-1])
    edges = [0, *(np.flatnonzero(left_last_state) + 1).tolist(), len(pdf_ids)]
    return [
        Segment(tied_states.phone_of_pdf(int(pdf_ids[start])), start, end) for start, end in pairwise(edges)
    ]


def find_words(positions: np.ndarray, words: Sequence[str]) -> list[Segment]:
    """Words of an utterance.

    Args:
        positions: int (frames,), position in the transcript of the word spoken; silence: -1.
        words: the transcript.
    """
    edges = [0, *(np.flatnonzero(np.diff(positions)) + 1).tolist(), len(positions)]
    return [
        Segment(words[positions[start]], start, end)
        for start, end in pairwise(edges)
        if start < end and positions[start] >= 0
    ]


def write_alignments(
    align_dir: Path,
    split: str,
    alignments: Mapping[str, Alignment | None],
    num_frames: Mapping[str, int],
    transcripts: Mapping[str, Sequence[str]],
    tied_states: TiedStates,
    frame_shift_s: float,
) -> None:
    """Publish a split's alignments.

    Args:
        align_dir: where `<split>.npy` (int32 (frames,)), `<split>.json` and the CTM files go.
        split: their name.
        alignments: of every utterance, in the frame store's order; None: could not be aligned.
        num_frames: of every utterance.
        transcripts: words of every utterance.
        tied_states: the inventory.
        frame_shift_s: seconds between frames, for the CTM files.
    """
    pieces = [
        np.full(num_frames[name], NOT_ALIGNED, np.int32) if a is None else a.pdf_ids
        for name, a in alignments.items()
    ]
    with atomic_path(align_dir / f"{split}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate([np.zeros(0, np.int32), *pieces]))
    aligned = {name: a for name, a in alignments.items() if a is not None}
    phones = {name: find_phones(a.pdf_ids, tied_states) for name, a in aligned.items()}
    words = {name: find_words(a.words, transcripts[name]) for name, a in aligned.items()}
    for kind, segments in (("phones", phones), ("words", words)):
        with atomic_path(align_dir / f"{split}.{kind}.ctm") as temporary:
            temporary.write_text("".join(_format_ctm(segments, frame_shift_s)), encoding="utf-8")
    total = sum(a.log_likelihood for a in aligned.values())
    count = sum(len(a.pdf_ids) for a in aligned.values())
    description = {
        "schema": 1,
        "unaligned": [name for name, a in alignments.items() if a is None],
        "num_utterances": len(alignments),
        "log_likelihood_a_frame": total / max(count, 1),
    }
    write_json(align_dir / f"{split}.json", description)


def _format_ctm(segments: Mapping[str, Sequence[Segment]], frame_shift_s: float) -> Iterator[str]:
    """NIST CTM: utterance, channel, start and duration in seconds, name."""
    for name, many in segments.items():
        for s in many:
            yield f"{name} 1 {s.start * frame_shift_s:.3f} {(s.end - s.start) * frame_shift_s:.3f} {s.name}\n"


def read_ctm(path: Path, frame_shift_s: float) -> dict[str, list[Segment]]:
    """Segments of each utterance of a CTM file that `write_alignments` wrote."""
    segments: dict[str, list[Segment]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, start, duration, text = line.split()
        first = round(float(start) / frame_shift_s)
        segments.setdefault(name, []).append(
            Segment(text, first, first + round(float(duration) / frame_shift_s))
        )
    return segments


def read_pdf_ids(align_dir: Path, split: str, num_frames: int) -> np.ndarray:
    """The pdf-id of every frame of a split, int32 (frames,); -1 where an utterance could not be aligned.

    Raises:
        ContractError: the file is missing, or has not as many frames as the frame store.
    """
    path = align_dir / f"{split}.npy"
    if not path.is_file():
        raise ContractError(f"alignment {path}: not found; the align stage writes it: run that stage first")
    pdf_ids: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    if len(pdf_ids) != num_frames:
        raise ContractError(
            f"alignment {path}: {len(pdf_ids)} frames, expected the frame store's {num_frames}; "
            "run again with --force align"
        )
    return pdf_ids


def read_unaligned(align_dir: Path, split: str) -> list[str]:
    """Ids of the utterances of a split that could not be aligned."""
    names: list[str] = json.loads((align_dir / f"{split}.json").read_text(encoding="utf-8"))["unaligned"]
    return names
