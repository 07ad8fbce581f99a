"""Frame accuracy and word errors of every system (teachers, ensemble, students), and of smaller ensembles."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.corpus.manifest import read_manifest
from asrdistill.decoding.decoder import decode_utterances
from asrdistill.decoding.graph import DecodingGraph, build_graph
from asrdistill.decoding.lattice import Lattice, best_path
from asrdistill.decoding.ngram import estimate_ngrams
from asrdistill.experiment import Experiment, atomic_path, write_json
from asrdistill.features.frame_store import FrameStore
from asrdistill.hmm.alignment import NOT_ALIGNED, read_pdf_ids
from asrdistill.hmm.topology import TiedStates
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.checkpoint import load_model
from asrdistill.progress import say, track
from asrdistill.recipe import Recipe
from asrdistill.scoring.ensemble_size import EnsembleSizes
from asrdistill.scoring.frame_accuracy import FrameAccuracy, count_frames
from asrdistill.scoring.tuning import Tuning, tune
from asrdistill.scoring.word_errors import WordErrors, count_word_errors

SPLITS = ("dev", "test")
UTTERANCES_A_WORKER = 16
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
    *(f"align/{split}.npy" for split in ("train", *SPLITS)),
    *(f"features/{split}.{kind}" for split in SPLITS for kind in ("f16", "json")),
    "teachers/model.safetensors",
    "student/model.safetensors",
)
WRITES = ("score/systems/", "score/language_model.json", "score/ensemble_size.json")


@dataclass(frozen=True)
class System:
    """A model, or several whose posteriors are averaged."""

    name: str
    model: AcousticModel


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Score the systems that have no result yet, then ensembles of every size."""
    scorer = Scorer(recipe, experiment)
    teachers, _ = load_model(experiment.dir / "teachers/model.safetensors")
    students, _ = load_model(experiment.dir / "student/model.safetensors")
    for system in list_systems(teachers, students):
        path = experiment.stage_dir("score") / "systems" / f"{system.name}.json"
        if path.is_file() and path.with_suffix(".test.txt").is_file():
            say(f"  {system.name}: scored already")
            continue
        result = scorer.score(system)
        write_json(path, result)
    path = experiment.stage_dir("score") / "ensemble_size.json"
    if path.is_file():
        say("  ensembles of every size: scored already")
    else:
        write_json(path, scorer.score_sizes(teachers))


def list_systems(teachers: AcousticModel, students: AcousticModel) -> list[System]:
    """Each teacher alone, the ensemble, each student."""
    systems = [System(f"teacher_{m:02d}", teachers.select_members([m])) for m in range(teachers.num_members)]
    systems.append(System("ensemble", teachers))
    students_alone = [students.select_members([m]) for m in range(students.num_members)]
    return systems + [System(f"student_{m:02d}", student) for m, student in enumerate(students_alone)]


class Scorer:
    """Holds what all systems are scored with: frames, targets, priors, graph, references."""

    def __init__(self, recipe: Recipe, experiment: Experiment) -> None:
        self.recipe = recipe
        self.folder = experiment.stage_dir("score")
        features_dir, align_dir = experiment.stage_dir("features"), experiment.stage_dir("align")
        self.stores = {split: FrameStore(features_dir, split) for split in SPLITS}
        self.pdf_ids = {s: read_pdf_ids(align_dir, s, store.num_frames) for s, store in self.stores.items()}
        tied_states = TiedStates.read(align_dir / "tied_states.json")
        train_pdf_ids: np.ndarray = np.load(align_dir / "train.npy", allow_pickle=False)
        self.log_priors = compute_log_priors(train_pdf_ids, tied_states.num_pdfs)
        manifests = {
            split: read_manifest(experiment.dir / f"prepare/manifests/{split}.jsonl")
            for split in ("train", *SPLITS)
        }
        self.references = {split: {u.id: u.words for u in manifests[split]} for split in SPLITS}
        self.graph = self._build_graph(experiment, [u.words for u in manifests["train"]], tied_states)

    def _build_graph(
        self, experiment: Experiment, sentences: list[list[str]], tied_states: TiedStates
    ) -> DecodingGraph:
        lexicon = Lexicon.read(experiment.dir / "prepare/lexicon.txt")
        model = estimate_ngrams(sentences, lexicon.pronunciations, self.recipe.language_model)
        dev = model.perplexity(self.references["dev"].values())
        say(f"  language model: order {model.order}, dev perplexity {dev.perplexity:.1f}")
        described = {"order": model.order, "dev_perplexity": dev.perplexity, "dev_num_oov": dev.num_oov}
        write_json(self.folder / "language_model.json", described)
        return build_graph(lexicon, model, tied_states, self.recipe.graph)

    def score(self, system: System) -> dict[str, Any]:
        """Frame accuracy on dev and test; weights tuned on dev; word errors on test with them."""
        frames: dict[str, FrameAccuracy] = {}
        dev_lattices, frames["dev"] = self._decode(system, "dev")
        tuning = tune(dev_lattices, self.references["dev"], self.graph.words, self.recipe.tuning)
        test_lattices, frames["test"] = self._decode(system, "test")
        scale, penalty = tuning.best.acoustic_scale, tuning.best.insertion_penalty
        hypotheses = {
            name: [self.graph.words[w] for w in best_path(lattice, scale, penalty)]
            for name, lattice in test_lattices.items()
        }
        test = count_word_errors(self.references["test"], hypotheses)
        self._write_hypotheses(system, hypotheses)
        say(
            f"  {system.name}: frame accuracy {100 * frames['dev'].accuracy:.2f}% dev, "
            f"{100 * frames['test'].accuracy:.2f}% test; {test} "
            f"(acoustic scale {scale:g}, insertion penalty {penalty:g})"
        )
        incomplete = [name for name, lattice in test_lattices.items() if not lattice.is_complete]
        return {
            "frame_accuracy": {split: count.accuracy for split, count in frames.items()},
            "num_parameters": system.model.num_members * system.model.num_parameters,
            "flops_a_frame": system.model.num_members * system.model.count_flops_a_frame(),
            "wer": {"dev": describe_errors(tuning.best.word_errors), "test": describe_errors(test)},
            "tuning": describe_tuning(tuning),
            "incomplete": incomplete,
        }

    def _decode(self, system: System, split: str) -> tuple[dict[str, Lattice], FrameAccuracy]:
        store, counted = self.stores[split], FrameAccuracy(0, 0)

        def scores() -> Iterator[tuple[str, np.ndarray]]:
            nonlocal counted
            for index, members in compute_log_posteriors(system.model, store):
                log_posteriors = average_log_posteriors(members)
                targets = self._targets_of(split, index)
                if targets is not None:
                    counted += count_frames(log_posteriors, targets)
                yield store.utterance_ids[index], log_posteriors - self.log_priors

        workers = min(os.cpu_count() or 1, max(1, len(store) // UTTERANCES_A_WORKER))
        lattices = decode_utterances(self.graph, scores(), self.recipe.decoder, workers, len(store))
        return lattices, counted

    def score_sizes(self, teachers: AcousticModel) -> dict[str, list[dict[str, Any]]]:
        """Frame accuracy of ensembles of 1, 2, ... of the teachers, on dev and test."""
        described = {}
        for split, store in self.stores.items():
            sizes = EnsembleSizes(teachers.num_members)
            posteriors = compute_log_posteriors(teachers, store)
            for index, members in track(posteriors, f"ensembles of every size {split}", len(store)):
                targets = self._targets_of(split, index)
                if targets is not None:
                    sizes.add(members.exp().numpy(), targets)
            described[split] = [asdict(size) for size in sizes.summarize()]
        first, last = described["test"][0], described["test"][-1]
        say(
            f"  ensembles of {first['size']} to {last['size']}: mean frame accuracy "
            f"{100 * first['mean']:.2f}% to {100 * last['mean']:.2f}% test"
        )
        return described

    def _targets_of(self, split: str, index: int) -> np.ndarray | None:
        """Hard targets of an utterance, int (frames,); None where it could not be aligned."""
        start, end = self.stores[split].starts[index : index + 2]
        targets = self.pdf_ids[split][start:end]
        return targets if len(targets) and targets[0] != NOT_ALIGNED else None

    def _write_hypotheses(self, system: System, hypotheses: dict[str, list[str]]) -> None:
        path = self.folder / "systems" / f"{system.name}.test.txt"
        with atomic_path(path) as temporary:
            lines = (" ".join([name, *words]) + "\n" for name, words in hypotheses.items())
            temporary.write_text("".join(lines), encoding="utf-8")


def compute_log_priors(pdf_ids: np.ndarray, num_pdfs: int) -> np.ndarray:
    """Log share of each pdf-id among the aligned training frames, one frame added to each: float32 (P,)."""
    counts = np.bincount(pdf_ids[pdf_ids != NOT_ALIGNED], minlength=num_pdfs) + 1
    return np.log(counts / counts.sum()).astype(np.float32)


@torch.inference_mode()
def compute_log_posteriors(model: AcousticModel, store: FrameStore) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield index and members' log posteriors, float32 (members, frames, pdf-ids), of every utterance."""
    model = model.in_compute_dtype()
    for index in range(len(store)):
        yield index, torch.log_softmax(model.compute_logits(store.frames_of(index)), dim=2)


def average_log_posteriors(log_posteriors: torch.Tensor) -> np.ndarray:
    """Log of the average of several models' posteriors, float32 (frames, pdf-ids)."""
    averaged: np.ndarray = torch.logsumexp(log_posteriors, dim=0).numpy()
    return averaged - np.float32(np.log(len(log_posteriors)))


def describe_errors(errors: WordErrors) -> dict[str, float]:
    """Word errors as report.json gives them."""
    return {
        "wer": errors.wer,
        "errors": errors.errors,
        "words": errors.words,
        "ins": errors.insertions,
        "del": errors.deletions,
        "sub": errors.substitutions,
        "ser": errors.ser,
    }


def describe_tuning(tuning: Tuning) -> dict[str, Any]:
    """The grid that was tried on dev, scales in the outer loop, and what was chosen."""
    return {
        "acoustic_scale": tuning.best.acoustic_scale,
        "insertion_penalty": tuning.best.insertion_penalty,
        "grid": [[p.acoustic_scale, p.insertion_penalty, p.word_errors.wer] for p in tuning.grid],
        "notes": list(tuning.notes),
    }
