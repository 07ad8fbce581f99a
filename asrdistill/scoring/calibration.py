"""Calibration: whether a model is as often right as it believes to be.

Task: compare a model's confidence on a frame, the posterior of its likeliest pdf-id, with how often that
pdf-id is the hard target; and the posterior of the hard target itself.
Definition: frames are put into 15 bins of equal width by their confidence. The expected calibration error
(ECE) is the mean over frames of |accuracy - mean confidence| of their bin, the maximum one (MCE) that of the
worst bin. Over-confidence is mean confidence minus accuracy over all frames: below 0, the model is too
modest. The negative log likelihood (NLL) is the mean of -log posterior of the target, in nats; the Brier
score the mean of sum_p (posterior_p - [p is the target])^2, from 0 to 2.
Sources: Naeini, Cooper & Hauskrecht (2015), AAAI, "Obtaining well calibrated probabilities using Bayesian
binning"; Guo, Pleiss, Sun & Weinberger (2017), arXiv:1706.04599, whose 15 bins these are; Brier (1950).
Conventions: bins are closed on the right, as Guo's: bin m of M holds confidences in ((m - 1) / M, m / M], so
that 1 is in the last one. All frames count, those of silence included; of equally probable pdf-ids the lowest
one is taken. Scores are normalised first, so that joint scores (log likelihood plus log prior) do as well.
Known differences: ECE depends on the bins, and with few frames a bin it is biased upwards, because chance
alone parts accuracy from confidence: compare systems on the same frames. In a bin too much and too little
confidence cancel, and over-confidence cancels over all of them: |over-confidence| <= ECE <= MCE. Neighbouring
frames are much alike, so that there are fewer independent ones than frames. The hard target is what forced
alignment found, not the truth: at phone boundaries a frame may count as wrong that is not. Joint scores of
mixtures, not scaled, are far more confident than those of networks.

Shapes: T frames, P pdf-ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.scoring.frame_accuracy import check_frames

NUM_BINS = 15
# Frames worked on at a time: what is computed of them stays in the cache.
BLOCK = 128


@dataclass(frozen=True, eq=False)
class Calibration:
    """Frames counted by confidence; those of two utterances add up.

    Attributes:
        frames: of each bin, int64 (15,).
        confidence: sum of their confidences, float64 (15,).
        correct: those whose likeliest pdf-id is the target, int64 (15,).
        log_loss: sum over frames of -log posterior of the target, nats.
        square_loss: sum over frames of the squared distance of posterior and one-hot target.
    """

    frames: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray
    log_loss: float
    square_loss: float

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            self.frames + other.frames,
            self.confidence + other.confidence,
            self.correct + other.correct,
            self.log_loss + other.log_loss,
            self.square_loss + other.square_loss,
        )

    @property
    def num_frames(self) -> int:
        return int(self.frames.sum())

    @property
    def accuracy(self) -> float:
        return self._mean(self.correct.sum())

    @property
    def mean_confidence(self) -> float:
        return self._mean(self.confidence.sum())

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy, from -1 to 1."""
        return self.mean_confidence - self.accuracy

    @property
    def ece(self) -> float:
        """Expected calibration error, from 0 to 1."""
        return self._mean(np.abs(self.confidence - self.correct).sum())

    @property
    def mce(self) -> float:
        """Largest calibration error of a bin that has frames, from 0 to 1."""
        self._mean(0)
        used = self.frames > 0
        return float(np.max(np.abs(self.confidence - self.correct)[used] / self.frames[used]))

    @property
    def nll(self) -> float:
        """Mean negative log likelihood of the target, nats a frame."""
        return self._mean(self.log_loss)

    @property
    def brier(self) -> float:
        """Brier score, from 0 to 2."""
        return self._mean(self.square_loss)

    def _mean(self, total: float) -> float:
        if not self.num_frames:
            raise ContractError(
                "calibration: no frames were counted; expected at least one utterance that could be "
                "aligned: look at what the align stage left out"
            )
        return float(total) / self.num_frames

    def describe(self) -> dict[str, Any]:
        """As report.json gives it; confidence and accuracy of a bin without frames are None.

        Raises:
            ContractError: no frames were counted.
        """
        return {
            "num_frames": self.num_frames,
            "accuracy": self.accuracy,
            "confidence": self.mean_confidence,
            "overconfidence": self.overconfidence,
            "ece": self.ece,
            "mce": self.mce,
            "nll": self.nll,
            "brier": self.brier,
            "bins": [self._describe_bin(number) for number in range(NUM_BINS)],
        }

    def _describe_bin(self, number: int) -> dict[str, Any]:
        frames = int(self.frames[number])
        return {
            "low": number / NUM_BINS,
            "high": (number + 1) / NUM_BINS,
            "frames": frames,
            "confidence": float(self.confidence[number]) / frames if frames else None,
            "accuracy": int(self.correct[number]) / frames if frames else None,
        }


def sum_calibrations(calibrations: Iterable[Calibration]) -> Calibration:
    """That of all utterances; of none, one without frames."""
    counts = np.zeros(NUM_BINS, np.int64)
    return sum(calibrations, Calibration(counts, np.zeros(NUM_BINS), counts, 0.0, 0.0))


def measure_calibration(log_posteriors: np.ndarray, pdf_ids: np.ndarray) -> Calibration:
    """Measure one utterance.

    Args:
        log_posteriors: float (T, P); logits or joint scores do as well.
        pdf_ids: int (T,) hard targets.

    Raises:
        ContractError: the shapes differ, a target is no column, or a posterior is not a finite number.
    """
    check_frames("calibration", log_posteriors, pdf_ids)
    blocks = range(0, len(pdf_ids), BLOCK)
    return sum_calibrations(
        _measure_block(log_posteriors[start : start + BLOCK], pdf_ids[start : start + BLOCK])
        for start in blocks
    )


def _measure_block(scores: np.ndarray, pdf_ids: np.ndarray) -> Calibration:
    rows = np.arange(len(scores))
    top = scores.argmax(axis=1)
    highest = scores[rows, top]
    with np.errstate(invalid="ignore"):  # infinity minus infinity is refused below
        powers = np.exp(scores - highest[:, None])
        totals = powers.sum(axis=1).astype(np.float64)
        losses = np.log(totals) - (scores[rows, pdf_ids] - highest)
    check_finite("calibration", losses)
    confidence, correct = 1 / totals, top == pdf_ids
    squares = np.einsum("tp,tp->t", powers, powers) / totals**2 - 2 * np.exp(-losses) + 1
    bins = np.clip(np.ceil(NUM_BINS * confidence).astype(np.int64) - 1, 0, NUM_BINS - 1)
    return Calibration(
        np.bincount(bins, minlength=NUM_BINS),
        np.bincount(bins, confidence, NUM_BINS),
        np.bincount(bins[correct], minlength=NUM_BINS),
        float(losses.sum()),
        float(squares.sum()),
    )


def check_finite(subject: str, values: np.ndarray) -> None:
    """See that what was computed of each frame is a number.

    Raises:
        ContractError: one is not a number, or infinite.
    """
    num_wrong = np.count_nonzero(~np.isfinite(values))
    if num_wrong:
        raise ContractError(
            f"{subject}: of {num_wrong} frames the log posteriors are not numbers, or that of the target is "
            "infinite; expected finite ones: did you give posteriors' logarithms, some of them of 0? "
            "Otherwise the model has diverged: train again"
        )
