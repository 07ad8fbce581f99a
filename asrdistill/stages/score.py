"""Frame accuracy and word errors of aligner, teachers, ensemble and students, and of smaller ensembles."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from asrdistill.decoding.arpa import refuse_missing, write_arpa
from asrdistill.experiment import Experiment, write_json
from asrdistill.features.frame_store import FrameStore, list_store_files, name_cepstra
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.checkpoint import load_model
from asrdistill.progress import say, track
from asrdistill.recipe import Recipe
from asrdistill.scoring.ensemble_size import EnsembleSizes
from asrdistill.scoring.scorer import SPLITS, Scorer
from asrdistill.scoring.systems import list_systems

SETTINGS = (
    "language_model",
    "graph",
    "decoder",
    "tuning",
    "features",
)
READS = (
    "prepare/lexicon.txt",
    *(f"prepare/manifests/{split}.jsonl" for split in ("train", *SPLITS)),
    "align/tied_states.json",
    "align/gmm.safetensors",
    "align/transform.safetensors",
    *(f"align/{split}.npy" for split in ("train", *SPLITS)),
    *list_store_files((*SPLITS, *map(name_cepstra, SPLITS))),
    "teachers/model.safetensors",
    "student/model.safetensors",
)
WRITES = (
    "score/systems/",
    "score/language_model.json",
    "score/language_model.arpa.gz",
    "score/ensemble_size.json",
    "score/test_frames.json",
)


def list_external_inputs(recipe: Recipe) -> list[Path]:
    """Files outside the experiment whose contents the result depends on."""
    path = recipe.language_model.path
    return [path.absolute()] if path and path.is_file() else []


def check_files(recipe: Recipe) -> None:
    """See that the language model is there.

    Raises:
        CorpusError: it is not.
    """
    path = recipe.language_model.path
    if path:
        refuse_missing(path)


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Score the systems that have no result yet, then ensembles of every size."""
    scorer = Scorer(recipe.decoding, experiment)
    folder = experiment.stage_dir("score")
    write_json(folder / "language_model.json", scorer.model_facts)
    write_arpa(folder / "language_model.arpa.gz", scorer.language_model)
    teachers, _ = load_model(experiment.dir / "teachers/model.safetensors")
    counted = {}
    for system in list_systems(experiment, scorer.log_priors):
        path = folder / "systems" / f"{system.name}.json"
        if _is_scored(path, scorer.can_decode):
            say(f"  {system.name}: scored already")
        else:
            write_json(path, scorer.score(system))
        counted[system.name] = json.loads(path.read_text(encoding="utf-8"))["test_frames"]
    test = scorer.stores["test"].utterance_ids
    write_json(folder / "test_frames.json", {"utterances": list(test), "systems": counted})
    path = folder / "ensemble_size.json"
    if path.is_file():
        say("  ensembles of every size: scored already")
    else:
        write_json(path, score_sizes(scorer, teachers))


def _is_scored(path: Path, can_decode: bool) -> bool:
    if not path.is_file() or (can_decode and not path.with_suffix(".test.txt").is_file()):
        return False
    return "test_frames" in json.loads(path.read_text(encoding="utf-8"))  # earlier versions left it out


def score_sizes(scorer: Scorer, teachers: AcousticModel) -> dict[str, list[dict[str, Any]]]:
    """Frame accuracy of ensembles of 1, 2, ... of the teachers, on dev and test."""
    described = {}
    for split, store in scorer.stores.items():
        sizes = EnsembleSizes(teachers.num_members)
        posteriors = compute_log_posteriors(teachers, store)
        for index, members in track(posteriors, f"ensembles of every size {split}", len(store)):
            targets = scorer.targets_of(split, index)
            if targets is not None:
                sizes.add(members.exp().numpy(), targets)
        described[split] = [asdict(size) for size in sizes.summarize()]
    first, last = described["test"][0], described["test"][-1]
    say(
        f"  ensembles of {first['size']} to {last['size']}: mean frame accuracy "
        f"{100 * first['mean']:.2f}% to {100 * last['mean']:.2f}% test"
    )
    return described


@torch.inference_mode()
def compute_log_posteriors(model: AcousticModel, store: FrameStore) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield index and members' log posteriors, float32 (members, frames, pdf-ids), of every utterance."""
    model = model.in_compute_dtype()
    for index in range(len(store)):
        yield index, torch.log_softmax(model.compute_logits(store.frames_of(index)), dim=2)
