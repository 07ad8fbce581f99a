"""The loss of teachers and students, written down in this one place.

    L = w * CE(hard, student) + (1 - w) * T^2 * CE(soft_T, student_T)

hard: the alignment's pdf-id; soft_T: the teachers' average posterior at temperature T; student_T: the
student's softmax at T; w: the hard weight, 1 for a teacher. T^2 keeps the soft term's gradient at the scale
of the hard one's whatever T.
Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, sections 2 and 3.
Soft targets of which only some pdf-ids were kept are told apart among these; to all others they say how
much these have together, and how it is divided among them is left to the student:
    CE(soft, student) = - sum over kept j of soft_j log student_j - rest log (sum over others of student_j)
A frame without a hard target has the soft term alone, with its weight 1 - w.
A frame counts as often as its batch says (`Batch.weights`); the loss is the mean over the frames that count.
Shapes: M members, B frames, P pdf-ids, K pdf-ids kept of a frame at most.
"""

import numpy as np
import torch
from torch import log_softmax

from asrdistill.hmm.topology import NOT_ALIGNED
from asrdistill.nn.frames import Batch
from asrdistill.nn.soft_targets import SparseRows
from asrdistill.nn.softmax_loops import fill_gradient

# Under which the posteriors that are left for pdf-ids not kept do not fall, for their logarithm's sake.
LEAST_REST = 1e-12


def hard_cross_entropy(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross-entropy with the alignment, logits float32 (M, B, P): float32 (M,), natural logarithm."""
    return average(-_pick(log_softmax(logits, dim=2), batch), batch)


def soft_cross_entropy(logits: torch.Tensor, batch: Batch, temperature: float) -> torch.Tensor:
    """T^2 times the cross-entropy with soft targets made at T, logits float32 (M, B, P): float32 (M,)."""
    assert batch.soft_targets is not None
    soft, log_posteriors = batch.soft_targets, log_softmax(logits / temperature, dim=2)
    if isinstance(soft, torch.Tensor):
        return -(temperature**2) * average((soft * log_posteriors).sum(2), batch)
    index = soft.pdf_ids.expand(len(logits), -1, -1)
    agreement = (soft.probabilities * log_posteriors.gather(2, index)).sum(2)
    if soft.rest is not None:
        others = log_posteriors.exp().scatter(2, index, 0).sum(2)
        agreement = agreement + soft.rest * others.clamp(min=LEAST_REST).log()
    return -(temperature**2) * average(agreement, batch)


def distillation_loss(
    logits: torch.Tensor, batch: Batch, hard_weights: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """The loss above for every member, float32 (M,).

    Args:
        logits: float32 (M, B, P).
        batch: with the targets; without soft ones, only the hard ones count, whatever their weight.
        hard_weights: float32 (M,), w of each member.
        temperature: T of the soft targets.
    """
    hard = hard_cross_entropy(logits, batch)
    if batch.soft_targets is None:
        return hard
    return hard_weights * hard + (1 - hard_weights) * soft_cross_entropy(logits, batch, temperature)


class LossGradient:
    """`distillation_loss` and its gradient with respect to the logits, written out, in buffers that stay.

    Fresh memory for each batch costs more than the arithmetic (page faults).

    Attributes:
        gradient: float32 (M, B, P), of the latest batch.
    """

    def __init__(self) -> None:
        self.gradient = torch.empty(0)
        self._memory = [torch.empty(0)] * 2

    def compute(
        self, logits: torch.Tensor, batch: Batch, hard_weights: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """The loss of every member, float32 (M,), at logits, float32 (M, B, P); fills `gradient`.

        d/dz of CE(hard) is softmax(z) - hard; of T^2 CE(soft_T, z/T) it is T (s softmax(z/T) - soft_T),
        where s is the sum of the soft targets: 1, but for corrected ones.
        """
        soft, gradient = batch.soft_targets, self._borrow(0, logits.shape)
        sparse = soft if isinstance(soft, SparseRows) else None
        dense = soft if isinstance(soft, torch.Tensor) else torch.empty(0, 0, 0)
        weights = torch.ones(1, logits.shape[1]) if batch.weights is None else batch.weights
        losses = torch.empty(logits.shape[:2])
        fill_gradient(
            logits.contiguous().numpy(),
            batch.pdf_ids.contiguous().numpy(),
            dense.contiguous().numpy(),
            hard_weights.numpy(),
            (weights / batch.num_frames).contiguous().numpy(),
            np.float32(temperature),
            gradient.numpy(),
            losses.numpy(),
        )
        self.gradient = gradient
        loss = average(losses, batch)
        if sparse is not None:
            soft_loss = self._add_soft_gradient(logits, batch, sparse, hard_weights, temperature)
            loss = hard_weights * loss + (1 - hard_weights) * soft_loss
        return loss

    def _borrow(self, number: int, shape: torch.Size) -> torch.Tensor:
        """One of the buffers in this shape; new memory only where it is too small."""
        if self._memory[number].numel() < shape.numel():
            self._memory[number] = torch.empty(shape.numel())
        return self._memory[number][: shape.numel()].view(shape)

    def _add_soft_gradient(
        self,
        logits: torch.Tensor,
        batch: Batch,
        soft: SparseRows,
        hard_weights: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        """Blend the gradient of the soft term in; the soft loss, float32 (M,)."""
        log_posteriors = self._borrow(1, logits.shape)
        log_softmax(logits / temperature, dim=2, out=log_posteriors)
        weights = hard_weights[:, None, None]
        self.gradient.mul_(weights)
        scale = (1 - weights) * temperature / batch.num_frames
        if batch.weights is not None:
            scale = scale * batch.weights[..., None]
        agreement = self._add_sparse_gradient(log_posteriors, soft, scale)
        return -(temperature**2) * average(agreement, batch)

    def _add_sparse_gradient(
        self, log_posteriors: torch.Tensor, soft: SparseRows, scale: torch.Tensor
    ) -> torch.Tensor:
        """Add the gradient, times `scale` (M, 1 or B, 1); minus the cross-entropy, float32 (M, B).

        Of kept pdf-ids it is s posterior - soft target, of others posterior * (s - rest / sum of theirs),
        where s is what all soft targets sum to: 1, but for what float16 rounds.
        """
        index = soft.pdf_ids.expand(len(log_posteriors), -1, -1)
        log_kept = log_posteriors.gather(2, index)
        agreement = (soft.probabilities * log_kept).sum(2)
        posteriors = log_posteriors.exp_()
        kept, told = -soft.probabilities, soft.probabilities.sum(2)
        if soft.rest is None:
            posteriors *= told[..., None]
        else:
            told = told + soft.rest
            others = posteriors.scatter_(2, index, 0).sum(2).clamp_(min=LEAST_REST)
            agreement += soft.rest * others.log()
            posteriors *= (told - soft.rest / others)[..., None]
            kept = kept + soft.is_kept * told[..., None] * log_kept.exp()
        posteriors.scatter_add_(2, index, kept.expand(index.shape))
        self.gradient.add_(posteriors.mul_(scale))
        return agreement


def _pick(log_posteriors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Log posteriors of the hard targets, float32 (M, B); 0 where there is none."""
    pdf_ids = batch.pdf_ids.expand(len(log_posteriors), -1)
    picked = log_posteriors.gather(2, pdf_ids.clamp(min=0)[..., None])[..., 0]
    return torch.where(pdf_ids == NOT_ALIGNED, 0, picked)


def average(losses: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean over the frames that count, of float32 (M, B): (M,)."""
    weighted = losses if batch.weights is None else losses * batch.weights
    return weighted.sum(1) / batch.num_frames
