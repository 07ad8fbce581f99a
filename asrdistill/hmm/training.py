"""Viterbi training of monophone GMM-HMMs from a flat start, and forced alignment.

Source: the scheme of Kaldi's `steps/train_mono.sh`: equal division first, then alternately the best path
of every utterance and new mixtures, with more Gaussians as it goes on.
Differs: full Viterbi without a beam; no transition probabilities (hmm/graph.py says why).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field

from asrdistill.config import Config
from asrdistill.errors import CorpusError
from asrdistill.hmm.gmm import DiagonalGmm, GmmStatistics, grow_mixtures
from asrdistill.hmm.graph import UtteranceGraph, build_equal_alignment, build_utterance_graph
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.viterbi import find_best_path
from asrdistill.progress import say, track

FRAMES_A_BLOCK = 1 << 20


class AlignmentConfig(Config):
    """How frames get their hard targets: training of the Gaussian models that align the speech."""

    num_iterations: int = Field(30, ge=1, description="passes of estimation over the training split")
    num_gaussians: int = Field(1500, ge=1, description="Gaussians in all mixtures together, at the end")
    last_growing_iteration: int = Field(20, ge=1, description="iteration after which mixtures grow no more")
    realign_every: int = Field(2, ge=1, description="iterations between two alignments, after the tenth")
    max_unaligned: float = Field(
        0.05, ge=0, le=1, description="share of the utterances of any split that may stay without alignment"
    )


@dataclass(frozen=True)
class TrainingUtterance:
    """What the aligner needs of an utterance.

    Attributes:
        id: of the utterance.
        words: its transcript.
        cepstra: float32 (frames, 39).
    """

    id: str
    words: Sequence[str]
    cepstra: np.ndarray


@dataclass(frozen=True)
class Alignment:
    """The best path of one utterance.

    Attributes:
        pdf_ids: int32 (frames,).
        words: int32 (frames,), position in the transcript of the word spoken; silence: -1.
        log_likelihood: of the path, natural logarithm.
    """

    pdf_ids: np.ndarray
    words: np.ndarray
    log_likelihood: float


def align_utterance(gmm: DiagonalGmm, cepstra: np.ndarray, graph: UtteranceGraph) -> Alignment | None:
    """Force-align one utterance; None where it has too few frames for its transcript."""
    if len(cepstra) < max(graph.min_frames, 1):
        return None
    log_likelihoods = gmm.log_likelihoods(torch.from_numpy(cepstra)).numpy()
    found = find_best_path(log_likelihoods, graph)
    if found is None:
        return None
    states, score = found
    return Alignment(graph.pdf_ids[states], graph.words[states], score)


class GmmTrainer:
    """Trains the mixtures on one split, holding its cepstra in memory (156 bytes a frame)."""

    def __init__(
        self,
        utterances: Sequence[TrainingUtterance],
        pronunciations: Mapping[str, Sequence[Sequence[str]]],
        tied_states: TiedStates,
        config: AlignmentConfig,
    ) -> None:
        self.config = config
        self.num_pdfs = tied_states.num_pdfs
        graphs = [build_utterance_graph(u.words, pronunciations, tied_states) for u in utterances]
        usable = [
            i
            for i, (u, g) in enumerate(zip(utterances, graphs, strict=True))
            if len(u.cepstra) >= g.min_frames + 6
        ]
        if not usable:
            raise CorpusError(
                f"alignment: none of the {len(utterances)} training utterances has the frames that its "
                "transcript needs (3 a phone); look at transcripts, recordings and corpus.sampling_rate_hz"
            )
        if len(usable) < len(utterances):
            say(f"  {len(utterances) - len(usable)} utterances are too short to train the aligner on")
        self.utterances = [utterances[i] for i in usable]
        self.graphs = [graphs[i] for i in usable]
        self.pdf_ids = [
            build_equal_alignment(u.words, pronunciations, tied_states, len(u.cepstra))
            for u in self.utterances
        ]

    def train(self) -> DiagonalGmm:
        """Run all iterations and return the final mixtures."""
        frames = np.concatenate([u.cepstra for u in self.utterances])
        gmm = DiagonalGmm.flat(
            self.num_pdfs, torch.from_numpy(frames.mean(0)), torch.from_numpy(frames.var(0)) + 1e-3
        )
        for iteration in track(range(self.config.num_iterations), "GMM training", unit="iteration"):
            if iteration > 0 and (iteration <= 10 or iteration % self.config.realign_every == 0):
                self._realign(gmm, iteration)
            gmm = self._reestimate(gmm)
            growing = (iteration + 1) / self.config.last_growing_iteration
            if iteration > 0 and growing <= 1:
                target = round(self.num_pdfs + (self.config.num_gaussians - self.num_pdfs) * growing)
                gmm = grow_mixtures(gmm, max(target, self.num_pdfs))
        return gmm

    def _realign(self, gmm: DiagonalGmm, iteration: int) -> None:
        total, num_frames = 0.0, 0
        for index, (utterance, graph) in enumerate(zip(self.utterances, self.graphs, strict=True)):
            path = align_utterance(gmm, utterance.cepstra, graph)
            assert path is not None, utterance.id
            self.pdf_ids[index] = path.pdf_ids
            total += path.log_likelihood
            num_frames += len(path.pdf_ids)
        if iteration % 5 == 0:
            say(
                f"  iteration {iteration}: {gmm.num_components} Gaussians, "
                f"{total / num_frames:.2f} log-likelihood a frame"
            )

    def _reestimate(self, gmm: DiagonalGmm) -> DiagonalGmm:
        statistics = GmmStatistics.zeros_for(gmm)
        cepstra = torch.from_numpy(np.concatenate([u.cepstra for u in self.utterances]))
        pdf_ids = torch.from_numpy(np.concatenate(self.pdf_ids)).long()
        for frames, ids in zip(cepstra.split(FRAMES_A_BLOCK), pdf_ids.split(FRAMES_A_BLOCK), strict=True):
            statistics.accumulate(gmm, frames, ids)
        return statistics.estimate(gmm)
