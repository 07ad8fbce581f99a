"""Sequence-level distillation: the student learns how likely the teachers find each path of tied states.

A path goes from tied state to tied state as those of the training alignments do:
    P(path) ~ initial(s_1) prod_t a(s_t | s_t-1) (posterior_t(s_t) / prior(s_t))^scale final(s_L)
with the teachers' posteriors, and with the student's; the term is KL(P_teacher || P_student), nats a frame:
    sum_t <g_t, u_t - u'_t> - log Z + log Z'
where g is the teachers' occupancy, how likely they find a state at a frame given the whole utterance; u and
u' are scale * (log posterior - log prior) of teachers and student; Z and Z' are the sums over all paths. What
all states of a frame have in common cancels out, so u is taken to be a log softmax, and logits stand for log
posteriors. The gradient with respect to the student's logits is scale * (g' - g).
Source: Wong & Gales (2016), "Sequence student-teacher training of deep neural networks", Interspeech; sums
over all paths instead of a lattice's are those of Povey et al. (2016), "Purely sequence-trained neural
networks for ASR based on lattice-free MMI", Interspeech.
Differs: paths are those of tied states, without words or phones, in one graph for all utterances; a small
share of transitions goes anywhere, so that every utterance has paths. Every frame counts once, whatever its
weight elsewhere, for paths run through all frames.
Shapes: M members, S utterances of L frames at most, B = S * L, P pdf-ids.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_matrix

from asrdistill.config import Config
from asrdistill.errors import ContractError, RecipeError
from asrdistill.hmm.alignment import compute_log_priors
from asrdistill.nn.extra_terms import ExtraTerm, Seen
from asrdistill.nn.frames import Batch
from asrdistill.nn.sequence_loops import Arcs, compare_scores, count_pairs, sum_paths
from asrdistill.nn.soft_targets import SparseRows

# Share of transitions that go anywhere; as much as Kaldi's leaky HMM has by default.
LEAK = 1e-5
# Soft targets do not count as smaller than this: they are stored in few bits, and some are below 0.
LEAST_SOFT_TARGET = 1e-8


class SequenceConfig(Config):
    """Learning the teachers' distribution over paths of tied states."""

    kind: Literal["sequence"] = Field("sequence", description="form of the term")
    weight: float = Field(1.0, gt=0, description="that the term is multiplied by")
    scale: float = Field(
        0.3,
        gt=0,
        description="power of posteriors over priors in a path's probability, against that of transitions; "
        "not tuned",
    )


@dataclass(frozen=True)
class StateBigram:
    """Which tied state follows which.

    Attributes:
        by_source: the arcs from each state.
        by_destination: the same, to each state.
        initial: float32 (P,), probability that a path begins with a state.
        final: float32 (P,), probability that it ends after a state.
        jump: probability to go from any state to any other one or itself, besides arcs.
        log_priors: float32 (P,).
    """

    by_source: Arcs
    by_destination: Arcs
    initial: np.ndarray
    final: np.ndarray
    jump: float
    log_priors: np.ndarray


def count_transitions(pdf_ids: np.ndarray, starts: np.ndarray, num_pdfs: int) -> StateBigram:
    """The relative frequencies of transitions in alignments.

    A transition of each state to itself is added; beside all of them, a share `LEAK` goes anywhere.

    Args:
        pdf_ids: int32 (N,), of all utterances; -1 where a frame has none: what is before does not lead to
            what is after.
        starts: int64 (U + 1,), as in `FrameStore.starts`.
        num_pdfs: P.
    """
    pairs = np.zeros((num_pdfs, num_pdfs), np.int32)
    first, last = np.zeros(num_pdfs, np.int64), np.zeros(num_pdfs, np.int64)
    count_pairs(np.asarray(pdf_ids), np.asarray(starts), pairs, first, last)
    np.fill_diagonal(pairs, pairs.diagonal() + 1)
    totals = pairs.sum(1) + last
    arcs = csr_matrix(pairs).multiply((1 - LEAK) / totals[:, None]).tocsr()
    jump = LEAK / (num_pdfs + 1)  # to end is one of the ways to go
    begins = (1 - LEAK) * first / max(first.sum(), 1) + LEAK / num_pdfs
    return StateBigram(
        _list_arcs(arcs),
        _list_arcs(arcs.T.tocsr()),
        begins.astype(np.float32),
        ((1 - LEAK) * last / totals + jump).astype(np.float32),
        jump,
        compute_log_priors(pdf_ids, num_pdfs),
    )


def _list_arcs(arcs: csr_matrix) -> Arcs:
    """The arcs of a sparse matrix, by its rows."""
    return Arcs(arcs.indptr.astype(np.uint32), arcs.indices.astype(np.uint32), arcs.data.astype(np.float32))


@dataclass(frozen=True)
class Paths:
    """A distribution over paths for every utterance of every member.

    Attributes:
        scores: float32 (M * S, L, P), u above.
        occupancies: float32 (M * S, L, P), g above; 0 for padding.
        log_totals: float64 (M * S,), log Z.
    """

    scores: torch.Tensor
    occupancies: torch.Tensor
    log_totals: torch.Tensor


def find_paths(
    log_posteriors: torch.Tensor,
    lengths: torch.Tensor,
    bigram: StateBigram,
    scale: float,
    is_total_enough: bool = False,
) -> Paths:
    """The distribution over paths that posteriors lead to.

    Args:
        log_posteriors: float32 (M, B, P), or what differs from them by a number for each frame.
        lengths: int64 (S,), frames of each utterance.
        bigram: which tied state follows which.
        scale: power of posteriors over priors.
        is_total_enough: whether occupancies are not asked for; they are not right then.
    """
    num_members, num_frames, num_pdfs = log_posteriors.shape
    offsets = -scale * torch.from_numpy(bigram.log_priors)
    scores = torch.add(offsets, log_posteriors.contiguous(), alpha=scale).log_softmax(2)
    scores = scores.view(num_members * len(lengths), num_frames // len(lengths), num_pdfs)
    occupancies = torch.empty_like(scores)
    log_totals = torch.empty(len(scores), dtype=torch.float64)
    sum_paths(
        scores.exp().numpy(),
        lengths.repeat(num_members).numpy(),
        bigram.by_source,
        bigram.by_destination,
        bigram.initial,
        bigram.final,
        np.float32(bigram.jump),
        occupancies.numpy(),
        log_totals.numpy(),
        is_total_enough,
    )
    return Paths(scores, occupancies, log_totals)


class _Divergence(torch.autograd.Function):
    """KL(P_teacher || P_student) summed over utterances, float32 (M,), nats, of logits (M, B, P)."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        teacher: Paths,
        lengths: torch.Tensor,
        bigram: StateBigram,
        scale: float,
    ) -> torch.Tensor:
        student = find_paths(logits, lengths, bigram, scale, not ctx.needs_input_grad[0])
        gaps = torch.empty_like(student.log_totals)
        compare_scores(
            teacher.occupancies.numpy(),
            teacher.scores.numpy(),
            student.scores.numpy(),
            lengths.numpy(),
            gaps.numpy(),
        )
        divergences = (gaps + student.log_totals).view(len(logits), -1) - teacher.log_totals
        if ctx.needs_input_grad[0]:
            difference = student.occupancies.view(len(logits), *teacher.occupancies.shape)
            difference -= teacher.occupancies
            ctx.save_for_backward(difference.view(logits.shape))
            ctx.scale = scale
        return divergences.sum(1).float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (difference,) = ctx.saved_tensors
        return difference * (ctx.scale * gradients[0])[:, None, None], None, None, None, None


def find_divergence(
    logits: torch.Tensor, soft: torch.Tensor, lengths: torch.Tensor, bigram: StateBigram, scale: float
) -> torch.Tensor:
    """KL(P_teacher || P_student) summed over the utterances of a batch, float32 (M,), nats.

    Args:
        logits: float32 (M, B, P), of the student.
        soft: float32 (1, B, P), soft targets.
        lengths: int64 (S,).
        bigram: which tied state follows which.
        scale: power of posteriors over priors.
    """
    teacher = find_paths(soft.clamp(min=LEAST_SOFT_TARGET).log(), lengths, bigram, scale)
    divergences: torch.Tensor = _Divergence.apply(logits, teacher, lengths, bigram, scale)
    return divergences


class SequenceTerm(ExtraTerm):
    """The divergence of the student's distribution over paths from the teachers'."""

    def __init__(self, config: SequenceConfig, bigram: StateBigram) -> None:
        super().__init__()
        self.config, self.bigram = config, bigram

    def forward(self, seen: Seen) -> torch.Tensor:
        """See `ExtraTerm`; soft targets are taken as the batch has them, at whatever temperature that is.

        Raises:
            RecipeError: the student reads single frames.
            ContractError: not all pdf-ids have a soft target.
        """
        soft, lengths = _require(seen.batch)
        divergences = find_divergence(seen.logits, soft, lengths, self.bigram, self.config.scale)
        return self.config.weight * divergences / seen.batch.num_frames


def _require(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense soft targets and the lengths of utterances."""
    if batch.lengths is None:
        raise RecipeError(
            "extra term sequence: the student reads single frames, and paths run through whole utterances; "
            "take an architecture that reads these (tdnn, conformer), or leave the term out"
        )
    soft = batch.soft_targets
    if isinstance(soft, SparseRows):
        raise ContractError(
            "extra term sequence: the soft targets keep only some pdf-ids of a frame, and paths run through "
            "all of them; make soft targets with a codec that keeps all (dense, transform), or leave the "
            "term out"
        )
    assert soft is not None and len(soft) == 1, "soft targets of utterances are those of all members"
    return soft, batch.lengths
