"""Our training against the loop that people write: one torch.nn.Sequential after the other."""

import time
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from corpus import NUM_BINS, NUM_PDFS, draw_splits
from engine import NUM_HIDDEN_LAYERS, NUM_MEMBERS, Splits, describe_model, train
from measure import Benchmark, Measurement, Setting, require_fast_bf16
from torch.utils.data import DataLoader, TensorDataset

from asrdistill.features.context import ContextConfig
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.precision import PrecisionChoice

WIDTH = 256
NUM_FRAMES, NUM_EPOCHS, REPEATS = 30720, 3, 2
LEARNING_RATE, DROPOUT = 1e-3, 0.1
TOLERANCE = 0.02
WANTED: dict[PrecisionChoice, float] = {"fp32": 1.5, "bf16": 3.0}


def splice(frames: LabelledFrames) -> TensorDataset:
    """All context windows, float32, and their hard targets."""
    context = ContextConfig()
    utterance = np.repeat(np.arange(frames.num_utterances), frames.lengths)
    first, last = frames.starts[utterance, None], frames.starts[utterance + 1, None] - 1
    shifts = np.arange(-context.past, context.future + 1)
    index = np.clip(np.arange(len(utterance))[:, None] + shifts, first, last)
    windows = frames.frames[index].reshape(len(index), -1).astype(np.float32)
    return TensorDataset(torch.from_numpy(windows), torch.from_numpy(frames.pdf_ids).long())


def build(width: int) -> torch.nn.Sequential:
    """The same model in torch's own modules."""
    sizes = [describe_model(width).context.num_frames * NUM_BINS, *[width] * NUM_HIDDEN_LAYERS["dnn"]]
    layers: list[torch.nn.Module] = []
    for size, next_size in pairwise(sizes):
        layers += [torch.nn.Linear(size, next_size), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, NUM_PDFS))


def train_plainly(
    width: int, train_set: TensorDataset, dev_set: TensorDataset, batch_size: int, num_workers: int
) -> float:
    """One member in float32, from its initial weights to its dev frame accuracy after the last epoch."""
    model = build(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    criterion = torch.nn.CrossEntropyLoss()
    train_loader = DataLoader(train_set, batch_size, shuffle=True, num_workers=num_workers)
    dev_loader = DataLoader(dev_set, batch_size, num_workers=num_workers)
    accuracy = 0.0
    for _ in range(NUM_EPOCHS):
        model.train()
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
        model.eval()
        correct = 0
        with torch.no_grad():
            for inputs, targets in dev_loader:
                correct += (model(inputs).argmax(1) == targets).sum().item()
        accuracy = correct / len(dev_set)
    return accuracy


class PlainLoop:
    """The plain loop at its best: with the number of workers that it runs faster with."""

    def __init__(self, width: int, splits: Splits, batch_size: int) -> None:
        self.settings = (width, splice(splits[0]), splice(splits[1]), batch_size)
        self.num_workers = min((0, 2), key=lambda num_workers: self.time_member(num_workers)[0])

    def time_member(self, num_workers: int | None = None) -> tuple[float, float]:
        """Seconds, and dev frame accuracy."""
        start = time.perf_counter()
        accuracy = train_plainly(*self.settings, self.num_workers if num_workers is None else num_workers)
        return time.perf_counter() - start, accuracy


def measure(setting: Setting, precision: PrecisionChoice) -> Measurement:
    """A plain member, times ten, and a whole run of ours, in turn.

    Raises:
        RuntimeError: ours reaches a clearly lower dev frame accuracy, so that times say nothing.
    """
    if precision == "bf16":
        require_fast_bf16(setting)
    splits = draw_splits(setting.round_frames(NUM_FRAMES))
    width = setting.shrink_width(WIDTH)
    torch.manual_seed(1)
    plain = PlainLoop(width, splits, setting.batch_size)
    # As in the plain loop: the same rate throughout.
    config = {
        "num_epochs": NUM_EPOCHS,
        "precision": precision,
        "learning_rate": LEARNING_RATE,
        "dropout": DROPOUT,
        "warmup_share": 0.0,
        "final_rate_share": 1.0,
    }
    measured = Measurement()
    accuracies = []
    for _ in range(setting.limit_repeats(REPEATS)):
        plain_s, plain_accuracy = plain.time_member()
        ours = train(setting, width, splits, range(NUM_MEMBERS), config)
        measured.pairs.append((NUM_MEMBERS * plain_s, ours.seconds))
        accuracies.append((plain_accuracy, ours.dev_frame_accuracy))
    of_plain, of_ours = np.mean(accuracies, 0)
    measured.remark = (
        f"dev frame accuracy {100 * of_plain:.1f}% plain, {100 * of_ours:.1f}% ours; "
        f"{plain_s:.1f} s a plain member ({plain.num_workers} workers), {ours.seconds:.1f} s ours"
    )
    if setting.shrink == 1 and of_ours < of_plain - TOLERANCE:
        raise RuntimeError(f"ours is worse by more than {100 * TOLERANCE:.0f} points: {measured.remark}")
    return measured


BENCHMARKS = [
    Benchmark(
        f"train_over_plain_loop[{precision}]",
        f"time of training ten members of 4 x {WIDTH} by a plain loop: torch.nn.Sequential, DataLoader of "
        "spliced windows, Adam, fp32; one is timed, and counted ten times",
        f"time of training ten as we do, {precision}, from the first line to the last, for as many epochs, "
        f"to the same dev frame accuracy (at most {100 * TOLERANCE:.0f} points less)",
        partial(measure, precision=precision),
        at_least=wanted,
    )
    for precision, wanted in WANTED.items()
]
