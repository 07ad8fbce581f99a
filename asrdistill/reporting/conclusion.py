"""What the numbers show, in sentences that stay true when there is no gain, or harm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asrdistill.reporting.report import MEASURES, ROUNDING, has_words
from asrdistill.scoring.comparison import RATES

NO_WORDS = (
    "No words were decoded: the targets are pdf-ids of another system, whose phones are not known here, so "
    "there is no word error rate."
)
# What a control did instead.
_WITHOUT = {
    "hard_targets": "its own training on hard targets alone",
    "label_smoothing": "the same with label smoothing",
    "equal_compute": "a teacher trained on as many frames as it was",
}


@dataclass(frozen=True)
class _Comparison:
    """One measure on test: rates in points (percent), turned so that more is better; transfer 0 to 1."""

    measure: str
    baseline: float
    ensemble: float
    student: float
    spread: float | None
    transfer: float | None
    interval: Sequence[float] | None


def conclude(report: Mapping[str, Any]) -> list[str]:
    """Say in a sentence each for frame accuracy, WER and PER what ensemble and student gained on test."""
    systems = report["systems"]
    named = [systems[name] for name in ("baseline", "ensemble", "distilled")]
    spread = systems["baseline"]["spread"]
    measured = zip(MEASURES.items(), *map(_list_measures, named), strict=False)
    sentences = [
        _sentence(
            _compare(measure, values, spread[key]["test"], report["transfer"][key]),
            report["num_teachers"],
        )
        for (key, measure), *values in measured
    ]
    if not has_words(systems["baseline"]):
        sentences.append(NO_WORDS)
    controls = [system for name, system in systems.items() if name.startswith("control_")]
    return [*sentences, _tell_controls(controls, systems["distilled"])] if controls else sentences


def _tell_controls(controls: Sequence[Mapping[str, Any]], student: Mapping[str, Any]) -> str:
    """How much better the student is than single models without soft targets."""
    distilled, told = _list_measures(student), []
    for control in controls:
        measured = zip(MEASURES.values(), distilled, _list_measures(control), strict=False)
        gains = (f"{_points(mine - other, '')} in {name}" for name, mine, other in measured)
        told.append(f"against {_WITHOUT[control['control']]} {', '.join(gains)}")
    return f"On test the distilled model is, {'; '.join(told)}."


def _list_measures(system: Mapping[str, Any]) -> list[float]:
    """Frame accuracy and, where words were decoded, WER and PER on test, in points; more is better."""
    rates = [-100 * system[rate]["test"]["wer"] for rate in RATES if rate in system]
    return [100 * system["frame_accuracy"]["test"], *rates]


def _compare(
    measure: str, values: list[float], spread: float | None, transfer: Mapping[str, Any]
) -> _Comparison:
    baseline, ensemble, student = values
    percent = None if spread is None else 100 * spread
    return _Comparison(measure, baseline, ensemble, student, percent, transfer["value"], transfer["ci95"])


def _sentence(comparison: _Comparison, num_teachers: int) -> str:
    gain = comparison.ensemble - comparison.baseline
    members = f"the mean of its {num_teachers} members"
    measure = comparison.measure[0].upper() + comparison.measure[1:]
    start = f"{measure} on test: the ensemble is {_points(gain)} {members}"
    above_mean = comparison.student - comparison.baseline
    if comparison.transfer is None:
        return (
            f"{start}, so there is no gain to transfer; "
            f"the distilled model is {_points(above_mean)} that mean."
        )
    doubts = f"{_say_interval(comparison.interval)}{_caution(gain, comparison.spread)}"
    return f"{start}; {_student_clause(comparison, above_mean)}.{doubts}"


def _say_interval(interval: Sequence[float] | None) -> str:
    if interval is None:
        return (
            " This share has no 95% interval: with other speakers, or other teachers, there may be no gain "
            "at all."
        )
    low, high = interval
    return f" 95% interval of this share: {100 * low:.0f}% to {100 * high:.0f}%."


def _student_clause(comparison: _Comparison, above_mean: float) -> str:
    assert comparison.transfer is not None
    if comparison.transfer < 0:
        return f"the distilled model is {_points(above_mean)} that mean and keeps none of the gain"
    if comparison.transfer > 1:
        above_ensemble = comparison.student - comparison.ensemble
        share = f"{100 * comparison.transfer:.0f}% of the gain"
        return f"the distilled model is {_points(above_ensemble)} even the ensemble ({share})"
    return f"the distilled model keeps {100 * comparison.transfer:.0f}% of that gain"


def _points(difference: float, than: str = " than") -> str:
    if abs(difference) <= 100 * ROUNDING:
        return f"exactly as good{' as' if than else ''}"
    return f"{abs(difference):.2f} points {'better' if difference > 0 else 'worse'}{than}"


def _caution(gain: float, spread: float | None) -> str:
    if spread is None or gain >= spread:
        return ""
    return (
        f" The gain is smaller than the spread of single models (standard deviation {spread:.2f} points), "
        "so its share says little."
    )
