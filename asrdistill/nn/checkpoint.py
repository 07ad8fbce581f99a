"""Weights and training states on disk: safetensors, with JSON in the same file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path
from asrdistill.nn.acoustic_model import StackedAcousticModel


@dataclass
class History:
    """One member's learning curve: a value after each epoch.

    Attributes:
        train_loss: mean loss over the epoch's batches.
        dev_frame_accuracy: between 0 and 1.
        dev_cross_entropy: with the hard targets, natural logarithm.
    """

    train_loss: list[float] = field(default_factory=list)
    dev_frame_accuracy: list[float] = field(default_factory=list)
    dev_cross_entropy: list[float] = field(default_factory=list)

    def add(self, train_loss: float, dev_frame_accuracy: float, dev_cross_entropy: float) -> None:
        self.train_loss.append(train_loss)
        self.dev_frame_accuracy.append(dev_frame_accuracy)
        self.dev_cross_entropy.append(dev_cross_entropy)

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, with the highest dev frame accuracy; first of equals; 0: none yet."""
        values = self.dev_frame_accuracy
        return values.index(max(values)) + 1 if values else 0


@dataclass
class TrainingState:
    """Everything that a training run needs to go on.

    Attributes:
        model: the active members.
        optimizer: of the active members.
        best: best weights of all members so far.
        active: which members are in `model`, in its order.
        histories: learning curve of every member.
        epoch: epochs finished.
        compute_dtype: name of the torch type of the matrix products.
    """

    model: StackedAcousticModel
    optimizer: torch.optim.Optimizer
    best: StackedAcousticModel
    active: list[int]
    histories: list[History]
    epoch: int
    compute_dtype: str

    @classmethod
    def begin(cls, model: StackedAcousticModel, compute_dtype: str) -> "TrainingState":
        members = list(range(model.num_members))
        histories = [History() for _ in members]
        best = model.select_members(members)
        return cls(model, make_optimizer(model), best, members, histories, 0, compute_dtype)

    def describe_curves(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Every member's learning curve under its name, as plain values."""
        return [
            {"name": name, **asdict(history), "best_epoch": history.best_epoch}
            for name, history in zip(names, self.histories, strict=True)
        ]

    def keep_best(self, row: int, member: int) -> None:
        """Remember the weights in row `row` of the stack as the best of `member`."""
        with torch.no_grad():
            for best, current in zip(self.best.parameters(), self.model.parameters(), strict=True):
                best[member] = current[row]

    def retain(self, rows: Sequence[int]) -> None:
        """Let all but these rows of the stack go."""
        if len(rows) == len(self.active):
            return
        moments = [
            {
                name: value[list(rows)] if value.dim() else value
                for name, value in self.optimizer.state[p].items()
            }
            for p in self.model.parameters()
        ]
        self.model = self.model.select_members(rows)
        self.optimizer = make_optimizer(self.model)
        for parameter, moment in zip(self.model.parameters(), moments, strict=True):
            self.optimizer.state[parameter] = moment
        self.active = [self.active[row] for row in rows]


def make_optimizer(model: StackedAcousticModel) -> torch.optim.Optimizer:
    """AdamW over all members at once; a member's update depends on its own gradients alone."""
    return torch.optim.AdamW(model.parameters(), fused=True)


def save_state(path: Path, state: TrainingState) -> None:
    """Publish a training state atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.state_dict().items()}
    for number, parameter in enumerate(state.model.parameters()):
        for name, value in state.optimizer.state[parameter].items():
            tensors[f"optimizer.{number}.{name}"] = value
    progress = {
        "active": state.active,
        "histories": [asdict(history) for history in state.histories],
        "epoch": state.epoch,
        "compute_dtype": state.compute_dtype,
    }
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            {"state": json.dumps(progress)},
        )


def load_state(path: Path) -> TrainingState | None:
    """Read what `save_state` wrote; None where there is nothing."""
    if not path.is_file():
        return None
    tensors, metadata = read_tensors(path)
    progress = json.loads(metadata["state"])
    model, best = (_stack_from(tensors, prefix) for prefix in ("model.", "best."))
    optimizer = make_optimizer(model)
    for number, parameter in enumerate(model.parameters()):
        prefix = f"optimizer.{number}."
        optimizer.state[parameter] = {
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
    histories = [History(**history) for history in progress["histories"]]
    return TrainingState(
        model, optimizer, best, progress["active"], histories, progress["epoch"], progress["compute_dtype"]
    )


def read_epoch(path: Path) -> int | None:
    """Epochs finished by the training state in a file; None where there is no file."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["state"])["epoch"])


def save_model(path: Path, model: StackedAcousticModel, description: dict[str, Any]) -> None:
    """Publish weights with a description (JSON) that tells what they are."""
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
            temporary,
            {"description": json.dumps(description)},
        )


def load_model(path: Path) -> tuple[StackedAcousticModel, dict[str, Any]]:
    """Read what `save_model` wrote.

    Raises:
        ContractError: the file is missing.
    """
    if not path.is_file():
        raise ContractError(f"acoustic model {path}: not found; run the stage that trains it first")
    tensors, metadata = read_tensors(path)
    return _stack_from(tensors, ""), json.loads(metadata["description"])


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors and the metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def _stack_from(tensors: dict[str, torch.Tensor], prefix: str) -> StackedAcousticModel:
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    weights = [own[f"weights.{layer}"] for layer in range(len(own) // 2)]
    model = StackedAcousticModel([weights[0].shape[1], *(w.shape[2] for w in weights)], weights[0].shape[0])
    model.load_state_dict(own)
    return model
