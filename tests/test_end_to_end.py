"""The real stages on a small synthetic corpus: results recomputed, resumed, redone and repeated."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from asrdistill.pipeline import STAGES
from asrdistill.targets.transform import Codebook

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py
Snapshot = dict[str, tuple[int, str]]
PAST, FUTURE = 20, 5
TEMPERATURE = 2.0
# Accuracies are counted in float32 there and in float64 here: a tie may fall the other way.
FRAMES_OF_DOUBT = 2


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_features(experiment_dir: Path, split: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Id, frames float16 (T, 40) and hard targets int32 (T,) of every utterance."""
    index = read_json(experiment_dir / f"features/{split}.json")
    frames = np.fromfile(experiment_dir / f"features/{split}.f16", np.float16).reshape(-1, 40)
    pdf_ids = np.load(experiment_dir / f"align/{split}.npy")
    ends = np.cumsum(index["num_frames"])
    return [
        (name, frames[end - count : end], pdf_ids[end - count : end])
        for name, count, end in zip(index["utterance_ids"], index["num_frames"], ends, strict=True)
    ]


def compute_logits(model_path: Path, frames: np.ndarray) -> np.ndarray:
    """Logits float64 (M, T, P) of every member, with loops that a reader can check by eye."""
    tensors = load_file(model_path)
    windows = []
    for centre in range(len(frames)):
        wanted = [min(max(t, 0), len(frames) - 1) for t in range(centre - PAST, centre + FUTURE + 1)]
        windows.append(np.concatenate([frames[t] for t in wanted]))
    logits = []
    for member in range(len(tensors["weights.0"])):
        hidden = np.stack(windows).astype(np.float64)
        for layer in range(3):
            weight, bias = tensors[f"weights.{layer}"][member], tensors[f"biases.{layer}"][member]
            hidden = hidden @ weight.astype(np.float64) + bias
            hidden = np.maximum(hidden, 0) if layer < 2 else hidden
        logits.append(hidden)
    return np.stack(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def count_soft_bytes_a_frame(experiment_dir: Path) -> float:
    """What tars would save without soft targets."""
    num_bytes = num_frames = 0
    for path in experiment_dir.glob("soft_targets/shards/*.tar"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        ends = [member.offset for member in members[1:]] + [path.stat().st_size]
        for member, end in zip(members, ends, strict=True):
            # The last member of a tar is followed by zeros to its end.
            size = min(end - member.offset, 512 + (member.size + 511) // 512 * 512)
            num_bytes += size if ".soft_t2." in member.name else 0
            num_frames += (member.size - 128) // 80 if member.name.endswith(".features.npy") else 0
    return num_bytes / num_frames


def test_report_fits_its_schema(finished: Path) -> None:
    report = read_json(finished / "report/report.json")
    assert (report["schema"], report["recipe"], report["num_teachers"]) == (6, "tiny", 3)
    phones = {
        p for line in (finished / "prepare/lexicon.txt").read_text().splitlines() for p in line.split()[1:]
    }
    assert 3 * (len(phones) + 1) < report["num_tied_states"] <= 150
    assert report["num_tied_states"] == read_json(finished / "align/tied_states.json")["num_pdfs"]
    assert {"aligner", "baseline", "ensemble", "distilled"} <= report["systems"].keys()
    for name, system in report["systems"].items():
        assert {"dev", "test"} == system["frame_accuracy"].keys(), name
        assert all(0 < value < 1 for value in system["frame_accuracy"].values())
        for counts in (system["wer"]["test"], system["per"]["test"]):
            assert counts.keys() >= {"wer", "errors", "words", "ins", "del", "sub", "ser"}
            assert counts["errors"] == pytest.approx(counts["ins"] + counts["del"] + counts["sub"])
            assert counts["wer"] == pytest.approx(counts["errors"] / counts["words"])
    sizes = [26 * 40, 64, 64, report["num_tied_states"]]
    parameters = sum((a + 1) * b for a, b in pairwise(sizes))
    found = [report["systems"][name]["num_parameters"] for name in ("baseline", "ensemble", "distilled")]
    assert found == [parameters, 3 * parameters, parameters]
    assert report["transfer"].keys() == {"frame_accuracy", "wer", "per"}
    soft_targets = report["soft_targets"]
    assert soft_targets["codec"] == "dense"
    assert soft_targets["bytes_per_frame"] == pytest.approx(count_soft_bytes_a_frame(finished), abs=0.051)
    assert soft_targets["temperatures"] == [TEMPERATURE]
    assert soft_targets["num_shards"] == len(list(finished.glob("soft_targets/shards/*.tar"))) > 4
    records = [array for name, array in read_shards(finished, "dev").items() if name.endswith(".frames.npy")]
    votes = np.concatenate(records)["votes"]
    assert {row["votes"]: pytest.approx(row["share"]) for row in report["agreement"]} == {
        count: np.mean(votes == count) for count in (1, 2, 3) if (votes == count).any()
    }
    assert all(0 <= row["distance"] <= 1 for row in report["agreement"])
    assert report["language_model"] == read_json(finished / "score/language_model.json")
    facts = report["language_model"]
    assert facts["dev_perplexity"] > 1
    prompts = {
        split: " ".join(
            json.loads(line)["text"]
            for line in (finished / f"prepare/manifests/{split}.jsonl").read_text().splitlines()
        ).split()
        for split in ("train", "test")
    }
    assert facts["test_num_words"] == len(prompts["test"])
    unseen = [word for word in prompts["test"] if word not in prompts["train"]]
    assert facts["test_num_not_in_training_text"] == len(unseen)
    assert facts["test_num_oov"] == 0
    for stage in list(STAGES)[:-1]:
        assert report["stages"][stage]["seconds"] >= 0
        assert report["stages"][stage]["peak_memory_mb"] > 0


def test_transfer_follows_from_the_systems(finished: Path) -> None:
    report = read_json(finished / "report/report.json")
    accuracy, wer = (
        {name: choose(report["systems"][name]) for name in ("baseline", "ensemble", "distilled")}
        for choose in (lambda s: s["frame_accuracy"]["test"], lambda s: -s["wer"]["test"]["wer"])
    )
    for key, values in (("frame_accuracy", accuracy), ("wer", wer)):
        gain = values["ensemble"] - values["baseline"]
        expected = (values["distilled"] - values["baseline"]) / gain if gain > 1e-9 else None
        assert report["transfer"][key]["value"] == (expected and pytest.approx(expected))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_frame_accuracies_follow_from_weights_features_and_alignments(finished: Path, split: str) -> None:
    correct = dict.fromkeys(
        ("ensemble", *(f"teacher_{m:02d}" for m in range(3)), "student_00", "student_01"), 0
    )
    num_frames = 0
    for _, frames, pdf_ids in read_features(finished, split):
        teachers = softmax(compute_logits(finished / "teachers/model.safetensors", frames))
        students = compute_logits(finished / "student/model.safetensors", frames)
        guesses = {f"teacher_{m:02d}": teachers[m] for m in range(3)}
        guesses |= {"ensemble": teachers.mean(0), "student_00": students[0], "student_01": students[1]}
        usable = pdf_ids >= 0
        num_frames += usable.sum()
        for name, values in guesses.items():
            correct[name] += (values.argmax(1) == pdf_ids)[usable].sum()
    accuracies = {name: count / num_frames for name, count in correct.items()}
    doubt = FRAMES_OF_DOUBT / num_frames
    for name, accuracy in accuracies.items():
        scored = read_json(finished / f"score/systems/{name}.json")
        assert scored["frame_accuracy"][split] == pytest.approx(accuracy, abs=doubt), name
    systems = read_json(finished / "report/report.json")["systems"]
    baseline = np.mean([accuracies[f"teacher_{m:02d}"] for m in range(3)])
    assert systems["baseline"]["frame_accuracy"][split] == pytest.approx(baseline, abs=doubt)
    assert systems["ensemble"]["frame_accuracy"][split] == pytest.approx(accuracies["ensemble"], abs=doubt)


def test_pairs_differ_by_what_their_systems_do(finished: Path) -> None:
    report = read_json(finished / "report/report.json")
    # Of means over seeds the first one is compared.
    systems = {name: system.get("members", [system])[0] for name, system in report["systems"].items()}
    systems["teacher_00"] = systems["baseline"]
    pairs = report["comparisons"]["pairs"]
    assert [(pair["first"], pair["second"]) for pair in pairs[:2]] == [
        ("teacher_00", "ensemble"),
        ("teacher_00", "distilled"),
    ]
    assert len(pairs) == 15  # with three controls
    for pair in pairs:
        first, second = systems[pair["first"]], systems[pair["second"]]
        for measure, rates in (
            ("frame_accuracy", [system["frame_accuracy"]["test"] for system in (first, second)]),
            ("wer", [system["wer"]["test"]["wer"] for system in (first, second)]),
        ):
            assert pair[measure]["difference"] == pytest.approx(rates[0] - rates[1], abs=1e-9)
            low, high = pair[measure]["ci95"]
            assert low <= pair[measure]["difference"] <= high
        assert 0 <= pair["wer"]["p_value"] <= pair["wer"]["p_corrected"] <= 1
    manifest = (finished / "prepare/manifests/test.jsonl").read_text(encoding="utf-8").splitlines()
    assert report["comparisons"]["block"] == "speaker"
    assert report["comparisons"]["num_blocks"] == len({json.loads(line)["speaker"] for line in manifest})


def test_frames_that_are_right_follow_from_weights(finished: Path) -> None:
    """Utterance by utterance, of the first student; and so does McNemar's count."""
    counted = read_json(finished / "score/test_frames.json")
    expected, frames = [], []
    for _, features, pdf_ids in read_features(finished, "test"):
        usable = pdf_ids >= 0
        guesses = compute_logits(finished / "student/model.safetensors", features)[0].argmax(1)
        expected.append((guesses == pdf_ids)[usable])
        frames.append(int(usable.sum()))
    assert counted["frames"] == frames
    correct = {
        name: np.unpackbits(np.load(finished / f"score/systems/{name}.test_frames.npy"), count=sum(frames))
        for name in ("student_00", "ensemble", "teacher_00")
    }
    assert np.count_nonzero(correct["student_00"] != np.concatenate(expected)) <= FRAMES_OF_DOUBT
    pair = read_json(finished / "report/report.json")["comparisons"]["pairs"][0]
    assert (pair["first"], pair["second"]) == ("teacher_00", "ensemble")
    alone = correct["teacher_00"] & ~correct["ensemble"] & 1
    assert pair["frame_accuracy"]["only_first"] == alone.sum()


def test_word_errors_follow_from_hypotheses_and_manifests(finished: Path) -> None:
    lines = (finished / "prepare/manifests/test.jsonl").read_text(encoding="utf-8").splitlines()
    references = {entry["id"]: entry["text"] for entry in map(json.loads, lines)}
    rates = {}
    for path in sorted(finished.glob("score/systems/*.test.txt")):
        found = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines()]
        hypotheses = {name: " ".join(rest) for name, *rest in found}
        assert hypotheses.keys() == references.keys()
        measured = jiwer.process_words(list(references.values()), [hypotheses[name] for name in references])
        scored = read_json(path.with_name(path.name.replace(".test.txt", ".json")))["wer"]["test"]
        assert scored["wer"] == pytest.approx(measured.wer), path.name
        assert scored["errors"] == measured.substitutions + measured.deletions + measured.insertions
        rates[path.name.split(".")[0]] = measured.wer
    systems = read_json(finished / "report/report.json")["systems"]
    baseline = np.mean([rate for name, rate in rates.items() if name.startswith("teacher")])
    assert systems["baseline"]["wer"]["test"]["wer"] == pytest.approx(baseline)
    assert systems["ensemble"]["wer"]["test"]["wer"] == pytest.approx(rates["ensemble"])


def test_dev_chooses_the_student(finished: Path) -> None:
    """Among the first seeds; the second one has the weight that they chose."""
    curves = read_json(finished / "student/curves.json")
    best = [max(curve["dev_frame_accuracy"]) for curve in curves]
    chosen = best[:2].index(max(best[:2]))
    weight = (0.5, 0.1)[chosen]
    assert [curve["name"] for curve in curves] == [
        "hard weight 0.5, seed 101", "hard weight 0.1, seed 101", f"hard weight {weight:g}, seed 102"
    ]  # fmt: skip
    distilled = read_json(finished / "report/report.json")["systems"]["distilled"]
    assert distilled["hard_weight"] == weight
    assert distilled["frame_accuracy"]["dev"] == pytest.approx((best[chosen] + best[2]) / 2)
    assert best[2] != best[chosen]
    weights = load_file(finished / "student/model.safetensors")["weights.0"]
    assert len(weights) == 3 and not np.array_equal(weights[2], weights[chosen])


def test_controls_are_trained_on_their_own_frames(finished: Path) -> None:
    """As many as the student, and without soft targets: dev accuracies follow from their weights."""
    curves = read_json(finished / "controls/curves.json")
    assert [curve["name"] for curve in curves] == [
        f"{kind}, seed 101" for kind in ("hard_targets", "label_smoothing", "equal_compute")
    ]
    # A perturbed view besides every utterance, two epochs.
    assert [len(curve["train_loss"]) for curve in curves] == [2, 2, 4]
    systems = read_json(finished / "report/report.json")["systems"]
    for curve in curves:
        kind = curve["name"].split(",")[0]
        correct = num_frames = 0
        for _, features, pdf_ids in read_features(finished, "dev"):
            logits = compute_logits(finished / f"controls/models/{kind}.safetensors", features)[0]
            correct += (logits.argmax(1) == pdf_ids)[pdf_ids >= 0].sum()
            num_frames += (pdf_ids >= 0).sum()
        found = systems[f"control_{kind}"]["frame_accuracy"]["dev"]
        assert found == pytest.approx(correct / num_frames, abs=FRAMES_OF_DOUBT / num_frames)
        assert found == pytest.approx(max(curve["dev_frame_accuracy"]), abs=FRAMES_OF_DOUBT / num_frames)


def test_phones_are_scored_against_the_alignment(finished: Path) -> None:
    """Counted anew by jiwer from what was written; silence and stress are not scored."""
    lines = (finished / "score/test_phones.txt").read_text(encoding="utf-8").splitlines()
    references = dict(line.split(maxsplit=1) for line in lines)
    aligned: dict[str, list[str]] = {name: [] for name in references}
    for line in (finished / "align/test.phones.ctm").read_text(encoding="utf-8").splitlines():
        name, _, _, _, phone = line.split()[:5]
        aligned[name] += [] if phone == "SIL" else [phone.rstrip("012")]
    assert references == {name: " ".join(phones) for name, phones in aligned.items()}
    for name in ("teacher_00", "ensemble", "student_00", "hard_targets_00"):
        path = finished / f"score/systems/{name}.test.phones.txt"
        found = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines()]
        hypotheses = {utterance: " ".join(rest) for utterance, *rest in found}
        measured = jiwer.process_words(list(references.values()), [hypotheses[utt] for utt in references])
        scored = read_json(finished / f"score/systems/{name}.json")["per"]["test"]
        assert scored["wer"] == pytest.approx(measured.wer)
        assert scored["words"] == sum(len(phones) for phones in aligned.values())


def test_the_reports_mimicry_follows_from_weights(finished: Path) -> None:
    report = read_json(finished / "report/report.json")
    agreed = num_frames = 0
    kl = 0.0
    chosen = 0 if report["systems"]["distilled"]["hard_weight"] == 0.5 else 1
    for _, features, pdf_ids in read_features(finished, "test"):
        ensemble = softmax(compute_logits(finished / "teachers/model.safetensors", features)).mean(0)
        student = softmax(compute_logits(finished / "student/model.safetensors", features)[chosen])
        usable = pdf_ids >= 0
        agreed += (ensemble.argmax(1) == student.argmax(1))[usable].sum()
        kl += (ensemble * np.log(ensemble / student)).sum(1)[usable].sum()
        num_frames += usable.sum()
    overall = report["mimicry"]["overall"]
    assert overall["frames"] == num_frames
    assert overall["agreement"] == pytest.approx(agreed / num_frames, abs=FRAMES_OF_DOUBT / num_frames)
    assert overall["kl"] == pytest.approx(kl / num_frames, rel=1e-3)
    assert report["calibration"].keys() == {
        "baseline", "ensemble", "distilled",
        *(f"control_{kind}" for kind in ("hard_targets", "label_smoothing", "equal_compute")),
    }  # fmt: skip


def read_shards(experiment_dir: Path, split: str) -> dict[str, np.ndarray]:
    arrays = {}
    for path in sorted(experiment_dir.glob(f"soft_targets/shards/{split}-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                arrays[member.name] = np.load(io.BytesIO(content.read()))
    return arrays


@pytest.mark.parametrize("split", ["train", "dev"])
def test_shards_hold_features_hard_targets_and_averaged_posteriors(finished: Path, split: str) -> None:
    arrays = read_shards(finished, split)
    utterances = read_features(finished, split)
    num_copies = 2 if split == "train" else 1
    assert len(arrays) == 3 * num_copies * len(utterances)
    for name, frames, pdf_ids in utterances[:: max(len(utterances) // 12, 1)]:
        logits = compute_logits(finished / "teachers/model.safetensors", frames)
        average = softmax(logits / TEMPERATURE).mean(0)
        np.testing.assert_array_equal(arrays[f"{name}.features.npy"], frames)
        np.testing.assert_array_equal(arrays[f"{name}.frames.npy"]["pdf_id"], pdf_ids)
        winners = logits.argmax(2)
        votes = [np.bincount(frame).max() for frame in winners.T]
        # Of logits computed in float32 a tie may fall the other way.
        assert np.mean(arrays[f"{name}.frames.npy"]["votes"] != votes) < 0.01
        soft = arrays[f"{name}.soft_t2.npy"]
        assert soft.dtype == np.float16
        np.testing.assert_allclose(soft, average, rtol=2e-3, atol=1e-6)
        np.testing.assert_allclose(soft.astype(np.float64).sum(1), 1, atol=5e-3)


def test_views_hold_what_the_teachers_make_of_the_perturbed_frames(finished: Path) -> None:
    arrays = read_shards(finished, "train")
    utterances = read_features(finished, "train")
    for name, frames, pdf_ids in utterances[:: max(len(utterances) // 6, 1)]:
        view = arrays[f"{name}~view1.features.npy"]
        assert view.shape == frames.shape and np.abs(view - frames).max() > 0.05
        average = softmax(compute_logits(finished / "teachers/model.safetensors", view) / TEMPERATURE).mean(0)
        np.testing.assert_array_equal(arrays[f"{name}~view1.frames.npy"]["pdf_id"], pdf_ids)
        np.testing.assert_allclose(arrays[f"{name}~view1.soft_t2.npy"], average, rtol=2e-3, atol=1e-6)


CODECS = (
    ("{kind: top_k, num_kept: 8}", 60),
    ("{kind: sampled, num_draws: 16}", 60),
    ("{kind: transform, step: 0.1}", 40),
)


@pytest.mark.parametrize(("codec", "most_bytes"), CODECS, ids=["top_k", "sampled", "transform"])
def test_students_learn_from_every_codec(
    tiny_recipe: Path, finished: Path, finished_copy: Path, asrdistill: Command, codec: str, most_bytes: int
) -> None:
    """About what they learn from the dense targets; bytes beside 2 a pdf-id, headers of the tar included."""
    outcome = asrdistill(
        "run",
        tiny_recipe,
        "--exp",
        finished_copy,
        "--set",
        f"soft_targets.codec={codec}",
        "--stage",
        "student",
    )
    assert outcome.status == 0, outcome.stderr
    assert count_soft_bytes_a_frame(finished_copy) < most_bytes < count_soft_bytes_a_frame(finished) / 3
    accuracies = [
        max(max(curve["dev_frame_accuracy"]) for curve in read_json(folder / "student/curves.json"))
        for folder in (finished_copy, finished)
    ]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.05)


def test_transformed_targets_are_near_the_dense_ones(
    tiny_recipe: Path, finished: Path, finished_copy: Path, asrdistill: Command
) -> None:
    codec = "{kind: transform, step: 0.02, correction: null}"
    words = ("--set", f"soft_targets.codec={codec}", "--stage", "soft-targets")
    assert asrdistill("run", tiny_recipe, "--exp", finished_copy, *words).status == 0
    shards = finished_copy / "soft_targets/shards"
    codebook = Codebook.read(shards / "codebook_t2.safetensors")
    dense = read_shards(finished, "dev")
    divergences = []
    for path in shards.glob("dev-*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".transform"):
                    content = tar.extractfile(member)
                    assert content is not None
                    expected = dense[member.name.replace(".transform", ".npy")].astype(np.float64)
                    targets = codebook.decode(content.read(), len(expected))
                    found = targets.take(torch.arange(len(expected))[None])[0].numpy()
                    terms = expected * np.log(np.maximum(expected, 1e-12) / found)
                    divergences += terms.sum(1).tolist()
    assert len(divergences) > 1000
    assert np.mean(divergences) < 0.005


def list_reasons(stderr: str) -> dict[str, str]:
    """What a run said of each stage."""
    lines = [line for line in stderr.splitlines() if line.startswith("[")]
    return dict(line.split("] ", 1)[1].split(": ", 1) for line in lines)


def changed_files(before: Snapshot, after: Snapshot) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def test_a_second_run_does_nothing(
    tiny_recipe: Path, finished_copy: Path, asrdistill: Command, take_snapshot: Callable[[Path], Snapshot]
) -> None:
    before = take_snapshot(finished_copy)
    outcome = asrdistill("run", tiny_recipe, "--exp", finished_copy)
    assert outcome.status == 0
    assert list_reasons(outcome.stderr) == dict.fromkeys(STAGES, "finished")
    assert take_snapshot(finished_copy) == before


def test_a_changed_setting_redoes_what_depends_on_it(
    tiny_recipe: Path, finished_copy: Path, asrdistill: Command, take_snapshot: Callable[[Path], Snapshot]
) -> None:
    before = take_snapshot(finished_copy)
    words = ("run", tiny_recipe, "--exp", finished_copy, "--set", "student.training.num_epochs=3")
    outcome = asrdistill(*words)
    assert outcome.status == 0
    reasons = list_reasons(outcome.stderr)
    assert [stage for stage, reason in reasons.items() if reason != "finished"] == [
        "student",
        "controls",
        "score",
        "report",
    ]
    assert reasons["student"] == "student.training.num_epochs changed from 2 to 3"
    assert reasons["controls"] == reasons["student"]
    assert reasons["score"] == "student/model.safetensors changed"
    changed = changed_files(before, take_snapshot(finished_copy))
    assert {path.split("/")[0] for path in changed} == {"student", "controls", "score", "report", "metrics"}
    assert len(read_json(finished_copy / "student/curves.json")[0]["dev_frame_accuracy"]) == 3


def test_architectures_mix(tiny_recipe: Path, finished_copy: Path, asrdistill: Command) -> None:
    settings = (
        "teachers.diversity=[seed, subset]",
        "teachers.model.architecture=tdnn",
        "teachers.model.tdnn.dilations=[1, 3]",
        "student.hard_weight=0.5",
        "student.model.architecture=conformer",
        "student.model.num_hidden_layers=1",
        "student.model.hidden_size=32",
    )
    words = [word for setting in settings for word in ("--set", setting)]
    outcome = asrdistill("run", tiny_recipe, "--exp", finished_copy, *words)
    assert outcome.status == 0
    systems = read_json(finished_copy / "report/report.json")["systems"]
    # Taps (3 x 40 + 3 x 64) x 64, biases, and an output for each pdf-id; the conformer has other sizes.
    num_pdfs = read_json(finished_copy / "report/report.json")["num_tied_states"]
    assert systems["baseline"]["num_parameters"] == (3 * 40 + 3 * 64 + 2) * 64 + 65 * num_pdfs
    assert systems["distilled"]["num_parameters"] < systems["baseline"]["num_parameters"]
    assert all(system["flops_a_frame"] > system["num_parameters"] for system in systems.values())


def test_other_noise_redoes_the_features_though_the_manifests_stay_the_same(
    tiny_recipe: Path, finished_copy: Path, asrdistill: Command
) -> None:
    words = ("run", tiny_recipe, "--exp", finished_copy, "--stage", "features")
    outcome = asrdistill(*words, "--set", "corpus.acoustics.snr_db=[35]")
    assert outcome.status == 0
    reasons = list_reasons(outcome.stderr)
    assert reasons["prepare"].startswith("corpus.acoustics.snr_db changed")
    assert reasons["features"] != "finished"


def test_a_deleted_hypothesis_file_is_made_again(
    tiny_recipe: Path, finished_copy: Path, asrdistill: Command, take_snapshot: Callable[[Path], Snapshot]
) -> None:
    path = finished_copy / "score/systems/ensemble.test.txt"
    text = path.read_text()
    path.unlink()
    outcome = asrdistill("run", tiny_recipe, "--exp", finished_copy)
    assert outcome.status == 0 and path.read_text() == text
    assert (
        list_reasons(outcome.stderr)["score"] == "score/systems/ensemble.test.txt is missing or was changed"
    )


def test_a_deleted_shard_alone_is_made_again(
    tiny_recipe: Path, finished_copy: Path, asrdistill: Command, take_snapshot: Callable[[Path], Snapshot]
) -> None:
    before = take_snapshot(finished_copy)
    (finished_copy / "soft_targets/shards/train-000001.tar").unlink()
    outcome = asrdistill("run", tiny_recipe, "--exp", finished_copy)
    reasons = list_reasons(outcome.stderr)
    assert reasons["soft_targets"] == "soft_targets/shards/train-000001.tar is missing or was changed"
    assert "shards are there already" in outcome.stderr
    assert (reasons["student"], reasons["score"]) == ("finished", "finished")
    after = take_snapshot(finished_copy)
    assert {
        path: digest for path, (_, digest) in before.items() if path.startswith("soft_targets/shards")
    } == {path: digest for path, (_, digest) in after.items() if path.startswith("soft_targets/shards")}
    written = {path for path in changed_files(before, after) if path.endswith(".tar")}
    assert written == {"soft_targets/shards/train-000001.tar"}


def test_a_damaged_shard_alone_is_made_again(
    tiny_recipe: Path, finished_copy: Path, asrdistill: Command
) -> None:
    path = finished_copy / "soft_targets/shards/dev-000000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + bytes(range(100)))
    words = ("run", tiny_recipe, "--exp", finished_copy, "--stage", "soft-targets")
    assert asrdistill(*words).status == 0
    assert path.read_bytes() == whole


def test_training_again_gives_the_same_bytes(
    tiny_recipe: Path, finished: Path, finished_copy: Path, asrdistill: Command
) -> None:
    forced = [word for stage in ("teachers", "soft-targets", "student") for word in ("--force", stage)]
    outcome = asrdistill("run", tiny_recipe, "--exp", finished_copy, "--stage", "student", *forced)
    assert list_reasons(outcome.stderr)["teachers"] == "not done yet"
    check_same_results(
        finished_copy, finished, ("teachers/*.safetensors", "*/shards/*", "student/*.safetensors")
    )


def check_same_results(found_dir: Path, expected_dir: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        expected = sorted(path.relative_to(expected_dir) for path in expected_dir.glob(pattern))
        assert expected, pattern
        assert sorted(path.relative_to(found_dir) for path in found_dir.glob(pattern)) == expected
        for path in expected:
            assert (found_dir / path).read_bytes() == (expected_dir / path).read_bytes(), path


# Which file that a stage publishes is its last: killed when all of it is written, but not yet renamed.
# Of training these are mostly checkpoints, written here as often as a thread can.
KILLED_AT = {
    "prepare": 20,
    "features": 4,
    "align": 6,
    "teachers": 8,
    "soft_targets": 4,
    "student": 8,
    "controls": 5,
    "score": 15,
    "report": 3,
}
KILLED_COMMAND = """
import os, signal, sys

stage, last = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
replace, published = os.replace, 0

def replace_or_die(source, target):
    global published
    published += f"/{stage}/" in str(target)
    if published == last:
        os.killpg(0, signal.SIGKILL)
    replace(source, target)

os.replace = replace_or_die
from asrdistill.cli import main
from asrdistill.nn.checkpoint import CheckpointWriter
begin = CheckpointWriter.__init__
CheckpointWriter.__init__ = lambda self, path, interval_s: begin(self, path, 0.0)
CheckpointWriter.MAX_SHARE = 1e9
main()
"""


def run_and_kill(stage: str, recipe_path: Path, experiment_dir: Path) -> str:
    """Run until the middle of a stage; gives what the run said before it was killed."""
    words = [stage, str(KILLED_AT[stage]), "run", str(recipe_path), "--exp", str(experiment_dir)]
    log_path = experiment_dir.with_suffix(".log")
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED_COMMAND, *words], stdout=log, stderr=log, start_new_session=True
        )
        try:
            process.wait(timeout=200)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    said = log_path.read_text(encoding="utf-8")
    assert process.returncode == -signal.SIGKILL, said
    return said


def test_killed_in_every_stage_and_resumed_gives_the_same(
    tiny_recipe: Path, finished: Path, tmp_path: Path, asrdistill: Command
) -> None:
    experiment_dir = tmp_path / "tiny"
    said = {}
    for stage in STAGES:
        said[stage] = run_and_kill(stage, tiny_recipe, experiment_dir)
        assert (experiment_dir / stage / "progress.json").is_file()
        assert not (experiment_dir / stage / "stamp.json").exists()
        assert list((experiment_dir / stage).rglob(".*.tmp"))
    outcome = asrdistill("run", tiny_recipe, "--exp", experiment_dir)
    assert outcome.status == 0
    stages = list(STAGES)
    for stage, following in zip(
        stages, [*(said[stage] for stage in stages[1:]), outcome.stderr], strict=True
    ):
        assert list_reasons(following)[stage] == "was interrupted"
    assert re.search(r"resuming after epoch [01] of 2, step [1-9]", said["soft_targets"])
    assert "2 of " in said["student"]
    assert "shards are there already" in said["student"]
    assert "teacher_00: scored already" in said["report"]
    patterns = (
        "prepare/audio/*.wav",
        "features/*.f16",
        "align/*.npy",
        "align/*.ctm",
        "*/*.safetensors",
        "controls/models/*",
        "soft_targets/shards/*",
        "score/systems/*",
        "score/alignments/*",
        "score/nist/*",
    )
    check_same_results(experiment_dir, finished, patterns)
    reports = [read_json(folder / "report/report.json") for folder in (experiment_dir, finished)]
    for report in reports:
        del report["stages"]  # seconds, memory, bytes
    assert reports[0] == reports[1]
    assert not list(experiment_dir.rglob("*.tmp"))
    assert not list(experiment_dir.rglob("*.part"))
    assert not list(experiment_dir.rglob("*checkpoint*"))
