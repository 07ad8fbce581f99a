"""The loss of teachers and students, written down in this one place.

    L = w * CE(hard, student) + (1 - w) * T^2 * CE(soft_T, student_T)

hard: the alignment's pdf-id; soft_T: the teachers' average posterior at temperature T; student_T: the
student's softmax at T; w: the hard weight, 1 for a teacher. T^2 keeps the soft term's gradient at the scale
of the hard one's whatever T.
Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, sections 2 and 3.
Shapes: M members, B frames, P pdf-ids.
"""

import torch
from torch.nn.functional import log_softmax


def hard_cross_entropy(logits: torch.Tensor, pdf_ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with the alignment: float32 (M,), mean over frames, natural logarithm.

    Args:
        logits: float32 (M, B, P).
        pdf_ids: int64 (B,).
    """
    index = pdf_ids.expand(len(logits), -1)[..., None]
    return -log_softmax(logits, dim=2).gather(2, index).mean((1, 2))


def soft_cross_entropy(logits: torch.Tensor, soft_targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 times the cross-entropy with soft targets made at that T: float32 (M,), mean over frames.

    Args:
        logits: float32 (M, B, P).
        soft_targets: float32 (B, P), rows sum to 1.
        temperature: T of the targets.
    """
    log_posteriors = log_softmax(logits / temperature, dim=2)
    return -(temperature**2) * (soft_targets * log_posteriors).sum(2).mean(1)


def distillation_loss(
    logits: torch.Tensor,
    pdf_ids: torch.Tensor,
    hard_weights: torch.Tensor,
    soft_targets: torch.Tensor | None = None,
    temperature: float = 1.0,
) -> torch.Tensor:
    """The loss above for every member, float32 (M,).

    Args:
        logits: float32 (M, B, P).
        pdf_ids: int64 (B,).
        hard_weights: float32 (M,), w of each member.
        soft_targets: float32 (B, P); None where every w is 1.
        temperature: T of the soft targets.
    """
    hard = hard_cross_entropy(logits, pdf_ids)
    if soft_targets is None:
        return hard
    return hard_weights * hard + (1 - hard_weights) * soft_cross_entropy(logits, soft_targets, temperature)


def loss_and_gradient(
    logits: torch.Tensor,
    pdf_ids: torch.Tensor,
    hard_weights: torch.Tensor,
    soft_targets: torch.Tensor | None = None,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`distillation_loss` and its gradient with respect to the logits, float32 (M, B, P), written out.

    d/dz of CE(hard) is softmax(z) - hard; of T^2 CE(soft_T, z/T) it is T (softmax(z/T) - soft_T).
    """
    num_members, num_frames, _ = logits.shape
    index = pdf_ids.expand(num_members, -1)[..., None]
    log_posteriors = log_softmax(logits, dim=2)
    loss = -log_posteriors.gather(2, index).mean((1, 2))
    gradient = log_posteriors.exp_()
    gradient.scatter_add_(2, index, torch.full(index.shape, -1.0))
    if soft_targets is not None:
        weights = hard_weights[:, None, None]
        soft_log_posteriors = log_softmax(logits / temperature, dim=2)
        soft_loss = (
            -(temperature**2) * torch.einsum("bp,mbp->m", soft_targets, soft_log_posteriors) / num_frames
        )
        loss = hard_weights * loss + (1 - hard_weights) * soft_loss
        soft_gradient = soft_log_posteriors.exp_().sub_(soft_targets).mul_((1 - weights) * temperature)
        gradient.mul_(weights).add_(soft_gradient)
    return loss, gradient.div_(num_frames)
