"""Shards to a distilled model: one student for each hard weight of the recipe, as one stack."""

import json
from collections.abc import Sequence
from pathlib import Path

from asrdistill.errors import ExperimentError
from asrdistill.experiment import Experiment, hash_file, write_json
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Diversity
from asrdistill.nn.checkpoint import save_model
from asrdistill.nn.training import Objective, Trainer
from asrdistill.progress import say
from asrdistill.recipe import Recipe, StudentConfig
from asrdistill.targets.fetching import fetch_shards
from asrdistill.targets.shards import ShardReader
from asrdistill.targets.streaming import open_training_frames

SETTINGS = ("student", "teachers.model")
READS = ("soft_targets/shards/index.json",)
WRITES = ("student/model.safetensors", "student/curves.json")


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Train the students from the shards alone; dev frame accuracy chooses the hard weight."""
    shards = ShardReader(experiment.dir / "soft_targets/shards")
    folder = experiment.stage_dir("student")
    distill(shards, recipe.student, recipe.student_model, folder, experiment.metrics_dir("student"))


def distill(
    shards: ShardReader,
    config: StudentConfig,
    model_config: AcousticModelConfig,
    folder: Path,
    metrics_dir: Path,
) -> None:
    """Train students from shards, and write them, with their learning curves, to a folder.

    Args:
        shards: what they are trained from, and nothing else.
        config: of the students.
        model_config: their architecture.
        folder: for `model.safetensors`, `curves.json` and, until these are there, the checkpoint.
        metrics_dir: for metrics.
    """
    names = [f"hard weight {weight:g}" for weight in config.hard_weight]
    # One seed for all: the students differ in nothing but the hard weight.
    seeds = [config.seed] * len(names)
    trainer = make_trainer(
        shards, config, model_config, config.hard_weight, seeds, names, folder, metrics_dir
    )
    state = trainer.train()
    accuracies = [max(history.dev_frame_accuracy) for history in state.histories]
    # At weight 1 no soft target is heard: that is a control, chosen only where there is nothing else.
    eligible = [m for m, weight in enumerate(config.hard_weight) if weight < 1] or range(len(accuracies))
    chosen = max(eligible, key=lambda member: accuracies[member])
    say(f"  chosen on dev: {names[chosen]}, frame accuracy {100 * accuracies[chosen]:.2f}%")
    write_json(folder / "curves.json", state.describe_curves(names))
    description = {
        "hard_weights": list(config.hard_weight),
        "temperature": config.temperature,
        "chosen": chosen,
    }
    save_model(folder / "model.safetensors", state.best, description)


def make_trainer(
    shards: ShardReader,
    config: StudentConfig,
    model_config: AcousticModelConfig,
    hard_weights: Sequence[float],
    seeds: Sequence[int],
    names: Sequence[str],
    folder: Path,
    metrics_dir: Path | None,
) -> Trainer:
    """What trains students as one stack.

    Args:
        shards: what they are trained from, and nothing else.
        config: of the students, but for what follows.
        model_config: their architecture.
        hard_weights: of each student.
        seeds: of each one's initial weights and dropout.
        names: of each.
        folder: for the checkpoint.
        metrics_dir: for metrics.
    """
    train_frames, pool_frames = open_training_frames(shards, config.temperature, config.frame_weights)
    return Trainer(
        model_config=model_config,
        num_bins=shards.num_bins,
        num_pdfs=shards.num_pdfs,
        config=config.training,
        objective=Objective(tuple(hard_weights), config.temperature),
        train_frames=train_frames,
        dev_frames=shards.load("dev", None),
        names=names,
        seeds=seeds,
        diversity=Diversity(config.seed),
        checkpoint_path=folder / "checkpoint.safetensors",
        metrics_dir=metrics_dir,
        pool_frames=pool_frames,
    )


def distill_alone(location: str, config: StudentConfig, out: Path) -> Path:
    """Train students from shards where there is no experiment.

    Args:
        location: of the shards: a folder, or the URL of one, which is fetched to `<out>/shards`.
        config: of the students; without `model`, they are built like one teacher.
        out: folder for the model, its learning curves and metrics.

    Returns:
        Path of the model.

    Raises:
        ContractError: no shards, or damaged ones.
        DownloadError: they cannot be fetched.
        ExperimentError: the folder is in use, cannot be written, or has a model of another kind.
    """
    folder = Experiment(out.absolute())
    with folder.locked():
        shards_dir = Path(location)
        if location.startswith(("http://", "https://")):
            shards_dir = folder.dir / "shards"
            fetch_shards(location, shards_dir)
        shards = ShardReader(shards_dir)
        model_config = config.model or shards.teacher_config
        asked = {
            "student": config.model_dump(mode="json"),
            "model": model_config.model_dump(mode="json"),
            "index_sha256": hash_file(shards_dir / "index.json"),
        }
        record, model_path = folder.dir / "student.json", folder.dir / "model.safetensors"
        ours = [folder.dir / name for name in ("model.safetensors", "curves.json", "checkpoint.safetensors")]
        others = [path for path in ours if path.is_file() and not record.is_file()]
        if others:
            raise ExperimentError(f"{others[0]}: not of a distill command; choose another folder with --out")
        if not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != asked:
            # What an earlier command left here, with other settings or shards, is none of this one's.
            for path in ours:
                path.unlink(missing_ok=True)
            write_json(record, asked)
        if model_path.is_file():
            say(f"{model_path} is there already, from the same shards and settings")
        else:
            distill(shards, config, model_config, folder.dir, folder.dir / "metrics")
            (folder.dir / "checkpoint.safetensors").unlink()
    return model_path
