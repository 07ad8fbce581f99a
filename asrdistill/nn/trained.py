"""Training whose result is kept, so that a stage that trains several stacks in turn can go on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.checkpoint import load_model, save_model
from asrdistill.nn.training import Trainer
from asrdistill.progress import say


@dataclass(frozen=True)
class Trained:
    """A stack that is trained to its end.

    Attributes:
        model: every member's best weights.
        curves: every member's learning curve, as `TrainingState.describe_curves` tells it.
    """

    model: AcousticModel
    curves: list[dict[str, Any]]

    @property
    def dev_frame_accuracies(self) -> list[float]:
        """The best of each member, fractions."""
        return [max(curve["dev_frame_accuracy"]) for curve in self.curves]


def checkpoint_of(path: Path) -> Path:
    """That of a stack whose weights will lie at a path."""
    return path.with_suffix(".checkpoint.safetensors")


def train_once(path: Path, names: Sequence[str], make_trainer: Callable[[Path], Trainer]) -> Trained:
    """Train a stack, unless that is done, and keep it.

    Args:
        path: of the weights, which have the learning curves with them; the checkpoint lies beside them until
            they are there.
        names: of the members.
        make_trainer: of what is to be trained, given the path of its checkpoint.
    """
    checkpoint = checkpoint_of(path)
    if path.is_file():
        say(f"  {', '.join(names)}: trained already")
    else:
        state = make_trainer(checkpoint).train()
        save_model(path, state.best, {"curves": state.describe_curves(names)})
    checkpoint.unlink(missing_ok=True)
    model, description = load_model(path)
    return Trained(model, description["curves"])
