"""Systems compared on the same test utterances, pair by pair, and how sure the transfer is.

Shapes: U utterances, N frames with a hard target, M teachers, S students.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from asrdistill.scoring.significance import (
    adjust_p_values,
    bootstrap_difference,
    compare_frames,
    compare_segments,
    draw_blocks,
    sum_draws,
)

# What is recognised, by the name of its error rate in report.json.
RATES = ("wer", "per")
MEASURES = ("frame_accuracy", *RATES)


@dataclass(frozen=True)
class RecognisedSpeech:
    """What one system recognised, words or phones.

    Attributes:
        errors: int64 (U,).
        alignments: of each utterance what `align_words` gives.
    """

    errors: np.ndarray
    alignments: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """What one system made of the test utterances, in an order that all systems have.

    Attributes:
        name: of the system.
        correct: bool (N,), which frames it got right.
        wrong_frames: int64 (U,).
        recognised: by `RATES`; none where nothing was decoded.
    """

    name: str
    correct: np.ndarray
    wrong_frames: np.ndarray
    recognised: dict[str, RecognisedSpeech]


@dataclass(frozen=True)
class ScoredSpeech:
    """What is known of the test utterances themselves.

    Attributes:
        num_frames: int64 (U,), those with a hard target.
        sizes: by `RATES`, int64 (U,): words of the transcripts; phones of the forced alignment.
        blocks: what the utterance belongs to that is drawn as a whole: its speaker, or where there are no
            two of them itself, or of very many some that follow each other.
        block: what that is: "speaker", "utterance" or "utterance group".
    """

    num_frames: np.ndarray
    sizes: dict[str, np.ndarray]
    blocks: Sequence[str]
    block: str = "speaker"

    @property
    def num_blocks(self) -> int:
        return len(set(self.blocks))


def compare_pairs(
    pairs: Iterable[tuple[Outcome, Outcome]], speech: ScoredSpeech, measures: Sequence[str] = MEASURES
) -> list[dict[str, Any]]:
    """Pairs of systems: differences on test, first less second, and whether they are more than luck.

    Args:
        pairs: of systems.
        speech: the test utterances.
        measures: those that are compared: frames and phones only of systems with the same targets.

    Returns:
        Of each pair `first`, `second`, and of `frame_accuracy`, `wer` and `per` the `difference`, its `ci95`
        by speakers, and `unpaired_ci95`, as of other speakers for each; fractions. Of frames also McNemar's
        `only_first` and `only_second`, of words and phones MAPSSWE's `num_segments` and `z`; of all `p_value`
        and, for all pairs, `p_corrected`.
    """
    compared = [_compare(first, second, speech, measures) for first, second in pairs]
    for measure in measures:
        found = [pair[measure] for pair in compared if measure in pair]
        corrected = adjust_p_values([one["p_value"] for one in found])
        for one, p_value in zip(found, corrected, strict=True):
            one["p_corrected"] = p_value
    return compared


def list_pairs(outcomes: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Each one of several systems with each that comes after it."""
    return list(combinations(outcomes, 2))


def _compare(
    first: Outcome, second: Outcome, speech: ScoredSpeech, measures: Sequence[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {"first": first.name, "second": second.name}
    if "frame_accuracy" in measures:
        # More frames right are fewer wrong: of accuracies the order is turned.
        frames = _find_difference(second.wrong_frames, first.wrong_frames, speech.num_frames, speech.blocks)
        found["frame_accuracy"] = {**frames, **vars(compare_frames(first.correct, second.correct))}
    for rate in RATES:
        if rate in measures and rate in first.recognised and rate in second.recognised:
            one, other = first.recognised[rate], second.recognised[rate]
            matched = compare_segments(one.alignments, other.alignments)
            found[rate] = {
                **_find_difference(one.errors, other.errors, speech.sizes[rate], speech.blocks),
                "num_segments": matched.num_segments,
                "z": matched.z,
                "p_value": matched.p_value,
            }
    return found


def _find_difference(
    first: np.ndarray, second: np.ndarray, sizes: np.ndarray, speakers: Sequence[str]
) -> dict[str, Any]:
    return {
        "difference": float((first.sum() - second.sum()) / sizes.sum()),
        "ci95": list(bootstrap_difference(first, second, sizes, speakers)),
        "unpaired_ci95": list(bootstrap_difference(first, second, sizes, speakers, is_paired=False)),
    }


def bootstrap_transfers(
    teachers: Sequence[Outcome], ensemble: Outcome, students: Sequence[Outcome], speech: ScoredSpeech
) -> dict[str, tuple[float, float] | None]:
    """Intervals of the transfer, by measure; of words and phones where they were decoded."""
    found = {
        "frame_accuracy": bootstrap_transfer(
            np.stack([teacher.wrong_frames for teacher in teachers]),
            ensemble.wrong_frames,
            np.stack([student.wrong_frames for student in students]),
            speech.blocks,
        )
    }
    for rate in RATES:
        if all(rate in outcome.recognised for outcome in (ensemble, *teachers, *students)):
            of_teachers, of_students = (
                np.stack([outcome.recognised[rate].errors for outcome in outcomes])
                for outcomes in (teachers, students)
            )
            errors = ensemble.recognised[rate].errors
            found[rate] = bootstrap_transfer(of_teachers, errors, of_students, speech.blocks)
    return found


def bootstrap_transfer(
    teachers: np.ndarray,
    ensemble: np.ndarray,
    students: np.ndarray,
    speakers: Sequence[str],
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of (student - baseline) / (ensemble - baseline), by draws of speakers, teachers, students.

    Baseline and student are means over seeds; the ensemble is held as it is. Of one student alone nothing is
    known of its seed: what that adds is left out then.

    Args:
        teachers: (M, U) errors of each.
        ensemble: (U,) errors.
        students: (S, U) errors of each seed.
        speakers: of each utterance.
        confidence: of the interval.
        seed: of the draws.

    Returns:
        Lower and upper end; None where the ensemble may as well have no gain: in one draw of 40 or more.
    """
    _, blocks = np.unique(np.asarray(speakers), return_inverse=True)
    counted = np.stack(
        [np.bincount(blocks, errors) for errors in np.vstack([ensemble, teachers, students])], axis=1
    )
    drawn = sum_draws(draw_blocks(len(counted), seed=seed), counted)
    rng = np.random.default_rng((seed, 1))
    baseline = _draw_mean(rng, drawn[:, 1 : len(teachers) + 1])
    kept = baseline - _draw_mean(rng, drawn[:, len(teachers) + 1 :])
    gain, tail = baseline - drawn[:, 0], (1 - confidence) / 2
    if (gain <= 0).mean() >= tail:
        return None
    ratios = np.where(gain > 0, kept / np.where(gain > 0, gain, 1), np.inf)
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def _draw_mean(rng: np.random.Generator, errors: np.ndarray) -> np.ndarray:
    """Mean of as many models as there are, drawn with replacement: of errors (draws, models), (draws,).

    Deviations are stretched: draws from n models deviate too little, by the root of (n - 1) / n.
    """
    num_models = errors.shape[1]
    if num_models == 1:
        return errors[:, 0]
    shares = rng.multinomial(num_models, np.full(num_models, 1 / num_models), len(errors))
    mean = errors.mean(1)
    stretched: np.ndarray = mean + ((errors * shares).sum(1) / num_models - mean) * math.sqrt(
        num_models / (num_models - 1)
    )
    return stretched
