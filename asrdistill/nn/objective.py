"""What models are trained towards: terms of the loss, their blend, and how that moves in training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field

from asrdistill.config import Config
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.extra_terms import ExtraTerm
from asrdistill.nn.frames import Batch
from asrdistill.nn.guide import find_hidden
from asrdistill.nn.hidden_terms import HiddenStatesConfig, HiddenStatesTerm, pair_layers
from asrdistill.nn.relation_terms import RelationsConfig, RelationsTerm
from asrdistill.nn.sequence_term import SequenceConfig, SequenceTerm, StateBigram
from asrdistill.nn.shallow_terms import ShallowHeadsConfig, ShallowHeadsTerm
from asrdistill.nn.soft_terms import CrossEntropyConfig, SoftTermConfig

ExtraTermConfig = Annotated[
    HiddenStatesConfig | RelationsConfig | ShallowHeadsConfig | SequenceConfig, Field(discriminator="kind")
]
# Of these a teacher's weights are needed.
GUIDED = (HiddenStatesConfig, RelationsConfig)


class AnnealingConfig(Config):
    """Where the blend of the loss arrives at the end of training, linearly from where it begins."""

    hard_weight: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of the hard targets at the end; 1: from teacher to hard targets (Clark et al. 2019); "
        "null: as at the beginning",
    )
    temperature: float | None = Field(
        None, gt=0, description="T at the end, for targets that serve any; null: as at the beginning"
    )


NO_ANNEALING, CROSS_ENTROPY = AnnealingConfig(), CrossEntropyConfig()


@dataclass(frozen=True)
class Objective:
    """What the members are trained towards.

    Attributes:
        hard_weights: one for each member; 1.0 for a teacher.
        temperature: T of the soft targets.
        smooths: whether the soft targets are the uniform distribution, whatever the frame: with T = 1 that is
            label smoothing by one minus the hard weight (Szegedy et al. 2016, arXiv:1512.00567).
        annealing: where weight and T arrive at the end.
        soft_term: how soft targets are learnt from.
        extra_terms: what is added to the loss.
        starts_from_guide: whether the initial weights are the guide's, and not drawn.
    """

    hard_weights: tuple[float, ...]
    temperature: float = 1.0
    smooths: bool = False
    annealing: AnnealingConfig = NO_ANNEALING
    soft_term: SoftTermConfig = CROSS_ENTROPY
    extra_terms: tuple[ExtraTermConfig, ...] = ()
    starts_from_guide: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether hard and soft cross-entropy are all."""
        return isinstance(self.soft_term, CrossEntropyConfig) and not self.extra_terms

    @property
    def is_guided(self) -> bool:
        """Whether a guide is asked in every step."""
        return any(isinstance(term, GUIDED) for term in self.extra_terms)

    def hard_weights_at(self, progress: float, members: Sequence[int]) -> torch.Tensor:
        """Of some members, float32, when a share of the training is done."""
        weights = torch.tensor([self.hard_weights[member] for member in members])
        final = self.annealing.hard_weight
        return weights if final is None else weights + progress * (final - weights)

    def temperature_at(self, progress: float) -> float:
        """T when a share of the training is done."""
        final = self.annealing.temperature
        return self.temperature if final is None else self.temperature + progress * (final - self.temperature)

    def soften(self, batch: Batch, temperature: float) -> Batch:
        """A batch with soft targets at T, of those that are there: a geometric average's, not corrected.

        Raised to a power and divided by their sum they are those at another temperature.
        """
        soft = batch.soft_targets
        if temperature == self.temperature or not isinstance(soft, torch.Tensor):
            return batch
        powers = soft ** (self.temperature / temperature)
        return replace(batch, soft_targets=powers / powers.sum(2, keepdim=True))


@dataclass(frozen=True)
class TermSources:
    """What extra terms are made from, besides the student.

    Attributes:
        guide: a teacher, a stack of one; None: none is at hand.
        bigram: of tied states; None: it is not needed.
    """

    guide: AcousticModel | None = None
    bigram: StateBigram | None = None


NO_SOURCES = TermSources()


def make_terms(
    configs: Sequence[ExtraTermConfig],
    sources: TermSources,
    student: AcousticModel,
    seeds: Sequence[int],
    batch: Batch,
    heard: tuple[torch.Tensor, torch.Tensor | None],
) -> list[ExtraTerm]:
    """The extra terms of a stack of students.

    Args:
        configs: of the terms.
        sources: what they are made from.
        student: as it starts.
        seeds: one for each member.
        batch: on which layers of student and guide are compared.
        heard: its inputs as the student wants them, and as the guide does, if there is one.
    """
    terms: list[ExtraTerm] = []
    hidden = find_hidden(student, heard[0], batch.lengths)
    for config in configs:
        if isinstance(config, HiddenStatesConfig):
            assert sources.guide is not None and heard[1] is not None
            guide_hidden = find_hidden(sources.guide, heard[1], batch.lengths)
            pairs = pair_layers(config.layers, hidden, guide_hidden, batch.weights)
            terms.append(HiddenStatesTerm(config, pairs, seeds, hidden[0].shape[2], guide_hidden[0].shape[2]))
        elif isinstance(config, RelationsConfig):
            terms.append(RelationsTerm(config))
        elif isinstance(config, ShallowHeadsConfig):
            terms.append(ShallowHeadsTerm(config, len(hidden), hidden[0].shape[2], student.num_pdfs, seeds))
        else:
            assert sources.bigram is not None
            terms.append(SequenceTerm(config, sources.bigram))
    return terms
