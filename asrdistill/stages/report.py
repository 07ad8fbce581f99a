"""All results to report.json, report.md and report.html, and the table on the terminal."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from asrdistill.corpus.manifest import Utterance, read_manifest
from asrdistill.corpus.source import SPLITS
from asrdistill.experiment import Experiment, atomic_path, list_versions, write_json
from asrdistill.features.frame_store import FrameStore
from asrdistill.hmm.alignment import read_unaligned
from asrdistill.hmm.ctm import read_ctm_frames
from asrdistill.nn.checkpoint import load_model
from asrdistill.recipe import Recipe
from asrdistill.reporting.alignment_picture import AlignmentPicture
from asrdistill.reporting.learning_curves import LearningCurve
from asrdistill.reporting.markdown import render_markdown
from asrdistill.reporting.page import render_html
from asrdistill.reporting.report import LeftOut, build_report, has_words
from asrdistill.reporting.tuning_grid import TuningGrid
from asrdistill.scoring.aligned_text import align_utterances, count_confusions
from asrdistill.scoring.alignment_page import NUM_CONFUSIONS
from asrdistill.scoring.comparison import bootstrap_transfers, compare_pairs, list_pairs
from asrdistill.scoring.outcomes import Outcomes
from asrdistill.scoring.speaker_groups import GroupScore, UtteranceCounts, score_groups, score_speakers
from asrdistill.targets.codecs import CodecConfig, describe_codec
from asrdistill.targets.shards import ShardReader

EARLIER_STAGES = ("prepare", "features", "align", "teachers", "soft_targets", "student", "controls", "score")
SETTINGS = tuple(Recipe.model_fields)
READS = tuple(f"{stage}/stamp.json" for stage in EARLIER_STAGES)
WRITES = ("report/report.json", "report/report.md", "report/report.html")


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Gather what the stages left and publish the report."""
    folder = experiment.stage_dir("report")
    score_dir = experiment.stage_dir("score")
    teachers = [_read(path) for path in sorted(score_dir.glob("systems/teacher_*.json"))]
    ensemble = _read(score_dir / "systems/ensemble.json")
    aligner = _read(score_dir / "systems/aligner.json")
    students, controls = _read_students(experiment), _read_controls(recipe, experiment)
    chosen = next(system for system in students if system["chosen"])
    compared = {"baseline": teachers[0], "ensemble": ensemble, "distilled": chosen, **_take_first(controls)}
    shards = ShardReader(experiment.dir / "soft_targets/shards")
    outcomes = Outcomes(experiment.dir)
    comparisons, intervals = _compare(outcomes, len(teachers), students, list(_take_first(controls)))
    number = students.index(chosen)
    systems_read = {"baseline": "teacher_00", "ensemble": "ensemble", "distilled": f"student_{number:02d}"}
    report = build_report(
        recipe=recipe.name,
        num_tied_states=shards.num_pdfs,
        teachers=[_as_system(system) for system in teachers],
        ensemble=_as_system(ensemble),
        aligner=_as_system(aligner),
        students=[_as_system(system) for system in students],
        controls=[_as_system(system) for system in controls],
        comparisons=comparisons,
        transfer_intervals=intervals,
        ensemble_size=_read(score_dir / "ensemble_size.json"),
        agreement=shards.count_votes("dev"),
        calibration={name: system["calibration"] for name, system in compared.items()},
        mimicry=_read(score_dir / "mimicry.json"),
        speaker_groups=_score_groups(outcomes, systems_read, score_groups),
        speakers=_score_groups(outcomes, systems_read, score_speakers),
        confusions=_count_confusions(outcomes, systems_read["distilled"]),
        soft_targets=_describe_soft_targets(shards),
        codecs=_read_codecs(experiment, shards),
        language_model=_read(score_dir / "language_model.json"),
        stages={stage: _describe_stage(experiment, stage) for stage in EARLIER_STAGES},
        left_out=_list_left_out(recipe, experiment, [aligner, *teachers, ensemble, *students, *controls]),
        versions=list_versions(),
        settings=recipe.model_dump(mode="json"),
    )
    write_json(folder / "report.json", report)
    _publish(folder / "report.md", render_markdown(report))
    page = render_html(
        report,
        teachers=_read_curves(experiment.dir / "teachers/curves.json"),
        students=_read_student_curves(recipe, experiment),
        tuning=[
            _describe_tuning(name, system) for name, system in list(compared.items())[:3] if has_words(system)
        ],
        alignment=_draw_utterance(recipe, experiment),
    )
    _publish(folder / "report.html", page)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _publish(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _as_system(scored: dict[str, Any]) -> dict[str, Any]:
    """A system's entry in report.json: its result without what only the pictures need."""
    wanted = (
        "frame_accuracy",
        "num_parameters",
        "flops_a_frame",
        "wer",
        "per",
        "hard_weight",
        "temperature",
        "chosen",
        "control",
        "seed",
    )
    return {key: scored[key] for key in wanted if key in scored}


def _read_students(experiment: Experiment) -> list[dict[str, Any]]:
    """The students' results with what tells them apart, the one that dev chose marked."""
    paths = sorted(experiment.stage_dir("score").glob("systems/student_*.json"))
    students = [_read(path) for path in paths]
    _, described = load_model(experiment.dir / "student/model.safetensors")
    return [
        {
            **scored,
            **student,
            "temperature": described["temperature"],
            "chosen": number == described["chosen"],
        }
        for number, (scored, student) in enumerate(zip(students, described["students"], strict=True))
    ]


def _read_controls(recipe: Recipe, experiment: Experiment) -> list[dict[str, Any]]:
    """The controls' results with their kind, seed after seed."""
    folder = experiment.stage_dir("score") / "systems"
    return [
        {**_read(path), "control": kind}
        for kind in recipe.controls.kinds
        for path in sorted(folder.glob(f"{kind}_*.json"))
    ]


def _take_first(controls: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The first seed of each kind of control, by the kind's name in the report."""
    first: dict[str, dict[str, Any]] = {}
    for control in controls:
        first.setdefault(f"control_{control['control']}", control)
    return first


def _score_groups(
    outcomes: Outcomes,
    systems: Mapping[str, str],
    score: Callable[[Sequence[Utterance], UtteranceCounts], list[GroupScore]],
) -> dict[str, list[dict[str, Any]]]:
    """Of each system the scores of groups of speakers, or of single ones."""
    utterances, speech = list(outcomes.utterances.values()), outcomes.speech
    found = {}
    for name, system in systems.items():
        outcome = outcomes.read(system)
        words = outcome.recognised.get("wer")
        errors = None if words is None else words.errors
        correct = speech.num_frames - outcome.wrong_frames
        counts = UtteranceCounts(speech.sizes["wer"], errors, speech.num_frames, correct)
        found[name] = [asdict(one) for one in score(utterances, counts)]
    return found


def _count_confusions(outcomes: Outcomes, system: str) -> dict[str, Any]:
    words = outcomes.read_words(system)
    references = outcomes.references["wer"]
    aligned = [] if words is None else align_utterances(references, words)
    return asdict(count_confusions(aligned, NUM_CONFUSIONS))


def _compare(
    outcomes: Outcomes,
    num_teachers: int,
    students: Sequence[dict[str, Any]],
    controls: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pairs of systems on test, and the intervals of the transfer of the students that dev chose."""
    teachers = [outcomes.read(f"teacher_{number:02d}") for number in range(num_teachers)]
    ensemble = outcomes.read("ensemble")
    weight = next(student["hard_weight"] for student in students if student["chosen"])
    numbers = [number for number, student in enumerate(students) if student["hard_weight"] == weight]
    distilled = [outcomes.read(f"student_{number:02d}", "distilled") for number in numbers]
    others = [outcomes.read(f"{name.removeprefix('control_')}_00", name) for name in controls]
    speech = outcomes.speech
    pairs = compare_pairs(list_pairs([teachers[0], ensemble, distilled[0], *others]), speech)
    comparisons = {"block": speech.block, "num_blocks": speech.num_blocks, "pairs": pairs}
    return comparisons, bootstrap_transfers(teachers, ensemble, distilled, speech)


def _describe_soft_targets(shards: ShardReader) -> dict[str, Any]:
    return {
        **shards.count_bytes(),
        "codec": _describe_codec(shards.codec_config),
        "temperatures": shards.index["temperatures"],
        "num_shards": sum(map(len, shards.index["splits"].values())),
    }


def _read_codecs(experiment: Experiment, shards: ShardReader) -> list[dict[str, Any]]:
    """What `asrdistill compare-codecs` measured on these soft targets, if it did."""
    path = experiment.dir / "codecs/codecs.json"
    compared = _read(path) if path.is_file() else {}
    found: list[dict[str, Any]] = compared.get("codecs", [])
    return found if compared.get("index_sha256") == shards.index["sha256"] else []


def _describe_codec(codec: CodecConfig) -> str:
    return describe_codec(codec).removeprefix("{kind: ").removesuffix("}").replace(": ", " ")


def _describe_stage(experiment: Experiment, stage: str) -> dict[str, Any]:
    stamp = experiment.stamp_of(stage)
    assert stamp is not None, stage
    measured = {key: stamp[key] for key in ("seconds", "peak_memory_mb")}
    return {**measured, "size_bytes": experiment.size_bytes(stage)}


def _list_left_out(
    recipe: Recipe, experiment: Experiment, systems: Sequence[dict[str, Any]]
) -> list[LeftOut]:
    validation = _read(experiment.dir / "prepare/validation.json")
    left_out = [
        LeftOut("prepare", f"{split}: {kind}", fault["count"], tuple(fault["ids"]))
        for split, found in validation["splits"].items()
        for kind, fault in found["faults"].items()
    ]
    for split in SPLITS:
        names = read_unaligned(experiment.stage_dir("align"), split)
        if names:
            left_out.append(LeftOut("align", f"{split}: {recipe.why_unaligned}", len(names), tuple(names)))
    incomplete = sorted({name for system in systems for name in system["incomplete"]})
    if incomplete:
        reason = (
            "test: search reached no sentence end with at least one system; best partial hypothesis scored"
        )
        left_out.append(LeftOut("score", reason, len(incomplete), tuple(incomplete)))
    return left_out


def _read_curves(path: Path) -> list[LearningCurve]:
    return [
        LearningCurve(
            c["name"], c["dev_frame_accuracy"], c["train_loss"], c["dev_cross_entropy"], c["best_epoch"]
        )
        for c in _read(path)
    ]


def _read_student_curves(recipe: Recipe, experiment: Experiment) -> list[LearningCurve]:
    """Of the first seed of each hard weight, and of each control that is trained on the same frames."""
    curves = _read_curves(experiment.dir / "student/curves.json")
    curves += _read_curves(experiment.dir / "controls/curves.json")
    ending = f", seed {recipe.student.seed}"
    first = (c for c in curves if c.name.endswith(ending) and not c.name.startswith("equal_compute"))
    return [replace(c, name=c.name.removesuffix(ending).replace("_", " ")) for c in first]


def _describe_tuning(name: str, system: dict[str, Any]) -> TuningGrid:
    tuning = system["tuning"]
    scales = sorted({point[0] for point in tuning["grid"]})
    penalties = sorted({point[1] for point in tuning["grid"]})
    wer = np.zeros((len(scales), len(penalties)))
    for scale, penalty, value in tuning["grid"]:
        wer[scales.index(scale), penalties.index(penalty)] = value
    return TuningGrid(name, scales, penalties, wer, (tuning["acoustic_scale"], tuning["insertion_penalty"]))


def _draw_utterance(recipe: Recipe, experiment: Experiment) -> AlignmentPicture | None:
    """The dev utterance of three to five words that is nearest to two seconds long, if phones are known."""
    store = FrameStore(experiment.stage_dir("features"), "dev")
    utterances = read_manifest(experiment.dir / "prepare/manifests/dev.jsonl")
    shift_s = recipe.features.frame_shift_s
    phones = read_ctm_frames(experiment.dir / "align/dev.phones.ctm", shift_s)
    words = read_ctm_frames(experiment.dir / "align/dev.words.ctm", shift_s)
    candidates = [i for i, u in enumerate(utterances) if u.id in phones]
    if not candidates:
        return None
    index = min(
        candidates, key=lambda i: (not 3 <= len(utterances[i].words) <= 5, abs(utterances[i].duration - 2))
    )
    chosen = utterances[index]
    return AlignmentPicture(
        chosen.id,
        chosen.text,
        store.frames_of(index).astype(np.float32),
        shift_s,
        [(s.name, s.start, s.end) for s in phones[chosen.id]],
        [(s.name, s.start, s.end) for s in words.get(chosen.id, [])],
    )
