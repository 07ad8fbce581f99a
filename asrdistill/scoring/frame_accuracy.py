"""Frame accuracy.

Task: the share of frames whose most probable pdf-id is the hard target of the forced alignment. All frames
count, those of silence included; utterances are weighted by their length. Of equally probable pdf-ids the
lowest one is taken.
Source: the frame accuracy of Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3.1; they do not say
whether silence counts. Expected effect: silence is easier than speech, so recordings with more of it score
higher, and accuracies compare only on the same frames and the same alignment.
"""

from dataclasses import dataclass

import numpy as np

from asrdistill.errors import ContractError


@dataclass(frozen=True)
class FrameAccuracy:
    """Frames counted; two counts add up.

    Attributes:
        correct: frames whose most probable pdf-id is the target.
        frames: all frames.
    """

    correct: int
    frames: int

    @property
    def accuracy(self) -> float:
        """Share of correct frames, a fraction."""
        return self.correct / self.frames

    def __add__(self, other: "FrameAccuracy") -> "FrameAccuracy":
        return FrameAccuracy(self.correct + other.correct, self.frames + other.frames)


def count_frames(log_posteriors: np.ndarray, pdf_ids: np.ndarray) -> FrameAccuracy:
    """Count the correct frames of one utterance.

    Args:
        log_posteriors: float (T, P), T frames, P pdf-ids; posteriors or logits do as well.
        pdf_ids: int (T,) hard targets.

    Raises:
        ContractError: the numbers of frames differ, a target is no column, or a posterior is not a number.
    """
    return FrameAccuracy(int(find_correct(log_posteriors, pdf_ids).sum()), len(pdf_ids))


def find_correct(log_posteriors: np.ndarray, pdf_ids: np.ndarray) -> np.ndarray:
    """Which frames of an utterance are correct, bool (T,); arguments and errors as of `count_frames`."""
    check_frames("frame accuracy", log_posteriors, pdf_ids)
    if np.isnan(log_posteriors).any():
        raise ContractError(
            "frame accuracy: a log posterior is not a number; the model has diverged: train again"
        )
    correct: np.ndarray = log_posteriors.argmax(axis=1) == pdf_ids
    return correct


def check_frames(subject: str, log_posteriors: np.ndarray, pdf_ids: np.ndarray) -> None:
    """See that log posteriors (T, P) and hard targets (T,) belong together.

    Args:
        subject: what the message begins with.

    Raises:
        ContractError: the numbers of frames differ, or a target is no column.
    """
    if log_posteriors.ndim != 2 or pdf_ids.shape != log_posteriors.shape[:1]:
        raise ContractError(
            f"{subject}: log posteriors have shape {log_posteriors.shape}, targets {pdf_ids.shape}; "
            "expected (frames, pdf-ids) and (frames,): run again with --force align"
        )
    if len(pdf_ids) and not 0 <= pdf_ids.min() <= pdf_ids.max() < log_posteriors.shape[1]:
        raise ContractError(
            f"{subject}: targets run from {pdf_ids.min()} to {pdf_ids.max()}, but the model has "
            f"{log_posteriors.shape[1]} pdf-ids; model and alignment must come from the same tied states"
        )
