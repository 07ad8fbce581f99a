"""report.json: what the systems achieved, what it took, what was left out, and with which settings.

A system is a dict (`S` in the contract of report.json):

    {"frame_accuracy": {"dev": 0.47, "test": 0.47}, "num_parameters": 0,
     "flops_a_frame": 0,
     "wer": {"test": {"wer": 0.21, "errors": 10, "words": 50, "ins": 1, "del": 2, "sub": 7, "ser": 0.5}}}

"wer" is missing from all of them where words cannot be decoded: the targets are pdf-ids of another system.

Parameters and FLOPs a frame are those of all its members together (of the baseline: of one teacher). The
baseline also has "spread" and "members"; a student also has "hard_weight", "temperature" and "chosen".
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

System = Mapping[str, Any]

SCHEMA = 5
ROUNDING = 1e-9
"""Rates (0 to 1) that differ by less are equal: what a mean of ten leaves behind."""
NOT_MEASURED = "–"
WORD_ERROR_KEYS = ("wer", "errors", "words", "ins", "del", "sub", "ser")


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
    """Average systems measured one at a time into the baseline.

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
    if has_words(members[0]):
        word_errors = {key: [member["wer"]["test"][key] for member in members] for key in WORD_ERROR_KEYS}
        mean["wer"] = {"test": {key: statistics.fmean(values) for key, values in word_errors.items()}}
        mean["spread"]["wer"] = {"test": _spread(word_errors["wer"])}
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
    (undefined) where the ensemble is not better than the baseline. "wer" is there where words were decoded.
    "ci95" is that of `intervals`, by measure; None where the ensemble may as well have no gain.
    Source: the 86% of Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3, is this ratio.
    """
    found = intervals or {}
    systems = (baseline, ensemble, student)
    accuracies = [system["frame_accuracy"]["test"] for system in systems]
    transfer: dict[str, Any] = {
        "frame_accuracy": {"value": _kept_share(*accuracies), "ci95": found.get("frame_accuracy")}
    }
    if has_words(baseline):
        negated_wers = [-system["wer"]["test"]["wer"] for system in systems]
        transfer["wer"] = {"value": _kept_share(*negated_wers), "ci95": found.get("wer")}
    return transfer


def _kept_share(baseline: float, ensemble: float, student: float) -> float | None:
    gain = ensemble - baseline
    return (student - baseline) / gain if gain > ROUNDING else None


def name_student(student: System) -> str:
    """What a student is called in tables; one that never saw a soft target is a control."""
    if student["hard_weight"] == 1:
        return "control, hard targets alone"
    return f"distilled, hard weight {student['hard_weight']:g}"


def name_students(students: Sequence[System]) -> list[str]:
    """Names of the students in the report: by hard weight, and by temperature where a weight has several."""
    times_used = Counter(student["hard_weight"] for student in students)
    return [
        f"distilled_hard_weight_{student['hard_weight']:g}"
        + (f"_temperature_{student['temperature']:g}" if times_used[student["hard_weight"]] > 1 else "")
        for student in students
    ]


def build_report(
    *,
    recipe: str,
    num_tied_states: int,
    teachers: Sequence[System],
    ensemble: System,
    aligner: System,
    students: Sequence[System],
    comparisons: Mapping[str, Any],
    transfer_intervals: Mapping[str, Sequence[float] | None],
    ensemble_size: Mapping[str, Sequence[Mapping[str, Any]]],
    agreement: Sequence[Mapping[str, Any]],
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
        students: systems that also have "hard_weight", "temperature" and "chosen"; exactly one is chosen.
        comparisons: "num_blocks" of test and what they are ("block"), and "pairs", as
            scoring/comparison.py describes them: of the first teacher ("teacher_00"), ensemble and students.
        transfer_intervals: of the transfer of the student chosen, by measure.
        ensemble_size: for "dev" and "test" a dict for each size, as scoring/ensemble_size.py describes it.
        agreement: of each number of "votes" on dev the "share" of frames and the teachers' mean "distance".
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
    baseline = mean_system(teachers)
    students = sorted(students, key=lambda student: (student["hard_weight"], student["temperature"]))
    by_name = dict(zip(name_students(students), map(dict, students), strict=True))
    return {
        "schema": SCHEMA,
        "recipe": recipe,
        "num_teachers": len(teachers),
        "num_tied_states": num_tied_states,
        "systems": {
            "baseline": baseline,
            "ensemble": dict(ensemble),
            "distilled": dict(chosen[0]),
            "aligner": dict(aligner),
            **by_name,
        },
        "transfer": compute_transfer(baseline, ensemble, chosen[0], transfer_intervals),
        "comparisons": dict(comparisons),
        "ensemble_size": {split: list(map(dict, sizes)) for split, sizes in ensemble_size.items()},
        "agreement": list(map(dict, agreement)),
        "soft_targets": dict(soft_targets),
        "codecs": list(map(dict, codecs)),
        "language_model": dict(language_model),
        "stages": {stage: dict(cost) for stage, cost in stages.items()},
        "left_out": [asdict(part) for part in left_out],
        "settings": dict(settings),
        "versions": dict(versions),
    }
