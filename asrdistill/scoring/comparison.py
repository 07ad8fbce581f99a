"""Systems compared on the same test utterances, pair by pair, and how sure the transfer is.

Shapes: U utterances, M teachers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from asrdistill.scoring.significance import (
    adjust_p_values,
    bootstrap_difference,
    compare_segments,
    draw_blocks,
)


@dataclass(frozen=True)
class Outcome:
    """What one system made of the test utterances, in an order that all systems have.

    Attributes:
        name: of the system.
        wrong_frames: int64 (U,).
        word_errors: int64 (U,); None where no words were decoded.
        alignments: of each utterance what `align_words` gives; None likewise.
    """

    name: str
    wrong_frames: np.ndarray
    word_errors: np.ndarray | None
    alignments: Sequence[str] | None


@dataclass(frozen=True)
class ScoredSpeech:
    """What is known of the test utterances themselves.

    Attributes:
        num_frames: int64 (U,), those with a hard target.
        num_words: int64 (U,), of the transcripts.
        blocks: what the utterance belongs to that is drawn as a whole: its speaker, or where there are no
            two of them itself.
        block: what that is: "speaker" or "utterance".
    """

    num_frames: np.ndarray
    num_words: np.ndarray
    blocks: Sequence[str]
    block: str = "speaker"

    @property
    def num_blocks(self) -> int:
        return len(set(self.blocks))


def compare_pairs(outcomes: Sequence[Outcome], speech: ScoredSpeech) -> list[dict[str, Any]]:
    """Each pair of systems: differences on test, first less second, and whether they are more than luck.

    Returns:
        Of each pair `first`, `second`, and of `frame_accuracy` and `wer` the `difference` and its `ci95`,
        fractions; of `wer` also MAPSSWE's `num_segments`, `z` and `p_value`, and `p_corrected` for all pairs.
    """
    pairs = list(combinations(outcomes, 2))
    compared = []
    for first, second in pairs:
        frames = _compare(first.wrong_frames, second.wrong_frames, speech.num_frames, speech.blocks)
        # More wrong frames are less accuracy.
        accuracy = {"difference": -frames["difference"], "ci95": [-end for end in reversed(frames["ci95"])]}
        found: dict[str, Any] = {"first": first.name, "second": second.name, "frame_accuracy": accuracy}
        if first.word_errors is not None and second.word_errors is not None:
            assert first.alignments is not None and second.alignments is not None
            matched = compare_segments(first.alignments, second.alignments)
            found["wer"] = {
                **_compare(first.word_errors, second.word_errors, speech.num_words, speech.blocks),
                "num_segments": matched.num_segments,
                "z": matched.z,
                "p_value": matched.p_value,
            }
        compared.append(found)
    with_words = [found["wer"] for found in compared if "wer" in found]
    corrected = adjust_p_values([wer["p_value"] for wer in with_words])
    for wer, p_value in zip(with_words, corrected, strict=True):
        wer["p_corrected"] = p_value
    return compared


def _compare(
    first: np.ndarray, second: np.ndarray, sizes: np.ndarray, speakers: Sequence[str]
) -> dict[str, Any]:
    difference = float((first.sum() - second.sum()) / sizes.sum())
    return {"difference": difference, "ci95": list(bootstrap_difference(first, second, sizes, speakers))}


def bootstrap_transfers(
    teachers: Sequence[Outcome], ensemble: Outcome, student: Outcome, speech: ScoredSpeech
) -> dict[str, tuple[float, float] | None]:
    """Intervals of the transfer, by measure; of `wer` where words were decoded."""
    wrong = np.stack([teacher.wrong_frames for teacher in teachers])
    found = {
        "frame_accuracy": bootstrap_transfer(
            wrong, ensemble.wrong_frames, student.wrong_frames, speech.blocks
        )
    }
    errors = [teacher.word_errors for teacher in teachers if teacher.word_errors is not None]
    if errors and ensemble.word_errors is not None and student.word_errors is not None:
        found["wer"] = bootstrap_transfer(
            np.stack(errors), ensemble.word_errors, student.word_errors, speech.blocks
        )
    return found


def bootstrap_transfer(
    teachers: np.ndarray,
    ensemble: np.ndarray,
    student: np.ndarray,
    speakers: Sequence[str],
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of (student - baseline) / (ensemble - baseline), from draws of speakers and of teachers.

    Of the student's own seed nothing is known from one student: what it adds is left out.

    Args:
        teachers: (M, U) errors of each.
        ensemble: (U,) errors.
        student: (U,) errors.
        speakers: of each utterance.
        confidence: of the interval.
        seed: of the draws.

    Returns:
        Lower and upper end; None where the ensemble may as well have no gain: in one draw of 40 or more.
    """
    rng = np.random.default_rng(seed)
    _, blocks = np.unique(np.asarray(speakers), return_inverse=True)
    counted = np.stack(
        [np.bincount(blocks, errors) for errors in (ensemble, student, *np.asarray(teachers, np.float64))]
    )
    gains, kept = [], []
    for counts in draw_blocks(rng, counted.shape[1]):
        drawn = counts @ counted.T
        shares = rng.multinomial(len(teachers), np.full(len(teachers), 1 / len(teachers)), len(counts))
        baseline = (drawn[:, 2:] * shares).sum(1) / len(teachers)
        gains.append(baseline - drawn[:, 0])
        kept.append(baseline - drawn[:, 1])
    gain, tail = np.concatenate(gains), (1 - confidence) / 2
    if (gain <= 0).mean() >= tail:
        return None
    ratios = np.where(gain > 0, np.concatenate(kept) / np.where(gain > 0, gain, 1), np.inf)
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)
