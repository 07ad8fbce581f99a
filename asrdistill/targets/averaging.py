"""The ensemble's opinion: the average of what its members predict."""

from typing import Literal

import numpy as np
import torch

from asrdistill.nn.acoustic_model import AcousticModel

Average = Literal["arithmetic", "geometric"]
AVERAGING_RULES: dict[Average, str] = {
    "arithmetic": "arithmetic mean over teachers of softmax(logits / T)",
    "geometric": "softmax of the mean over teachers of logits / T",
}


@torch.inference_mode()
def average_posteriors(
    model: AcousticModel, frames: np.ndarray, temperatures: tuple[float, ...], average: Average = "arithmetic"
) -> torch.Tensor:
    """Average the teachers' posteriors into soft targets.

    The geometric mean of posteriors is that of their logits: one at T is one at T' with its logarithm times
    T / T'. Of the arithmetic mean, the paper's, nothing of the kind is true.
    Shapes: T temperatures, L frames of F bins, P pdf-ids. Averages are made in float32 whatever the members
    compute in.
    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3.

    Args:
        model: the teachers.
        frames: float16 (L, F), one utterance.
        temperatures: each logit is divided by T before the softmax.
        average: which mean over teachers.

    Returns:
        float32 (T, L, P), every row sums to 1.
    """
    logits = model.compute_logits(frames)
    if average == "geometric":
        mean = logits.mean(0)
        return torch.stack([torch.softmax(mean / t, dim=1) for t in temperatures])
    return torch.stack([torch.softmax(logits / t, dim=2).mean(0) for t in temperatures])
