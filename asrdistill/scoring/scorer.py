"""Decoding and scoring of one system after the other, with everything that they share."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from asrdistill.hmm.alignment import read_pdf_ids
from asrdistill.hmm.topology import NOT_ALIGNED, TiedStates
from asrdistill.nn.realignment import compute_log_priors
from asrdistill.progress import say, track
from asrdistill.scoring.frame_accuracy import FrameAccuracy, count_frames, sum_frames
from asrdistill.scoring.systems import System
from asrdistill.scoring.tuning import Tuning, TuningConfig, tune
from asrdistill.scoring.word_errors import WordErrors, count_word_errors

SPLITS = ("dev", "test")
UTTERANCES_A_WORKER = 16


@dataclass(frozen=True)
class DecodingConfig:
    """The recipe's part in decoding."""

    language_model: NgramConfig
    graph: GraphConfig
    decoder: DecoderConfig
    tuning: TuningConfig


class Scorer:
    """Holds what all systems are scored with: frames, targets, priors, graph, references.

    Attributes:
        can_decode: whether the tied states' phones are known; otherwise frame accuracy alone is scored.
        language_model: over the lexicon's words.
        model_facts: what `describe_language_model` says of it.
    """

    def __init__(
        self, config: DecodingConfig, experiment: Experiment, hypotheses_dir: Path | None = None
    ) -> None:
        """Args:
        config: of the recipe.
        experiment: whose features, alignments and transcripts are meant.
        hypotheses_dir: for what each system understood of test; None: `score/systems`.
        """
        self.config = config
        self.hypotheses_dir = hypotheses_dir or experiment.stage_dir("score") / "systems"
        self.graphs_dir = experiment.dir / "graphs"
        features_dir, align_dir = experiment.stage_dir("features"), experiment.stage_dir("align")
        self.stores = {split: FrameStore(features_dir, split) for split in SPLITS}
        self.cepstra = {split: FrameStore(features_dir, name_cepstra(split)) for split in SPLITS}
        self.pdf_ids = {s: read_pdf_ids(align_dir, s, store.num_frames) for s, store in self.stores.items()}
        self.tied_states = TiedStates.read(align_dir / "tied_states.json")
        self.lexicon = Lexicon.read(experiment.dir / "prepare/lexicon.txt")
        train_pdf_ids: np.ndarray = np.load(align_dir / "train.npy", allow_pickle=False)
        self.log_priors = compute_log_priors(train_pdf_ids, self.tied_states.num_pdfs)
        manifests = {
            split: read_manifest(experiment.dir / f"prepare/manifests/{split}.jsonl")
            for split in ("train", *SPLITS)
        }
        self.references = {split: {u.id: u.words for u in manifests[split]} for split in SPLITS}
        self.can_decode = self.tied_states.has_phones
        self.language_model = self._load_language_model([u.words for u in manifests["train"]])
        self._graph = self._build_graph(self.language_model) if self.can_decode else None

    @property
    def graph(self) -> DecodingGraph:
        """The decoding graph.

        Raises:
            ContractError: the tied states are another system's, of whose phones nothing is known.
        """
        if self._graph is None:
            raise ContractError(
                f"decoding: the {self.tied_states.num_pdfs:,} tied states are pdf-ids of another system, "
                "whose phones are not known here, so that no words can be found with them; expected an "
                "alignment of our own, or alignment.imported.kind ctm or textgrid"
            )
        return self._graph

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
        """Frame accuracy on dev and test; weights tuned on dev; word errors on test with them."""
        if not self.can_decode:
            return self._score_frames(system)
        dev_lattices, dev_frames = self.decode(system, "dev")
        tuning = tune(dev_lattices, self.references["dev"], self.graph.words, self.config.tuning)
        test_lattices, test_frames = self.decode(system, "test")
        scale, penalty = tuning.best.acoustic_scale, tuning.best.insertion_penalty
        hypotheses = {
            name: [self.graph.words[w] for w in best_path(lattice, scale, penalty)]
            for name, lattice in test_lattices.items()
        }
        test = count_word_errors(self.references["test"], hypotheses)
        write_hypotheses(self.hypotheses_dir / f"{system.name}.test.txt", hypotheses)
        say(
            f"  {system.name}: {_say_accuracies(dev_frames, test_frames)}; {test} "
            f"(acoustic scale {scale:g}, insertion penalty {penalty:g})"
        )
        incomplete = [name for name, lattice in test_lattices.items() if not lattice.is_complete]
        return {
            **_describe_frames(system, dev_frames, test_frames),
            "wer": {"dev": describe_errors(tuning.best.word_errors), "test": describe_errors(test)},
            "tuning": describe_tuning(tuning),
            "incomplete": incomplete,
        }

    def _score_frames(self, system: System) -> dict[str, Any]:
        """Frame accuracy on dev and test, where words cannot be decoded."""
        counts = {}
        for split in SPLITS:
            utterances = _Utterances(self, system, split)
            for _, compute_scores in track(utterances.list(), f"frames {split}", len(utterances.counts)):
                compute_scores()
            counts[split] = utterances.counts
        say(f"  {system.name}: {_say_accuracies(counts['dev'], counts['test'])}")
        return {**_describe_frames(system, counts["dev"], counts["test"]), "incomplete": []}

    def decode(self, system: System, split: str) -> tuple[dict[str, Lattice], list[FrameAccuracy]]:
        """Lattices of a split, and the frames of each utterance, counted on the way."""
        utterances = _Utterances(self, system, split)
        num_utterances = len(utterances.counts)
        config = self.decoder_config_of(system)
        workers = min(os.cpu_count() or 1, max(1, num_utterances // UTTERANCES_A_WORKER))
        lattices = decode_utterances(self.graph, utterances.list(), config, workers, num_utterances)
        return lattices, utterances.counts

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


class _Utterances:
    """Scores the utterances of a split, on any thread, and counts frames on the way.

    Attributes:
        counts: of each utterance, once it was scored.
    """

    def __init__(self, scorer: Scorer, system: System, split: str) -> None:
        self._scorer, self._system, self._split = scorer, system, split
        self._store = scorer.store_of(system, split)
        self.counts = [FrameAccuracy(0, 0)] * len(self._store)

    def list(self) -> list[tuple[str, Callable[[], np.ndarray]]]:
        """Id of each utterance, and what computes its scaled log likelihoods, float32 (frames, P)."""
        return [(name, partial(self._score, index)) for index, name in enumerate(self._store.utterance_ids)]

    def _score(self, index: int) -> np.ndarray:
        scaled_log_likelihoods = self._system.score(self._store.frames_of(index))
        targets = self._scorer.targets_of(self._split, index)
        if targets is not None:
            self.counts[index] = count_frames(scaled_log_likelihoods + self._scorer.log_priors, targets)
        return scaled_log_likelihoods


def _say_accuracies(dev: Sequence[FrameAccuracy], test: Sequence[FrameAccuracy]) -> str:
    dev_accuracy, test_accuracy = (sum_frames(counts).accuracy for counts in (dev, test))
    return f"frame accuracy {100 * dev_accuracy:.2f}% dev, {100 * test_accuracy:.2f}% test"


def _describe_frames(
    system: System, dev: Sequence[FrameAccuracy], test: Sequence[FrameAccuracy]
) -> dict[str, Any]:
    return {
        "frame_accuracy": {"dev": sum_frames(dev).accuracy, "test": sum_frames(test).accuracy},
        "test_frames": {
            "correct": [count.correct for count in test],
            "frames": [count.frames for count in test],
        },
        "num_parameters": system.num_parameters,
        "flops_a_frame": system.flops_a_frame,
    }


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
