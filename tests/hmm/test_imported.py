"""Alignments of another system for a split: each kind, what is missing, and what does not fit."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from asrdistill.errors import CorpusError
from asrdistill.hmm.ctm import write_ctm
from asrdistill.hmm.imported import ImportedAlignmentConfig, list_files, read_imported
from asrdistill.hmm.segments import Segment
from asrdistill.hmm.textgrid import write_textgrids
from asrdistill.hmm.topology import TiedStates

TIED = TiedStates.of_monophones({"x", "y"})
NUM_FRAMES = {"u3": 4, "u1": 10, "u2": 7}
PHONES = {"u1": [Segment("x", 0, 5), Segment("y", 5, 10)], "u2": [Segment("SIL", 0, 3), Segment("x", 3, 7)]}


def configure(path: Path, kind: str, **settings: object) -> ImportedAlignmentConfig:
    if kind == "kaldi":
        settings = {"num_pdfs": 9, **settings}
    return ImportedAlignmentConfig.model_validate(
        {"kind": kind, "train": path, "dev": path, "test": path, **settings}
    )


def read(config: ImportedAlignmentConfig, num_frames: dict[str, int] = NUM_FRAMES) -> dict[str, list | None]:
    found = read_imported(config, "dev", num_frames, 0.01, TIED)
    assert list(found) == list(num_frames), "the order of the frame store"
    return {name: None if labels is None else labels.tolist() for name, labels in found.items()}


def write(folder: Path, kind: str) -> None:
    """The alignment of u1 and u2, and of u4, which the split does not have."""
    phones = PHONES | {"u4": [Segment("unknown", 0, 1)]}
    if kind == "ctm":
        write_ctm(folder / "phones.ctm", phones, 0.01)
    else:
        num_frames = NUM_FRAMES | {"u4": 1}
        write_textgrids(folder / "ann", dict.fromkeys(phones, ()), phones, num_frames, 0.01)


@pytest.mark.parametrize("kind", ["ctm", "textgrid"])
def test_phones_become_codes(tmp_path: Path, kind: str) -> None:
    write(tmp_path, kind)
    x, y = TIED.code("SIL", "x", "y"), TIED.code("x", "y", "SIL")
    silence, last = TIED.code("SIL", "SIL", "SIL"), TIED.code("SIL", "x", "SIL")
    assert read(configure(tmp_path, kind)) == {
        "u3": None,
        "u1": [x, x, x + 1, x + 1, x + 2, y, y, y + 1, y + 1, y + 2],
        "u2": [silence, silence + 1, silence + 2, last, last, last + 1, last + 2],
    }


@pytest.mark.parametrize("name", ["", "ali.*.gz"])
def test_pdf_ids_of_kaldi(tmp_path: Path, name: str) -> None:
    (tmp_path / "ali.1.gz").write_bytes(gzip.compress(b"u1 0 1 2 3 4 5 6 7 8 8\nu4 1 1\n"))
    (tmp_path / "ali.2.gz").write_bytes(gzip.compress(b"u2 0 1 2 3 4 5 6\nu3 \n"))
    (tmp_path / "final.mdl").write_bytes(b"\0B<TransitionModel> ")
    found = read_imported(configure(tmp_path / name, "kaldi"), "dev", NUM_FRAMES, 0.01)
    assert found["u3"] is None
    assert found["u1"] is not None
    assert found["u1"].dtype == np.int32
    assert read(configure(tmp_path / name, "kaldi")) == {
        "u3": None,
        "u1": [0, 1, 2, 3, 4, 5, 6, 7, 8, 8],
        "u2": [0, 1, 2, 3, 4, 5, 6],
    }


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (5, [1, 2, 3, 3, 3]),
    ],
)
def test_small_differences_are_mended_at_the_end(
    tmp_path: Path, num_frames: int, expected: list[int]
) -> None:
    (tmp_path / "a.ark").write_bytes(b"u1 1 2 3\n")
    assert read(configure(tmp_path, "kaldi"), {"u1": num_frames}) == {"u1": expected}


@pytest.mark.parametrize("num_frames", [0, 6])
def test_large_differences_are_refused(tmp_path: Path, num_frames: int) -> None:
    (tmp_path / "a.ark").write_bytes(b"u1 1 2 3\n")
    config = configure(tmp_path, "kaldi")
    with pytest.raises(CorpusError, match=rf"u1: .*has 3 frames, its features {num_frames}; .*at most 2"):
        read(config, {"u1": num_frames})
    wider = config.model_copy(update={"max_mismatch_frames": 3})
    assert read(wider, {"u1": num_frames}) == {"u1": [1, 2, 3, 3, 3, 3][:num_frames]}


@pytest.mark.parametrize("kind", ["kaldi", "ctm", "textgrid"])
def test_no_file(tmp_path: Path, kind: str) -> None:
    config = configure(tmp_path, kind)
    assert list_files(config) == []
    with pytest.raises(CorpusError, match=r"alignments of split dev: no file at .*given as dev"):
        read(config)


@pytest.mark.parametrize("kind", ["ctm", "textgrid"])
def test_no_utterance_at_all(tmp_path: Path, kind: str) -> None:
    write(tmp_path, kind)
    with pytest.raises(CorpusError, match=r"none of its 2 utterances \(the first is v1\).*expected the same"):
        read(configure(tmp_path, kind), {"v1": 3, "v2": 3})
    assert read(configure(tmp_path, kind), {}) == {}


@pytest.mark.parametrize(("kind", "copy"), [("ctm", "words.ctm"), ("textgrid", "bob/u1.TextGrid")])
def test_two_alignments_of_an_utterance(tmp_path: Path, kind: str, copy: str) -> None:
    write(tmp_path, kind)
    original = next(path for path in tmp_path.rglob("*") if path.name in ("phones.ctm", "u1.TextGrid"))
    (tmp_path / copy).parent.mkdir(exist_ok=True)
    (tmp_path / copy).write_bytes(original.read_bytes())
    with pytest.raises(CorpusError, match=r"utterance u1: aligned in .* and in .*expected one"):
        read(configure(tmp_path, kind))


@pytest.mark.parametrize("kind", ["ctm", "textgrid"])
def test_an_unknown_phone(tmp_path: Path, kind: str) -> None:
    write(tmp_path, kind)
    with pytest.raises(CorpusError, match=r"utterance u4: .*phone 'unknown'.*known phones: SIL x y"):
        read(configure(tmp_path, kind), {"u4": 1})


def test_files_of_all_splits_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train/a.ark", "train/b.ark.gz", "other.ark"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    config = configure(Path("other.ark"), "kaldi", train="train", dev="nowhere")
    assert list_files(config) == [tmp_path / name for name in ("other.ark", "train/a.ark", "train/b.ark.gz")]


def test_the_number_of_pdf_ids_is_kaldis_alone(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"num_pdfs is not set; .*hmm-info"):
        configure(tmp_path, "kaldi", num_pdfs=None)
    with pytest.raises(ValidationError, match="kind is ctm, but num_pdfs is set"):
        configure(tmp_path, "ctm", num_pdfs=9)
