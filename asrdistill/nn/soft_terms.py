"""How a student learns from dense soft targets in other ways than by cross-entropy.

Each takes the place of the soft term S in L = w * CE(hard) + (1 - w) * S (`asrdistill.nn.loss`). What is made
at T is multiplied by T^2, as there.
cross_entropy: the default, of `asrdistill.nn.loss`. The Kullback-Leibler divergence is the same less the
    soft targets' own entropy, which no student changes; having its gradient, it is no kind of its own.
conditional: Meng et al. (2019), arXiv:1904.12399: the soft target where the ensemble's likeliest
    pdf-id is the hard target, the hard target elsewhere.
    Differs: the teacher is an ensemble, its posteriors are at T, and with a hard weight above 0 hard targets
    count everywhere besides; a frame without a hard target has its soft one.
decoupled: Zhao et al. (2022), arXiv:2203.08679, section 3: the divergence parted in that of the hard target
    from all others, and that among the others, which the divergence itself multiplies by what these have.
    Differs: a frame without a hard target has the whole divergence; where the others have nothing there is
    no second part (the authors have logits, we probabilities); no warm-up.
correlation: Huang et al. (2022), arXiv:2205.10536 (DIST): one less Pearson's correlation of
    student and ensemble, over the pdf-ids of each frame, and over the frames of each pdf-id.
    T^2, and 1e-8 beside the product of the two lengths, are from the authors' code, not the paper.
    Differs: frames count by their weights, and padding in neither part; the second part is relative, so it
    does not fall where all weights do.
Corrected soft targets (codec transform) are right on average, but some are below 0. Cross-entropy may have
them as they are. Those of decoupled, correlation and divergence are cut at 0 and divided by their sum, so
they are too even on average, most where the ensemble is sure: among the others of decoupled there may be
more correction than posterior. And conditional takes a frame for right or wrong by its corrected target, so
of close calls it takes those for right that were corrected towards the hard target.
Shapes: M members, B frames, P pdf-ids.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import log_softmax, softmax

from asrdistill.config import Config
from asrdistill.errors import ContractError
from asrdistill.hmm.topology import NOT_ALIGNED
from asrdistill.nn.frames import Batch
from asrdistill.nn.loss import average, soft_cross_entropy

# Under which a sum does not fall, for the quotient's sake.
LEAST_SUM = torch.finfo(torch.float32).tiny
# Beside the product of two lengths: what varies less than that is hardly correlated with anything.
LENGTHS_OFFSET = 1e-8


class CrossEntropyConfig(Config):
    """Cross-entropy with the soft targets."""

    kind: Literal["cross_entropy"] = Field(
        "cross_entropy", description="cross-entropy with the soft targets (Hinton et al. 2015)"
    )


class ConditionalConfig(Config):
    """Soft targets where the ensemble is right, hard targets where it is wrong."""

    kind: Literal["conditional"] = Field(
        "conditional",
        description="soft targets where their likeliest pdf-id is the hard target, hard ones elsewhere",
    )


class DecoupledConfig(Config):
    """The divergence in two parts, each with its weight."""

    kind: Literal["decoupled"] = Field(
        "decoupled", description="the hard target against all others, and the others among themselves"
    )
    alpha: float = Field(1.0, ge=0, description="weight of the hard target against all others")
    beta: float = Field(
        2.0,
        ge=0,
        description="weight of the others among themselves; not tuned (the authors: 0.5 to 8, for images)",
    )


class CorrelationConfig(Config):
    """Correlation in place of divergence."""

    kind: Literal["correlation"] = Field(
        "correlation", description="posteriors are to be correlated with the ensemble's, not equal to them"
    )
    inter: float = Field(
        2.0, ge=0, description="weight of the correlation over each frame's pdf-ids; not tuned"
    )
    intra: float = Field(
        2.0, ge=0, description="weight of the correlation over each pdf-id's frames of a batch; not tuned"
    )


SoftTermConfig = Annotated[
    CrossEntropyConfig | ConditionalConfig | DecoupledConfig | CorrelationConfig, Field(discriminator="kind")
]


def soft_term(config: SoftTermConfig, logits: torch.Tensor, batch: Batch, temperature: float) -> torch.Tensor:
    """The soft term of every member, float32 (M,), at logits, float32 (M, B, P).

    Raises:
        ContractError: the soft targets keep only some pdf-ids, and the term wants all.
    """
    if isinstance(config, CrossEntropyConfig):
        return soft_cross_entropy(logits, batch, temperature)
    soft = batch.soft_targets
    assert soft is not None
    if not isinstance(soft, torch.Tensor):
        raise ContractError(
            f"soft term {config.kind}: the soft targets keep only some pdf-ids of a frame, and it is made of "
            "all of them; make soft targets with a codec that keeps all (dense, transform), or take the soft "
            "term cross_entropy"
        )
    if isinstance(config, ConditionalConfig):
        return conditional_cross_entropy(logits, soft, batch, temperature)
    if isinstance(config, DecoupledConfig):
        return decoupled_divergence(config, logits, soft, batch, temperature)
    return correlation_distance(config, logits, soft, batch, temperature)


def kl_divergence(logits: torch.Tensor, soft: torch.Tensor, batch: Batch, temperature: float) -> torch.Tensor:
    """T^2 KL(soft_T || student_T), logits (M, B, P), soft targets (M or 1, B, P): (M,)."""
    log_student = log_softmax(logits / temperature, dim=2)
    return temperature**2 * average(_diverge(_make_probabilities(soft), log_student), batch)


def conditional_cross_entropy(
    logits: torch.Tensor, soft: torch.Tensor, batch: Batch, temperature: float
) -> torch.Tensor:
    """T^2 CE(soft_T, student_T) where the ensemble is right, CE(hard, student) where it is wrong, (M,)."""
    softly = -(temperature**2) * (soft * log_softmax(logits / temperature, dim=2)).sum(2)
    hardly = -_pick(log_softmax(logits, dim=2), batch.pdf_ids)
    is_wrong = (batch.pdf_ids != NOT_ALIGNED) & (soft.argmax(2) != batch.pdf_ids)
    return average(torch.where(is_wrong, hardly, softly), batch)


def decoupled_divergence(
    config: DecoupledConfig, logits: torch.Tensor, soft: torch.Tensor, batch: Batch, temperature: float
) -> torch.Tensor:
    """T^2 (alpha KL(hard target against all others) + beta KL(among the others)), (M,)."""
    log_student = log_softmax(logits / temperature, dim=2)
    soft = _make_probabilities(soft).expand_as(log_student)
    of_target, among_others = _part_divergence(soft, log_student, batch.pdf_ids)
    parted = config.alpha * of_target + config.beta * among_others
    losses = torch.where(batch.pdf_ids == NOT_ALIGNED, _diverge(soft, log_student), parted)
    return temperature**2 * average(losses, batch)


def _part_divergence(
    soft: torch.Tensor, log_student: torch.Tensor, pdf_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both parts of the divergence, (M, B) each; where there is no hard target, as if pdf-id 0 were it."""
    index = _index(pdf_ids, log_student)
    others = soft.scatter(2, index, 0)
    rest = others.sum(2)
    log_rest = log_student.scatter(2, index, -torch.inf).logsumexp(2)
    of_target = _diverge(
        torch.stack([_pick(soft, pdf_ids), rest], 2), torch.stack([_pick(log_student, pdf_ids), log_rest], 2)
    )
    among_others = others / rest.clamp(min=LEAST_SUM)[..., None]
    # What the target has among the others is 0; its logarithm is only to be finite.
    log_among_others = log_student.scatter(2, index, 0) - log_rest[..., None]
    return of_target, _diverge(among_others, log_among_others)


def correlation_distance(
    config: CorrelationConfig, logits: torch.Tensor, soft: torch.Tensor, batch: Batch, temperature: float
) -> torch.Tensor:
    """T^2 (inter (1 - r over pdf-ids) + intra (1 - r over frames that count)), means of each, (M,)."""
    student, soft = softmax(logits / temperature, dim=2), _make_probabilities(soft)
    over_pdf_ids = _correlate(student, soft, torch.ones_like(soft[:1, :1]), 2)
    weights = torch.ones_like(soft[:1, :, 0]) if batch.weights is None else batch.weights
    over_frames = _correlate(student, soft, weights[..., None], 1)
    inter, intra = average(1 - over_pdf_ids, batch), (1 - over_frames).mean(1)
    return temperature**2 * (config.inter * inter + config.intra * intra)


def _correlate(student: torch.Tensor, soft: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
    """Pearson's correlation along an axis, weighted; about 0 where one of both hardly varies."""
    total = weights.sum(axis, keepdim=True).clamp(min=LEAST_SUM)
    one, other = (
        weights.sqrt() * (values - (weights * values).sum(axis, keepdim=True) / total)
        for values in (student, soft)
    )
    return (one * other).sum(axis) / (one.norm(dim=axis) * other.norm(dim=axis) + LENGTHS_OFFSET)


def _diverge(soft: torch.Tensor, log_student: torch.Tensor) -> torch.Tensor:
    """KL(soft || student) over the last axis."""
    return (torch.xlogy(soft, soft) - soft * log_student).sum(2)


def _make_probabilities(soft: torch.Tensor) -> torch.Tensor:
    """Corrected soft targets without those below 0, each frame's divided by their sum."""
    floored = soft.clamp(min=0)
    return floored / floored.sum(2, keepdim=True).clamp(min=LEAST_SUM)


def _index(pdf_ids: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Where the hard targets stand in values (M, B, P): int64 (M, B, 1); 0 where there is none."""
    return pdf_ids.clamp(min=0).expand(len(values), -1)[..., None]


def _pick(values: torch.Tensor, pdf_ids: torch.Tensor) -> torch.Tensor:
    """The hard targets' of values (M, B, P): (M, B); those of pdf-id 0 where there is none."""
    return values.gather(2, _index(pdf_ids, values))[..., 0]
