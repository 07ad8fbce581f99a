"""Frames, words and phones of aligner, teachers, ensemble, students, controls; smaller ensembles' frames."""

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
from asrdistill.scoring.mimicry import compare_with_ensemble, map_pdfs_to_phones, sum_mimicries
from asrdistill.scoring.scorer import SPLITS, Scorer, write_hypotheses
from asrdistill.scoring.systems import list_systems
from asrdistill.scoring.word_files import write_word_files

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
    *(f"align/{split}.{kind}" for split in ("train", *SPLITS) for kind in ("npy", "phones.ctm")),
    *list_store_files((*SPLITS, *map(name_cepstra, SPLITS))),
    "teachers/model.safetensors",
    "student/model.safetensors",
    "controls/curves.json",
)
WRITES = (
    "score/systems/",
    "score/language_model.json",
    "score/language_model.arpa.gz",
    "score/ensemble_size.json",
    "score/test_frames.json",
    "score/test_phones.txt",
    "score/mimicry.json",
    "score/alignments/",
    "score/nist/",
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
    """Score the systems that have no result yet, then ensembles of every size; the student beside them."""
    scorer = Scorer(recipe.decoding, experiment)
    folder = experiment.stage_dir("score")
    write_json(folder / "language_model.json", scorer.model_facts)
    write_arpa(folder / "language_model.arpa.gz", scorer.language_model)
    describe_test(scorer, folder)
    for system in list_systems(experiment, scorer.log_priors):
        path = folder / "systems" / f"{system.name}.json"
        if all(file.is_file() for file in (path, *scorer.list_files(system))):
            say(f"  {system.name}: scored already")
        else:
            write_json(path, scorer.score(system))
    write_word_files(experiment.dir)
    paths = folder / "ensemble_size.json", folder / "mimicry.json"
    if all(path.is_file() for path in paths):
        say("  ensembles of every size, and the student beside them: read already")
    else:
        for path, described in zip(paths, read_ensembles(scorer, experiment), strict=True):
            write_json(path, described)


def describe_test(scorer: Scorer, folder: Path) -> None:
    """Write what all systems' files on test go by: ids, in order, frames that are scored, and phones."""
    store = scorer.stores["test"]
    targets = [scorer.targets_of("test", index) for index in range(len(store))]
    frames = [0 if pdf_ids is None else len(pdf_ids) for pdf_ids in targets]
    write_json(folder / "test_frames.json", {"utterances": list(store.utterance_ids), "frames": frames})
    phones = scorer.phones.references["test"] if scorer.can_decode else {}
    write_hypotheses(folder / "test_phones.txt", {name: phones.get(name, []) for name in store.utterance_ids})


def read_ensembles(
    scorer: Scorer, experiment: Experiment
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Frame accuracy of ensembles of 1, 2, ... teachers on dev and test; how the student follows on test."""
    teachers, _ = load_model(experiment.dir / "teachers/model.safetensors")
    students, description = load_model(experiment.dir / "student/model.safetensors")
    student = students.select_members([description["chosen"]])
    phones, sizes_of, mimicries = map_pdfs_to_phones(scorer.tied_states), {}, []
    for split, store in scorer.stores.items():
        sizes = EnsembleSizes(teachers.num_members)
        pairs = zip(
            compute_log_posteriors(teachers, store), compute_log_posteriors(student, store), strict=True
        )
        for (index, members), (_, followed) in track(pairs, f"ensembles of every size {split}", len(store)):
            targets = scorer.targets_of(split, index)
            if targets is None:
                continue
            sizes.add(members.exp().numpy(), targets)
            if split == "test":
                ensemble = torch.logsumexp(members, 0).numpy()
                mimicries.append(compare_with_ensemble(ensemble, followed[0].numpy(), targets, phones))
        sizes_of[split] = [asdict(size) for size in sizes.summarize()]
    first, last = sizes_of["test"][0], sizes_of["test"][-1]
    mimicry = sum_mimicries(mimicries, phones).describe()
    say(
        f"  ensembles of {first['size']} to {last['size']}: mean frame accuracy "
        f"{100 * first['mean']:.2f}% to {100 * last['mean']:.2f}% test; the student agrees with all of them "
        f"on {100 * mimicry['overall']['agreement']:.1f}% of the frames"
    )
    return sizes_of, mimicry


@torch.inference_mode()
def compute_log_posteriors(model: AcousticModel, store: FrameStore) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield index and members' log posteriors, float32 (members, frames, pdf-ids), of every utterance."""
    model = model.in_compute_dtype()
    for index in range(len(store)):
        yield index, torch.log_softmax(model.compute_logits(store.frames_of(index)), dim=2)
