"""The ensemble's opinion: the average of what its members predict."""

import numpy as np
import torch

from asrdistill.nn.acoustic_model import AcousticModel

AVERAGING_RULE = "arithmetic mean over teachers of softmax(logits / T)"


@torch.inference_mode()
def average_posteriors(
    model: AcousticModel, frames: np.ndarray, temperatures: tuple[float, ...]
) -> torch.Tensor:
    """Average the teachers' posteriors into soft targets.

    Shapes: T temperatures, L frames of F bins, P pdf-ids. Averages are made in float32 whatever the members
    compute in.
    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3.

    Args:
        model: the teachers.
        frames: float16 (L, F), one utterance.
        temperatures: each logit is divided by T before the softmax.

    Returns:
        float32 (T, L, P), every row sums to 1.
    """
    logits = model.compute_logits(frames)
    return torch.stack([torch.softmax(logits / t, dim=2).mean(0) for t in temperatures])
