"""What may be added to a student's loss besides hard and soft targets: its interface.

An extra term may have parameters of its own (projections, output layers of hidden ones), which are trained
with the student and left behind when it is done.
Shapes: M members, B frames, H units of the student, G units of the guide, P pdf-ids.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asrdistill.nn.frames import Batch


@dataclass(frozen=True)
class Seen:
    """What a student and its guide, a teacher whose weights are at hand, make of a batch.

    Attributes:
        batch: with hard and soft targets; `weights` are 0 for padding.
        logits: float32 (M, B, P), of the student.
        hidden: of every hidden layer of the student, (M, B, H); empty where no term asks for them.
        guide_hidden: of every hidden layer of the guide, (1, B, G); empty likewise.
    """

    batch: Batch
    logits: torch.Tensor
    hidden: Sequence[torch.Tensor] = ()
    guide_hidden: Sequence[torch.Tensor] = ()


class ExtraTerm(torch.nn.Module, ABC):
    """A term of a student's loss; every parameter has a leading member axis.

    Attributes:
        needs_hidden: whether hidden layers are to be there.
    """

    needs_hidden: bool = False

    @abstractmethod
    def forward(self, seen: Seen) -> torch.Tensor:
        """The term, times its weight, float32 (M,): a mean over the frames that count."""

    def draw_parameter(
        self, seeds: Sequence[int], *shape: int, spread: float | None = None
    ) -> torch.nn.Parameter:
        """A parameter (M, *shape): of each member drawn by its seed with this standard deviation, or 0."""
        if spread is None:
            return torch.nn.Parameter(torch.zeros(len(seeds), *shape))
        drawn = [spread * torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.nn.Parameter(torch.stack(drawn))

    def retain(self, rows: Sequence[int]) -> None:
        """Keep what belongs to these members of the stack."""
        for module in self.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    setattr(module, name, torch.nn.Parameter(parameter.detach()[list(rows)]))
