"""Forced alignment by a network: its scaled log likelihoods in place of the mixtures' densities.

Shapes: T frames of F bins, P pdf-ids.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from asrdistill.config import Config
from asrdistill.hmm.aligner import Alignment
from asrdistill.hmm.graph import Pronunciations, build_utterance_graph
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.viterbi import find_best_path
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.training import TrainingConfig


class RealignmentConfig(Config):
    """A second alignment, by a network that was trained on the first one."""

    realign: Literal["none", "dnn"] = Field("none", description="dnn: align once more, by a network")
    model: AcousticModelConfig = Field(AcousticModelConfig(), description="its architecture")
    training: TrainingConfig = Field(TrainingConfig(), description="how it is trained")
    seed: int = Field(0, ge=0, description="of its initial weights")


@torch.inference_mode()
def compute_scaled_log_likelihoods(
    model: AcousticModel, log_priors: np.ndarray, frames: np.ndarray
) -> np.ndarray:
    """Log of the members' average posterior over the prior, float32 (T, P), of one utterance.

    Args:
        model: in the type it computes in (`in_compute_dtype`).
        log_priors: float32 (P,).
        frames: float16 (T, F).
    """
    log_posteriors = torch.log_softmax(model.compute_logits(frames), dim=2)
    average = torch.logsumexp(log_posteriors, dim=0).numpy() - np.float32(np.log(len(log_posteriors)))
    scaled: np.ndarray = average - log_priors
    return scaled


def realign_utterance(
    scaled_log_likelihoods: np.ndarray,
    words: Sequence[str],
    pronunciations: Pronunciations,
    tied_states: TiedStates,
) -> Alignment | None:
    """Force-align one utterance by its scaled log likelihoods (T, P); None where it has too few frames."""
    graph = build_utterance_graph(words, pronunciations, tied_states)
    found = find_best_path(scaled_log_likelihoods, graph, tied_states.table[graph.codes])
    if found is None:
        return None
    states, score = found
    return Alignment(graph.codes[states], graph.words[states], score)
