"""Shards to a distilled model: one student for each hard weight of the recipe, as one stack."""

from asrdistill.experiment import Experiment, write_json
from asrdistill.nn.batches import Diversity
from asrdistill.nn.checkpoint import save_model
from asrdistill.nn.training import Objective, Trainer
from asrdistill.progress import say
from asrdistill.recipe import Recipe
from asrdistill.targets.shards import ShardReader

SETTINGS = ("student", "teachers.model")
READS = ("soft_targets/shards/index.json",)
WRITES = ("student/model.safetensors", "student/curves.json")


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Train the students from the shards alone; dev frame accuracy chooses the hard weight."""
    folder = experiment.stage_dir("student")
    config = recipe.student
    shards = ShardReader(experiment.dir / "soft_targets/shards")
    names = [f"hard weight {weight:g}" for weight in config.hard_weight]
    trainer = Trainer(
        model_config=recipe.student_model,
        num_bins=shards.num_bins,
        num_pdfs=shards.num_pdfs,
        config=config.training,
        objective=Objective(config.hard_weight, config.temperature),
        train_frames=shards.load("train", config.temperature),
        dev_frames=shards.load("dev", config.temperature),
        # One seed for all: the students differ in nothing but the hard weight.
        seeds=[config.seed] * len(config.hard_weight),
        names=names,
        diversity=Diversity(config.seed),
        checkpoint_path=folder / "checkpoint.safetensors",
        metrics_dir=experiment.metrics_dir("student"),
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
