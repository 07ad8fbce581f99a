"""A teacher whose weights are at hand while a student is trained: what it hears, and its hidden layers.

Shapes: M members, B frames, S utterances of T frames with context, F bins, G units of the guide.
"""

from typing import Protocol

import torch

from asrdistill.errors import RecipeError
from asrdistill.nn.acoustic_model import AcousticModel


class Reach(Protocol):
    """What batches have to know of a model; see `AcousticModel`."""

    @property
    def reads_utterances(self) -> bool: ...

    @property
    def past(self) -> int: ...

    @property
    def future(self) -> int: ...


class JointReach:
    """That of a student and its guide: of each side the farther one."""

    def __init__(self, student: AcousticModel, guide: AcousticModel) -> None:
        """Raises:
        RecipeError: one reads whole utterances, and the other windows.
        """
        if student.reads_utterances != guide.reads_utterances:
            raise RecipeError(
                f"student.model.architecture is {student.config.architecture}, its guide is a "
                f"{guide.config.architecture}: one reads whole utterances and the other single frames, so "
                "they cannot be given the same batches; take the guide's architecture, or one of its kind"
            )
        self.reads_utterances = student.reads_utterances
        self.past, self.future = max(student.past, guide.past), max(student.future, guide.future)

    def narrow(self, inputs: torch.Tensor, model: AcousticModel) -> torch.Tensor:
        """What one of them hears of a batch's inputs: padded utterances (S, T, F), or windows (M, B, D)."""
        before, after = self.past - model.past, self.future - model.future
        if self.reads_utterances:
            return inputs[:, before : inputs.shape[1] - after]
        frames = inputs.unflatten(2, (self.past + 1 + self.future, -1))
        return frames[:, :, before : frames.shape[2] - after].flatten(2)


def find_hidden(
    model: AcousticModel, inputs: torch.Tensor, lengths: torch.Tensor | None
) -> list[torch.Tensor]:
    """Every hidden layer of a model that is not trained, (M, B, G) each."""
    hidden: list[torch.Tensor] = []
    with torch.no_grad():
        model(inputs, lengths, None, hidden)
    return hidden
