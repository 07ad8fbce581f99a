"""report.json: what the systems achieved, what it took, what was left out, and with which settings.

A system is a dict (`S` in the contract of report.json):

    {"frame_accuracy": {"dev": 0.47, "test": 0.47}, "num_parameters": 0,
     "flops_a_frame": 0,
     "wer": {"test": {"wer": 0.21, "errors": 10, "words": 50, "ins": 1, "del": 2, "sub": 7, "ser": 0.5}}}

"per", of the same form, are phone errors. Both are missing from all of them where words cannot be decoded:
the targets are pdf-ids of another system.

Parameters and FLOPs a frame are those of all its members together. Baseline, students and controls are means
over seeds: they also have "spread" and "members", and parameters of one member. A student also has
"hard_weight", "temperature" and "chosen", a control "control", its kind.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from asrdistill.scoring.comparison import RATES

System = Mapping[str, Any]

SCHEMA = 6
ROUNDING = 1e-9
"""Rates (0 to 1) that differ by less are equal: what a mean of ten leaves behind."""
NOT_MEASURED = "–"
ERROR_KEYS = ("wer", "errors", "words", "ins", "del", "sub", "ser")
MEASURES = {"frame_accuracy": "frame accuracy", "wer": "WER", "per": "PER"}
"""What is measured, by its name in report.json."""
SINGLE = {"baseline": "one teacher", "teacher_00": "one teacher"}
"""What stands for the baseline where a single model is looked at."""
CONTROLS = {
    "hard_targets": "control on hard targets alone",
    "label_smoothing": "control with label smoothing",
    "equal_compute": "control of equal compute",
}


@dataclass(frozen=True)
class LeftOut:
    """Utterances that a stage did not use, and why.

    Attributes:
        stage: the stage that left them out.
        reason: in words, what was wrong with them.
        num_utterances: how many.
        utterance_ids: their ids, as far as they are to be named.
    """

    stage: str
    reason: str
    num_utterances: int
    utterance_ids: tuple[str, ...] = ()


def mean_system(members: Sequence[System]) -> dict[str, Any]:
    """Average systems measured one at a time: teachers into the baseline, a student's or control's seeds.

    Its "spread" is the sample standard deviation (n - 1) over the members; None for a single member.
    Counts of word errors are averaged too, so they need not be whole numbers.
    """
    accuracies = {split: [member["frame_accuracy"][split] for member in members] for split in ("dev", "test")}
    mean: dict[str, Any] = {
        "frame_accuracy": {split: statistics.fmean(values) for split, values in accuracies.items()},
        "num_parameters": members[0]["num_parameters"],
        "flops_a_frame": members[0]["flops_a_frame"],
        "spread": {"frame_accuracy": {split: _spread(values) for split, values in accuracies.items()}},
        "members": list(members),
    }
    for rate in RATES:
        if rate in members[0]:
            errors = {key: [member[rate]["test"][key] for member in members] for key in ERROR_KEYS}
            mean[rate] = {"test": {key: statistics.fmean(values) for key, values in errors.items()}}
            mean["spread"][rate] = {"test": _spread(errors["wer"])}
    return mean


def has_words(system: System) -> bool:
    """Whether words were decoded with a system."""
    return "wer" in system


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def compute_transfer(
    baseline: System,
    ensemble: System,
    student: System,
    intervals: Mapping[str, Sequence[float] | None] | None = None,
) -> dict[str, Any]:
    """How much of the ensemble's gain over the baseline the student keeps, on test.

    Value: (student - baseline) / (ensemble - baseline): 1 keeps all, 0 none, below 0 is harm; None
    (undefined) where the ensemble is not better than the baseline. "wer" and "per" are there where words
    were decoded.
    "ci95" is that of `intervals`, by measure; None where the ensemble may as well have no gain.
    Source: the 86% of Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3, is this ratio.
    """
    found = intervals or {}
    systems = (baseline, ensemble, student)
    accuracies = [system["frame_accuracy"]["test"] for system in systems]
    transfer: dict[str, Any] = {
        "frame_accuracy": {"value": _kept_share(*accuracies), "ci95": found.get("frame_accuracy")}
    }
    for rate in RATES:
        if rate in baseline:
            negated = [-system[rate]["test"]["wer"] for system in systems]
            transfer[rate] = {"value": _kept_share(*negated), "ci95": found.get(rate)}
    return transfer


def _kept_share(baseline: float, ensemble: float, student: float) -> float | None:
    gain = ensemble - baseline
    return (student - baseline) / gain if gain > ROUNDING else None


def name_system(system: System) -> str:
    """What a student or a control is called in tables."""
    if "control" in system:
        return CONTROLS[system["control"]]
    return f"distilled, hard weight {system['hard_weight']:g}"


def average_students(students: Sequence[System]) -> dict[str, dict[str, Any]]:
    """Students by name: the mean over the seeds of each hard weight, and temperature where it has several."""
    groups: dict[tuple[float, float], list[System]] = {}
    for student in students:
        groups.setdefault((student["hard_weight"], student["temperature"]), []).append(student)
    times_used = Counter(weight for weight, _ in groups)
    named = {}
    for (weight, temperature), members in sorted(groups.items()):
        several = f"_temperature_{temperature:g}" if times_used[weight] > 1 else ""
        named[f"distilled_hard_weight_{weight:g}{several}"] = {
            **mean_system(members),
            "hard_weight": weight,
            "temperature": temperature,
            "chosen": any(member["chosen"] for member in members),
        }
    return named


def average_controls(controls: Sequence[System]) -> dict[str, dict[str, Any]]:
    """Controls by name: the mean over the seeds of each kind, in the order of `CONTROLS`."""
    named = {}
    for kind in CONTROLS:
        members = [control for control in controls if control["control"] == kind]
        if members:
            named[f"control_{kind}"] = {**mean_system(members), "control": kind}
    return named


def build_report(
    *,
    recipe: str,
    num_tied_states: int,
    teachers: Sequence[System],
    ensemble: System,
    aligner: System,
    students: Sequence[System],
    controls: Sequence[System],
    comparisons: Mapping[str, Any],
    transfer_intervals: Mapping[str, Sequence[float] | None],
    ensemble_size: Mapping[str, Sequence[Mapping[str, Any]]],
    agreement: Sequence[Mapping[str, Any]],
    calibration: Mapping[str, Any],
    mimicry: Mapping[str, Any],
    speaker_groups: Mapping[str, Sequence[Mapping[str, Any]]],
    speakers: Mapping[str, Sequence[Mapping[str, Any]]],
    confusions: Mapping[str, Any],
    soft_targets: Mapping[str, Any],
    codecs: Sequence[Mapping[str, Any]],
    language_model: Mapping[str, Any],
    stages: Mapping[str, Mapping[str, float]],
    left_out: Sequence[LeftOut],
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Put together report.json.

    Args:
        recipe: name of the recipe.
        num_tied_states: size of the models' output.
        teachers: one system each; their mean is the baseline.
        ensemble: the system that averages the teachers.
        aligner: the Gaussian mixtures of the align stage.
        students: systems that also have "hard_weight", "temperature" and "chosen"; several of a hard weight
            are its seeds; exactly one is chosen, the first seed of the weight that dev chose.
        controls: systems that also have "control", their kind; likewise.
        comparisons: "num_blocks" of test and what they are ("block"), and "pairs", as
            scoring/comparison.py describes them: of the first teacher ("teacher_00"), ensemble, the student
            chosen ("distilled") and the first control of each kind, named as in "systems".
        transfer_intervals: of the transfer of the student chosen, by measure.
        ensemble_size: for "dev" and "test" a dict for each size, as scoring/ensemble_size.py describes it.
        agreement: of each number of "votes" on dev the "share" of frames and the teachers' mean "distance".
        calibration: on test, as scoring/calibration.py describes it, of the first teacher ("baseline") and of
            the other systems that "comparisons" has, by the same names.
        mimicry: how the student chosen follows the ensemble on test: scoring/mimicry.py describes it.
        speaker_groups: on test, of the first teacher ("baseline"), ensemble and student ("distilled") scores
            by gender and age, as scoring/speaker_groups.py describes them.
        speakers: likewise of every speaker.
        confusions: "substitutions", "deletions" and "insertions" of the student on test.
        soft_targets: "bytes_per_frame", "codec", "temperatures", "num_shards".
        codecs: of each codec that was compared "name", "bytes_per_frame", "codebook_bytes", and of its
            "students" "frame_accuracy" and, where words were decoded, "wer".
        language_model: what `asrdistill.scoring.scorer.describe_language_model` says.
        stages: in the order of running, each "seconds", "peak_memory_mb" and, where known, "size_bytes".
        left_out: what stages did not use.
        settings: every setting of the recipe, as plain values.
        versions: of the software used.
    """
    chosen = [student for student in students if student["chosen"]]
    if len(chosen) != 1:
        raise ValueError(f"students: {len(chosen)} are marked as chosen on dev, expected exactly one")
    baseline, averaged = mean_system(teachers), average_students(students)
    distilled = next(student for student in averaged.values() if student["chosen"])
    return {
        "schema": SCHEMA,
        "recipe": recipe,
        "num_teachers": len(teachers),
        "num_tied_states": num_tied_states,
        "systems": {
            "baseline": baseline,
            "ensemble": dict(ensemble),
            "distilled": distilled,
            "aligner": dict(aligner),
            **averaged,
            **average_controls(controls),
        },
        "transfer": compute_transfer(baseline, ensemble, distilled, transfer_intervals),
        "comparisons": dict(comparisons),
        "ensemble_size": {split: list(map(dict, sizes)) for split, sizes in ensemble_size.items()},
        "agreement": list(map(dict, agreement)),
        "calibration": dict(calibration),
        "mimicry": dict(mimicry),
        "speaker_groups": {name: list(map(dict, rows)) for name, rows in speaker_groups.items()},
        "speakers": {name: list(map(dict, rows)) for name, rows in speakers.items()},
        "confusions": dict(confusions),
        "soft_targets": dict(soft_targets),
        "codecs": list(map(dict, codecs)),
        "language_model": dict(language_model),
        "stages": {stage: dict(cost) for stage, cost in stages.items()},
        "left_out": [asdict(part) for part in left_out],
        "settings": dict(settings),
        "versions": dict(versions),
    }
