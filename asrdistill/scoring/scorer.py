"""Decoding and scoring of one system after the other, with everything that they share."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.corpus.manifest import read_manifest
from asrdistill.decoding.arpa import load_language_model
from asrdistill.decoding.decoder import DecoderConfig, decode_utterances
from asrdistill.decoding.graph import DecodingGraph, GraphConfig, load_or_build_graph
from asrdistill.decoding.lattice import Lattice, best_path
from asrdistill.decoding.ngram import NgramConfig, NgramModel
from asrdistill.errors import ContractError
from asrdistill.experiment import Experiment, atomic_path
from asrdistill.features.frame_store import FrameStore, name_cepstra
from asrdistill.hmm.alignment import compute_log_priors, read_pdf_ids
from asrdistill.hmm.topology import NOT_ALIGNED, TiedStates
from asrdistill.progress import say
from asrdistill.scoring.phone_errors import load_phone_recognition
from asrdistill.scoring.readings import FrameReading, Readings, describe_calibration, measure_accuracy
from asrdistill.scoring.systems import System
from asrdistill.scoring.tuning import Tuning, TuningConfig, tune
from asrdistill.scoring.word_errors import WordErrors, count_word_errors

SPLITS = ("dev", "test")
UTTERANCES_A_WORKER = 16
# Costs of each phone, natural log units. A bigram knows less than words do, so scales may be larger; on the
# synthetic speech 0.4, the largest that words are tried with, was best.
PHONE_TUNING = TuningConfig(
    acoustic_scales=(0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.55, 0.75),
    insertion_penalties=(-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
)


@dataclass(frozen=True)
class DecodingConfig:
    """The recipe's part in decoding."""

    language_model: NgramConfig
    graph: GraphConfig
    decoder: DecoderConfig
    tuning: TuningConfig


@dataclass(frozen=True)
class Task:
    """What is recognised: words or phones.

    Attributes:
        graph: of the search.
        names: what each of its word ids is scored as.
        references: split -> utterance id -> what was said.
        tuning: the grid of decoding weights.
    """

    graph: DecodingGraph
    names: Sequence[str]
    references: Mapping[str, Mapping[str, list[str]]]
    tuning: TuningConfig


@dataclass(frozen=True)
class Recognised:
    """What came of a task.

    Attributes:
        tuning: the weights that were tried on dev.
        hypotheses: utterance id -> what was recognised, test.
        errors: on test.
        incomplete: test utterances in which the search reached no end.
    """

    tuning: Tuning
    hypotheses: dict[str, list[str]]
    errors: WordErrors
    incomplete: list[str]


class Scorer:
    """Holds what all systems are scored with: frames, targets, priors, graphs, references.

    Attributes:
        can_decode: whether the tied states' phones are known; otherwise frame accuracy alone is scored.
        train_pdf_ids: hard targets of the training split, from which the priors come.
        language_model: over the lexicon's words.
        model_facts: what `describe_language_model` says of it.
    """

    def __init__(
        self,
        config: DecodingConfig,
        experiment: Experiment,
        systems_dir: Path | None = None,
        with_phones: bool = True,
    ) -> None:
        """Args:
        config: of the recipe.
        experiment: whose features, alignments and transcripts are meant.
        systems_dir: for what each system made of test; None: `score/systems`.
        with_phones: whether phones are recognised too, which takes as long as words do.
        """
        self.config, self.with_phones = config, with_phones
        self.systems_dir = systems_dir or experiment.stage_dir("score") / "systems"
        self.graphs_dir = experiment.dir / "graphs"
        features_dir = experiment.stage_dir("features")
        self.align_dir = align_dir = experiment.stage_dir("align")
        self.stores = {split: FrameStore(features_dir, split) for split in SPLITS}
        self.cepstra = {split: FrameStore(features_dir, name_cepstra(split)) for split in SPLITS}
        self.pdf_ids = {s: read_pdf_ids(align_dir, s, store.num_frames) for s, store in self.stores.items()}
        self.tied_states = TiedStates.read(align_dir / "tied_states.json")
        self.lexicon = Lexicon.read(experiment.dir / "prepare/lexicon.txt")
        self.train_pdf_ids: np.ndarray = np.load(align_dir / "train.npy", allow_pickle=False)
        self.log_priors = compute_log_priors(self.train_pdf_ids, self.tied_states.num_pdfs)
        manifests = {
            split: read_manifest(experiment.dir / f"prepare/manifests/{split}.jsonl")
            for split in ("train", *SPLITS)
        }
        self.utterances = {split: manifests[split] for split in SPLITS}
        self.references = {split: {u.id: u.words for u in manifests[split]} for split in SPLITS}
        self.can_decode = self.tied_states.has_phones
        self.language_model = self._load_language_model([u.words for u in manifests["train"]])
        self._words = None
        if self.can_decode:
            graph = self._build_graph(self.language_model)
            self._words = Task(graph, graph.words, self.references, config.tuning)

    @property
    def graph(self) -> DecodingGraph:
        """The decoding graph of words.

        Raises:
            ContractError: the tied states are another system's, of whose phones nothing is known.
        """
        return self.words.graph

    @property
    def words(self) -> Task:
        """Word recognition; raises as `graph` does."""
        if self._words is None:
            raise ContractError(
                f"decoding: the {self.tied_states.num_pdfs:,} tied states are pdf-ids of another system, "
                "whose phones are not known here, so that no words can be found with them; expected an "
                "alignment of our own, or alignment.imported.kind ctm or textgrid"
            )
        return self._words

    @cached_property
    def phones(self) -> Task:
        """Phone recognition, of the utterances that were aligned."""
        ids = {split: store.utterance_ids for split, store in self.stores.items()}
        found = load_phone_recognition(
            self.align_dir, self.graphs_dir, self.tied_states, ids, self.config.graph
        )
        left_out = sum(map(len, found.not_aligned.values()))
        say(
            f"  phone recognition: {found.graph.num_states:,} states, {found.graph.num_arcs:,} arcs; "
            f"{left_out} utterances of dev and test without phones are not scored"
        )
        return Task(found.graph, found.classes, found.references, PHONE_TUNING)

    def _load_language_model(self, sentences: list[list[str]]) -> NgramModel:
        config = self.config.language_model
        model = load_language_model(config, sentences, self.lexicon.pronunciations)
        self.model_facts = facts = describe_language_model(model, sentences, self.references)
        say(
            f"  language model: order {model.order}, {len(model.vocabulary):,} words, dev perplexity "
            f"{facts['dev_perplexity']:.1f}; of dev's {facts['dev_num_words']:,} words "
            f"{facts['dev_num_oov']} are outside the vocabulary, {facts['dev_num_not_in_training_text']} not "
            "in the training text"
        )
        if model.coverage:
            say(f"  {config.path}: {model.coverage}")
        return model

    def _build_graph(self, model: NgramModel) -> DecodingGraph:
        graph = load_or_build_graph(self.graphs_dir, self.lexicon, model, self.tied_states, self.config.graph)
        say(f"  decoding graph: {graph.num_states:,} states, {graph.num_arcs:,} arcs")
        return graph

    def score(self, system: System) -> dict[str, Any]:
        """Frame accuracy on dev and test; weights tuned on dev; word and phone errors on test with them."""
        tasks = [self.words] if self.can_decode else []
        if self.can_decode and self.with_phones:
            tasks.append(self.phones)
        (dev, dev_readings), (test, test_readings) = (self.decode(system, split, tasks) for split in SPLITS)
        frames_path, *hypotheses_paths = self.list_files(system)
        write_correct_frames(frames_path, test_readings)
        described: dict[str, Any] = {
            "frame_accuracy": {
                "dev": measure_accuracy(dev_readings),
                "test": measure_accuracy(test_readings),
            },
            "calibration": describe_calibration(test_readings),
            "num_parameters": system.num_parameters,
            "flops_a_frame": system.flops_a_frame,
            "incomplete": [],
        }
        accuracies = (f"{100 * value:.2f}% {split}" for split, value in described["frame_accuracy"].items())
        said = [f"frame accuracy {', '.join(accuracies)}"]
        kinds = (("wer", "tuning"), ("per", "phone_tuning"))
        recognised = zip(tasks, dev, test, kinds, hypotheses_paths, strict=False)
        for task, dev_lattices, test_lattices, (rate, tuning), path in recognised:
            found = recognise(task, dev_lattices, test_lattices)
            # Also of utterances that are not scored, so that all systems' files have the same lines.
            everywhere = {name: found.hypotheses.get(name, []) for name in self.stores["test"].utterance_ids}
            write_hypotheses(path, everywhere)
            described[rate] = {
                "dev": describe_errors(found.tuning.best.word_errors),
                "test": describe_errors(found.errors),
            }
            described[tuning] = describe_tuning(found.tuning)
            if task is self.words:
                described["incomplete"] = found.incomplete
            said.append(f"{found.errors.print(rate.upper())} ({_say_weights(found.tuning)})")
        say(f"  {system.name}: {'; '.join(said)}")
        return described

    def list_files(self, system: System) -> list[Path]:
        """What `score` leaves of a system: frames that are right, words, phones; the latter where decoded."""
        suffixes = ["test_frames.npy"]
        if self.can_decode:
            suffixes += ["test.txt", "test.phones.txt"] if self.with_phones else ["test.txt"]
        return [self.systems_dir / f"{system.name}.{suffix}" for suffix in suffixes]

    def decode(
        self, system: System, split: str, tasks: Sequence[Task]
    ) -> tuple[list[dict[str, Lattice]], list[FrameReading]]:
        """For each task the lattices of a split; and what was read of each utterance's frames on the way."""
        store = self.store_of(system, split)
        readings = Readings(system, store, self.log_priors, partial(self.targets_of, split))
        config = self.decoder_config_of(system)
        workers = min(os.cpu_count() or 1, max(1, len(store) // UTTERANCES_A_WORKER))
        graphs = [task.graph for task in tasks]
        lattices = decode_utterances(graphs, readings.list(), config, workers, len(store))
        scored = [
            {name: lattice for name, lattice in found.items() if name in task.references[split]}
            for task, found in zip(tasks, lattices, strict=True)
        ]
        return scored, readings.of_utterances

    def store_of(self, system: System, split: str) -> FrameStore:
        """The frames of a split that a system hears."""
        return (self.cepstra if system.hears_cepstra else self.stores)[split]

    def decoder_config_of(self, system: System) -> DecoderConfig:
        """The search's settings, with the acoustic scale that suits a system."""
        if system.acoustic_scale is None:
            return self.config.decoder
        return self.config.decoder.model_copy(update={"acoustic_scale": system.acoustic_scale})

    def targets_of(self, split: str, index: int) -> np.ndarray | None:
        """Hard targets of an utterance, int (frames,); None where it could not be aligned."""
        start, end = self.stores[split].starts[index : index + 2]
        targets = self.pdf_ids[split][start:end]
        return targets if len(targets) and targets[0] != NOT_ALIGNED else None


def describe_language_model(
    model: NgramModel, sentences: Sequence[Sequence[str]], references: Mapping[str, Mapping[str, list[str]]]
) -> dict[str, Any]:
    """How well a language model predicts dev, and how many running words it knows nothing or little of.

    Args:
        model: over the lexicon's words.
        sentences: words of the training transcripts.
        references: words of the utterances of dev and test, by split and id.
    """
    vocabulary, seen = set(model.vocabulary), {word for words in sentences for word in words}
    facts: dict[str, Any] = {
        "order": model.order,
        "num_words": len(model.vocabulary),
        "dev_perplexity": model.perplexity(references["dev"].values()).perplexity,
        "train_num_oov": model.num_oov,
    }
    for split, transcripts in references.items():
        running = [word for words in transcripts.values() for word in words]
        facts[f"{split}_num_words"] = len(running)
        facts[f"{split}_num_oov"] = sum(word not in vocabulary for word in running)
        facts[f"{split}_num_not_in_training_text"] = sum(word not in seen for word in running)
    if model.coverage:
        facts["file"] = str(model.coverage)
    return facts


def recognise(task: Task, dev: Mapping[str, Lattice], test: Mapping[str, Lattice]) -> Recognised:
    """Tune the weights on dev, and take the best path of each test utterance with them."""
    tuning = tune(dev, task.references["dev"], task.names, task.tuning)
    scale, penalty = tuning.best.acoustic_scale, tuning.best.insertion_penalty
    hypotheses = {
        name: [task.names[word_id] for word_id in best_path(lattice, scale, penalty)]
        for name, lattice in test.items()
    }
    errors = count_word_errors(task.references["test"], hypotheses)
    incomplete = [name for name, lattice in test.items() if not lattice.is_complete]
    return Recognised(tuning, hypotheses, errors, incomplete)


def _say_weights(tuning: Tuning) -> str:
    best = tuning.best
    return f"acoustic scale {best.acoustic_scale:g}, insertion penalty {best.insertion_penalty:g}"


def write_correct_frames(path: Path, readings: Sequence[FrameReading]) -> None:
    """Publish which frames were correct, all utterances in a row: bits in uint8, as `np.packbits` has it."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.packbits(np.concatenate([reading.correct for reading in readings])))


def write_hypotheses(path: Path, hypotheses: Mapping[str, Sequence[str]]) -> None:
    """Publish hypotheses in the form of Kaldi's `text`: utterance id and words a line."""
    with atomic_path(path) as temporary:
        lines = (" ".join([name, *words]) + "\n" for name, words in hypotheses.items())
        temporary.write_text("".join(lines), encoding="utf-8")


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
