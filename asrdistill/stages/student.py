"""Shards to a distilled model: dev chooses the hard weight; further seeds of it follow."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asrdistill.errors import ContractError, ExperimentError
from asrdistill.experiment import Experiment, hash_file, write_json
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Diversity
from asrdistill.nn.checkpoint import save_model
from asrdistill.nn.objective import Objective, TermSources
from asrdistill.nn.precision import PrecisionChoice, name_precision
from asrdistill.nn.sequence_term import count_transitions
from asrdistill.nn.trained import Trained, checkpoint_of, train_once
from asrdistill.nn.training import Trainer
from asrdistill.progress import say
from asrdistill.recipe import Recipe, StudentConfig
from asrdistill.targets.fetching import fetch_shards
from asrdistill.targets.shards import WHY_NOT_ANY, ShardReader, serves_any_temperature
from asrdistill.targets.streaming import open_training_frames
from asrdistill.targets.training_share import choose_utterances

SETTINGS = ("student", "teachers.model")
READS = ("soft_targets/shards/index.json",)
WRITES = ("student/model.safetensors", "student/curves.json")
# Of each stack, until all are joined: students of every hard weight, and further seeds of the one chosen.
TUNING, SEEDS = "tuning.safetensors", "seeds.safetensors"


@dataclass(frozen=True)
class Student:
    """One of the students.

    Attributes:
        hard_weight: of the hard targets in its loss.
        seed: of its initial weights and dropout.
    """

    hard_weight: float
    seed: int

    def __str__(self) -> str:
        return f"hard weight {self.hard_weight:g}, seed {self.seed}"


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

    One seed of every hard weight comes first; of the one that dev chooses the other seeds follow. Its first
    seed is the distilled model.

    Args:
        shards: what they are trained from, and nothing else.
        config: of the students.
        model_config: their architecture.
        folder: for `model.safetensors`, `curves.json` and, until these are there, what goes before them.
        metrics_dir: for metrics.
    """
    students = [Student(weight, config.seed) for weight in config.hard_weight]
    others = range(config.seed + 1, config.seed + config.num_seeds)
    if len(students) == 1:  # nothing to choose: all seeds as one stack
        students += [Student(students[0].hard_weight, seed) for seed in others]

    def train(stack: Sequence[Student], name: str, metrics: Path, precision: PrecisionChoice) -> Trained:
        training = config.training.model_copy(update={"precision": precision})
        alike = config.model_copy(update={"training": training})
        return train_once(
            folder / name,
            [str(student) for student in stack],
            lambda checkpoint: make_trainer(shards, alike, model_config, stack, checkpoint, metrics),
        )

    trained = [train(students, TUNING, metrics_dir, config.training.precision)]
    accuracies = trained[0].dev_frame_accuracies[: len(config.hard_weight)]
    chosen = accuracies.index(max(accuracies))
    say(f"  chosen on dev: {students[chosen]}, frame accuracy {100 * accuracies[chosen]:.2f}%")
    if len(config.hard_weight) > 1 and others:
        further = [Student(students[chosen].hard_weight, seed) for seed in others]
        trained.append(
            train(further, SEEDS, metrics_dir / "seeds", name_precision(trained[0].model.compute_dtype))
        )
        students += further
    write_json(folder / "curves.json", [curve for stack in trained for curve in stack.curves])
    description = {
        "students": [asdict(student) for student in students],
        "temperature": config.temperature,
        "chosen": chosen,
    }
    model = AcousticModel.join([stack.model for stack in trained])
    save_model(folder / "model.safetensors", model, description)


def make_trainer(
    shards: ShardReader,
    config: StudentConfig,
    model_config: AcousticModelConfig,
    students: Sequence[Student],
    checkpoint_path: Path,
    metrics_dir: Path | None,
    uses_soft_targets: bool = True,
    order_seed: int | None = None,
) -> Trainer:
    """What trains students as one stack; they differ in hard weight and seed alone.

    Args:
        shards: what they are trained from, and nothing else.
        config: of the students, but for what follows.
        model_config: their architecture.
        students: of the stack.
        checkpoint_path: where its state is kept.
        metrics_dir: for metrics.
        uses_soft_targets: otherwise they learn from the hard targets alone.
        order_seed: of the order in which they see the data; None: the config's.
    """
    final = config.annealing.temperature
    if final is not None and not serves_any_temperature(shards.index["average"], shards.codec_config):
        raise ContractError(
            f"soft targets {shards.shards_dir}: student.annealing.temperature is {final:g}, but {WHY_NOT_ANY}"
        )
    temperature = config.temperature if uses_soft_targets else None
    train_frames, pool_frames = open_training_frames(shards, temperature, config.frame_weights)
    uses_untranscribed = uses_soft_targets and config.uses_untranscribed
    train_frames = choose_utterances(
        train_frames, shards, config.train_share, config.seed, uses_untranscribed
    )
    return Trainer(
        model_config=model_config,
        num_bins=shards.num_bins,
        num_pdfs=shards.num_pdfs,
        config=config.training,
        objective=Objective(
            tuple(student.hard_weight for student in students),
            config.temperature,
            annealing=config.annealing,
            soft_term=config.soft_term,
            extra_terms=config.extra_terms,
            starts_from_guide=config.initial_weights == "guide",
        ),
        train_frames=train_frames,
        dev_frames=shards.load("dev", None),
        names=[str(student) for student in students],
        seeds=[student.seed for student in students],
        diversity=Diversity(config.seed if order_seed is None else order_seed),
        checkpoint_path=checkpoint_path,
        sources=open_sources(shards, config),
        metrics_dir=metrics_dir,
        pool_frames=pool_frames,
    )


def open_sources(shards: ShardReader, config: StudentConfig) -> TermSources:
    """What the terms of a student's loss and its initial weights are made from."""
    bigram = None
    if config.has_sequences:
        hard = shards.load("train", None)
        bigram = count_transitions(hard.pdf_ids, hard.starts, shards.num_pdfs)
    return TermSources(shards.load_guide() if config.needs_guide else None, bigram)


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
    is_fetched = location.startswith(("http://", "https://"))
    shards_dir = folder.dir / "shards" if is_fetched else Path(location)
    if not is_fetched:
        ShardReader(shards_dir)  # what is wrong with them is told before there is a folder
    with folder.locked():
        if is_fetched:
            fetch_shards(location, shards_dir)
        shards = ShardReader(shards_dir)
        model_config = config.model or shards.teacher_config
        asked = {
            "student": config.model_dump(mode="json"),
            "model": model_config.model_dump(mode="json"),
            "index_sha256": hash_file(shards_dir / "index.json"),
        }
        record, model_path = folder.dir / "student.json", folder.dir / "model.safetensors"
        stacks = [folder.dir / name for name in (TUNING, SEEDS)]
        names = (model_path, folder.dir / "curves.json", *stacks, *map(checkpoint_of, stacks))
        ours = [path for path in names if path.is_file()]
        if ours and not record.is_file():
            raise ExperimentError(f"{ours[0]}: not of a distill command; choose another folder with --out")
        if not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != asked:
            # What an earlier command left here, with other settings or shards, is none of this one's.
            for path in ours:
                path.unlink()
            write_json(record, asked)
        if model_path.is_file():
            say(f"{model_path} is there already, from the same shards and settings")
        else:
            distill(shards, config, model_config, folder.dir, folder.dir / "metrics")
        for path in stacks:
            path.unlink(missing_ok=True)
    return model_path
