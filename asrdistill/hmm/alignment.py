"""Alignments on disk: the pdf-id of every frame, in the frame store's order, and words and phones as CTM."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path, write_json
from asrdistill.hmm.aligner import Alignment
from asrdistill.hmm.ctm import write_ctm
from asrdistill.hmm.segments import find_phones, find_words
from asrdistill.hmm.topology import NOT_ALIGNED, TiedStates


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
        np.full(num_frames[name], NOT_ALIGNED, np.int32) if a is None else tied_states.table[a.codes]
        for name, a in alignments.items()
    ]
    with atomic_path(align_dir / f"{split}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate([np.zeros(0, np.int32), *pieces]))
    aligned = {name: a for name, a in alignments.items() if a is not None}
    phones = {name: find_phones(a.codes, tied_states.phones) for name, a in aligned.items()}
    words = {name: find_words(a.words, transcripts[name]) for name, a in aligned.items()}
    for kind, segments in (("phones", phones), ("words", words)):
        write_ctm(align_dir / f"{split}.{kind}.ctm", segments, frame_shift_s)
    total = sum(a.log_likelihood for a in aligned.values())
    count = sum(len(a.codes) for a in aligned.values())
    description = {
        "schema": 1,
        "unaligned": [name for name, a in alignments.items() if a is None],
        "num_utterances": len(alignments),
        "log_likelihood_a_frame": total / max(count, 1),
    }
    write_json(align_dir / f"{split}.json", description)


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


def compute_log_priors(pdf_ids: np.ndarray, num_pdfs: int) -> np.ndarray:
    """Log share of each pdf-id among the aligned training frames, one frame added to each: float32 (P,)."""
    counts = np.bincount(pdf_ids[pdf_ids != NOT_ALIGNED], minlength=num_pdfs) + 1
    return np.log(counts / counts.sum()).astype(np.float32)
