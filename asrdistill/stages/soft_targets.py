"""The ensemble's averaged posteriors, with features and hard targets, to shards; goes on where it stopped."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from asrdistill.experiment import Experiment, hash_file
from asrdistill.features.context import bounds_of_frames, gather_windows
from asrdistill.features.frame_store import FrameStore
from asrdistill.hmm.alignment import read_pdf_ids
from asrdistill.hmm.topology import TiedStates
from asrdistill.nn.acoustic_model import StackedAcousticModel
from asrdistill.nn.checkpoint import load_model
from asrdistill.progress import say, track
from asrdistill.recipe import Recipe
from asrdistill.targets.averaging import AVERAGING_RULE, average_posteriors
from asrdistill.targets.shards import SoftTargetSample, plan_shards, write_index, write_shard

SPLITS = ("train", "dev")
SETTINGS = ("soft_targets", "teachers.model.context")
READS = (
    "teachers/model.safetensors",
    "align/tied_states.json",
    *(f"features/{split}.{kind}" for split in SPLITS for kind in ("f16", "json")),
    *(f"align/{split}.npy" for split in SPLITS),
)
WRITES = ("soft_targets/shards/",)


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Dump every shard that is not there yet, then the index."""
    shards_dir = experiment.stage_dir("soft_targets") / "shards"
    model, description = load_model(experiment.dir / "teachers/model.safetensors")
    model.compute_dtype = getattr(torch, description["compute_dtype"])
    dumped = {split: _dump_split(recipe, experiment, split, model) for split in SPLITS}
    tied_states = TiedStates.read(experiment.dir / "align/tied_states.json")
    identity: dict[str, Any] = {
        "num_pdfs": tied_states.num_pdfs,
        "temperatures": list(recipe.soft_targets.temperatures),
        "averaging": AVERAGING_RULE,
        "teachers": {
            "num_teachers": model.num_members,
            "sha256": hash_file(experiment.dir / "teachers/model.safetensors"),
        },
        "tied_states": {"phones": list(tied_states.phones)},
        "features": recipe.features.model_dump(mode="json"),
    }
    write_index(shards_dir, dumped, identity)


def _dump_split(
    recipe: Recipe, experiment: Experiment, split: str, model: StackedAcousticModel
) -> list[dict[str, Any]]:
    shards_dir = experiment.stage_dir("soft_targets") / "shards"
    dump = _Dump(recipe, experiment, split, model)
    num_frames = np.diff(dump.store.starts).tolist()
    plan = plan_shards(num_frames, recipe.soft_targets.frames_a_shard)
    names = [f"{split}-{number:06d}.tar" for number in range(len(plan))]
    done = sum((shards_dir / name).is_file() for name in names)
    if done:
        say(f"  {split}: {done} of {len(names)} shards are there already")
    for name, utterances in track(list(zip(names, plan, strict=True)), f"soft targets {split}", unit="shard"):
        # A shard is published whole or not at all, so one that is there is complete.
        if not (shards_dir / name).is_file():
            write_shard(shards_dir / name, dump.samples(utterances))
    return [
        {
            "file": name,
            "num_utterances": len(utterances),
            "num_frames": sum(num_frames[u] for u in utterances),
        }
        for name, utterances in zip(names, plan, strict=True)
    ]


class _Dump:
    """Computes the samples of one split."""

    def __init__(
        self, recipe: Recipe, experiment: Experiment, split: str, model: StackedAcousticModel
    ) -> None:
        self.store = FrameStore(experiment.stage_dir("features"), split)
        self.pdf_ids = read_pdf_ids(experiment.stage_dir("align"), split, self.store.num_frames)
        self.first, self.last = bounds_of_frames(self.store.starts)
        self.model = model
        self.context = recipe.teachers.model.context
        self.temperatures = recipe.soft_targets.temperatures

    def samples(self, utterances: range) -> Iterator[SoftTargetSample]:
        for utterance in utterances:
            start, end = self.store.starts[utterance], self.store.starts[utterance + 1]
            centres = torch.arange(start, end)
            windows = gather_windows(
                torch.from_numpy(self.store.frames), self.first, self.last, centres, self.context
            )
            averages = average_posteriors(self.model, windows, self.temperatures).numpy()
            soft = dict(zip(self.temperatures, averages.astype(np.float16), strict=True))
            yield SoftTargetSample(
                self.store.utterance_ids[utterance],
                self.store.frames_of(utterance),
                self.pdf_ids[start:end],
                soft,
            )
