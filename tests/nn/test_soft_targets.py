"""Soft targets in their stored forms: sliced, joined and taken, they are those of the same frames."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from asrdistill.nn import soft_targets
from asrdistill.nn.soft_targets import (
    Corrections,
    DenseTargets,
    LogBasis,
    LowRankTargets,
    SoftRows,
    SoftTargets,
    SparseRows,
    SparseTargets,
    join_rows,
)

NUM_FRAMES, NUM_PDFS = 23, 6


def make_dense() -> SoftTargets:
    return DenseTargets(np.random.default_rng(0).dirichlet(np.ones(NUM_PDFS), NUM_FRAMES).astype(np.float16))


def make_sparse(has_rest: bool = True) -> SoftTargets:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, NUM_PDFS, NUM_FRAMES)
    pdf_ids = np.concatenate([rng.permutation(NUM_PDFS)[:count] for count in counts]).astype(np.int32)
    rest = rng.random(NUM_FRAMES).astype(np.float32) if has_rest else None
    return SparseTargets(np.cumsum([0, *counts]), pdf_ids, rng.random(len(pdf_ids)).astype(np.float32), rest)


def make_low_rank() -> SoftTargets:
    rng = np.random.default_rng(2)
    mean, components = (
        torch.from_numpy(rng.normal(size=NUM_PDFS)),
        torch.from_numpy(rng.normal(size=(2, NUM_PDFS))),
    )
    basis = LogBasis(mean.float(), components.float())
    return LowRankTargets(rng.normal(size=(NUM_FRAMES, 2)).astype(np.float16), basis)


def make_corrected() -> SoftTargets:
    """Of each frame none to three pdf-ids; of the last ones none."""
    plain, rng = make_low_rank(), np.random.default_rng(4)
    assert isinstance(plain, LowRankTargets)
    counts = rng.integers(0, 4, NUM_FRAMES)
    counts[-2:] = 0
    pdf_ids = np.concatenate([rng.permutation(NUM_PDFS)[:count] for count in counts]).astype(np.int32)
    signs = rng.choice([-1, 1], len(pdf_ids)).astype(np.int8)
    corrections = Corrections(np.cumsum([0, *counts]), pdf_ids, signs, 0.05)
    return LowRankTargets(plain.coefficients, plain.basis, corrections)


every_form = pytest.mark.parametrize(
    "make", [make_dense, make_sparse, lambda: make_sparse(False), make_low_rank]
)


def fill_in(rows: SoftRows) -> torch.Tensor:
    """Dense, (M, B, P + 1); the last is the rest."""
    if isinstance(rows, torch.Tensor):
        return torch.nn.functional.pad(rows, (0, 1))
    filled = torch.zeros(*rows.pdf_ids.shape[:2], NUM_PDFS + 1)
    filled.scatter_add_(2, rows.pdf_ids, rows.probabilities)
    assert not rows.probabilities[~rows.is_kept].any()
    if rows.rest is not None:
        filled[..., -1] = rows.rest
    return filled


@every_form
def test_slices_joined_again_are_the_same(make: Callable[[], SoftTargets]) -> None:
    targets = make()
    spans = [slice(0, 5), slice(5, 5), slice(5, 6), slice(6, NUM_FRAMES)]
    joined = targets.join([targets.slice(span) for span in spans])
    everything = torch.arange(NUM_FRAMES)[None]
    assert len(joined) == len(targets) == NUM_FRAMES
    assert torch.equal(fill_in(joined.take(everything)), fill_in(targets.take(everything)))


@every_form
@pytest.mark.parametrize("shape", [(1, 9), (3, 4)])
def test_taken_frames_are_those_asked_for(make: Callable[[], SoftTargets], shape: tuple[int, int]) -> None:
    targets = make()
    frames = torch.from_numpy(np.random.default_rng(3).integers(0, NUM_FRAMES, shape))
    everything = fill_in(targets.take(torch.arange(NUM_FRAMES)[None]))[0]
    torch.testing.assert_close(fill_in(targets.take(frames)), everything[frames])


@pytest.mark.parametrize(
    "make", [make_dense, make_sparse, lambda: make_sparse(False), make_low_rank, make_corrected]
)
@pytest.mark.parametrize("index", [[5, 2, 2, 22, 0, 5, 21], [22, 22], [7], [*range(NUM_FRAMES)][::-1], []])
def test_gathered_frames_are_those_asked_for(make: Callable[[], SoftTargets], index: list[int]) -> None:
    targets = make()
    frames = np.array(index, np.int64)
    gathered = targets.gather(frames)
    assert type(gathered) is type(targets) and len(gathered) == len(index)
    everything = fill_in(targets.take(torch.arange(NUM_FRAMES)[None]))[0]
    found = fill_in(gathered.take(torch.arange(len(index))[None]))[0]
    torch.testing.assert_close(found, everything[frames])


@every_form
def test_batches_joined_are_their_frames_in_order(make: Callable[[], SoftTargets]) -> None:
    """Those of which frames keep few pdf-ids too, beside those of which they keep many."""
    targets = make()
    parts = [targets.take(torch.tensor([[frame, frame + 1]])) for frame in range(0, 20, 2)]
    expected = fill_in(targets.take(torch.arange(20)[None]))
    torch.testing.assert_close(fill_in(join_rows(parts)), expected)


def test_low_rank_targets_are_the_softmax_of_their_logits() -> None:
    targets = make_low_rank()
    assert isinstance(targets, LowRankTargets)
    logits = targets.coefficients.astype(np.float64) @ targets.basis.components.double().numpy()
    logits += targets.basis.mean.double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    taken = targets.take(torch.arange(NUM_FRAMES)[None])
    assert isinstance(taken, torch.Tensor)
    np.testing.assert_allclose(taken[0], expected, rtol=1e-5)


def test_low_rank_targets_made_once_are_those_of_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_targets, "_EXPANDED_AT_A_TIME", 7)
    targets, everything = make_low_rank(), torch.arange(NUM_FRAMES)[None]
    assert isinstance(targets, LowRankTargets)
    dense = targets.expand()
    assert dense.probabilities.dtype == np.float16
    expected = fill_in(targets.take(everything)).half().float()
    torch.testing.assert_close(fill_in(dense.take(everything)), expected, rtol=2e-3, atol=1e-7)


def test_frames_are_filled_up_with_their_own_first_pdf_id() -> None:
    targets = SparseTargets(np.array([0, 1, 3]), np.array([4, 2, 5], np.int32), np.ones(3, np.float32), None)
    rows = targets.take(torch.tensor([[0, 1]]))
    assert isinstance(rows, SparseRows)
    assert rows.pdf_ids.tolist() == [[[4, 4], [2, 5]]]
    assert rows.is_kept.tolist() == [[[True, False], [True, True]]]
    assert rows.widen(3).pdf_ids.tolist() == [[[4, 4, 4], [2, 5, 2]]]
