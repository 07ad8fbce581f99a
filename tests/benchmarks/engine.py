"""Our side of the benchmarks: whole runs of the one training loop, timed."""

import contextlib
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corpus import NUM_BINS, NUM_PDFS
from measure import Setting

from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Diversity
from asrdistill.nn.checkpoint import TrainingState
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.models import build_model
from asrdistill.nn.objective import Objective
from asrdistill.nn.training import Trainer, TrainingConfig

NUM_MEMBERS = 10
NUM_HIDDEN_LAYERS = {"dnn": 4, "tdnn": 6}
Splits = tuple[LabelledFrames, LabelledFrames]


class TimedLines(io.StringIO):
    """Takes what training prints, which would bury the benchmarks' own lines; knows when epochs ended."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch_ends: list[float] = []

    def write(self, text: str) -> int:
        if "dev frame accuracy" in text:
            self.epoch_ends.append(time.perf_counter())
        return super().write(text)


class TimedTrainer(Trainer):
    """Knows when the first step began."""

    def _start(self) -> TrainingState:
        state = super()._start()
        self.started_at = time.perf_counter()
        return state


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        seconds: of all of it.
        start_s: of these, before the first step: weights drawn, precision probed, first checkpoint written.
        last_epoch_s: of these, the last epoch, with evaluation; of several, its memory is there already.
        waiting_s: waited for batches.
        state: at the end.
    """

    seconds: float
    start_s: float
    last_epoch_s: float
    waiting_s: float
    state: TrainingState

    @property
    def loop_s(self) -> float:
        return self.seconds - self.start_s

    @property
    def dev_frame_accuracy(self) -> float:
        """After the last epoch, mean of the members."""
        histories = self.state.histories
        return sum(history.dev_frame_accuracy[-1] for history in histories) / len(histories)


def describe_model(width: int, architecture: str = "dnn") -> AcousticModelConfig:
    """The paper's kind of model, 26 frames of 40 bins in; or a TDNN."""
    return AcousticModelConfig(
        architecture=architecture, num_hidden_layers=NUM_HIDDEN_LAYERS[architecture], hidden_size=width
    )


def plan_frames(
    setting: Setting, width: int, seconds: float, precision: str = "auto", architecture: str = "dnn"
) -> int:
    """Frames of an epoch that ten members would take so long for if there were matrix products only."""
    num_parameters = build_model(describe_model(width, architecture), NUM_BINS, NUM_PDFS).num_parameters
    peak = max(setting.peaks.values()) if precision == "auto" else setting.peaks.get(precision, 0.0)
    return setting.round_frames(int(seconds * peak / (6 * num_parameters * NUM_MEMBERS)))


def train(
    setting: Setting,
    width: int,
    splits: Splits,
    seeds: Sequence[int],
    config: dict[str, Any],
    architecture: str = "dnn",
    **rest: Any,
) -> Run:
    """Train one stack as the stages do, with metrics and checkpoints, in a folder that goes afterwards.

    Args:
        setting: of the run.
        width: hidden units a layer.
        splits: train and dev.
        seeds: one for each member.
        config: of `TrainingConfig`, where not as by default.
        architecture: of the model.
        rest: of `Trainer`, where not as by default.
    """
    with tempfile.TemporaryDirectory(dir=setting.scratch_dir) as folder:
        trainer = TimedTrainer(
            model_config=describe_model(width, architecture),
            num_bins=NUM_BINS,
            num_pdfs=NUM_PDFS,
            config=TrainingConfig(batch_size=setting.batch_size, **config),
            objective=Objective((1.0,) * len(seeds)),
            train_frames=splits[0],
            dev_frames=splits[1],
            names=[f"member {seed}" for seed in seeds],
            seeds=seeds,
            diversity=Diversity(1),
            checkpoint_path=Path(folder) / "checkpoint.safetensors",
            metrics_dir=Path(folder) / "metrics",
            **rest,
        )
        start = time.perf_counter()
        with contextlib.redirect_stderr(TimedLines()) as lines:
            state = trainer.train()
        end = time.perf_counter()
    begin, finish = [trainer.started_at, *lines.epoch_ends][-2:]
    return Run(end - start, trainer.started_at - start, finish - begin, trainer.waiting_s, state)


def warm_up(setting: Setting, splits: Splits) -> None:
    """Have numba compile, or load, what training needs, and everything be imported."""
    for precision in ("fp32", "bf16"):
        config = {"num_epochs": 1, "precision": precision}
        train(replace(setting, batch_size=32), 16, splits, (1, 2), config, pool_frames=len(splits[0]) // 2)
