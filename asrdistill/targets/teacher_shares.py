"""An average of teachers in which, frame by frame, those that are wrong count less.

Teachers that take another pdf-id than the hard target for the likeliest count W times as much as they would
otherwise; what they lose goes to those that are right, so that the weights still sum to 1. The hard target
need not become likelier by that: a teacher may be wrong and yet give it more than one that is right.
Source: ElFadeel (2021), known to us from a description alone: logits are scaled so, and W is 0.75. Teachers
weighted by whether they are right also in Wu et al. (2022), arXiv:2204.00548.
Differs: the arithmetic mean of posteriors (Hinton, Vinyals & Dean 2015, arXiv:1503.02531) may be taken too;
frames on which all are wrong, or for which there is no hard target, are averaged plainly.
Shapes: M teachers, L frames, P pdf-ids.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from asrdistill.nn.softmax_loops import softmax_in_place

Average = Literal["arithmetic", "geometric"]


def share_out_weights(winners: np.ndarray, pdf_ids: np.ndarray, wrong_weight: float) -> np.ndarray:
    """What each teacher counts on each frame, float32 (M, L); every column sums to 1.

    A wrong one counts W / M, and those that are right share the rest equally; where all are right, all are
    wrong or there is no hard target, each counts 1 / M.

    Args:
        winners: int64 (M, L), the pdf-id that each teacher finds likeliest.
        pdf_ids: int32 (L,), hard targets; -1 where there is none.
        wrong_weight: W; with 1 all count the same.

    Raises:
        ValueError: W is not above 0 and at most 1.
    """
    if not 0 < wrong_weight <= 1:
        raise ValueError(f"weight of wrong teachers: found {wrong_weight}, expected above 0 and at most 1")
    num_teachers = len(winners)
    is_right = (winners == pdf_ids) & (pdf_ids >= 0)
    num_right = is_right.sum(0)
    freed = (1 - wrong_weight) * (num_teachers - num_right)
    weights = np.where(is_right, 1 + freed / num_right.clip(min=1), wrong_weight)
    weights[:, num_right == 0] = 1
    return (weights / num_teachers).astype(np.float32)


def average_with_shares(
    logits: Sequence[np.ndarray] | np.ndarray, shares: np.ndarray, temperature: float, average: Average
) -> np.ndarray:
    """Soft targets, float32 (L, P), every row of which sums to 1.

    Args:
        logits: of M teachers, float32 (L, P) each.
        shares: float32 (M, L), of `share_out_weights`.
        temperature: T; logits are divided by it.
        average: arithmetic: the mean of softmax(logits / T); geometric, as ElFadeel's: the softmax of the
            mean of logits / T.
    """
    mean = np.zeros_like(logits[0])
    for of_teacher, share in zip(logits, shares, strict=True):  # one at a time: all of them are large
        values = of_teacher / np.float32(temperature)
        if average == "arithmetic":
            softmax_in_place(values)
        values *= share[:, None]
        mean += values
    if average == "geometric":
        softmax_in_place(mean)
    return mean
