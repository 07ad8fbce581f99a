"""One row of a grid: its soft targets, its students, and what they make of dev and test."""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from asrdistill.errors import ExperimentError
from asrdistill.experiment import Experiment, hash_file, write_json
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.checkpoint import load_model, save_model
from asrdistill.nn.frames import FrameSource, LabelledFrames
from asrdistill.nn.trained import Trained, train_once
from asrdistill.nn.training import evaluate
from asrdistill.progress import say
from asrdistill.recipe import Recipe
from asrdistill.scoring.scorer import Scorer
from asrdistill.scoring.systems import NetworkSystem
from asrdistill.stages import score, soft_targets
from asrdistill.stages.student import Student, make_trainer
from asrdistill.sweep.grid import Grid, RowConfig
from asrdistill.targets.shards import ShardReader
from asrdistill.targets.streaming import ShardFrames
from asrdistill.targets.training_share import choose_utterances

# Of training data a model is asked about so many frames, spread over the utterances, for its accuracy there.
TRAIN_FRAMES = 100_000
# Multiplications for weights' and for inputs' gradients, beside those of the forward pass.
TRAINING_PASSES = 3


class Row:
    """Trains and scores the students of a row.

    Attributes:
        recipe: of the row.
        folder: for what is its own.
        seeds: of its students.
    """

    def __init__(
        self,
        grid: Grid,
        config: RowConfig,
        experiment: Experiment,
        sweep_dir: Path,
        scoring: Mapping[str, Any],
    ) -> None:
        self.config, self.experiment, self.sweep_dir = config, experiment, sweep_dir
        self.scoring = scoring
        self.recipe: Recipe = grid.recipe_of(config)
        self.base: Recipe = grid.base
        self.folder = sweep_dir / "rows" / config.folder
        first = self.recipe.student.seed
        self.seeds = range(first, first + grid.num_seeds)
        self.teacher_folders = {row.name: sweep_dir / "rows" / row.folder for row in grid.rows}

    def measure(self, scorer: Scorer) -> None:
        """Train and score, unless that is done."""
        shards = self._provide_shards()
        wanted = {**self._describe(), "index_sha256": shards.index["sha256"]}
        if self._read("asked") != json.loads(json.dumps(wanted)):
            shutil.rmtree(self.folder, ignore_errors=True)
            write_json(self.folder / "asked.json", wanted)
        model = self._train(shards)
        if self._read("result"):
            say("  scored already")
            return
        result = {
            **self._score(model, scorer),
            **self._measure_costs(model, shards, scorer),
            "train_frame_accuracy": self._measure_on_training(model, shards),
        }
        write_json(self.folder / "result.json", result)

    def read(self) -> dict[str, Any] | None:
        """What was measured, if that is of what is asked now."""
        asked, result = self._read("asked") or {}, self._read("result")
        asked.pop("index_sha256", None)
        if result is None or asked != json.loads(json.dumps(self._describe())):
            return None
        described = {"name": self.config.name, "part": self.config.part, "source": self.config.source}
        return {**described, "train_share": self.recipe.student.train_share, **result}

    def load_student(self, scorer: Scorer) -> NetworkSystem:
        """One of the students that were trained."""
        model, _ = load_model(self.folder / "model.safetensors")
        return NetworkSystem(self.config.name, model.select_members([0]), scorer.log_priors)

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / f"{name}.json"
        found: dict[str, Any] | None = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        )
        return found

    def _describe(self) -> dict[str, Any]:
        """What the students and their results depend on, but for the soft targets themselves."""
        return {
            "soft_targets": self.recipe.soft_targets.model_dump(mode="json"),
            "teacher": self.config.teacher,
            "student": self.recipe.student.model_dump(mode="json"),
            "model": self.recipe.student_model.model_dump(mode="json"),
            "hard_targets": self.config.uses_hard_targets_alone,
            "num_seeds": len(self.seeds),
            "scoring": self.scoring,
        }

    def _provide_shards(self) -> ShardReader:
        """The soft targets of the base, where they are the row's too; otherwise a dump of its own."""
        stage_dir = self.experiment.stage_dir("soft_targets") / "shards"
        if self.config.teacher is None and self.recipe.soft_targets == self.base.soft_targets:
            return ShardReader(stage_dir)
        teachers = self._provide_teachers()
        shards_dir = self._claim_dump(teachers)
        if (shards_dir / "index.json").is_file():
            return ShardReader(shards_dir)
        say(f"  soft targets of {self.config.teacher or 'the ensemble'}")
        recipe = self.recipe
        if self.config.teacher and recipe.soft_targets.guide is not None:  # there is only this one
            alone = recipe.soft_targets.model_copy(update={"guide": 0})
            recipe = recipe.model_copy(update={"soft_targets": alone})
        soft_targets.write_dump(recipe, self.experiment, teachers, shards_dir)
        return ShardReader(shards_dir)

    def _claim_dump(self, teachers: Path) -> Path:
        """A folder for the row's soft targets, which rows with the same ones share.

        Those that the same teachers wrote before they were trained again go.
        """
        settings = self.recipe.soft_targets.model_dump(mode="json")
        name = _hash([settings, self.config.teacher])
        read = [path for path in soft_targets.READS if not path.startswith("teachers/")]
        made_from = _hash([hash_file(teachers), hash_inputs(self.experiment, read)])
        claimed = self.sweep_dir / "shards" / f"{name}-{made_from}"
        for path in claimed.parent.glob(f"{name}-*"):
            if path != claimed:
                shutil.rmtree(path)
        return claimed

    def _provide_teachers(self) -> Path:
        """The weights of whoever the row learns from."""
        every = self.experiment.dir / "teachers/model.safetensors"
        name = self.config.teacher
        if name is None:
            return every
        if name in self.teacher_folders:
            path, member = self.teacher_folders[name] / "model.safetensors", 0
        else:
            path, member = every, int(name.removeprefix("teacher_"))
        model, described = load_model(path)
        if member >= model.num_members:
            raise ExperimentError(
                f"row {self.config.name}: teacher is {name}, but there are {model.num_members} teachers, "
                "counted from 00"
            )
        alone = self.sweep_dir / f"teachers/{self.config.folder}.safetensors"
        seeds = described.get("seeds") or list(self.seeds)
        save_model(alone, model.select_members([member]), {"seeds": [seeds[member]]})
        return alone

    def _train(self, shards: ShardReader) -> AcousticModel:
        path = self.folder / "model.safetensors"
        if self.recipe.student.initial_weights == "drawn" or path.is_file():
            return self._train_stack(shards, path, self.seeds).model
        # They start alike, and a stack's members see the data in one order: they would be one student.
        paths = [self.folder / f"seed_{seed}.safetensors" for seed in self.seeds]
        stacks = [
            self._train_stack(shards, alone, [seed], order_seed=seed)
            for alone, seed in zip(paths, self.seeds, strict=True)
        ]
        model = AcousticModel.join([stack.model for stack in stacks])
        save_model(path, model, {"curves": [curve for stack in stacks for curve in stack.curves]})
        for alone in paths:
            alone.unlink()
        return model

    def _train_stack(
        self, shards: ShardReader, path: Path, seeds: Sequence[int], order_seed: int | None = None
    ) -> Trained:
        student = self.recipe.student
        students = [Student(student.hard_weight[0], seed) for seed in seeds]
        return train_once(
            path,
            [f"seed {seed}" for seed in seeds],
            lambda checkpoint: make_trainer(
                shards,
                student,
                self.recipe.student_model,
                students,
                checkpoint,
                None,
                not self.config.uses_hard_targets_alone,
                order_seed,
            ),
        )

    def _score(self, model: AcousticModel, scorer: Scorer) -> dict[str, Any]:
        """Of every student what is in the table, and the name of its files."""
        students = []
        for member, seed in enumerate(self.seeds):
            name = f"{self.config.folder}-seed_{seed}"
            scored = scorer.score(NetworkSystem(name, model.select_members([member]), scorer.log_priors))
            students.append({"system": name, "seed": seed, **take_results(scored)})
        return {"students": students}

    def _measure_costs(self, model: AcousticModel, shards: ShardReader, scorer: Scorer) -> dict[str, Any]:
        """Size of one student, and what its training took."""
        curves = load_model(self.folder / "model.safetensors")[1]["curves"]
        one = NetworkSystem(self.config.name, model.select_members([0]), scorer.log_priors)
        num_epochs = sum(len(curve["train_loss"]) for curve in curves) / len(curves)
        of_guide = 0
        if self.recipe.student.has_guided_terms:
            of_guide = shards.load_guide().count_flops_a_frame()
        temperature = None if self.config.uses_hard_targets_alone else self.recipe.student.temperature
        frames_seen = round(num_epochs * len(self._choose(ShardFrames(shards, "train", temperature), shards)))
        return {
            "num_parameters": one.num_parameters,
            "flops_a_frame": one.flops_a_frame,
            "num_epochs": num_epochs,
            "frames_seen": frames_seen,
            "training_flops": frames_seen * (TRAINING_PASSES * one.flops_a_frame + of_guide),
        }

    def _measure_on_training(self, model: AcousticModel, shards: ShardReader) -> list[float]:
        """Frame accuracy of every student on frames that it was trained on."""
        frames = self._choose(shards.load("train", None), shards)
        accuracies: list[float] = evaluate(model, spread(frames, TRAIN_FRAMES)).frame_accuracy.tolist()
        return accuracies

    def _choose(self, frames: FrameSource, shards: ShardReader) -> FrameSource:
        """What the students are trained on."""
        student = self.recipe.student
        uses_untranscribed = student.uses_untranscribed and not self.config.uses_hard_targets_alone
        return choose_utterances(frames, shards, student.train_share, student.seed, uses_untranscribed)


def take_results(scored: dict[str, Any]) -> dict[str, Any]:
    """What is told of a system in sweep.json."""
    wanted = ("frame_accuracy", "wer", "num_parameters", "flops_a_frame")
    return {key: scored[key] for key in wanted if key in scored}


def describe_scoring(recipe: Recipe, experiment: Experiment) -> dict[str, Any]:
    """What results depend on, whatever the system: the teachers, how words are decoded, dev and test."""
    read = [path for path in score.READS if not path.startswith(("student/", "controls/"))]
    sections = ("language_model", "graph", "decoder", "tuning")
    return {
        "inputs_sha256": hash_inputs(experiment, [*read, *map(str, score.list_external_inputs(recipe))]),
        **{name: getattr(recipe, name).model_dump(mode="json") for name in sections},
    }


def hash_inputs(experiment: Experiment, paths: Sequence[str]) -> str:
    """One SHA-256 of files of an experiment, or outside; of those that are there."""
    return _hash(
        {path: hash_file(experiment.dir / path) for path in paths if (experiment.dir / path).is_file()}
    )


def _hash(described: Any) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]


def spread(frames: FrameSource, wanted_frames: int) -> LabelledFrames:
    """Utterances from all over a split with about so many frames, all if there are no more."""
    total = int(frames.lengths.sum())
    step = max(1, math.ceil(total / wanted_frames))
    return frames.select(torch.arange(0, frames.num_utterances, step).numpy())
