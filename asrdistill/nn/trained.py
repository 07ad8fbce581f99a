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
        curves: every member's learning curve, as `TrainingState.describe_curves` tells it; `best_epoch` is
            the one whose weights were kept.
    """

    model: AcousticModel
    curves: list[dict[str, Any]]

    @property
    def dev_frame_accuracies(self) -> list[float]:
        """Of each member's weights that were kept, fractions."""
        return [curve["dev_frame_accuracy"][curve["best_epoch"] - 1] for curve in self.curves]


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
        trainer = make_trainer(checkpoint)
        state = trainer.train()
        curves = state.describe_curves(names)
        if trainer.config.keeps == "last":
            curves = [{**curve, "best_epoch": len(curve["train_loss"])} for curve in curves]
        save_model(path, state.best, {"curves": curves})
    checkpoint.unlink(missing_ok=True)
    model, description = load_model(path)
    return Trained(model, description["curves"])
