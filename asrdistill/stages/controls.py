"""Single models trained without soft targets: what a distilled model has to be better than.

hard_targets: the student's own training, perturbed views included, towards the hard targets alone.
label_smoothing: the same, but a share of each hard target is divided equally among all tied states: a soft
    target that knows nothing of the frame (Szegedy et al. 2016, arXiv:1512.00567).
equal_compute: the student's architecture trained like a teacher, but on as many frames as the student was:
    what a single model makes of the same computation.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from asrdistill.experiment import Experiment, write_json
from asrdistill.features.frame_store import FrameStore, list_store_files
from asrdistill.hmm.alignment import read_pdf_ids
from asrdistill.nn.batches import POOL_FRAMES, Diversity
from asrdistill.nn.frames import FrameSource, LabelledFrames
from asrdistill.nn.trained import train_once
from asrdistill.nn.training import Objective, Trainer, TrainingConfig
from asrdistill.recipe import ControlKind, Recipe
from asrdistill.targets.shards import ShardReader
from asrdistill.targets.streaming import open_training_frames

SETTINGS = (
    "controls",
    "student.training",
    "student.model",
    "student.seed",
    "student.frame_weights",
    "teachers.model",
    "teachers.training",
)
READS = (
    "soft_targets/shards/index.json",
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
        train_frames = read_train_frames(experiment)
        config = extend_training(recipe, shards, len(train_frames))
    else:
        train_frames, pool_frames = open_training_frames(shards, None, recipe.student.frame_weights)
    if kind == "label_smoothing":
        objective = Objective((1 - recipe.controls.label_smoothing,) * len(seeds), smooths=True)
    return Trainer(
        model_config=recipe.student_model,
        num_bins=shards.num_bins,
        num_pdfs=shards.num_pdfs,
        config=config,
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


def read_train_frames(experiment: Experiment) -> LabelledFrames:
    """The training split with its hard targets, as the teachers had it."""
    store = FrameStore(experiment.stage_dir("features"), "train")
    pdf_ids = read_pdf_ids(experiment.stage_dir("align"), "train", store.num_frames)
    return LabelledFrames(store.frames, store.starts, pdf_ids)


def extend_training(recipe: Recipe, shards: ShardReader, num_frames: int) -> TrainingConfig:
    """The teachers' training, for as many frames as the student is trained on, to the nearest epoch."""
    seen_an_epoch = sum(shard["num_frames"] for shard in shards.index["splits"]["train"])
    num_epochs = max(1, round(recipe.student.training.num_epochs * seen_an_epoch / num_frames))
    changed: dict[str, Any] = {"num_epochs": num_epochs, "patience": num_epochs}
    return recipe.teachers.training.model_copy(update=changed)
