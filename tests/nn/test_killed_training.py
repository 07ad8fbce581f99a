"""Training that is killed at random moments ends with the same bytes as training that is not.

A child process trains and notes in shared memory what it is doing; its parent kills it (SIGKILL) at seeded
random moments, half of them aimed at a kind of moment, and starts another one, which goes on from the
checkpoint that it finds. `make test-kill` does it 200 times, the ordinary test run a few.
"""

import multiprocessing
import os
import pathlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

import asrdistill.nn.checkpoint
import asrdistill.nn.training
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Diversity
from asrdistill.nn.checkpoint import CheckpointWriter, save_model, save_state
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.gradient import DnnGradient
from asrdistill.nn.objective import Objective
from asrdistill.nn.training import Trainer, TrainingConfig

NUM_KILLS = int(os.environ.get("NUM_KILLS", "14"))
KILLS_A_TRAINING = 7
SEED = 762
MOMENTS = ("forward", "backward", "optimiser", "evaluation", "checkpoint copy", "checkpoint write", "rename")
# Short moments are held for so long, or hardly a kill would meet them.
HELD_S = {
    "forward": 0.001,
    "backward": 0.001,
    "optimiser": 0.002,
    "checkpoint copy": 0.002,
    "checkpoint write": 0.002,
    "rename": 0.005,
}
NUM_BINS, NUM_PDFS, NUM_MEMBERS = 5, 6, 3


def draw_frames(seed: int, num_utterances: int) -> LabelledFrames:
    """Frames whose pdf-id is hard to tell, so that members stop at different epochs."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *rng.integers(20, 90, num_utterances)])
    pdf_ids = rng.integers(0, NUM_PDFS, starts[-1]).astype(np.int32)
    frames = rng.normal(size=(starts[-1], NUM_BINS)) + np.eye(NUM_PDFS, NUM_BINS)[pdf_ids]
    return LabelledFrames(frames.astype(np.float16), starts, pdf_ids)


def train(folder: Path) -> None:
    """Everything that has a state: pools, own orders, bags, dropout, early stopping, metrics."""
    seeds = tuple(range(NUM_MEMBERS))
    trainer = Trainer(
        model_config=AcousticModelConfig(num_hidden_layers=2, hidden_size=24),
        num_bins=NUM_BINS,
        num_pdfs=NUM_PDFS,
        config=TrainingConfig(
            num_epochs=6, patience=1, batch_size=96, dropout=0.2, learning_rate=0.02, precision="fp32"
        ),
        objective=Objective((1.0,) * NUM_MEMBERS),
        train_frames=draw_frames(1, 50),
        dev_frames=draw_frames(2, 10),
        names=[f"teacher {seed}" for seed in seeds],
        seeds=seeds,
        diversity=Diversity(0, order_seeds=seeds, bag_seeds=seeds),
        checkpoint_path=folder / "checkpoint.safetensors",
        metrics_dir=folder / "metrics",
        checkpoint_interval_s=0.0,
        pool_frames=900,
    )
    state = trainer.train()
    save_state(folder / "state.safetensors", state)
    save_model(folder / "model.safetensors", state.best, {})


class Moments:
    """What a training process is doing, in memory that outlives it: how often each, and whether now."""

    def __init__(self, context: ForkServerContext) -> None:
        self.entered: Synchronized[int] = context.RawArray("q", len(MOMENTS))  # type: ignore[assignment]
        self.inside: Synchronized[int] = context.RawArray("q", len(MOMENTS))  # type: ignore[assignment]

    @contextmanager
    def note(self, moment: str) -> Iterator[None]:
        number = MOMENTS.index(moment)
        self.inside[number] += 1
        self.entered[number] += 1
        time.sleep(HELD_S.get(moment, 0))
        yield
        time.sleep(HELD_S.get(moment, 0))
        self.inside[number] -= 1

    def watch(self, owner: Any, name: str, moment: str) -> None:
        """Note every call of a function."""
        function: Callable[..., Any] = getattr(owner, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            with self.note(moment):
                return function(*args, **kwargs)

        setattr(owner, name, noted)


def train_watched(folder: Path, moments: Moments, with_kills: bool) -> None:
    """The child process."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    CheckpointWriter.MAX_SHARE = 1e9
    if with_kills:
        moments.watch(DnnGradient, "_forward", "forward")
        moments.watch(DnnGradient, "_backward", "backward")
        moments.watch(torch.optim.AdamW, "step", "optimiser")
        moments.watch(asrdistill.nn.training, "evaluate", "evaluation")
        moments.watch(asrdistill.nn.checkpoint.TrainingState, "tensors", "checkpoint copy")
        moments.watch(asrdistill.nn.checkpoint, "save_file", "checkpoint write")
        moments.watch(pathlib.Path, "replace", "rename")
    train(folder)


def aim_at(
    rng: np.random.Generator, kill: int, wanted: Sequence[str], moments: Moments, is_alive: Callable[[], bool]
) -> None:
    """Wait for the moment of a kill: every other one at a random time, the others in a wanted moment."""
    if kill % 2:
        kind, after = MOMENTS.index(wanted[kill // 2 % len(wanted)]), int(rng.integers(1, 6))
        while is_alive() and not (moments.entered[kind] >= after and moments.inside[kind]):
            pass
    else:
        while is_alive() and not any(moments.entered):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.4))


def run_until_killed(
    context: ForkServerContext, folder: Path, rng: np.random.Generator, kill: int, wanted: Sequence[str]
) -> list[str] | None:
    """Let a child train and kill it; gives the moments that it was in; None: it was done before."""
    moments = Moments(context)
    process = context.Process(target=train_watched, args=(folder, moments, True))
    process.start()
    aim_at(rng, kill, wanted, moments, process.is_alive)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    if not process.exitcode:
        return None
    return [moment for moment, inside in zip(MOMENTS, moments.inside, strict=True) if inside]


def run_to_the_end(context: ForkServerContext, folder: Path) -> dict[str, bytes]:
    process = context.Process(target=train_watched, args=(folder, Moments(context), False))
    process.start()
    process.join()
    assert process.exitcode == 0
    return {name: (folder / name).read_bytes() for name in ("state.safetensors", "model.safetensors")}


def test_killed_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch.utils.tensorboard"])
    rng = np.random.default_rng(SEED)
    expected = run_to_the_end(context, tmp_path / "undisturbed")
    met: Counter[str] = Counter()
    kills, trainings = 0, 0
    # On a busy machine a kill may come too late for a short moment: then others aim at it.
    while kills < NUM_KILLS or (kills < 3 * NUM_KILLS and not set(met) >= set(MOMENTS)):
        folder = tmp_path / f"killed {trainings}"
        trainings += 1
        until = kills + KILLS_A_TRAINING
        while kills < until:
            wanted = [moment for moment in MOMENTS if moment not in met] or MOMENTS
            moments = run_until_killed(context, folder, rng, kills, wanted)
            if moments is None:
                break
            met.update(moments or ["between"])
            kills += 1
        assert run_to_the_end(context, folder) == expected
    print(f"{kills} kills in {trainings} trainings: " + ", ".join(f"{k} {n}" for k, n in met.items()))
    assert set(met) >= set(MOMENTS), f"of {kills} kills none in {set(MOMENTS) - set(met)}"
