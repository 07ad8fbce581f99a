"""A made-up but lifelike result, with text that needs escaping, to render in every test."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from asrdistill.reporting.alignment_picture import AlignmentPicture
from asrdistill.reporting.learning_curves import LearningCurve
from asrdistill.reporting.report import LeftOut, build_report
from asrdistill.reporting.tuning_grid import TuningGrid

NASTY_ID = "utt_7<b>&|$x_1$"


def make_system(
    test: float, errors: int, dev: float = 0.5, num_parameters: int = 1_234_567, **more: Any
) -> dict[str, Any]:
    """A system with 1000 test words, of a network without biases."""
    counts = {"errors": errors, "words": 1000, "ins": 3, "del": 5, "sub": errors - 8, "ser": 0.4375}
    return {
        "frame_accuracy": {"dev": dev, "test": test},
        "num_parameters": num_parameters,
        "flops_a_frame": 2 * num_parameters,
        "wer": {"test": {"wer": errors / 1000, **counts}},
        "per": {"test": {"wer": errors / 2000, **counts, "words": 2000}},
        **more,
    }


def make_comparisons(
    ensemble: dict[str, Any], student: dict[str, Any], controls: list[dict[str, Any]]
) -> dict[str, Any]:
    """Of the first teacher (of 144 word errors), ensemble, student, controls; a point is p = 0.02."""
    systems = {
        "teacher_00": make_system(0.616, 144),
        "ensemble": ensemble,
        "distilled": student,
        **{f"control_{control['control']}": control for control in controls},
    }
    pairs = []
    for names in combinations(systems, 2):
        first, second = (systems[name] for name in names)
        pairs.append(
            {
                "first": names[0],
                "second": names[1],
                "frame_accuracy": {
                    **_compare(*(system["frame_accuracy"]["test"] for system in (first, second))),
                    "only_first": 1200,
                    "only_second": 1300,
                },
                **{
                    rate: {
                        **_compare(*(system[rate]["test"]["wer"] for system in (first, second))),
                        "num_segments": 321,
                        "z": 1.0,
                    }
                    for rate in ("wer", "per")
                    if rate in first and rate in second
                },
            }
        )
    return {"block": "speaker", "num_blocks": 60, "pairs": pairs}


def _compare(first: float, second: float) -> dict[str, Any]:
    difference = first - second
    p_value = 1 - 98 * min(abs(difference), 0.01)
    return {
        "difference": difference,
        "ci95": [difference - 0.004, difference + 0.005],
        "unpaired_ci95": [difference - 0.03, difference + 0.03],
        "p_value": p_value / 2,
        "p_corrected": p_value,
    }


def make_calibration(confidence: float) -> dict[str, Any]:
    """Of 1,000 frames, all in two bins."""
    bins = [
        {"low": n / 15, "high": (n + 1) / 15, "frames": 0, "confidence": None, "accuracy": None}
        for n in range(15)
    ]
    bins[7] |= {"frames": 400, "confidence": 0.5, "accuracy": 0.45}
    bins[14] |= {"frames": 600, "confidence": confidence, "accuracy": 0.9}
    keys = {"overconfidence": 0.02, "ece": 0.04, "mce": 0.06, "nll": 1.25, "brier": 0.5}
    return {"num_frames": 1000, "accuracy": 0.72, "confidence": confidence, **keys, "bins": bins}


def make_groups(*groups: tuple[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Of three systems, alike but for their scores."""
    counts = {"num_speakers": 3, "num_utterances": 40, "words": 1234}
    return {
        name: [
            {"kind": kind, "group": group, **counts, "wer": 0.25 + n / 100, "frame_accuracy": None}
            for kind, group in groups
        ]
        for n, name in enumerate(("baseline", "ensemble", "distilled"))
    }


def make_mimicry() -> dict[str, Any]:
    """Two phones, ten bins of entropy, four cases."""
    row = {"frames": 500, "share": 0.5, "agreement": 0.8, "kl": 0.2, "kl_share": 0.5, "entropy": 1.0}
    row |= {"ensemble_accuracy": 0.6, "student_accuracy": 0.59}
    return {
        "overall": {**row, "frames": 1000, "share": 1.0, "kl_share": 1.0},
        "phones": [{"phone": name, **row} for name in ("AH0", "<b>")],
        "entropy": [{"low": n / 2, "high": (n + 1) / 2, **row, "share": 0.1} for n in range(10)],
        "cases": [
            {"ensemble_right": one, "student_right": other, **row, "share": 0.25}
            for one in (True, False)
            for other in (True, False)
        ],
    }


def make_report(
    ensemble: dict[str, Any],
    students: list[dict[str, Any]],
    controls: list[dict[str, Any]],
    transfer_intervals: dict[str, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """A report whose ten teachers have a mean test frame accuracy of 0.62 and a mean WER of 0.15."""
    accuracies = 0.62 + 0.001 * np.array([-4, -3, -2, -1, 0, 0, 1, 2, 3, 4])
    errors = [144, 146, 148, 149, 150, 150, 151, 152, 154, 156]
    teachers = [
        make_system(float(accuracy), count, dev=float(accuracy) + 0.0067)
        for accuracy, count in zip(accuracies, errors, strict=True)
    ]
    return build_report(
        recipe="espeak",
        num_tied_states=120,
        teachers=teachers,
        ensemble=ensemble,
        aligner=make_system(0.41, 210),
        students=students,
        controls=controls,
        comparisons=make_comparisons(ensemble, next(s for s in students if s["chosen"]), controls[:1]),
        transfer_intervals=transfer_intervals or {},
        ensemble_size={"dev": make_sizes(0.0067), "test": make_sizes(0.0)},
        agreement=[
            {"votes": 3, "share": 0.125, "distance": 0.5},
            {"votes": 10, "share": 0.875, "distance": 0.0625},
        ],
        calibration={
            name: make_calibration(0.9 + n / 50)
            for n, name in enumerate(("baseline", "ensemble", "distilled", *_name_first(controls)))
        },
        mimicry=make_mimicry(),
        speaker_groups=make_groups(("gender", "f"), ("age", "under 13")),
        speakers=make_groups(("speaker", "<ann>")),
        confusions={
            "substitutions": [["<the>", "a", 3], ["two", "too", 1]],
            "deletions": [["of", 2]],
            "insertions": [],
        },
        soft_targets={
            "bytes_per_frame": 31.25,
            "codec": "top_k",
            "temperatures": [2.0, 5.0],
            "num_shards": 12,
        },
        codecs=[
            make_codec("{kind: dense}", 2002.25, 0.61),
            make_codec("{kind: top_k, num_kept: 8}", 36.5, 0.6),
        ],
        language_model={"order": 3, "dev_perplexity": 151.25, "dev_num_oov": 17, "train_num_oov": 0},
        stages={
            "prepare": {"seconds": 21.4, "peak_memory_mb": 310.0, "size_bytes": 91_400_000},
            "features": {"seconds": 16.2, "peak_memory_mb": 402.5, "size_bytes": 58_000_000},
            "align": {"seconds": 47.9, "peak_memory_mb": 890.0, "size_bytes": 2_100_000},
            "teachers": {"seconds": 3721.0, "peak_memory_mb": 2410.0, "size_bytes": 49_400_000},
            "soft_targets": {"seconds": 30.3, "peak_memory_mb": 1200.0, "size_bytes": 143_000_000},
            "student": {"seconds": 184.0, "peak_memory_mb": 1500.0, "size_bytes": 19_800_000},
            "score": {"seconds": 75.6, "peak_memory_mb": 700.0},
        },
        left_out=[
            LeftOut("prepare", "shorter than 0.1 s", 2),
            LeftOut("align", "no path through the <transcript>", 2, (NASTY_ID, "speaker03-0017")),
        ],
        settings={
            "alignment": {"imported": None},
            "realignment": {"realign": "none"},
            "teachers": {"num_members": 10, "model": {"num_layers": 4, "width": 256, "activation": "relu"}},
            "student": {"temperature": 2.0, "hard_weights": [0.0, 0.25, 0.5, 1.0], "note": "<i>& 5 > 4</i>"},
        },
        versions={"asrdistill": "0.1.0", "python": "3.11.7", "torch": "2.11.0+cpu"},
    )


def make_codec(name: str, bytes_per_frame: float, accuracy: float) -> dict[str, Any]:
    """A codec with three students whose test frame accuracies differ by 0.0025."""
    students = [make_system(accuracy + 0.0025 * n, 150 + n, dev=accuracy) for n in range(-1, 2)]
    return {"name": name, "bytes_per_frame": bytes_per_frame, "codebook_bytes": 0, "students": students}


def make_sizes(shift: float) -> list[dict[str, Any]]:
    """Ensembles of 1 to 10 teachers, from 62% to 63.75% (and a shift)."""
    points = []
    for size in range(1, 11):
        mean, half_range = 0.6375 + shift - 0.0175 * (1 / size - 0.1) / 0.9, 0.004 * (1 - size / 10)
        bounds = {"min": mean - half_range, "max": mean + 1.5 * half_range}
        points.append({"size": size, "mean": mean, **bounds, "num_subsets": 10 if size < 10 else 1})
    return points


def _name_first(controls: list[dict[str, Any]]) -> list[str]:
    return [f"control_{control['control']}" for control in controls[:1]]


def make_students() -> list[dict[str, Any]]:
    """Three hard weights; 0.25 is the one chosen on dev, with three seeds."""
    settings = [
        (0.0, 0.6312, 146, False),
        (0.25, 0.6343, 143, True),
        (0.5, 0.6331, 144, False),
        (0.25, 0.6333, 144, False),
        (0.25, 0.6353, 142, False),
    ]
    return [
        make_system(test, errors, dev=test + 0.004, hard_weight=weight, temperature=2.0, chosen=chosen)
        for weight, test, errors, chosen in settings
    ]


def make_controls() -> list[dict[str, Any]]:
    """Of each kind, two seeds of the first."""
    kinds = ("hard_targets", "hard_targets", "label_smoothing", "equal_compute")
    return [make_system(0.6224 + 0.001 * n, 149 - n, control=kind) for n, kind in enumerate(kinds)]


@pytest.fixture(scope="session")
def report_of_test() -> Callable[..., dict[str, Any]]:
    """Build a report of an ensemble and one student from their test frame accuracies and word errors."""

    def build(
        ensemble: tuple[float, int],
        student: tuple[float, int],
        transfer_intervals: dict[str, tuple[float, float]] | None = None,
        controls: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        more = {"hard_weight": 0.5, "temperature": 2.0, "chosen": True}
        students = [make_system(*student, **more)]
        return make_report(make_system(*ensemble), students, controls or [], transfer_intervals)

    return build


@pytest.fixture(scope="session")
def report() -> dict[str, Any]:
    return make_report(
        make_system(0.6375, 142, dev=0.6419, num_parameters=12_345_670), make_students(), make_controls()
    )


def _curve(name: str, end: float, loss: float, num_epochs: int, rng: np.random.Generator) -> LearningCurve:
    epochs = np.arange(1, num_epochs + 1)
    accuracy = end - 0.22 * np.exp(-epochs / 3) + rng.normal(0, 0.002, num_epochs)
    dev_loss = loss + 1.1 * np.exp(-epochs / 2.5) + rng.normal(0, 0.006, num_epochs)
    train_loss = loss - 0.15 + 1.2 * np.exp(-epochs / 3)
    return LearningCurve(
        name, accuracy.tolist(), train_loss.tolist(), dev_loss.tolist(), int(np.argmax(accuracy)) + 1
    )


def _grid(system: str, best: float, rng: np.random.Generator) -> TuningGrid:
    scales, penalties = [0.05, 0.075, 0.1, 0.125, 0.15, 0.2], [-1.0, 0.0, 1.0, 2.0]
    scale, penalty = np.meshgrid(scales, penalties, indexing="ij")
    wer = best + 9 * (scale - 0.11) ** 2 + 0.006 * (penalty - 0.4) ** 2 + rng.normal(0, 0.0008, scale.shape)
    row, column = np.unravel_index(np.argmin(wer), wer.shape)
    return TuningGrid(system, scales, penalties, wer, (scales[row], penalties[column]))


def make_alignment() -> AlignmentPicture:
    """1.85 s of bands whose energy changes with each phone."""
    rng = np.random.default_rng(4)
    phones = ["SIL", "DH", "AH0", "K", "W", "IH1", "K", "B", "R", "AW1", "N", "F", "AA1", "K", "S", "SIL"]
    lengths = [22, 4, 5, 9, 6, 8, 10, 7, 6, 18, 9, 13, 17, 9, 18, 24]
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]]
    log_mel = np.full((ends[-1], 40), -9.0)
    for phone, start, end in zip(phones, starts, ends, strict=True):
        centres = rng.uniform(3, 36, 3)
        shape = sum(np.exp(-(((np.arange(40) - centre) / 3.5) ** 2)) for centre in centres)
        log_mel[start:end] += (0.5 if phone == "SIL" else 7.0) * shape
    log_mel += rng.normal(0, 0.6, log_mel.shape)
    segments = list(zip(phones, starts, ends, strict=True))
    words = [("the", starts[1], ends[2]), ("quick", starts[3], ends[6]), ("<brown>", starts[7], ends[10]),
             ("$fox$", starts[11], ends[14])]  # fmt: skip
    return AlignmentPicture(NASTY_ID, "the quick <brown> $fox$", log_mel, 0.01, segments, words)


@pytest.fixture(scope="session")
def pictures() -> dict[str, Any]:
    """The arguments of `render_html` after the report."""
    rng = np.random.default_rng(3)
    students = [
        ("hard weight 0", 0.635, 2.1),
        ("hard weight 0.25", 0.638, 2.0),
        ("hard weight 0.5", 0.637, 1.8),
        ("hard targets", 0.626, 1.28),
    ]
    return {
        "teachers": [_curve(f"teacher {member}", 0.627, 1.3, 10 + member % 3, rng) for member in range(10)],
        "students": [_curve(name, end, loss, 14, rng) for name, end, loss in students],
        "tuning": [
            _grid("baseline", 0.15, rng),
            _grid("ensemble", 0.141, rng),
            _grid("distilled", 0.143, rng),
        ],
        "alignment": make_alignment(),
    }
