"""Alignments of another system in place of our own: Kaldi's pdf-ids, or phones in CTM files or TextGrids."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from asrdistill.config import Config
from asrdistill.corpus.source import SPLITS, UserPath
from asrdistill.errors import CorpusError
from asrdistill.hmm.ctm import read_ctm
from asrdistill.hmm.imported_files import find_files
from asrdistill.hmm.kaldi_alignments import read_archives
from asrdistill.hmm.segments import TimedSegment, check_num_frames, spell_codes
from asrdistill.hmm.textgrid import find_phone_tier, make_file_name, read_textgrid
from asrdistill.hmm.topology import TiedStates

# Which files of a folder are meant.
FOLDER_PATTERNS = {
    "kaldi": ("ali*.gz", "pdf*.gz", "*.ark", "*.ark.gz"),
    "ctm": ("*.ctm", "*.ctm.gz", "ctm.*.gz"),
    "textgrid": ("**/*.TextGrid",),
}


class ImportedAlignmentConfig(Config):
    """Where alignments of another system lie, and in which form."""

    kind: Literal["kaldi", "ctm", "textgrid"] = Field(
        description="kaldi: archives of pdf-ids (ali-to-pdf); ctm: phones in CTM files, times from the start "
        "of each utterance; textgrid: a Praat file <utterance>.TextGrid for each, with a tier phones"
    )
    train: UserPath = Field(description="file, folder or pattern (such as ali.*.gz) for the training split")
    dev: UserPath = Field(description="file, folder or pattern for the split to tune on")
    test: UserPath = Field(description="file, folder or pattern for the split to report on")
    num_pdfs: int | None = Field(
        None, ge=1, description="pdf-ids of the model that made a kaldi alignment (hmm-info final.mdl)"
    )
    max_mismatch_frames: int = Field(
        2,
        ge=0,
        description="frames by which an alignment may be longer or shorter than its utterance's features; it "
        "is cut at the end, or its last label repeated (where it covers the whole recording it has 2 more: "
        "those whose window of 25 ms would reach beyond the end)",
    )

    @model_validator(mode="after")
    def _check_num_pdfs(self) -> Self:
        if self.kind == "kaldi" and self.num_pdfs is None:
            raise ValueError(
                "kind is kaldi, but num_pdfs is not set; expected the number of pdf-ids of the model that "
                "made the alignment: hmm-info final.mdl tells it"
            )
        if self.kind != "kaldi" and self.num_pdfs is not None:
            raise ValueError(f"kind is {self.kind}, but num_pdfs is set, which kaldi alone has: remove it")
        return self

    def list_files_of(self, split: str) -> list[Path]:
        """Absolute paths of the files of one split, none where there are none."""
        return find_files(getattr(self, split), FOLDER_PATTERNS[self.kind])


def list_files(config: ImportedAlignmentConfig) -> list[Path]:
    """Absolute paths of the files that the alignments are read from, as far as they are there."""
    return sorted({path for split in SPLITS for path in config.list_files_of(split)})


def read_imported(
    config: ImportedAlignmentConfig,
    split: str,
    num_frames: Mapping[str, int],
    frame_shift_s: float,
    tied_states: TiedStates | None = None,
) -> dict[str, np.ndarray | None]:
    """Read the alignments of a split.

    Args:
        config: where they lie.
        split: which one.
        num_frames: of every utterance of the split, by its id.
        frame_shift_s: seconds between frames.
        tied_states: the inventory whose phones ctm and textgrid are spelt with; kaldi needs none.

    Returns:
        By utterance id, in the order of `num_frames`: pdf-ids (kaldi) or triphone states' codes (ctm,
        textgrid), int32 (frames,); None where there is no alignment.

    Raises:
        CorpusError: no file, a damaged one, an alignment that does not fit its utterance, or no alignment
            of any utterance.
    """
    files = _require_files(config, split)
    if config.kind == "kaldi":
        found = _read_pdf_ids(config, files, num_frames)
    else:
        assert tied_states is not None
        read = _read_ctms if config.kind == "ctm" else _read_textgrids
        tolerance = config.max_mismatch_frames
        found = {
            name: spell_codes(phones, num_frames[name], frame_shift_s, tied_states, name, tolerance)
            for name, phones in read(files, num_frames)
            if phones
        }
    if num_frames and not found:
        raise CorpusError(
            f"imported alignments of split {split}: none of its {len(num_frames)} utterances (the first is "
            f"{next(iter(num_frames))}) is in the {len(files)} files (the first is {files[0]}); expected the "
            "same utterance ids in both: correct the path or the ids"
        )
    return {name: found.get(name) for name in num_frames}


def _require_files(config: ImportedAlignmentConfig, split: str) -> list[Path]:
    files = config.list_files_of(split)
    if not files:
        raise CorpusError(
            f"imported alignments of split {split}: no file at {getattr(config, split)}; expected a file, a "
            f"pattern of files, or a folder with {' or '.join(FOLDER_PATTERNS[config.kind])}: correct the "
            f"path given as {split}"
        )
    return files


def _read_pdf_ids(
    config: ImportedAlignmentConfig, files: Sequence[Path], num_frames: Mapping[str, int]
) -> dict[str, np.ndarray]:
    assert config.num_pdfs is not None
    found = {}
    for utterance_id, pdf_ids in read_archives(files, config.num_pdfs):
        if utterance_id in num_frames and len(pdf_ids):
            expected = num_frames[utterance_id]
            check_num_frames(len(pdf_ids), expected, config.max_mismatch_frames, utterance_id)
            missing = max(expected - len(pdf_ids), 0)
            found[utterance_id] = np.pad(pdf_ids, (0, missing), mode="edge")[:expected]
    return found


def _read_ctms(files: Sequence[Path], wanted: Mapping[str, int]) -> Iterator[tuple[str, list[TimedSegment]]]:
    found_in: dict[str, Path] = {}
    for path in files:
        for utterance_id, phones in read_ctm(path).items():
            if utterance_id in wanted:
                _note_place(found_in, utterance_id, path)
                yield utterance_id, phones


def _read_textgrids(
    files: Sequence[Path], wanted: Mapping[str, int]
) -> Iterator[tuple[str, list[TimedSegment]]]:
    ids = {make_file_name(utterance_id): utterance_id for utterance_id in wanted}
    found_in: dict[str, Path] = {}
    for path in files:
        if path.name in ids:
            _note_place(found_in, ids[path.name], path)
            yield ids[path.name], find_phone_tier(read_textgrid(path), path)


def _note_place(found_in: dict[str, Path], utterance_id: str, path: Path) -> None:
    """Remember where an utterance's alignment was found.

    Raises:
        CorpusError: it was found before.
    """
    if utterance_id in found_in:
        raise CorpusError(
            f"utterance {utterance_id}: aligned in {found_in[utterance_id]} and in {path}; expected one "
            "alignment for each utterance: name the files of one alignment, of phones alone"
        )
    found_in[utterance_id] = path
