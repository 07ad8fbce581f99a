"""The ensemble's opinion: the average of what its members predict."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from asrdistill.nn.acoustic_model import AcousticModel

BYTE = 255
Average = Literal["arithmetic", "geometric"]
AVERAGING_RULES: dict[Average, str] = {
    "arithmetic": "arithmetic mean over teachers of softmax(logits / T)",
    "geometric": "softmax of the mean over teachers of logits / T",
}


@dataclass(frozen=True)
class Opinion:
    """What the teachers make of an utterance of L frames.

    Attributes:
        averages: float32 (T, L, P), every row sums to 1.
        votes: uint8 (L,), how many teachers find the pdf-id likeliest that most of them do; at most 255.
        distance: uint8 (L,), how far they are from each other: the root of the Jensen-Shannon divergence of
            their posteriors at the first temperature, 255 where it is largest, the logarithm of their number.
    """

    averages: np.ndarray
    votes: np.ndarray
    distance: np.ndarray


@torch.inference_mode()
def ask_teachers(
    model: AcousticModel, frames: np.ndarray, temperatures: tuple[float, ...], average: Average = "arithmetic"
) -> Opinion:
    """Average the teachers' posteriors into soft targets, and tell how much they disagree.

    The geometric mean of posteriors is that of their logits: one at T is one at T' with its logarithm times
    T / T'. Of the arithmetic mean, the paper's, nothing of the kind is true.
    Shapes: M teachers, T temperatures, L frames of F bins, P pdf-ids. Averages are made in float32 whatever
    the members compute in.
    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3; Lin (1991), "Divergence measures based
    on the Shannon entropy".

    Args:
        model: the teachers.
        frames: float16 (L, F), one utterance.
        temperatures: each logit is divided by T before the softmax.
        average: which mean over teachers.
    """
    logits = model.compute_logits(frames)
    log_posteriors = torch.log_softmax(logits / temperatures[0], dim=2)
    posteriors = log_posteriors.exp()
    first = posteriors.mean(0)
    entropies = -torch.einsum("mlp,mlp->l", posteriors, log_posteriors) / len(logits)
    divergence = (torch.special.entr(first).sum(1) - entropies) / math.log(max(len(logits), 2))
    if average == "geometric":
        mean = logits.mean(0)
        averages = [torch.softmax(mean / t, dim=1) for t in temperatures]
    else:
        averages = [first, *(torch.softmax(logits / t, dim=2).mean(0) for t in temperatures[1:])]
    return Opinion(
        torch.stack(averages).numpy(),
        _count_votes(logits.argmax(2)).clamp(max=BYTE).to(torch.uint8).numpy(),
        (BYTE * divergence.clamp(min=0).sqrt()).round().clamp(max=BYTE).to(torch.uint8).numpy(),
    )


def _count_votes(winners: torch.Tensor) -> torch.Tensor:
    """How many of (M, L) votes go to the one that has most of them, int64 (L,)."""
    return (winners[:, None] == winners[None]).sum(0).amax(0)
