"""The commands beside `run` on a finished experiment; alignments imported, and made by a network."""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jiwer
import numpy as np
import pytest
from praatio import textgrid

from asrdistill.hmm.ctm import read_ctm
from asrdistill.hmm.topology import TiedStates

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py


def read_references(experiment_dir: Path, split: str) -> dict[str, str]:
    lines = (experiment_dir / f"prepare/manifests/{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["id"]: entry["text"] for entry in map(json.loads, lines)}


@pytest.fixture(scope="module", params=["ensemble", "aligner"])
def decoded(
    request: pytest.FixtureRequest,
    finished: Path,
    asrdistill_process: Command,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder named after the system."""
    out = tmp_path_factory.mktemp("decoded") / request.param
    outcome = asrdistill_process("decode", finished, request.param, "--split", "test", "--out", out)
    assert outcome.status == 0, outcome.stderr
    assert "real-time factor on one core" in outcome.stderr
    return out


def read_hypotheses(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: text for name, _, text in (line.partition(" ") for line in lines)}


def test_decode_understands_what_scoring_did(finished: Path, decoded: Path) -> None:
    found = read_hypotheses(decoded / "hypotheses.txt")
    assert found == read_hypotheses(finished / f"score/systems/{decoded.name}.test.txt")
    references = read_references(finished, "test")
    rate = jiwer.wer(list(references.values()), [found[name] for name in references])
    scored = json.loads((finished / f"score/systems/{decoded.name}.json").read_text())
    assert scored["wer"]["test"]["wer"] == pytest.approx(rate)


def test_words_have_times_and_confidences(finished: Path, decoded: Path) -> None:
    hypotheses = read_hypotheses(decoded / "hypotheses.txt")
    lines = [line.split() for line in (decoded / "words.ctm").read_text().splitlines()]
    by_utterance: dict[str, list[list[str]]] = {}
    for line in lines:
        by_utterance.setdefault(line[0], []).append(line)
    index = json.loads((finished / "features/test.json").read_text())
    seconds = {n: 0.01 * c for n, c in zip(index["utterance_ids"], index["num_frames"], strict=True)}
    for name, words in by_utterance.items():
        assert " ".join(word[4] for word in words) == hypotheses[name]
        starts = [float(word[2]) for word in words]
        ends = [float(word[2]) + float(word[3]) for word in words]
        assert all(end <= start + 1e-6 for end, start in zip(ends, starts[1:], strict=False))
        assert starts[0] >= 0 and ends[-1] <= seconds[name] + 1e-6
        assert all(0 <= float(word[5]) <= 1 for word in words)


def test_confident_words_are_right_more_often(finished: Path, decoded: Path) -> None:
    """Over all words: those of the upper half are correct more often than those of the lower."""
    references = read_references(finished, "test")
    hypotheses = read_hypotheses(decoded / "hypotheses.txt")
    confidences = {name: [] for name in references}
    for line in (decoded / "words.ctm").read_text().splitlines():
        name, *_, confidence = line.split()
        confidences[name].append(float(confidence))
    judged = []
    for name, text in hypotheses.items():
        for chunk in jiwer.process_words(references[name], text).alignments[0] if text else ():
            for place in range(chunk.hyp_start_idx, chunk.hyp_end_idx):
                judged.append((confidences[name][place], chunk.type == "equal"))
    judged.sort()
    half = len(judged) // 2
    lower, upper = (np.mean([right for _, right in part]) for part in (judged[:half], judged[half:]))
    assert upper > lower + 0.1


def test_the_best_of_the_list_is_the_hypothesis(decoded: Path) -> None:
    hypotheses = read_hypotheses(decoded / "hypotheses.txt")
    entries = [json.loads(line) for line in (decoded / "nbest.jsonl").read_text().splitlines()]
    first = {entry["id"]: entry["text"] for entry in entries if entry["rank"] == 1}
    assert first == hypotheses
    for before, after in pairwise(entries):
        if before["id"] == after["id"]:
            assert after["rank"] == before["rank"] + 1
            assert after["cost"] >= before["cost"]
            assert after["text"] != before["text"]


@pytest.mark.skipif(shutil.which("sctk") is None, reason="NIST's sctk is not installed")
def test_sclite_counts_what_was_decoded(decoded: Path, finished: Path) -> None:
    """From words in time, from `.trn`, and from what the score stage left: the same, as in the alignments."""
    nist = finished / "score/nist"
    aligned = (finished / f"score/alignments/{decoded.name}.txt").read_text(encoding="utf-8")
    lines = [line.split() for line in aligned.splitlines() if line.startswith("words: ")]
    expected = [sum(int(line[line.index(kind) + 1]) for line in lines) for kind in "CSDI"]
    for files in (
        ("-r", decoded / "reference.stm", "stm", "-h", decoded / "words.ctm", "ctm"),
        ("-r", decoded / "reference.trn", "trn", "-h", decoded / "words.trn", "trn", "-i", "rm"),
        ("-r", nist / "reference.trn", "trn", "-h", nist / f"{decoded.name}.trn", "trn", "-i", "rm"),
        ("-r", nist / "reference.stm", "stm", "-h", decoded / "words.ctm", "ctm"),
    ):
        command = ["sctk", "sclite", "-s", *map(str, files), "-o", "rsum", "stdout"]
        printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        found = re.search(r"\| *Sum *\| *\d+ +\d+ *\| *(\d+) +(\d+) +(\d+) +(\d+)", printed)
        assert found and list(map(int, found.groups())) == expected, files


def test_an_unknown_system_names_the_known_ones(finished: Path, asrdistill: Command, tmp_path: Path) -> None:
    outcome = asrdistill("decode", finished, "techer_00", "--out", tmp_path)
    assert outcome.status == 1
    assert "teacher_00, teacher_01, teacher_02, ensemble, student_00, student_01" in outcome.error


@pytest.fixture(scope="module")
def exported(
    tiny_recipe: Path,
    finished: Path,
    asrdistill_process: Command,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("exported")
    outcome = asrdistill_process("align", tiny_recipe, "--exp", finished, "--out", out)
    assert outcome.status == 0, outcome.stderr
    return out


def test_align_writes_text_grids_that_praat_reads(finished: Path, exported: Path) -> None:
    references = read_references(finished, "dev")
    assert len(references) > 3
    for name, text in references.items():
        grid = textgrid.openTextgrid(str(exported / "dev" / f"{name}.TextGrid"), includeEmptyIntervals=False)
        assert [entry.label for entry in grid.getTier("words").entries] == text.split()
        assert grid.getTier("phones").entries
    assert (exported / "dev.words.ctm").read_bytes() == (finished / "align/dev.words.ctm").read_bytes()


@pytest.mark.parametrize("kind", ["textgrid", "ctm"])
def test_alignments_that_went_out_come_in_again(
    kind: str, tiny_recipe: Path, finished: Path, exported: Path, tmp_path: Path, asrdistill: Command
) -> None:
    """Phone boundaries survive; the states within phones are divided anew; all stages run on them."""
    copy = tmp_path / "imported"
    for stage in ("prepare", "features"):
        shutil.copytree(finished / stage, copy / stage)
    paths = {s: exported / (s if kind == "textgrid" else f"{s}.phones.ctm") for s in ("train", "dev", "test")}
    settings = ", ".join(f"{split}: {path}" for split, path in paths.items())
    outcome = asrdistill(
        "run", tiny_recipe, "--exp", copy, "--set", "language_model.smoothing=kneser_ney",
        "--set", f"alignment.imported={{kind: {kind}, {settings}}}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    ours, theirs = (read_ctm(folder / "align/dev.phones.ctm") for folder in (finished, copy))
    assert ours.keys() == theirs.keys()
    same = [phone for name in ours for phone in ours[name] if phone in theirs[name]]
    assert len(same) > 0.97 * sum(map(len, ours.values()))
    assert TiedStates.read(copy / "align/tied_states.json").is_context_dependent


def write_archive(finished: Path, split: str, path: Path) -> None:
    """The pdf-ids of a split as `ali-to-pdf ... ark,t:- | gzip` leaves them."""
    index = json.loads((finished / f"features/{split}.json").read_text())
    starts = np.cumsum([0, *index["num_frames"]])
    pdf_ids = np.load(finished / f"align/{split}.npy")
    with gzip.open(path, "wt") as file:
        for name, start, end in zip(index["utterance_ids"], starts, starts[1:], strict=False):
            file.write(f"{name} {' '.join(map(str, pdf_ids[start:end].tolist()))} \n")


@pytest.fixture(scope="module")
def of_kaldi(
    tiny_recipe: Path, finished: Path, asrdistill_process: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An experiment whose targets are our own pdf-ids, read back as Kaldi's."""
    copy = tmp_path_factory.mktemp("of_kaldi") / "tiny"
    for stage in ("prepare", "features"):
        shutil.copytree(finished / stage, copy / stage)
    archives = {split: copy.parent / f"{split}.gz" for split in ("train", "dev", "test")}
    for split, path in archives.items():
        write_archive(finished, split, path)
    num_pdfs = TiedStates.read(finished / "align/tied_states.json").num_pdfs
    settings = ", ".join(f"{split}: {path}" for split, path in archives.items())
    outcome = asrdistill_process(
        "run", tiny_recipe, "--exp", copy,
        "--set", f"alignment.imported={{kind: kaldi, {settings}, num_pdfs: {num_pdfs}}}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    assert "No words were decoded" in outcome.stdout
    return copy


def test_pdf_ids_of_kaldi_train_the_same_teachers_and_student(finished: Path, of_kaldi: Path) -> None:
    """Targets do not depend on what is known of them: the same weights, the same frame accuracies, no WER."""
    for path in ("align/train.npy", "teachers/model.safetensors", "student/model.safetensors"):
        assert (of_kaldi / path).read_bytes() == (finished / path).read_bytes()
    for name in ("teacher_00", "ensemble", "student_00"):
        ours, theirs = (
            json.loads((folder / f"score/systems/{name}.json").read_text()) for folder in (finished, of_kaldi)
        )
        assert ours["frame_accuracy"] == theirs["frame_accuracy"]
        assert "wer" in ours and "wer" not in theirs
    assert not list(of_kaldi.glob("score/systems/*.txt"))
    aligner = json.loads((of_kaldi / "score/systems/aligner.json").read_text())
    num_pdfs = TiedStates.read(of_kaldi / "align/tied_states.json").num_pdfs
    assert aligner["frame_accuracy"]["test"] > 10 / num_pdfs


def test_a_finished_experiment_on_pdf_ids_of_kaldi_is_finished(
    of_kaldi: Path, asrdistill_process: Command
) -> None:
    outcome = asrdistill_process("run", of_kaldi / "recipe.yaml", "--exp", of_kaldi)
    assert outcome.status == 0
    assert outcome.stderr.count(": finished") == 9


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["decode", "{}", "ensemble", "--out", "out"], "whose phones are not known here"),
        (["align", "{}/recipe.yaml", "--exp", "new", "--out", "out"], "ali-to-phones --ctm-output"),
        (["tied-states", "{}", "S-IH+K"], "whose phones are not known here"),
        (["tied-states", "{}", "--draw", "IH"], "whose phones are not known here"),
        (
            ["run", "{}/recipe.yaml", "--exp", "out", "--set", "realignment.realign=dnn"],
            "take realignment.realign=none",
        ),
    ],
)
def test_what_needs_phones_is_refused_for_pdf_ids_of_kaldi(
    words: list[str], told: str, of_kaldi: Path, asrdistill: Command, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    outcome = asrdistill(*(word.replace("{}", str(of_kaldi)) for word in words))
    assert outcome.status == 1
    assert told in outcome.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("kaldi, num_pdfs: 3", "expected 0 to 2"),
        ("ctm", "which the lexicon has not"),
        ("textgrid", "none of its"),
    ],
)
def test_an_import_that_cannot_be_used_leaves_the_alignment_of_before(
    kind: str, told: str, tiny_recipe: Path, of_kaldi: Path, finished_copy: Path, asrdistill: Command,
    take_snapshot: Callable[[Path], Any],
) -> None:  # fmt: skip
    """Pdf-ids beyond their number; archives that have no phones, and no TextGrid of any utterance."""
    before = take_snapshot(finished_copy)
    paths = ", ".join(f"{split}: {of_kaldi.parent / split}.gz" for split in ("train", "dev", "test"))
    outcome = asrdistill(
        "run", tiny_recipe, "--exp", finished_copy, "--set", f"alignment.imported={{kind: {kind}, {paths}}}"
    )
    assert outcome.status == 1
    assert told in outcome.error and "\n" not in outcome.error
    assert take_snapshot(finished_copy) == before


def test_pdf_ids_of_kaldi_are_counted(of_kaldi: Path, asrdistill: Command) -> None:
    num_pdfs = TiedStates.read(of_kaldi / "align/tied_states.json").num_pdfs
    assert f"{num_pdfs} pdf-ids of another system" in asrdistill("tied-states", of_kaldi).stdout


def test_tied_states_are_shown(finished: Path, asrdistill: Command) -> None:
    tied_states = TiedStates.read(finished / "align/tied_states.json")
    overview = asrdistill("tied-states", finished)
    assert overview.status == 0
    assert str(tied_states.num_pdfs) in overview.stdout
    phone = tied_states.phones[3]
    one = asrdistill("tied-states", finished, f"{phone}-{phone}+SIL")
    for pdf_id in tied_states.pdf_ids(phone, phone, "SIL"):
        assert str(pdf_id) in one.stdout
    wrong = asrdistill("tied-states", finished, "nonsense")
    assert wrong.status == 1


def test_a_phones_trees_are_drawn(finished: Path, asrdistill: Command, tmp_path: Path) -> None:
    phone = TiedStates.read(finished / "align/tied_states.json").phones[1]
    out = tmp_path / "tree.svg"
    assert asrdistill("tied-states", finished, "--draw", phone, "--out", out).status == 0
    assert ElementTree.parse(out).getroot().tag.endswith("svg")


def test_an_inventory_of_an_earlier_version_is_told(
    finished_copy: Path, tiny_recipe: Path, asrdistill: Command
) -> None:
    """One that was made before triphones: read by no stage, and made again when the recipe is run."""
    path = finished_copy / "align/tied_states.json"
    path.write_text('{"schema": 1, "kind": "monophone", "states_per_phone": 3, "phones": ["SIL"]}')
    refused = asrdistill("tied-states", finished_copy)
    assert refused.status == 1
    assert "schema 1, expected 2" in refused.error
    outcome = asrdistill("run", tiny_recipe, "--exp", finished_copy, "--stage", "align")
    assert outcome.status == 0
    assert "align: align/tied_states.json is missing or was changed" in outcome.stderr
    assert TiedStates.read(path).is_context_dependent


def test_a_network_aligns_once_more(
    tiny_recipe: Path, finished: Path, tmp_path: Path, asrdistill: Command
) -> None:
    copy = tmp_path / "realigned"
    for stage in ("prepare", "features"):
        shutil.copytree(finished / stage, copy / stage)
    outcome = asrdistill(
        "run", tiny_recipe, "--exp", copy, "--stage", "align", "--set", "realignment.realign=dnn",
        "--set", "realignment.model={num_hidden_layers: 2, hidden_size: 64}",
        "--set", "realignment.training={num_epochs: 6, batch_size: 256, precision: fp32}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    before, after = (np.load(folder / "align/dev.npy") for folder in (finished, copy))
    # A network of six epochs on three minutes: far from the mixtures' states, but farther from chance.
    chance = np.bincount(before).max() / len(before)
    assert 3 * chance < np.mean(before == after) < 1
    assert not list(copy.rglob("*.checkpoint.safetensors"))


def test_augmentations_are_checked(finished: Path, asrdistill: Command) -> None:
    outcome = asrdistill("augmentations", finished, "--minutes", "0.2")
    assert outcome.status == 0, outcome.stderr
    first, *rows = outcome.stdout.splitlines()
    assert first.split() == ["augmentation", "KL", "winner", "accuracy"]
    assert [row.split()[0] for row in rows][:3] == ["none", "warp", "channel"]
    assert rows[0].split()[1:3] == ["0.0000", "100.0%"]
    assert all(float(row.split()[1]) > 0 for row in rows[1:])
    refused = asrdistill("augmentations", finished, "--minutes", "0")
    assert (refused.status, "--minutes is 0" in refused.error) == (1, True)
