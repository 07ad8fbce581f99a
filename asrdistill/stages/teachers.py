"""Frames and alignments to an ensemble: models that differ in seed, or in how they see the data."""

from asrdistill.experiment import Experiment, write_json
from asrdistill.features.frame_store import list_store_files
from asrdistill.hmm.topology import TiedStates
from asrdistill.nn.batches import Diversity
from asrdistill.nn.checkpoint import save_model
from asrdistill.nn.frames import read_labelled_frames
from asrdistill.nn.objective import Objective
from asrdistill.nn.training import Trainer
from asrdistill.recipe import Recipe

SETTINGS = ("teachers",)
READS = (
    "align/tied_states.json",
    *list_store_files(("train", "dev")),
    *(f"align/{split}.npy" for split in ("train", "dev")),
)
WRITES = ("teachers/model.safetensors", "teachers/curves.json")


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Train all teachers as one stack."""
    folder = experiment.stage_dir("teachers")
    config = recipe.teachers
    tied_states = TiedStates.read(experiment.dir / "align/tied_states.json")
    seeds = tuple(config.seed + member for member in range(config.num_teachers))
    names = [f"teacher {seed}" for seed in seeds]
    train_frames, dev_frames = (
        read_labelled_frames(experiment.stage_dir("features"), experiment.stage_dir("align"), split)
        for split in ("train", "dev")
    )
    trainer = Trainer(
        model_config=config.model,
        num_bins=recipe.features.num_mel_bins,
        num_pdfs=tied_states.num_pdfs,
        config=config.training,
        objective=Objective((1.0,) * len(seeds)),
        train_frames=train_frames,
        dev_frames=dev_frames,
        names=names,
        seeds=seeds if "seed" in config.diversity else [config.seed] * len(seeds),
        diversity=Diversity(
            config.seed,
            order_seeds=seeds if "order" in config.diversity else None,
            bag_seeds=seeds if "subset" in config.diversity else None,
        ),
        checkpoint_path=folder / "checkpoint.safetensors",
        metrics_dir=experiment.metrics_dir("teachers"),
    )
    state = trainer.train()
    write_json(folder / "curves.json", state.describe_curves(names))
    save_model(folder / "model.safetensors", state.best, {"seeds": seeds, "diversity": config.diversity})
