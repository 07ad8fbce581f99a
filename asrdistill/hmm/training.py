"""Viterbi training of GMM-HMMs from a flat start: monophones, triphones, triphones on LDA+MLLT features.

Source: the scheme of Kaldi's `steps/train_mono.sh`, `train_deltas.sh` and `train_lda_mllt.sh`: equal division
first; then, in each step, alternately the best path of every utterance and new mixtures, with more Gaussians
as it goes on; each step's decision trees are grown on the alignments of the one before.
Differs: no transition probabilities (hmm/graph.py says why); what stands beside an utterance is silence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.errors import CorpusError
from asrdistill.features.cepstra import splice
from asrdistill.hmm.aligner import SPLICE_CONTEXT, Aligner, FeatureTransform, Speech
from asrdistill.hmm.gmm import DiagonalGmm, accumulate, grow_mixtures
from asrdistill.hmm.graph import Pronunciations, build_equal_alignment, build_utterance_graph
from asrdistill.hmm.inventory import total_gain
from asrdistill.hmm.topology import NOT_ALIGNED, TiedStates
from asrdistill.hmm.transforms import estimate_lda, estimate_mllt, transform_gmm
from asrdistill.hmm.tree_growing import TiedStatesConfig, accumulate_statistics, grow_trees
from asrdistill.hmm.viterbi import GraphSet, find_best_paths, list_spans
from asrdistill.progress import say, track

Step = Literal["monophone", "triphone", "lda_mllt"]
STEPS: tuple[Step, ...] = ("monophone", "triphone", "lda_mllt")
# Share of a step's iterations in which mixtures grow.
GROWING_SHARE = 0.75
# Frames that an utterance must have beyond those of its shortest path to be trained on.
SPARE_FRAMES = 6
LDA_FRAMES = 500_000


class StepConfig(Config):
    """One step of the training of the aligner."""

    num_iterations: int = Field(20, ge=1, description="passes of estimation over the training split")
    realign_until: int = Field(0, ge=0, description="iterations that align each time, at the beginning")
    realign_every: int = Field(5, ge=1, description="iterations between two alignments, after these")
    num_gaussians: int = Field(4500, ge=1, description="Gaussians in all mixtures together, at the end")


class LdaMlltConfig(StepConfig):
    """The step on features that are transformed to suit diagonal Gaussians."""

    dimension: int = Field(40, ge=1, le=91, description="coefficients that LDA keeps of 7 spliced frames")
    mllt_at: tuple[int, ...] = Field((2, 4, 6, 12), description="iterations that estimate MLLT anew")


class GmmConfig(Config):
    """How the Gaussian models that align the speech are trained."""

    last_step: Step = Field("lda_mllt", description="how far: monophone, triphone or lda_mllt")
    monophone: StepConfig = Field(
        StepConfig(num_iterations=24, realign_until=10, realign_every=2, num_gaussians=1000),
        description="first step",
    )
    triphone: StepConfig = Field(StepConfig(), description="second step: on cepstra with differences")
    lda_mllt: LdaMlltConfig = Field(LdaMlltConfig(), description="third step")
    tied_states: TiedStatesConfig = Field(TiedStatesConfig(), description="how triphone states are tied")


@dataclass
class GmmTrainer:
    """Trains the mixtures on one split, holding its features in memory (some 220 bytes a frame).

    Attributes:
        speech: the training split; what is too short for its transcript is left out.
        pronunciations: of its words.
        phones: names of all phones.
        config: how to train.
        imported: codes of an alignment of another system, int32 (N,), -1 where there is none: then triphones
            are tied by it and mixtures trained on it, and nothing is aligned.
        tied_states: of the imported alignment, where its codes are pdf-ids; none: triphones are tied here.
    """

    speech: Speech
    pronunciations: Pronunciations
    phones: set[str]
    config: GmmConfig
    imported: np.ndarray | None = None
    tied_states: TiedStates | None = None
    graphs: GraphSet = field(init=False)
    codes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.monophones = TiedStates.of_monophones(self.phones)
        if self.imported is None:
            self._align_equally()
        else:
            self.codes = self.imported

    def _align_equally(self) -> None:
        graphs = [
            build_utterance_graph(words, self.pronunciations, self.monophones)
            for words in self.speech.transcripts
        ]
        lengths = self.speech.num_frames
        usable = [n for n, graph in enumerate(graphs) if lengths[n] >= graph.min_frames + SPARE_FRAMES]
        if not usable:
            raise CorpusError(
                f"alignment: none of the {len(graphs)} training utterances has the frames that its "
                "transcript needs (3 a phone); look at transcripts, recordings and corpus.sampling_rate_hz"
            )
        if len(usable) < len(graphs):
            say(f"  {len(graphs) - len(usable)} utterances are too short to train the aligner on")
            self.speech = self.speech.select(usable)
        self.graphs = GraphSet.of([graphs[number] for number in usable])
        # The code of every frame's triphone state by the latest alignment; -1: not aligned.
        self.codes = np.concatenate(
            [
                build_equal_alignment(words, self.pronunciations, self.monophones, length)
                for words, length in zip(self.speech.transcripts, self.speech.num_frames, strict=True)
            ]
        )

    def train(self) -> Aligner:
        """Run all steps and return the last one's aligner."""
        if self.imported is not None:
            return self._train_triphones()
        steps: dict[Step, Callable[[], Aligner]] = {
            "monophone": self._train_monophones,
            "triphone": self._train_triphones,
            "lda_mllt": self._train_lda_mllt,
        }
        for step in STEPS:
            aligner = steps[step]()
            if step == self.config.last_step:
                break
        return aligner

    def _train_monophones(self) -> Aligner:
        step = _StepTrainer(self, "monophone", self.config.monophone, self.monophones, FeatureTransform())
        aligner = step.run()
        pdf_ids = self.monophones.table[self.codes[self.codes != NOT_ALIGNED]]
        counts = np.bincount(pdf_ids, minlength=self.monophones.num_pdfs)
        return replace(aligner, tied_states=TiedStates.of_monophones(self.phones, counts))

    def _train_triphones(self) -> Aligner:
        transform = FeatureTransform()
        tied_states = self.tied_states or self._grow_trees(transform.apply_to_all(self.speech))
        return _StepTrainer(self, "triphone", self.config.triphone, tied_states, transform).run()

    def _train_lda_mllt(self) -> Aligner:
        config = self.config.lda_mllt
        transform = FeatureTransform(self._estimate_lda(config.dimension))
        tied_states = self._grow_trees(transform.apply_to_all(self.speech))
        return _StepTrainer(self, "lda_mllt", config, tied_states, transform, config.mllt_at).run()

    def _grow_trees(self, features: np.ndarray) -> TiedStates:
        aligned = self.codes != NOT_ALIGNED
        statistics = accumulate_statistics(self.codes[aligned], features[aligned])
        tied_states = grow_trees(statistics, self.phones, self.config.tied_states)
        gain = total_gain(tied_states) / statistics.counts.sum()
        say(
            f"  {len(statistics.codes):,} triphone states seen, tied to {tied_states.num_pdfs:,}: "
            f"{gain:.2f} log-likelihood a frame gained over monophones"
        )
        return tied_states

    def _estimate_lda(self, dimension: int) -> np.ndarray:
        """The transform that tells the latest step's tied states apart, on evenly taken utterances."""
        stride = max(len(self.codes) // LDA_FRAMES, 1)
        spans = list_spans(self.speech.frame_starts)[::stride]
        spliced = np.concatenate([splice(self.speech.cepstra[span], SPLICE_CONTEXT) for span in spans])
        pdf_ids = self.table_of_latest[np.concatenate([self.codes[span] for span in spans])]
        aligned = np.concatenate([self.codes[span] for span in spans]) != NOT_ALIGNED
        return estimate_lda(spliced[aligned], pdf_ids[aligned], dimension)

    def keep(self, aligner: Aligner, features: np.ndarray) -> None:
        """Align the split by a step's result, for the next step to start from."""
        self.realign(features, aligner.tied_states, aligner.gmm)
        self.table_of_latest = aligner.tied_states.table

    def realign(self, features: np.ndarray, tied_states: TiedStates, gmm: DiagonalGmm) -> float:
        """Find the best path of every utterance; returns the log-likelihood a frame."""
        starts = self.speech.frame_starts
        paths, scores = find_best_paths(features, starts, self.graphs, tied_states.table, gmm)
        offsets = np.repeat(self.graphs.state_starts[:-1], self.speech.num_frames)
        self.codes = np.where(paths >= 0, self.graphs.codes[offsets + paths], NOT_ALIGNED)
        found = np.isfinite(scores)
        return float(scores[found].sum() / max(self.speech.num_frames[found].sum(), 1))


@dataclass
class _StepTrainer:
    """One step, from one Gaussian for each tied state to full mixtures."""

    trainer: GmmTrainer
    name: Step
    config: StepConfig
    tied_states: TiedStates
    transform: FeatureTransform
    mllt_at: Sequence[int] = ()

    def run(self) -> Aligner:
        trainer, config = self.trainer, self.config
        if config.num_gaussians < self.tied_states.num_pdfs:
            say(
                f"  {self.name}: num_gaussians is {config.num_gaussians:,}, fewer than the "
                f"{self.tied_states.num_pdfs:,} tied states; each keeps one"
            )
        self.features = self.transform.apply_to_all(trainer.speech)
        self.gmm = DiagonalGmm.of_frames(self.features, self._pdf_ids(), self.tied_states.num_pdfs)
        last_growing = max(round(GROWING_SHARE * config.num_iterations), 1)
        log_likelihood = np.nan
        for iteration in track(range(1, config.num_iterations + 1), f"GMM {self.name}", unit="iteration"):
            if iteration in self.mllt_at:
                self._estimate_mllt()
            is_due = iteration <= config.realign_until or iteration % config.realign_every == 0
            if is_due and trainer.imported is None:
                log_likelihood = trainer.realign(self.features, self.tied_states, self.gmm)
            self.gmm = accumulate(self.gmm, self.features, self._pdf_ids()).estimate(self.gmm)
            if iteration <= last_growing:
                few = self.tied_states.num_pdfs
                target = round(few + (config.num_gaussians - few) * iteration / last_growing)
                self.gmm = grow_mixtures(self.gmm, max(target, few))
        aligner = Aligner(self.tied_states, self.gmm, self.transform)
        how_well = ""
        if trainer.imported is None:
            trainer.keep(aligner, self.features)
            how_well = f", {log_likelihood:.2f} log-likelihood a frame at the last realignment"
        say(
            f"  {self.name}: {self.tied_states.num_pdfs:,} tied states, {self.gmm.num_components:,} "
            f"Gaussians{how_well}"
        )
        return aligner

    def _pdf_ids(self) -> np.ndarray:
        codes = self.trainer.codes
        return np.where(codes == NOT_ALIGNED, NOT_ALIGNED, self.tied_states.table[codes])

    def _estimate_mllt(self) -> None:
        matrix = estimate_mllt(self.features, self.gmm, self._pdf_ids())
        assert self.transform.matrix is not None
        self.transform = FeatureTransform(matrix @ self.transform.matrix)
        self.features = self.features @ matrix.T
        self.gmm = transform_gmm(self.gmm, matrix)
