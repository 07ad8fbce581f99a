"""Forced alignment against the matrix products of its likelihoods; all training of mixtures against time."""

import time

import numpy as np
from measure import Benchmark, Measurement, Setting

from asrdistill.hmm.aligner import FeatureTransform, Speech
from asrdistill.hmm.gmm import DiagonalGmm, accumulate, grow_mixtures
from asrdistill.hmm.graph import build_equal_alignment, build_utterance_graph
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.training import GmmConfig, GmmTrainer
from asrdistill.hmm.tree_growing import TiedStatesConfig, accumulate_statistics, grow_trees
from asrdistill.hmm.viterbi import GraphSet, find_best_paths, list_spans

NUM_UTTERANCES, WORDS_AN_UTTERANCE, FRAMES_A_PHONE = 400, 7, 14
NUM_PHONES, NUM_WORDS, PHONES_A_WORD = 40, 500, 4
NUM_LEAVES, NUM_GAUSSIANS, GROWING_PASSES = 1000, 4500, 3
REPEATS = 3
FRAMES_A_SECOND = 100


class Corpus:
    """Utterances of random words; a phone's cepstra lie around a mean of its own; mixtures made from them."""

    def __init__(self, num_utterances: int) -> None:
        rng = np.random.default_rng(1)
        self.phones = phones = [f"P{number:02d}" for number in range(NUM_PHONES)]
        self.pronunciations = {
            f"W{number}": [tuple(rng.choice(phones, PHONES_A_WORD))] for number in range(NUM_WORDS)
        }
        transcripts = [
            [f"W{number}" for number in rng.integers(NUM_WORDS, size=WORDS_AN_UTTERANCE)]
            for _ in range(num_utterances)
        ]
        monophones = TiedStates.of_monophones(set(phones))
        num_frames = (WORDS_AN_UTTERANCE * PHONES_A_WORD + 2) * FRAMES_A_PHONE
        codes = [build_equal_alignment(t, self.pronunciations, monophones, num_frames) for t in transcripts]
        means = rng.normal(size=(monophones.num_pdfs, 13)).astype(np.float32)
        cepstra = [means[monophones.table[one]] + rng.normal(size=(num_frames, 13)) for one in codes]
        self.speech = Speech.of(
            [str(number) for number in range(num_utterances)],
            transcripts,
            [one.astype(np.float32) for one in cepstra],
        )
        self.features = FeatureTransform().apply_to_all(self.speech)
        joined = np.concatenate(codes)
        statistics = accumulate_statistics(joined, self.features)
        config = TiedStatesConfig(num_leaves=NUM_LEAVES, min_occupancy=50)
        self.tied_states = grow_trees(statistics, set(phones), config)
        pdf_ids = self.tied_states.table[joined]
        gmm = DiagonalGmm.of_frames(self.features, pdf_ids, self.tied_states.num_pdfs)
        for _ in range(GROWING_PASSES):
            grown = grow_mixtures(gmm, NUM_GAUSSIANS)
            gmm = accumulate(grown, self.features, pdf_ids).estimate(grown)
        self.gmm = gmm
        self.graphs = GraphSet.of(
            [build_utterance_graph(t, self.pronunciations, self.tied_states) for t in transcripts]
        )

    def align(self) -> float:
        """Seconds of aligning all utterances."""
        start = time.perf_counter()
        paths, _ = find_best_paths(
            self.features, self.speech.frame_starts, self.graphs, self.tied_states.table, self.gmm
        )
        seconds = time.perf_counter() - start
        assert (paths >= 0).all()
        return seconds

    def train(self) -> float:
        """Seconds of training mixtures from a flat start, in all steps, and of aligning with them."""
        config = GmmConfig(tied_states=TiedStatesConfig(num_leaves=NUM_LEAVES))
        start = time.perf_counter()
        aligner = GmmTrainer(self.speech, self.pronunciations, set(self.phones), config).train()
        found = aligner.align(self.speech, self.pronunciations)
        seconds = time.perf_counter() - start
        assert None not in found
        return seconds

    @property
    def seconds(self) -> float:
        """Of speech."""
        return len(self.features) / FRAMES_A_SECOND

    def multiply(self) -> tuple[float, int]:
        """Seconds of the products alone: frames and their squares with an utterance's own Gaussians."""
        _, linear, quadratic = self.gmm.coefficients()
        weights = np.concatenate([linear, quadratic], axis=1)
        operands = []
        for number, span in enumerate(list_spans(self.speech.frame_starts)):
            used = np.unique(self.tied_states.table[self.graphs[number].codes])
            rows = np.concatenate([np.arange(*self.gmm.starts[pdf : pdf + 2]) for pdf in used])
            frames = self.features[span]
            operands.append((np.concatenate([frames, frames**2], axis=1), weights[rows]))
        start = time.perf_counter()
        for frames, own in operands:
            frames @ own.T
        return time.perf_counter() - start, sum(len(frames) * len(own) for frames, own in operands)


def measure(setting: Setting) -> Measurement:
    """One alignment of all utterances, and the products that its likelihoods need, in turn."""
    corpus = Corpus(max(NUM_UTTERANCES // setting.shrink, 8))
    corpus.align()
    corpus.multiply()
    measured = Measurement()
    for _ in range(setting.limit_repeats(REPEATS)):
        align_s, (product_s, num_scores) = corpus.align(), corpus.multiply()
        measured.pairs.append((align_s, product_s))
    measured.remark = (
        f"{corpus.gmm.num_components:,} Gaussians; {align_s:.2f} s for {corpus.seconds:.0f} s of speech "
        f"({align_s / corpus.seconds:.5f} of real time), {num_scores / align_s / 1e6:.0f} M densities/s"
    )
    return measured


def measure_all_steps(setting: Setting) -> Measurement:
    """Everything from a flat start to the final alignment, once, against the length of the speech."""
    corpus = Corpus(max(NUM_UTTERANCES // setting.shrink, 8))
    seconds = corpus.train()
    remark = f"{seconds:.1f} s for {corpus.seconds:.0f} s of speech"
    return Measurement([(seconds, corpus.seconds)], remark)


BENCHMARKS = [
    Benchmark(
        "align_over_loglik_gemm",
        f"time of one forced alignment with at most {NUM_GAUSSIANS:,} Gaussians of {NUM_LEAVES:,} tied "
        "states: densities and exact Viterbi",
        "time of nothing but the matrix products of frames and squares with each utterance's own Gaussians",
        measure,
    ),
    Benchmark(
        "gmm_training_over_real_time",
        "time of monophones, triphones and LDA+MLLT from a flat start, and of the alignment with them",
        "length of the speech",
        measure_all_steps,
        at_most=0.02,
    ),
]
