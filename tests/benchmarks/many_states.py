"""Codecs at as many tied states as the paper has, on an experiment whose teachers tell fewer apart.

    .venv/bin/python tests/benchmarks/many_states.py exp/speechocean762 --num-states 14000

Prints, codec by codec, bytes a frame, the angle between a young student's gradient and the dense one, and
the dev frame accuracy that students are expected to have, which differ in their seeds. Not part of
`make bench`, because it needs a trained experiment and an hour.
Each tied state is divided into several, whose logits differ from its own by a linear function of the
teachers' last hidden layer: of the first teacher's, with random weights, and for the others its regression on
theirs, so that teachers agree about it about as far as they do about all else. How large the differences are
is chosen so that the average's perplexity at T grows as a power of the number of states. A frame's hard
target is drawn among those that its state was divided into, by what the teachers together hold for likely;
a student's accuracy is expected over all such draws, so that none of them decides between codecs.
Shapes: M teachers, N frames, H hidden units, P pdf-ids of the experiment, S states.
"""

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asrdistill.experiment import Experiment
from asrdistill.features.frame_store import FrameStore
from asrdistill.hmm.alignment import read_pdf_ids
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.checkpoint import load_model
from asrdistill.nn.models import build_model
from asrdistill.nn.precision import choose_dtype
from asrdistill.nn.softmax_loops import find_entropies
from asrdistill.pipeline import open_experiment
from asrdistill.progress import say, track
from asrdistill.recipe import Recipe, load_codec
from asrdistill.stages.student import Student, make_trainer
from asrdistill.targets.averaging import ask_teachers
from asrdistill.targets.codecs import CodecConfig, DenseConfig, SampledConfig, describe_codec, save_array
from asrdistill.targets.planning import Planner, Sample
from asrdistill.targets.rewriting import rewrite
from asrdistill.targets.shards import (
    FRAME_RECORD,
    ShardReader,
    SoftTargetSample,
    plan_shards,
    spread_utterances,
    write_index,
    write_shard,
)
from asrdistill.targets.transform import TransformConfig

# Besides dense soft targets, which the others are compared with.
CODECS: tuple[CodecConfig, ...] = (
    TransformConfig(),
    TransformConfig(step=0.1, correction=None),
    SampledConfig(num_draws=14),
)
COLUMNS = ("codec", "bytes a frame", "angle", "dev frame accuracy (%)", "lost (points)")
SAMPLE_FRAMES, FRAMES_A_SHARD = 3_000, 20_000
LARGEST_SPREAD, BISECTIONS = 30.0, 12


class ManyStates:
    """Teachers of many states, and speech for their students.

    Attributes:
        parents: int64 (S,), the pdf-id that each state comes from, ascending.
        teachers: of S states.
    """

    def __init__(self, recipe: Recipe, experiment: Experiment, num_states: int, growth: float) -> None:
        """Args:
        recipe: of the experiment.
        experiment: whose teachers are trained.
        num_states: S.
        growth: power of the number of states by which the average's perplexity grows.
        """
        self.recipe, self.temperature = recipe, recipe.student.temperature
        self.stores = {s: FrameStore(experiment.stage_dir("features"), s) for s in ("train", "dev")}
        self.pdf_ids = {
            split: read_pdf_ids(experiment.stage_dir("align"), split, store.num_frames)
            for split, store in self.stores.items()
        }
        self.original, described = load_model(experiment.dir / "teachers/model.safetensors")
        self.seeds = described["seeds"]
        self.parents = np.arange(num_states) * self.original.num_pdfs // num_states
        self.sample = [self.stores["train"].frames_of(n) for n in self.spread("train", SAMPLE_FRAMES)]
        self.maps = self._regress()
        self.directions = torch.from_numpy(
            np.random.default_rng(0).normal(size=(self.maps.shape[2], num_states)).astype(np.float32)
        ) / math.sqrt(self.maps.shape[2])
        before = self.measure_perplexity(self.original)
        wanted = before * (num_states / self.original.num_pdfs) ** growth
        low, high = 0.0, LARGEST_SPREAD
        for _ in range(BISECTIONS):
            spread = (low + high) / 2
            self.teachers = self._divide(spread)
            reached = self.measure_perplexity(self.teachers)
            low, high = (low, spread) if reached < wanted else (spread, high)
        say(
            f"  perplexity at T={self.temperature:g}: {before:.0f} of {self.original.num_pdfs:,} states, "
            f"{reached:.0f} of {num_states:,} (wanted: {wanted:.0f})"
        )

    def spread(self, split: str, num_frames: int) -> list[int]:
        """Numbers of utterances of about so many frames, from all over a split."""
        return spread_utterances(np.diff(self.stores[split].starts), num_frames)

    def measure_perplexity(self, model: AcousticModel) -> float:
        """Of the teachers' average at T on the sample."""
        entropies = [
            find_entropies(ask_teachers(model, frames, (self.temperature,)).averages[0])
            for frames in self.sample
        ]
        return float(np.exp(np.concatenate(entropies).mean()))

    @torch.inference_mode()
    def _regress(self) -> torch.Tensor:
        """What the first teacher's hidden layer, normalised, is of each one's, float32 (M, H + 1, H)."""
        model, weights = self.original, dict(self.original.state_dict())
        weight, bias = _find_output(weights, model.num_pdfs)
        width = weights[weight].shape[1]
        hidden = build_model(model.config, model.num_bins, width, model.num_members)
        weights[weight] = torch.eye(width).expand(model.num_members, -1, -1).clone()
        weights[bias] = torch.zeros(model.num_members, 1, width)
        hidden.load_state_dict(weights)
        layers = torch.cat([hidden.compute_logits(frames) for frames in self.sample], 1)
        wanted = (layers[0] - layers[0].mean(0)) / (layers[0].std(0) + 1e-3)
        extended = torch.cat([layers, torch.ones_like(layers[..., :1])], 2)
        penalty = 1e-2 * len(wanted) * torch.eye(width + 1)
        return torch.linalg.solve(extended.mT @ extended + penalty, extended.mT @ wanted)

    def _divide(self, spread: float) -> AcousticModel:
        weights = dict(self.original.state_dict())
        weight, bias = _find_output(weights, self.original.num_pdfs)
        parents = torch.from_numpy(self.parents)
        weights[weight] = weights[weight][..., parents] + spread * self.maps[:, :-1] @ self.directions
        weights[bias] = weights[bias][..., parents] + spread * self.maps[:, -1:] @ self.directions
        model = self.original
        divided = build_model(model.config, model.num_bins, len(self.parents), model.num_members)
        divided.load_state_dict(weights)
        divided.compute_dtype = model.compute_dtype
        return divided.in_compute_dtype()

    def _give_probabilities(self, split: str, number: int, likely: np.ndarray) -> np.ndarray:
        """Those of an utterance's hard targets, float32 (N, S), from posteriors at T = 1; rows of 0: none."""
        starts = self.stores[split].starts
        pdf_ids = self.pdf_ids[split][starts[number] : starts[number + 1]]
        within = np.where(self.parents == pdf_ids[:, None], likely, np.float32(0))
        sums = within.sum(1, keepdims=True)
        return np.divide(within, sums, out=within, where=sums > 0)

    def _draw_targets(self, split: str, number: int, likely: np.ndarray) -> np.ndarray:
        """Hard targets of an utterance, by posteriors at T = 1, float32 (N, S): int32 (N,); -1: none."""
        sums = np.cumsum(self._give_probabilities(split, number, likely), 1, dtype=np.float64)
        chance = np.random.default_rng((number, split == "train")).random((len(sums), 1))
        drawn = (sums > chance * sums[:, -1:]).argmax(1)
        return np.where(sums[:, -1] > 0, drawn, -1).astype(np.int32)

    @torch.inference_mode()
    def judge(self, split: str, numbers: list[int], students: AcousticModel) -> list[float]:
        """Percentage of frames for which each student is expected to be right."""
        students = students.in_compute_dtype()
        right, num_frames = np.zeros(students.num_members), 0.0
        for number in numbers:
            frames = self.stores[split].frames_of(number)
            likely = ask_teachers(self.teachers, frames, (1.0,)).averages[0]
            probabilities = self._give_probabilities(split, number, likely)
            best = students.compute_logits(frames).argmax(2).numpy()
            right += np.take_along_axis(probabilities, best.T, 1).sum(0, dtype=np.float64)
            num_frames += probabilities.sum(dtype=np.float64)
        return (100 * right / num_frames).tolist()

    def compute(self, split: str, number: int) -> SoftTargetSample:
        """An utterance with its targets, dense."""
        frames = self.stores[split].frames_of(number)
        opinion = ask_teachers(self.teachers, frames, (self.temperature, 1.0))
        records = np.empty(len(frames), FRAME_RECORD)
        records["pdf_id"] = self._draw_targets(split, number, opinion.averages[1])
        records["votes"], records["distance"] = opinion.votes, opinion.distance
        content = save_array(opinion.averages[0].astype(np.float16))
        return SoftTargetSample(str(number), frames, records, {self.temperature: content})

    def dump(self, folder: Path, num_frames: dict[str, int]) -> ShardReader:
        """Dense shards of so many frames of each split."""
        splits = {}
        for split, wanted in num_frames.items():
            numbers = self.spread(split, wanted)
            lengths = np.diff(self.stores[split].starts)[numbers].tolist()
            shards = []
            for place, part in enumerate(plan_shards(lengths, FRAMES_A_SHARD)):
                name = f"{split}-{place:06d}.tar"
                write_shard(folder / name, self._compute_all(split, [numbers[n] for n in part]), "npy")
                counts = [lengths[n] for n in part]
                shards.append({"file": name, "lengths": counts, "num_aligned": counts})
            splits[split] = shards
        identity = {
            "codec": DenseConfig().model_dump(),
            "average": "arithmetic",
            "temperatures": [self.temperature],
            "num_pdfs": len(self.parents),
            "features": self.recipe.features.model_dump(mode="json"),
            "teachers": {
                "num_teachers": self.teachers.num_members,
                "model": self.teachers.config.model_dump(mode="json"),
                "seeds": self.seeds,
            },
        }
        write_index(folder, splits, identity)
        return ShardReader(folder)

    def _compute_all(self, split: str, numbers: list[int]) -> Iterator[SoftTargetSample]:
        return (self.compute(split, number) for number in track(numbers, f"soft targets {split}"))

    def make_planner(self, num_frames: int) -> Planner:
        """What measures angles, on so many frames."""
        frames = [self.stores["train"].frames_of(n) for n in self.spread("train", num_frames)]
        averages = [ask_teachers(self.teachers, part, (self.temperature,)).averages[0] for part in frames]
        sample = Sample(frames, averages, 0.0)
        return Planner(sample, self.recipe.student_model, self.recipe.student.training, self.temperature, 1)


def _find_output(weights: dict[str, torch.Tensor], num_pdfs: int) -> tuple[str, str]:
    """Names of the output layer's weight (M, H, P) and bias (M, 1, P)."""
    found = [name for name, tensor in weights.items() if tensor.shape[-1] == num_pdfs]
    weight, bias = sorted(found, key=lambda name: -weights[name].shape[1])
    return weight, bias


def train_students(recipe: Recipe, shards: ShardReader, seeds: list[int], folder: Path) -> AcousticModel:
    """A stack of students, each as it was when it was best on dev."""
    students = [Student(recipe.student.hard_weight[0], seed) for seed in seeds]
    checkpoint = folder / "checkpoint.safetensors"
    trainer = make_trainer(shards, recipe.student, recipe.student_model, students, checkpoint, None)
    return trainer.train().best


def run(
    recipe: Recipe,
    states: ManyStates,
    codecs: Sequence[CodecConfig],
    num_frames: int,
    num_plan_frames: int,
    num_seeds: int,
    folder: Path,
) -> list[tuple]:
    """A row for dense soft targets and for each codec."""
    (folder / "dense").mkdir()
    num_dev_frames = num_frames // 5
    dense = states.dump(folder / "dense", {"train": num_frames, "dev": num_dev_frames})
    planner, rows, seeds, reached = states.make_planner(num_plan_frames), [], list(range(num_seeds)), 0.0
    for place, codec in enumerate((DenseConfig(), *codecs)):
        shards, where = dense, folder / f"{place}"
        if codec.kind != "dense":
            rewrite(dense, where / "shards", codec)
            shards = ShardReader(where / "shards")
        where.mkdir(exist_ok=True)
        angle = planner.measure(codec).angle_degrees
        students = train_students(recipe, shards, seeds, where)
        accuracies = states.judge("dev", states.spread("dev", num_dev_frames), students)
        mean = statistics.fmean(accuracies)
        reached = reached or mean
        spread = f" ± {statistics.stdev(accuracies):.2f}" if num_seeds > 1 else ""
        size = f"{shards.count_bytes()['bytes_per_frame']:g}"
        rows.append(
            (describe_codec(codec), size, f"{angle:.1f}°", f"{mean:.2f}{spread}", f"{reached - mean:.2f}")
        )
        say("  " + "  ".join(rows[-1]))
    return rows


def choose_precision(recipe: Recipe, num_seeds: int) -> str:
    """That in which these students are trained fastest."""
    width, batch_size = recipe.student_model.hidden_size, recipe.student.training.batch_size
    is_fast = choose_dtype("auto", num_seeds, batch_size, width) == torch.bfloat16
    return "bf16" if is_fast else "fp32"


def main() -> None:
    """Measure, and print the table as Markdown."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("experiment", type=Path, help="an experiment whose teachers are trained")
    parser.add_argument(
        "--codec", action="append", default=[], dest="codecs", metavar="YAML", help="beside dense (three)"
    )
    parser.add_argument("--num-states", type=int, default=14_000, help="default: 14000")
    parser.add_argument("--growth", type=float, default=0.8, help="power by which perplexity grows (0.8)")
    parser.add_argument("--num-frames", type=int, default=60_000, help="to train on (60000)")
    # As many as `asrdistill plan` takes: of fewer a codebook learns too little, and draws average out less.
    parser.add_argument("--num-plan-frames", type=int, default=30_000, help="to measure angles on (30000)")
    parser.add_argument("--num-seeds", type=int, default=3, help="students of each codec (3)")
    parser.add_argument("--num-epochs", type=int, default=8, help="of the students (8)")
    arguments = parser.parse_args()
    experiment, recipe = open_experiment(arguments.experiment)
    training: dict[str, Any] = {"num_epochs": arguments.num_epochs, "patience": arguments.num_epochs}
    if recipe.student.training.precision == "auto":  # measured, so students of two codecs might differ in it
        training["precision"] = choose_precision(recipe, arguments.num_seeds)
    recipe = recipe.model_copy(
        update={
            "student": recipe.student.model_copy(
                update={"training": recipe.student.training.model_copy(update=training)}
            )
        }
    )
    states = ManyStates(recipe, experiment, arguments.num_states, arguments.growth)
    with tempfile.TemporaryDirectory(prefix=".many-states-", dir=arguments.experiment.parent) as folder:
        codecs = [load_codec([f"soft_targets.codec={text}"]) for text in arguments.codecs] or CODECS
        sizes = (arguments.num_frames, arguments.num_plan_frames, arguments.num_seeds)
        rows = run(recipe, states, codecs, *sizes, Path(folder))
    for cells in (COLUMNS, ["---"] + ["---:"] * (len(COLUMNS) - 1), *rows):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
