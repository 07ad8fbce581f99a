"""The one training loop: teachers and students, one member or many.

After each epoch the dev split decides: a member's best weights so far are kept; one that has not improved
for `patience` epochs is finished and leaves the stack. Checkpoints are written at any step; a run that was
stopped ends with the same weights as one that was not.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from asrdistill.config import Config
from asrdistill.errors import RecipeError
from asrdistill.features.perturbation import PerturbationConfig
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import POOL_FRAMES, Batches, Diversity, batches_in_order
from asrdistill.nn.checkpoint import CheckpointWriter, TrainingState, load_state, save_state
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.extra_terms import ExtraTerm
from asrdistill.nn.frames import Batch, FrameSource, LabelledFrames
from asrdistill.nn.gradient import Gradient, TermsGradient, make_gradient
from asrdistill.nn.guide import JointReach
from asrdistill.nn.inheritance import inherit
from asrdistill.nn.loss import hard_cross_entropy
from asrdistill.nn.memory import keep_freed_memory
from asrdistill.nn.metrics import LINES_AN_EPOCH, MetricsLog
from asrdistill.nn.models import build_model
from asrdistill.nn.objective import NO_SOURCES, Objective, TermSources, make_terms
from asrdistill.nn.precision import PrecisionChoice, choose_dtype
from asrdistill.progress import say, track

CHECKPOINT_INTERVAL_S = 10.0


class TrainingConfig(Config):
    """How a model is trained."""

    num_epochs: int = Field(10, ge=1, description="passes over the training split, at most")
    patience: int = Field(4, ge=1, description="epochs without a better dev frame accuracy that end a member")
    keeps: Literal["best", "last"] = Field(
        "best",
        description="weights that are kept; best: of the epoch that was best on dev; last: of the last one, "
        "without early stopping",
    )
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
    perturbation: PerturbationConfig | None = Field(
        None, description="how far frames are perturbed, every epoch anew; none: not at all"
    )
    precision: PrecisionChoice = Field("auto", description="matrix products: fp32, bf16, or auto (measured)")


@dataclass(frozen=True)
class Evaluation:
    """What the members make of a split: frame accuracy and hard cross-entropy, float64 (M,) each."""

    frame_accuracy: torch.Tensor
    cross_entropy: torch.Tensor


@torch.inference_mode()
def evaluate(model: AcousticModel, frames: LabelledFrames) -> Evaluation:
    """Frame accuracy and cross-entropy of every member on all usable frames."""
    correct = torch.zeros(model.num_members, dtype=torch.float64)
    loss = torch.zeros(model.num_members, dtype=torch.float64)
    for batch in batches_in_order(frames, model):
        logits = model(batch.inputs, batch.lengths)
        hits = logits.argmax(2) == batch.pdf_ids
        correct += (hits if batch.weights is None else hits * batch.weights).sum(1)
        loss += hard_cross_entropy(logits, batch).double() * batch.num_frames
    return Evaluation(correct / max(len(frames), 1), loss / max(len(frames), 1))


@dataclass
class Trainer:
    """Trains a stack of members and keeps each one's best weights.

    Attributes:
        model_config: architecture of every member.
        num_bins: of the frames.
        num_pdfs: of the targets.
        config: how to train.
        objective: towards what.
        train_frames: with soft targets where a hard weight is below 1 and the objective does not smooth.
        dev_frames: decide when to stop.
        names: of the members, for people.
        seeds: initial weights and dropout, one for each member.
        diversity: what distinguishes the data that the members see.
        checkpoint_path: where the state is kept; also read from there.
        sources: of extra terms and initial weights.
        metrics_dir: where metrics go; None: nowhere.
        checkpoint_interval_s: least time between checkpoints.
        pool_frames: frames that are shuffled together.
    """

    model_config: AcousticModelConfig
    num_bins: int
    num_pdfs: int
    config: TrainingConfig
    objective: Objective
    train_frames: FrameSource
    dev_frames: LabelledFrames
    names: Sequence[str]
    seeds: Sequence[int]
    diversity: Diversity
    checkpoint_path: Path
    sources: TermSources = NO_SOURCES
    metrics_dir: Path | None = None
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S
    pool_frames: int = POOL_FRAMES
    state: TrainingState = field(init=False)
    waiting_s: float = field(init=False, default=0.0)
    _gradient: Gradient | None = field(init=False, default=None)
    _judged: AcousticModel | None = field(init=False, default=None)

    def train(self) -> TrainingState:
        """Train from the last checkpoint, or from the start, to the end.

        Returns:
            The final state: `best` holds every member's best weights.
        """
        keep_freed_memory()
        self.state = load_state(self.checkpoint_path, self._make_terms) or self._start()
        state = self.state
        state.model.compute_dtype = state.best.compute_dtype = getattr(torch, state.compute_dtype)
        if state.step:
            say(f"  resuming after epoch {state.epoch} of {self.config.num_epochs}, step {state.step:,}")
        metrics = None
        if self.metrics_dir:
            metrics = MetricsLog(self.metrics_dir, self.names, state.step, state.epoch)
        checkpoints = CheckpointWriter(self.checkpoint_path, self.checkpoint_interval_s)
        try:
            while state.active and state.epoch < self.config.num_epochs:
                _Epoch(self, checkpoints, metrics).run()
        finally:
            checkpoints.close()
            if metrics:
                metrics.close()
        return state

    def gradient_of_stack(self, batch_size: int) -> Gradient:
        """That of the active members; its buffers serve all epochs until a member leaves."""
        if self._gradient is None or self._gradient.model is not self.state.model:
            seeds = [self.seeds[member] for member in self.state.active]
            dropout, model = Dropout(self.config.dropout, seeds), self.state.model
            if self.objective.is_plain:
                self._gradient = make_gradient(model, batch_size, dropout)
            else:
                term, terms = self.objective.soft_term, self.state.terms
                self._gradient = TermsGradient(model, dropout, term, terms, self._guide)
        return self._gradient

    def batches(self, model: AcousticModel, members: Sequence[int]) -> Batches:
        """Those of some members, as their models and the guide read them."""
        return Batches(
            self.train_frames,
            self._reach(model),
            self.config.batch_size,
            self.diversity.of_members(members),
            self.pool_frames,
            self.config.perturbation,
        )

    @property
    def _guide(self) -> AcousticModel | None:
        """Whom extra terms ask; None where none of them does."""
        return self.sources.guide if self.objective.is_guided else None

    def _reach(self, model: AcousticModel) -> JointReach:
        return JointReach(model, self._guide or model)

    def evaluate_stack(self) -> Evaluation:
        """The active members on dev, by weights in their compute type that stay in the same memory."""
        model = self.state.model
        if self._judged is None or self._judged.num_members != model.num_members:
            self._judged = model.in_compute_dtype()
        elif model.compute_dtype != torch.float32:  # there they are the model's own
            with torch.no_grad():
                for weight, current in zip(self._judged.parameters(), model.parameters(), strict=True):
                    weight.copy_(current)
        return evaluate(self._judged, self.dev_frames)

    def _start(self) -> TrainingState:
        dtype = choose_dtype(
            self.config.precision, len(self.seeds), self.config.batch_size, self.model_config.hidden_size
        )
        name = str(dtype).removeprefix("torch.")
        state = TrainingState.begin(self._build(), name, self._make_terms())
        # At once: `auto` is measured, and a run that is killed early must not measure anew.
        save_state(self.checkpoint_path, state)
        return state

    def _build(self) -> AcousticModel:
        """The members as they start."""
        model = build_model(self.model_config, self.num_bins, self.num_pdfs, len(self.seeds))
        model.initialize(self.seeds)
        if self.objective.starts_from_guide:
            assert self.sources.guide is not None
            inherit(model, self.sources.guide)
        return model

    def _make_terms(self) -> list[ExtraTerm]:
        """The extra terms as they start; layers are compared on the first batch."""
        if not self.objective.extra_terms:
            return []
        model, guide = self._build(), self._guide
        reach, members = self._reach(model), range(len(self.seeds))
        batch = next(self.batches(model, members).of_epoch(0).start_at(0))
        of_guide = None if guide is None else reach.narrow(batch.inputs, guide)
        heard = reach.narrow(batch.inputs, model), of_guide
        return make_terms(self.objective.extra_terms, self.sources, model, self.seeds, batch, heard)


class _Epoch:
    """One pass over the training split, from where the state is, and its judgement on dev."""

    def __init__(self, trainer: Trainer, checkpoints: CheckpointWriter, metrics: MetricsLog | None) -> None:
        self.trainer, self.checkpoints, self.metrics = trainer, checkpoints, metrics
        self.state, self.config = trainer.state, trainer.config
        members = self.state.active
        self.uniform = torch.full((1, 1, trainer.num_pdfs), 1 / trainer.num_pdfs)
        batches = trainer.batches(self.state.model, members)
        if not self.state.step:
            say(f"  {batches.describe_shuffle()}; {self.state.compute_dtype} products")
        self.batches = batches.of_epoch(self.state.epoch)
        self.gradient = trainer.gradient_of_stack(batches.batch_size)
        self.waiting_s = 0.0
        self.num_frames = 0

    def run(self) -> None:
        state = self.state
        self.start = time.monotonic()
        todo = self.batches.num_steps - state.epoch_step
        what = f"epoch {state.epoch + 1}/{self.config.num_epochs}"
        for batch in track(self._wait_for_batches(), what, todo, unit="step"):
            self._step(batch)
            self.checkpoints.offer(state)
        if not state.loss_sum.isfinite().all():
            raise RecipeError(
                f"training diverged in epoch {state.epoch + 1}: a member's loss is not a number; "
                "lower training.learning_rate (teachers or student) or set training.precision to fp32"
            )
        self._judge()

    def _wait_for_batches(self) -> Iterator[Batch]:
        batches = self.batches.start_at(self.state.epoch_step)
        while True:
            start = time.monotonic()
            batch = next(batches, None)
            self.waiting_s += time.monotonic() - start
            if batch is None or self.state.epoch_step == self.batches.num_steps:
                return
            yield batch

    def _step(self, batch: Batch) -> None:
        state = self.state
        group = state.optimizer.param_groups[0]
        group["lr"] = rate = self._rate()
        group["weight_decay"] = self.config.weight_decay
        self.gradient.dropout.step = state.step
        objective, progress = self.trainer.objective, self._progress()
        temperature = objective.temperature_at(progress)
        if objective.smooths:
            batch = replace(batch, soft_targets=self.uniform.expand(1, batch.pdf_ids.shape[1], -1))
        weights = objective.hard_weights_at(progress, state.active)
        loss = self.gradient.compute(objective.soften(batch, temperature), weights, temperature)
        state.optimizer.step()
        state.loss_sum += loss
        state.step += 1
        state.epoch_step += 1
        self.num_frames += batch.num_frames
        every = max(1, self.batches.num_steps // LINES_AN_EPOCH)
        if self.metrics and state.epoch_step % every == 0:
            self._write_metrics({"train_loss": loss}, {"learning_rate": rate})

    def _progress(self) -> float:
        """Share of all steps that are done."""
        done = self.state.epoch + self.state.epoch_step / self.batches.num_steps
        return done / self.config.num_epochs

    def _rate(self) -> float:
        """Learning rate: linear rise, then half a cosine down to its final share."""
        config, done = self.config, self._progress()
        if done < config.warmup_share:
            a_step = 1 / (config.num_epochs * self.batches.num_steps)
            return config.learning_rate * (done + a_step) / (config.warmup_share + a_step)
        share = (done - config.warmup_share) / (1 - config.warmup_share)
        low = config.final_rate_share
        return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))

    def _write_metrics(self, of_members: dict[str, torch.Tensor], of_run: dict[str, float]) -> None:
        assert self.metrics is not None
        seconds = max(time.monotonic() - self.start, 1e-9)
        of_run |= {
            "epoch": self.state.epoch,
            "member_frames_a_s": self.num_frames * len(self.state.active) / seconds,
            "waiting_for_data_share": self.waiting_s / seconds,
        }
        self.metrics.write(self.state.step, self.state.active, of_members, of_run)

    def _judge(self) -> None:
        """Score the epoch on dev, keep what is best, let finished members go."""
        state = self.state
        train_loss = state.loss_sum / max(self.batches.num_steps, 1)
        state.epoch += 1
        state.epoch_step = 0
        state.loss_sum.zero_()
        dev = self.trainer.evaluate_stack()
        for row, member in enumerate(state.active):
            record = state.histories[member]
            record.add(float(train_loss[row]), float(dev.frame_accuracy[row]), float(dev.cross_entropy[row]))
            if record.best_epoch == state.epoch or self.config.keeps == "last":
                state.keep_best(row, member)
        if self.metrics:
            curves = {"dev_frame_accuracy": dev.frame_accuracy, "dev_cross_entropy": dev.cross_entropy}
            self._write_metrics(curves, {"epoch_train_loss": float(train_loss.mean())})
        self._say(dev, float(train_loss.mean()))
        state.retain(
            [
                row
                for row, member in enumerate(state.active)
                if self.config.keeps == "last"
                or state.epoch - state.histories[member].best_epoch < self.config.patience
            ]
        )
        self.trainer.waiting_s += self.waiting_s

    def _say(self, dev: Evaluation, train_loss: float) -> None:
        accuracies = " ".join(f"{100 * value:.2f}" for value in dev.frame_accuracy)
        pace = ""
        if self.num_frames:  # a run may go on where nothing but the judgement was left of the epoch
            seconds = time.monotonic() - self.start
            epochs_left = self.config.num_epochs - self.state.epoch
            left = epochs_left * seconds * len(self.trainer.train_frames) / self.num_frames
            speed = self.num_frames * len(self.state.active) / seconds
            pace = f", {speed:,.0f} member-frames/s, at most {left:.0f} s left"
        say(
            f"  epoch {self.state.epoch}/{self.config.num_epochs}: dev frame accuracy {accuracies}; "
            f"loss {train_loss:.3f}{pace}"
        )
