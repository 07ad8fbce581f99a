"""Every codec: what is kept, what is told of the rest, and that a sample is right on average."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asrdistill.nn.soft_targets import DenseTargets, SparseRows, SparseTargets
from asrdistill.targets.codecs import (
    DenseConfig,
    SampledConfig,
    TopKConfig,
    load_array,
    open_codec,
)

NUM_PDFS = 40
NO_CODEBOOK = Path("none")


def draw_soft_targets(num_frames: int = 30, num_pdfs: int = NUM_PDFS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(num_pdfs, 0.2), num_frames).astype(np.float32)


def take_all(targets: SparseTargets) -> SparseRows:
    return targets.take(torch.arange(len(targets))[None])


def test_dense_is_float16() -> None:
    soft = draw_soft_targets()
    codec = open_codec(DenseConfig(), NO_CODEBOOK)
    content = codec.encode(soft, np.random.default_rng(0))
    np.testing.assert_array_equal(load_array(content), soft.astype(np.float16))
    targets = codec.decode(content, len(soft))
    assert isinstance(targets, DenseTargets)
    np.testing.assert_array_equal(targets.probabilities, soft.astype(np.float16))


@pytest.mark.parametrize("num_kept", [1, 7, NUM_PDFS, 100])
def test_top_k_keeps_the_largest_and_tells_the_rest(num_kept: int) -> None:
    soft = draw_soft_targets()
    codec = open_codec(TopKConfig(num_kept=num_kept), NO_CODEBOOK)
    targets = codec.decode(codec.encode(soft, np.random.default_rng(0)), len(soft))
    assert isinstance(targets, SparseTargets)
    rows = take_all(targets)
    largest = -np.sort(-soft, axis=1)[:, :num_kept]
    found = -np.sort(-rows.probabilities[0].numpy(), axis=1)
    np.testing.assert_allclose(found, largest, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(
        np.take_along_axis(soft, rows.pdf_ids[0].numpy(), 1), rows.probabilities[0], rtol=1e-3, atol=1e-7
    )
    assert rows.rest is not None
    np.testing.assert_allclose(rows.rest[0], 1 - largest.sum(1), rtol=1e-3, atol=1e-6)


def test_a_sample_is_right_on_average_and_never_a_draw_off() -> None:
    soft, num_draws, repeats = draw_soft_targets(), 8, 2000
    codec = open_codec(SampledConfig(num_draws=num_draws), NO_CODEBOOK)
    rng = np.random.default_rng(1)
    total = np.zeros(soft.shape)
    for _ in range(repeats):
        drawn = load_array(codec.encode(soft, rng)).astype(int)
        counts = np.stack([np.bincount(row, minlength=NUM_PDFS) for row in drawn])
        assert np.abs(counts - num_draws * soft).max() < 1 + 1e-4
        total += counts
    # Standard deviation of a count: at most 1/2.
    np.testing.assert_allclose(total / repeats, num_draws * soft, atol=5 * 0.5 / repeats**0.5)


def test_a_sample_comes_back_as_what_was_drawn() -> None:
    soft = draw_soft_targets()
    codec = open_codec(SampledConfig(num_draws=8), NO_CODEBOOK)
    content = codec.encode(soft, np.random.default_rng(0))
    assert len(content) == 128 + 2 * 8 * len(soft)
    targets = codec.decode(content, len(soft))
    assert isinstance(targets, SparseTargets)
    rows = take_all(targets)
    np.testing.assert_array_equal(rows.pdf_ids[0], load_array(content))
    assert (rows.probabilities == 1 / 8).all() and rows.rest is None


@pytest.mark.parametrize("config", [TopKConfig(num_kept=3), SampledConfig(num_draws=3)])
def test_many_pdf_ids(config: TopKConfig | SampledConfig) -> None:
    soft = np.zeros((2, 70_000), np.float32)
    soft[:, 69_999], soft[:, 3] = 0.75, 0.25
    codec = open_codec(config, NO_CODEBOOK)
    targets = codec.decode(codec.encode(soft, np.random.default_rng(0)), 2)
    assert isinstance(targets, SparseTargets)
    kept = take_all(targets)
    rebuilt = torch.zeros(2, 70_000).scatter_add_(1, kept.pdf_ids[0], kept.probabilities[0])
    assert rebuilt[:, 69_999].tolist() == pytest.approx([0.75, 0.75], abs=0.1)
    assert rebuilt.sum(1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("config", [DenseConfig(), TopKConfig(), SampledConfig()])
def test_the_same_random_numbers_give_the_same_bytes(
    config: DenseConfig | TopKConfig | SampledConfig,
) -> None:
    codec, soft = open_codec(config, NO_CODEBOOK), draw_soft_targets()
    assert codec.encode(soft, np.random.default_rng(4)) == codec.encode(soft, np.random.default_rng(4))
