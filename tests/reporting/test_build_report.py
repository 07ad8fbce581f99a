"""Baseline, spread and transfer against hand-worked numbers."""

import json
import statistics
from typing import Any

import pytest

from asrdistill.reporting.report import average_students, build_report, compute_transfer, mean_system

HINTON = ((0.589, 0.109), (0.611, 0.107), (0.608, 0.107))


def system(accuracy: float, wer: float, **more: Any) -> dict[str, Any]:
    counts = {"errors": 1000 * wer, "words": 1000, "ins": 1, "del": 2, "sub": 3, "ser": 0.5}
    return {
        "frame_accuracy": {"dev": accuracy + 0.01, "test": accuracy},
        "num_parameters": 7,
        "flops_a_frame": 14,
        "wer": {"test": {"wer": wer, **counts}},
        "per": {"test": {"wer": wer / 2, **counts}},
        **more,
    }


def transfer_of(*triple: tuple[float, float]) -> tuple[float | None, float | None]:
    transfer = compute_transfer(*(system(*values) for values in triple))
    assert transfer["frame_accuracy"]["ci95"] is None
    return transfer["frame_accuracy"]["value"], transfer["wer"]["value"]


def test_transfer_of_the_papers_table() -> None:
    assert transfer_of(*HINTON) == pytest.approx((19 / 22, 1.0))


@pytest.mark.parametrize(
    ("student", "expected"),
    [((0.60, 0.15), (0.0, 0.0)), ((0.59, 0.18), (-0.5, -1.0)), ((0.63, 0.09), (1.5, 2.0))],
    ids=["keeps nothing", "harmed", "better than the ensemble"],
)
def test_transfer_at_and_beyond_its_ends(student: tuple[float, float], expected: tuple[float, float]) -> None:
    assert transfer_of((0.60, 0.15), (0.62, 0.12), student) == pytest.approx(expected)


@pytest.mark.parametrize("ensemble", [(0.60, 0.15), (0.58, 0.16), (0.60 + 1e-15, 0.15 - 1e-15)])
def test_transfer_is_undefined_without_a_gain(ensemble: tuple[float, float]) -> None:
    assert transfer_of((0.60, 0.15), ensemble, (0.65, 0.10)) == (None, None)


def test_one_measure_may_gain_where_the_other_does_not() -> None:
    assert transfer_of((0.60, 0.15), (0.64, 0.16), (0.63, 0.15)) == (pytest.approx(0.75), None)


def test_baseline_is_mean_and_sample_standard_deviation() -> None:
    accuracies, wers = [0.61, 0.62, 0.66, 0.60], [0.11, 0.12, 0.10, 0.15]
    members = [system(*pair) for pair in zip(accuracies, wers, strict=True)]
    baseline = mean_system(members)
    assert baseline["frame_accuracy"]["test"] == pytest.approx(0.6225)
    assert baseline["wer"]["test"]["wer"] == pytest.approx(0.12)
    assert baseline["wer"]["test"]["errors"] == pytest.approx(120)
    assert baseline["spread"]["frame_accuracy"]["test"] == pytest.approx(statistics.stdev(accuracies))
    assert baseline["spread"]["frame_accuracy"]["dev"] == pytest.approx(statistics.stdev(accuracies))
    assert baseline["spread"]["wer"]["test"] == pytest.approx(statistics.stdev(wers))
    assert (baseline["num_parameters"], baseline["flops_a_frame"]) == (7, 14)
    assert baseline["members"] == members


def test_one_member_has_no_spread() -> None:
    spread = mean_system([system(0.6, 0.1)])["spread"]
    none = {"test": None}
    assert spread == {"frame_accuracy": {"dev": None, "test": None}, "wer": none, "per": none}


def student(weight: float, temperature: float = 2.0, chosen: bool = False) -> dict[str, Any]:
    return system(0.6, 0.1, hard_weight=weight, temperature=temperature, chosen=chosen)


def test_students_are_named_by_weight_and_by_temperature_only_where_needed() -> None:
    found = average_students([student(0.5), student(0.25, 2.0), student(0.25, 5.0), student(0.5)])
    assert {name: len(one["members"]) for name, one in found.items()} == {
        "distilled_hard_weight_0.25_temperature_2": 1,
        "distilled_hard_weight_0.25_temperature_5": 1,
        "distilled_hard_weight_0.5": 2,
    }


def test_report_has_the_contracts_keys_and_survives_json(report: dict[str, Any]) -> None:
    assert report["schema"] == 6
    assert (report["num_teachers"], report["num_tied_states"]) == (10, 120)
    weights = [f"distilled_hard_weight_{weight}" for weight in ("0", "0.25", "0.5")]
    controls = [f"control_{kind}" for kind in ("hard_targets", "label_smoothing", "equal_compute")]
    assert list(report["systems"]) == ["baseline", "ensemble", "distilled", "aligner", *weights, *controls]
    assert len(report["systems"]["distilled"]["members"]) == 3
    assert len(report["systems"]["control_hard_targets"]["members"]) == 2
    assert report["systems"]["distilled"] == report["systems"]["distilled_hard_weight_0.25"]
    assert report["transfer"]["frame_accuracy"]["value"] == pytest.approx(0.0143 / 0.0175)
    assert report["transfer"]["wer"]["value"] == pytest.approx(7 / 8)
    assert report["stages"]["align"] == {"seconds": 47.9, "peak_memory_mb": 890.0, "size_bytes": 2_100_000}
    assert report["systems"]["ensemble"]["flops_a_frame"] == 2 * 12_345_670
    for split, mean in (("dev", 0.6442), ("test", 0.6375)):
        assert [size["size"] for size in report["ensemble_size"][split]] == list(range(1, 11))
        assert report["ensemble_size"][split][-1]["mean"] == pytest.approx(mean)
    reread = json.loads(json.dumps(report))
    assert all(reread[key] == report[key] for key in ("systems", "ensemble_size"))


@pytest.mark.parametrize("chosen", [(False, False), (True, True)])
def test_exactly_one_student_is_chosen(chosen: tuple[bool, bool]) -> None:
    students = [student(0.5, chosen=chosen[0]), student(1.0, chosen=chosen[1])]
    with pytest.raises(ValueError, match="expected exactly one"):
        build_report(
            recipe="r", num_tied_states=3, teachers=[system(0.6, 0.1)], ensemble=system(0.6, 0.1),
            aligner=system(0.4, 0.2), students=students, ensemble_size={}, agreement=[], soft_targets={},
            codecs=[], language_model={}, stages={}, left_out=[], settings={}, versions={},
            comparisons={}, transfer_intervals={}, controls=[], calibration={}, mimicry={},
            speaker_groups={}, speakers={}, confusions={},
        )  # fmt: skip
