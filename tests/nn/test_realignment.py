"""Alignment by a network: scores against a float64 computation, paths against the exact search."""

import numpy as np
import pytest
import torch

from asrdistill.hmm.alignment import compute_log_priors
from asrdistill.hmm.graph import build_utterance_graph
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.viterbi import find_best_path
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.models import build_model
from asrdistill.nn.realignment import compute_scaled_log_likelihoods, realign_utterance

TIED = TiedStates.of_monophones({"x", "y"})
PRONUNCIATIONS = {"A": [("x",)], "B": [("y", "x"), ("y",)]}


def test_priors_are_shares_of_aligned_frames_with_one_added_to_each() -> None:
    priors = np.exp(compute_log_priors(np.array([0, 0, 2, -1, 0, -1]), 4))
    np.testing.assert_allclose(priors, np.array([4, 1, 2, 1]) / 8, rtol=1e-6)


def test_scores_are_the_mean_posterior_over_the_prior() -> None:
    config = AcousticModelConfig(num_hidden_layers=2, hidden_size=16)
    model = build_model(config, 5, TIED.num_pdfs, 3).initialize([1, 2, 3])
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(30, 5)).astype(np.float16)
    log_priors = np.log(rng.dirichlet(np.ones(TIED.num_pdfs))).astype(np.float32)
    with torch.inference_mode():
        logits = model.compute_logits(frames).double().numpy()
    posteriors = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    expected = np.log(posteriors.mean(0)) - log_priors
    found = compute_scaled_log_likelihoods(model, log_priors, frames)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_the_best_one(seed: int) -> None:
    scores = np.random.default_rng(seed).normal(0, 2, (40, TIED.num_pdfs)).astype(np.float32)
    found = realign_utterance(scores, list("ABA"), PRONUNCIATIONS, TIED)
    graph = build_utterance_graph(list("ABA"), PRONUNCIATIONS, TIED)
    best = find_best_path(scores, graph, TIED.table[graph.codes])
    assert found is not None and best is not None
    np.testing.assert_array_equal(found.codes, graph.codes[best[0]])
    np.testing.assert_array_equal(found.words, graph.words[best[0]])
    assert found.log_likelihood == best[1]


def test_too_few_frames_have_no_alignment() -> None:
    scores = np.zeros((5, TIED.num_pdfs), np.float32)
    assert realign_utterance(scores, ["A", "B"], PRONUNCIATIONS, TIED) is None
