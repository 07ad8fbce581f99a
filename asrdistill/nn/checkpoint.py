"""Weights and training states on disk: safetensors, with JSON in the same file."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.extra_terms import ExtraTerm
from asrdistill.nn.models import build_model

SLOW_DISK_BYTES_A_S = 200e6


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
    """Everything that a training run needs to go on; data order and dropout follow from seeds and position.

    Attributes:
        model: the active members.
        optimizer: of the active members.
        best: best weights of all members so far.
        active: which members are in `model`, in its order.
        histories: learning curve of every member.
        epoch: epochs finished.
        terms: extra terms of the loss of the active members, whose parameters are trained with them.
        step: optimiser steps done.
        epoch_step: those of the present epoch.
        loss_sum: float64 (active members,), of the present epoch's losses.
        compute_dtype: name of the torch type of the matrix products.
    """

    model: AcousticModel
    optimizer: torch.optim.Optimizer
    best: AcousticModel
    active: list[int]
    histories: list[History]
    compute_dtype: str
    loss_sum: torch.Tensor
    terms: Sequence[ExtraTerm] = ()
    epoch: int = 0
    step: int = 0
    epoch_step: int = 0

    @classmethod
    def begin(
        cls, model: AcousticModel, compute_dtype: str, terms: Sequence[ExtraTerm] = ()
    ) -> "TrainingState":
        members = list(range(model.num_members))
        histories = [History() for _ in members]
        best = model.select_members(members)
        loss_sum = torch.zeros(len(members), dtype=torch.float64)
        optimizer = make_optimizer(model, terms)
        return cls(model, optimizer, best, members, histories, compute_dtype, loss_sum, terms)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained: the members' weights, then those of the terms."""
        return _list_parameters(self.model, self.terms)

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
            for p in self.parameters
        ]
        self.model = self.model.select_members(rows)
        for term in self.terms:
            term.retain(rows)
        self.optimizer = make_optimizer(self.model, self.terms)
        for parameter, moment in zip(self.parameters, moments, strict=True):
            self.optimizer.state[parameter] = moment
        self.active = [self.active[row] for row in rows]
        self.loss_sum = self.loss_sum[list(rows)]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors under the names that they have in a checkpoint; those of the state, not copies."""
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        found |= {f"best.{name}": tensor for name, tensor in self.best.state_dict().items()}
        found["loss_sum"] = self.loss_sum
        for number, term in enumerate(self.terms):
            found |= {f"terms.{number}.{name}": tensor for name, tensor in term.state_dict().items()}
        for number, parameter in enumerate(self.parameters):
            for name, value in self.optimizer.state[parameter].items():
                found[f"optimizer.{number}.{name}"] = value
        return found

    def position(self) -> str:
        """All else, as JSON."""
        model = self.model
        return json.dumps(
            {
                "model": describe_architecture(model),
                "active": self.active,
                "histories": [asdict(history) for history in self.histories],
                "compute_dtype": self.compute_dtype,
                "epoch": self.epoch,
                "step": self.step,
                "epoch_step": self.epoch_step,
            }
        )


def make_optimizer(model: AcousticModel, terms: Sequence[ExtraTerm] = ()) -> torch.optim.Optimizer:
    """AdamW over all members at once; a member's update depends on its own gradients alone."""
    return torch.optim.AdamW(_list_parameters(model, terms), fused=True)


def _list_parameters(model: AcousticModel, terms: Sequence[ExtraTerm]) -> list[torch.nn.Parameter]:
    return [*model.parameters(), *(parameter for term in terms for parameter in term.parameters())]


class CheckpointWriter:
    """Saves training states beside training, which waits for a copy in memory; a thread writes that to disk.

    Copying and writing are timed, and the next checkpoint waits until both together are `MAX_SHARE` of the
    time since the last one, so that they cost no more than that whatever the size of the model.
    """

    MAX_SHARE = 0.03

    def __init__(self, path: Path, interval_s: float) -> None:
        """Args:
        path: of the checkpoint.
        interval_s: least time between two.
        """
        self.path = path
        self.interval_s = interval_s
        self.executor = ThreadPoolExecutor(1)
        self.writing: Future[float] | None = None
        self.copies: dict[str, torch.Tensor] = {}
        self.cost_s: float | None = None
        self.last = time.monotonic()

    def offer(self, state: TrainingState) -> None:
        """Save the state if one is due.

        Raises:
            ExperimentError: the last one could not be written.
        """
        if not self._is_due(state):
            return
        start = time.monotonic()
        tensors = state.tensors()
        if {name: t.shape for name, t in tensors.items()} != {n: t.shape for n, t in self.copies.items()}:
            self.copies = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            self.copies[name].copy_(tensor)
        self.last = time.monotonic()
        self.writing = self.executor.submit(self._write, state.position(), self.last - start)

    def _is_due(self, state: TrainingState) -> bool:
        elapsed = time.monotonic() - self.last
        if elapsed < self.interval_s or (self.writing and not self.writing.done()):
            return False
        if self.writing:
            self.cost_s = self.writing.result()
            self.writing = None
        if self.cost_s is None:  # nothing measured yet: a slow disk
            self.cost_s = sum(t.nbytes for t in state.tensors().values()) / SLOW_DISK_BYTES_A_S
        return elapsed * self.MAX_SHARE >= self.cost_s

    def _write(self, position: str, copying_s: float) -> float:
        start = time.monotonic()
        _publish(self.path, self.copies, {"state": position})
        return copying_s + time.monotonic() - start

    def close(self) -> None:
        """Wait for what is being written."""
        self.executor.shutdown()
        if self.writing:
            self.writing.result()
            self.writing = None


def save_state(path: Path, state: TrainingState) -> None:
    """Publish a training state atomically."""
    _publish(path, state.tensors(), {"state": state.position()})


def _publish(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def load_state(path: Path, make_terms: Callable[[], Sequence[ExtraTerm]] = tuple) -> TrainingState | None:
    """Read what `save_state` or a `CheckpointWriter` wrote; None where there is nothing.

    Args:
        path: of the checkpoint.
        make_terms: gives the extra terms of all members, as they were at the beginning.
    """
    if not path.is_file():
        return None
    tensors, metadata = read_tensors(path)
    position = json.loads(metadata["state"])
    description = position.pop("model")
    histories = [History(**history) for history in position.pop("histories")]
    model, best = (_load_stack(description, tensors, prefix) for prefix in ("model.", "best."))
    terms = make_terms()
    for number, term in enumerate(terms):
        term.retain(position["active"])
        term.load_state_dict(_take_under(tensors, f"terms.{number}."))
    optimizer = make_optimizer(model, terms)
    for number, parameter in enumerate(_list_parameters(model, terms)):
        prefix = f"optimizer.{number}."
        moments = _take_under(tensors, prefix)
        optimizer.state[parameter] = {name: value.clone() for name, value in moments.items()}
    loss_sum = tensors["loss_sum"].clone()
    return TrainingState(
        model, optimizer, best, histories=histories, loss_sum=loss_sum, terms=terms, **position
    )


def _take_under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def read_epoch(path: Path) -> int | None:
    """Epochs finished by the training state in a file; None where there is no file."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["state"])["epoch"])


def save_model(path: Path, model: AcousticModel, description: dict[str, Any]) -> None:
    """Publish weights with a description (JSON) that tells what they are, and what they compute in."""
    described = {
        **description,
        "model": describe_architecture(model),
        "compute_dtype": str(model.compute_dtype).removeprefix("torch."),
    }
    _publish(path, model.state_dict(), {"description": json.dumps(described)})


def load_model(path: Path) -> tuple[AcousticModel, dict[str, Any]]:
    """Read what `save_model` wrote.

    Raises:
        ContractError: the file is missing.
    """
    if not path.is_file():
        raise ContractError(f"acoustic model {path}: not found; run the stage that trains it first")
    tensors, metadata = read_tensors(path)
    description = json.loads(metadata["description"])
    model = _load_stack(description["model"], tensors, "")
    model.compute_dtype = getattr(torch, description["compute_dtype"])
    return model, description


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors and the metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def describe_architecture(model: AcousticModel) -> dict[str, Any]:
    """What `build_model` needs to build the like, but for the number of members."""
    return {
        "config": model.config.model_dump(mode="json"),
        "num_bins": model.num_bins,
        "num_pdfs": model.num_pdfs,
    }


def _load_stack(description: dict[str, Any], tensors: dict[str, torch.Tensor], prefix: str) -> AcousticModel:
    own = _take_under(tensors, prefix)
    config = AcousticModelConfig(**description["config"])
    num_members = len(next(iter(own.values())))
    model = build_model(config, description["num_bins"], description["num_pdfs"], num_members)
    model.load_state_dict(own)
    return model
