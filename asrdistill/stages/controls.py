"""Single models trained without soft targets: what a distilled model has to be better than.

hard_targets: the student's own training, perturbed views included, towards the hard targets alone; without
    frame weights, which are the ensemble's too.
label_smoothing: the same, but a share of each hard target is divided equally among all tied states: a soft
    target that knows nothing of the frame (Szegedy et al. 2016, arXiv:1512.00567).
equal_compute: the student's architecture trained like a teacher: what a single model makes of the same
    computation.
All are trained on as many frames as the student was, to the nearest epoch, and compute in its number format.
Known difference: dev chooses the student's hard weight, while the smoothing is one value.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from asrdistill.experiment import Experiment, write_json
from asrdistill.features.frame_store import list_store_files
from asrdistill.nn.batches import POOL_FRAMES, Diversity
from asrdistill.nn.checkpoint import load_model
from asrdistill.nn.frames import FrameSource, read_labelled_frames
from asrdistill.nn.objective import Objective
from asrdistill.nn.precision import name_precision
from asrdistill.nn.trained import train_once
from asrdistill.nn.training import Trainer, TrainingConfig
from asrdistill.recipe import ControlKind, Recipe, StudentConfig
from asrdistill.targets.shards import ShardReader
from asrdistill.targets.streaming import ShardFrames, open_training_frames
from asrdistill.targets.training_share import choose_utterances

SETTINGS = (
    "controls",
    "student.training",
    "student.model",
    "student.seed",
    "student.train_share",
    "student.uses_untranscribed",
    "teachers.model",
    "teachers.training",
)
READS = (
    "soft_targets/shards/index.json",
    "student/model.safetensors",
    "student/curves.json",
    *list_store_files(("train",)),
    "align/train.npy",
)
WRITES = ("controls/models/", "controls/curves.json")


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Train each kind of control as a stack of its own, on the frames that are its."""
    folder, curves = experiment.stage_dir("controls"), []
    for kind in recipe.controls.kinds:
        seeds = [recipe.student.seed + number for number in range(recipe.controls.num_seeds)]
        names = [f"{kind}, seed {seed}" for seed in seeds]
        make = partial(make_trainer, recipe, experiment, kind, names, seeds)
        curves += train_once(folder / f"models/{kind}.safetensors", names, make).curves
    write_json(folder / "curves.json", curves)


def make_trainer(
    recipe: Recipe,
    experiment: Experiment,
    kind: ControlKind,
    names: Sequence[str],
    seeds: Sequence[int],
    checkpoint_path: Path,
) -> Trainer:
    """What trains the controls of one kind."""
    shards = ShardReader(experiment.dir / "soft_targets/shards")
    config, objective, pool_frames = recipe.student.training, Objective((1.0,) * len(seeds)), POOL_FRAMES
    train_frames: FrameSource
    if kind == "equal_compute":
        config = recipe.teachers.training
        features_dir, align_dir = experiment.stage_dir("features"), experiment.stage_dir("align")
        train_frames = read_labelled_frames(features_dir, align_dir, "train")
    else:
        train_frames, pool_frames = open_training_frames(shards, None)
        train_frames = choose_as_student(train_frames, shards, recipe.student)
    if kind == "label_smoothing":
        objective = Objective((1 - recipe.controls.label_smoothing,) * len(seeds), smooths=True)
    return Trainer(
        model_config=recipe.student_model,
        num_bins=shards.num_bins,
        num_pdfs=shards.num_pdfs,
        config=match_student(config, recipe.student, experiment, shards, len(train_frames)),
        objective=objective,
        train_frames=train_frames,
        dev_frames=shards.load("dev", None),
        names=names,
        seeds=seeds,
        diversity=Diversity(recipe.student.seed),
        checkpoint_path=checkpoint_path,
        metrics_dir=experiment.metrics_dir("controls") / kind,
        pool_frames=pool_frames,
    )


def match_student(
    config: TrainingConfig,
    student: StudentConfig,
    experiment: Experiment,
    shards: ShardReader,
    num_frames: int,
) -> TrainingConfig:
    """A training of as many frames as the distilled model's, in its number format.

    Args:
        config: of the control, but for what is changed here.
        student: the student's config.
        experiment: with the student.
        shards: that it was trained from.
        num_frames: that the control sees in an epoch.
    """
    model, description = load_model(experiment.dir / "student/model.safetensors")
    curves = json.loads((experiment.dir / "student/curves.json").read_text(encoding="utf-8"))
    student_epochs = len(curves[description["chosen"]]["train_loss"])
    seen_an_epoch = len(choose_as_student(ShardFrames(shards, "train", student.temperature), shards, student))
    num_epochs = max(1, round(student_epochs * seen_an_epoch / num_frames))
    changed = {
        "num_epochs": num_epochs,
        "patience": num_epochs,
        "precision": name_precision(model.compute_dtype),
    }
    return config.model_copy(update=changed)


def choose_as_student(frames: FrameSource, shards: ShardReader, student: StudentConfig) -> FrameSource:
    """The utterances that the student is given."""
    return choose_utterances(frames, shards, student.train_share, student.seed, student.uses_untranscribed)
