"""What each codec would cost and keep, measured on a sample before anything is dumped.

Of half of the sample's utterances codecs learn, and a student makes its first steps; the other half is
measured. `angle` is the one between two gradients of that student with respect to all its weights, over all
measured frames: by what it is told, and by the dense soft targets. What codecs leave open is filled in as the
loss does it, by the student's own posteriors.
Source: the angle as a measure of sparse targets: Anshumann et al. (2025), arXiv:2503.16870.
Shapes: U utterances, N frames, P pdf-ids.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Diversity, batches_in_order
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.gradient import AutogradGradient
from asrdistill.nn.loss import LEAST_REST
from asrdistill.nn.objective import Objective
from asrdistill.nn.soft_targets import DenseTargets, LowRankTargets, SoftRows, SoftTargets, SparseRows
from asrdistill.nn.training import Trainer, TrainingConfig
from asrdistill.targets.codecs import (
    CodecConfig,
    DenseConfig,
    SampledConfig,
    TopKConfig,
    describe_codec,
    open_codec,
    save_array,
)
from asrdistill.targets.shards import FRAME_RECORD, count_bytes_in_tar
from asrdistill.targets.transform import TransformConfig, learn_codebook

LADDER: tuple[CodecConfig, ...] = (
    DenseConfig(),
    *(TopKConfig(num_kept=kept) for kept in (8, 16, 32, 64)),
    *(SampledConfig(num_draws=draws) for draws in (8, 16, 32, 64)),
    *(TransformConfig(step=step, correction=None) for step in (0.1, 0.05, 0.02)),
    *(
        TransformConfig(step=step, correction=unit)
        for step, unit in ((0.3, 0.1), (0.2, 0.05), (0.2, 0.03), (0.1, 0.02))
    ),
)
LEAST_COUNTED = 1e-7
# Degrees; what a codec is to stay below where no budget is given.
DEFAULT_ANGLE = 5.0
# Passes over its half of the sample after which the student's gradient is looked at.
NUM_PASSES = 10


@dataclass(frozen=True)
class Sample:
    """Utterances and the teachers' opinion of them.

    Attributes:
        frames: float16 (frames, bins) of each.
        averages: float32 (frames, P) of each, dense soft targets.
        seconds_a_frame: what asking the teachers took.
    """

    frames: Sequence[np.ndarray]
    averages: Sequence[np.ndarray]
    seconds_a_frame: float


@dataclass(frozen=True)
class Cost:
    """What one codec costs and keeps.

    Attributes:
        codec: with its settings.
        bytes_a_frame: of soft targets, headers of the tar included.
        size_bytes: of the whole dump: soft targets of all temperatures, codebooks, features and hard targets.
        seconds: to make it, teachers included.
        divergence: mean Kullback-Leibler divergence of what is told from dense, nats; None where pdf-ids with
            probability are told to have none, and where what is told is right on average only.
        retained_mass: mean probability of the pdf-ids that are kept.
        same_winner: share of frames whose likeliest pdf-id is still the likeliest.
        angle_degrees: between the gradients.
    """

    codec: CodecConfig
    bytes_a_frame: float
    size_bytes: float
    seconds: float
    divergence: float | None
    retained_mass: float
    same_winner: float
    angle_degrees: float


class Planner:
    """Measures codecs on one sample."""

    def __init__(
        self,
        sample: Sample,
        model_config: AcousticModelConfig,
        training: TrainingConfig,
        temperature: float,
        corpus_frames: int,
        num_temperatures: int = 1,
    ) -> None:
        """Args:
        sample: of at least two utterances.
        model_config: the student's architecture.
        training: how it is trained.
        temperature: T of the sample's averages.
        corpus_frames: frames that the dump would have, dev and views included.
        num_temperatures: of which soft targets would be stored.
        """
        self.num_temperatures = num_temperatures
        self.temperature, self.corpus_frames, self.sample = temperature, corpus_frames, sample
        halves = [range(start, len(sample.frames), 2) for start in (0, 1)]
        self.learnt, self.measured = ([sample.averages[n] for n in half] for half in halves)
        frames = [[sample.frames[n] for n in half] for half in halves]
        learnt = _label(frames[0], DenseTargets(np.concatenate(self.learnt).astype(np.float16)))
        self.frames = frames[1]
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                model_config=model_config,
                num_bins=self.frames[0].shape[1],
                num_pdfs=self.learnt[0].shape[1],
                config=training.model_copy(update={"num_epochs": NUM_PASSES, "patience": NUM_PASSES + 1}),
                objective=Objective((0.0,), temperature),
                train_frames=learnt,
                dev_frames=learnt,
                names=["student"],
                seeds=[0],
                diversity=Diversity(0),
                checkpoint_path=Path(folder) / "checkpoint.safetensors",
            )
            self.student: AcousticModel = trainer.train().model
            self.student.compute_dtype = torch.float32
        dense = DenseTargets(np.concatenate(self.measured))
        self.posteriors = self._ask_student()
        self.gradient = self._gradient(dense)

    def measure(self, codec_config: CodecConfig) -> Cost:
        """Encode and decode the measured half."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "codebook"
            if isinstance(codec_config, TransformConfig):
                learn_codebook(self.learnt, codec_config).write(path)
            codec = open_codec(codec_config, path)
            codebook_bytes = path.stat().st_size if path.is_file() else 0
        rng = np.random.default_rng(0)
        codec.encode(self.measured[0], rng)  # what is compiled at the first call is no part of the time
        start = time.perf_counter()
        contents = [codec.encode(dense, rng) for dense in self.measured]
        num_frames = sum(map(len, self.measured))
        encoding = (time.perf_counter() - start) / num_frames
        seconds = encoding * self.num_temperatures + self.sample.seconds_a_frame
        parts = [
            codec.decode(content, len(dense)) for content, dense in zip(contents, self.measured, strict=True)
        ]
        targets = parts[0].join(parts)
        bytes_a_frame = sum(count_bytes_in_tar(len(content)) for content in contents) / num_frames
        divergence, retained_mass, same_winner = self._compare(targets)
        return Cost(
            codec_config,
            bytes_a_frame,
            (bytes_a_frame * self.num_temperatures + self._other_bytes_a_frame()) * self.corpus_frames
            + codebook_bytes * self.num_temperatures,
            seconds * self.corpus_frames,
            divergence,
            retained_mass,
            same_winner,
            _angle(self.gradient, self._gradient(targets)),
        )

    def _other_bytes_a_frame(self) -> float:
        """Of features, and of hard targets and disagreement."""
        sizes = [
            count_bytes_in_tar(len(save_array(frames)))
            + count_bytes_in_tar(len(save_array(np.empty(len(frames), FRAME_RECORD))))
            for frames in self.frames
        ]
        return sum(sizes) / sum(map(len, self.frames))

    def _compare(self, targets: SoftTargets) -> tuple[float | None, float, float]:
        """Divergence, retained mass and share of the same winners."""
        divergence, retained, same, first = 0.0, 0.0, 0, 0
        for dense, posteriors in zip(self.measured, self.posteriors, strict=True):
            rows = targets.take(torch.arange(first, first + len(dense))[None])
            first += len(dense)
            told, exact = fill_in(rows, posteriors[None])[0], torch.from_numpy(dense)
            # Of what float16 cannot hold nothing is lost that counts.
            counted = torch.where(exact > LEAST_COUNTED, exact, 0)
            divergence += float(torch.special.xlogy(counted, exact / told).nansum())
            retained += float(exact[_find_kept(rows, exact.shape[1])].sum())
            same += int((told.argmax(1) == exact.argmax(1)).sum())
        is_corrected = isinstance(targets, LowRankTargets) and targets.corrections is not None
        has_one = math.isfinite(divergence) and not is_corrected
        return (divergence / first if has_one else None), retained / first, same / first

    @torch.inference_mode()
    def _ask_student(self) -> list[torch.Tensor]:
        """The student's posteriors at T, float32 (N, P) of each measured utterance."""
        logits = [self.student.compute_logits(frames)[0] for frames in self.frames]
        return [torch.softmax(row / self.temperature, 1) for row in logits]

    def _gradient(self, targets: SoftTargets) -> torch.Tensor:
        """Of the soft loss of all measured frames, with respect to all weights of the student, float64."""
        total = torch.zeros(0)
        gradient = AutogradGradient(self.student, Dropout(0, [0]))
        for batch in batches_in_order(_label(self.frames, targets), self.student):
            gradient.compute(batch, torch.zeros(1), self.temperature)
            parts = [weight.grad.flatten() for weight in self.student.parameters() if weight.grad is not None]
            of_batch = batch.num_frames * torch.cat(parts).double()
            total = of_batch if not len(total) else total + of_batch
        return total


def fill_in(rows: SoftRows, posteriors: torch.Tensor) -> torch.Tensor:
    """What a student with posteriors (M, B, P) is told, dense: the rest is shared out as it does itself."""
    if isinstance(rows, torch.Tensor):
        return rows
    index = rows.pdf_ids.expand(len(posteriors), -1, -1)
    told = torch.zeros_like(posteriors)
    if rows.rest is not None:
        others = posteriors.scatter(2, index, 0)
        told = others * (rows.rest / others.sum(2).clamp(min=LEAST_REST))[..., None]
    return told.scatter_add(2, index, rows.probabilities.expand(index.shape))


def _find_kept(rows: SoftRows, num_pdfs: int) -> torch.Tensor:
    """Which pdf-ids of a single member's rows were kept, bool (B, P)."""
    if isinstance(rows, SparseRows):
        return torch.zeros(rows.pdf_ids.shape[1], num_pdfs, dtype=torch.bool).scatter(
            1, rows.pdf_ids[0], True
        )
    return torch.ones(rows.shape[1], num_pdfs, dtype=torch.bool)


def choose(costs: Sequence[Cost], max_bytes: float | None, max_divergence: float | None) -> Cost | None:
    """The codec for a budget.

    Args:
        costs: of several codecs.
        max_bytes: of the whole dump: the one with the smallest angle that fits; or None.
        max_divergence: nats: the smallest one that is no further from dense; or None. With neither, the
            smallest one whose angle is below 5 degrees.

    Returns:
        None where no codec is within the budget.
    """
    within = [
        cost
        for cost in costs
        if (max_bytes is None or cost.size_bytes <= max_bytes)
        and (max_divergence is None or (cost.divergence is not None and cost.divergence <= max_divergence))
        and (max_bytes is not None or max_divergence is not None or cost.angle_degrees < DEFAULT_ANGLE)
    ]
    if max_bytes is not None and max_divergence is None:
        return min(within, key=lambda cost: cost.angle_degrees, default=None)
    return min(within, key=lambda cost: cost.size_bytes, default=None)


def _label(frames: Sequence[np.ndarray], targets: SoftTargets) -> LabelledFrames:
    """Frames with soft targets; of the hard ones, none is heard."""
    starts = np.cumsum([0, *map(len, frames)])
    return LabelledFrames(np.concatenate(frames), starts, np.zeros(starts[-1], np.int32), targets)


def _angle(one: torch.Tensor, other: torch.Tensor) -> float:
    cosine = float(one @ other / (one.norm() * other.norm()))
    if math.isnan(cosine):
        return math.nan
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def render(costs: Sequence[Cost], chosen: Cost | None) -> str:
    """The costs as a table for a terminal."""
    header = (
        f"{'soft_targets.codec':<46} {'B/frame':>8} {'size':>9} {'hours':>6} {'KL':>8} {'kept':>6} "
        f"{'winner':>7} {'angle':>6}"
    )
    lines = [header]
    for cost in costs:
        # Rounding may make it less than nothing.
        divergence = "-" if cost.divergence is None else f"{max(cost.divergence, 0):.4f}"
        lines.append(
            f"{describe_codec(cost.codec):<46} {cost.bytes_a_frame:>8.1f} {cost.size_bytes / 1e9:>6.2f} GB "
            f"{cost.seconds / 3600:>6.2f} {divergence:>8} {100 * cost.retained_mass:>5.1f}% "
            f"{100 * cost.same_winner:>6.1f}% {cost.angle_degrees:>5.1f}°{' <' if cost is chosen else ''}"
        )
    return "\n".join(lines)
