"""The one training loop: teachers and students, one member or many.

All members see the same batches, so frames are gathered once for all of them. After each epoch the dev
split decides: a member's best weights so far are kept; one that has not improved for `patience` epochs is
finished and leaves the stack. An epoch's end is a checkpoint; data order and dropout follow from
(seed, epoch), so a run that was stopped ends with the same weights as one that was not.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import Field

from asrdistill.config import Config
from asrdistill.errors import RecipeError
from asrdistill.features.context import ContextConfig
from asrdistill.nn.acoustic_model import StackedAcousticModel
from asrdistill.nn.checkpoint import TrainingState, load_state, save_state
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.gradient import StackedGradient
from asrdistill.nn.loss import hard_cross_entropy
from asrdistill.nn.precision import PrecisionChoice, choose_dtype
from asrdistill.progress import say, track

EVALUATION_BATCH = 4096


class TrainingConfig(Config):
    """How a model is trained."""

    num_epochs: int = Field(10, ge=1, description="passes over the training split, at most")
    patience: int = Field(4, ge=1, description="epochs without a better dev frame accuracy that end a member")
    batch_size: int = Field(1024, ge=1, description="frames an optimiser step")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's step at its highest")
    warmup_share: float = Field(
        0.05, ge=0, lt=1, description="share of all steps in which the rate rises from 0"
    )
    final_rate_share: float = Field(
        0.01, ge=0, le=1, description="rate at the end over the highest; cosine between"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay (AdamW)")
    dropout: float = Field(0.1, ge=0, le=0.9, description="share of hidden units dropped in training")
    precision: PrecisionChoice = Field("auto", description="matrix products: fp32, bf16, or auto (measured)")


@dataclass(frozen=True)
class Objective:
    """What the members are trained towards.

    Attributes:
        hard_weights: one for each member; 1.0 for a teacher.
        temperature: T of the soft targets.
    """

    hard_weights: tuple[float, ...]
    temperature: float = 1.0


@dataclass(frozen=True)
class Evaluation:
    """What the members make of a split: frame accuracy and hard cross-entropy, float64 (M,) each."""

    frame_accuracy: torch.Tensor
    cross_entropy: torch.Tensor


@torch.inference_mode()
def evaluate(model: StackedAcousticModel, frames: LabelledFrames, context: ContextConfig) -> Evaluation:
    """Frame accuracy and cross-entropy of every member on all usable frames."""
    correct = torch.zeros(model.num_members, dtype=torch.float64)
    loss = torch.zeros(model.num_members, dtype=torch.float64)
    for batch in frames.in_order(EVALUATION_BATCH, context):
        logits = model(batch.windows)
        correct += (logits.argmax(2) == batch.pdf_ids).sum(1)
        loss += hard_cross_entropy(logits, batch.pdf_ids).double() * len(batch.pdf_ids)
    return Evaluation(correct / max(len(frames), 1), loss / max(len(frames), 1))


@dataclass
class Trainer:
    """Trains a stack of members and keeps each one's best weights.

    Attributes:
        train_frames: with soft targets where a hard weight is below 1.
        dev_frames: decide when to stop.
        seeds: initial weights and dropout, one for each member.
        order_seed: data order, common to all members.
        checkpoint_path: where the state after each epoch is kept; also read from there.
    """

    sizes: Sequence[int]
    context: ContextConfig
    config: TrainingConfig
    objective: Objective
    train_frames: LabelledFrames
    dev_frames: LabelledFrames
    seeds: Sequence[int]
    order_seed: int
    checkpoint_path: Path
    state: TrainingState = field(init=False)

    def train(self) -> TrainingState:
        """Train from the last checkpoint, or from the start, to the end.

        Returns:
            The final state: `best` holds every member's best weights.
        """
        self.state = load_state(self.checkpoint_path) or self._start()
        state = self.state
        state.model.compute_dtype = getattr(torch, state.compute_dtype)
        if state.epoch:
            say(f"  resuming after epoch {state.epoch} of {self.config.num_epochs}")
        while state.active and state.epoch < self.config.num_epochs:
            start = time.monotonic()
            train_loss = self._run_epoch()
            self._judge(train_loss, time.monotonic() - start)
            save_state(self.checkpoint_path, state)
        return state

    def _start(self) -> TrainingState:
        model = StackedAcousticModel(self.sizes, len(self.seeds)).initialize(self.seeds)
        dtype = choose_dtype(self.config.precision, len(self.seeds), self.config.batch_size, self.sizes[1])
        state = TrainingState.begin(model, str(dtype).removeprefix("torch."))
        # At once: `auto` is measured, and a run that is killed in its first epoch must not measure anew.
        save_state(self.checkpoint_path, state)
        return state

    def _run_epoch(self) -> list[float]:
        """One pass over the training split; mean loss of every active member."""
        state, config = self.state, self.config
        members = state.active
        hard_weights = torch.tensor([self.objective.hard_weights[m] for m in members])
        batch_size = min(config.batch_size, len(self.train_frames))
        dropout = Dropout(config.dropout, [self.seeds[m] for m in members])
        gradient = StackedGradient(state.model, batch_size, dropout)
        num_batches = len(self.train_frames) // batch_size
        loss_sum = torch.zeros(len(members))
        batches = self.train_frames.shuffled(batch_size, (self.order_seed, state.epoch), self.context)
        for number, batch in enumerate(track(batches, f"epoch {state.epoch + 1}", num_batches, unit="step")):
            step = state.epoch * num_batches + number
            state.optimizer.param_groups[0]["lr"] = self._rate(step, num_batches)
            state.optimizer.param_groups[0]["weight_decay"] = config.weight_decay
            loss_sum += gradient.compute(batch, hard_weights, self.objective.temperature, step)
            state.optimizer.step()
        if not loss_sum.isfinite().all():
            raise RecipeError(
                f"training diverged in epoch {state.epoch + 1}: a member's loss is not a number; "
                "lower training.learning_rate (teachers or student) or set training.precision to fp32"
            )
        return (loss_sum / num_batches).tolist()

    def _rate(self, step: int, steps_an_epoch: int) -> float:
        """Learning rate: linear rise, then half a cosine down to its final share."""
        total = self.config.num_epochs * steps_an_epoch
        warmup = self.config.warmup_share * total
        if step < warmup:
            return self.config.learning_rate * (step + 1) / (warmup + 1)
        share = (step - warmup) / max(total - warmup, 1)
        low = self.config.final_rate_share
        return self.config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))

    def _judge(self, train_loss: Sequence[float], seconds: float) -> None:
        """Score the epoch on dev, keep what is best, let finished members go."""
        state = self.state
        state.epoch += 1
        dev = evaluate(state.model, self.dev_frames, self.context)
        for row, member in enumerate(state.active):
            record = state.histories[member]
            record.add(train_loss[row], float(dev.frame_accuracy[row]), float(dev.cross_entropy[row]))
            if record.best_epoch == state.epoch:
                state.keep_best(row, member)
        speed = len(self.train_frames) * len(state.active) / seconds
        accuracies = " ".join(f"{100 * value:.2f}" for value in dev.frame_accuracy)
        say(
            f"  epoch {state.epoch}/{self.config.num_epochs}: dev frame accuracy {accuracies}; "
            f"loss {sum(train_loss) / len(train_loss):.3f}, {speed:,.0f} member-frames/s, "
            f"at most {seconds * (self.config.num_epochs - state.epoch):.0f} s left"
        )
        going_on = [
            row
            for row, member in enumerate(state.active)
            if state.epoch - state.histories[member].best_epoch < self.config.patience
        ]
        state.retain(going_on)
