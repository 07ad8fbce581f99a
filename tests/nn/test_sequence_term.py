"""The divergence over paths against an enumeration of all paths and a forward algorithm in the log domain."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from asrdistill.errors import ContractError, RecipeError
from asrdistill.nn.extra_terms import Seen
from asrdistill.nn.frames import Batch
from asrdistill.nn.sequence_loops import Arcs
from asrdistill.nn.sequence_term import (
    LEAK,
    SequenceConfig,
    SequenceTerm,
    StateBigram,
    count_transitions,
    find_divergence,
    find_paths,
)
from asrdistill.nn.soft_targets import SparseRows

NUM_MEMBERS, NUM_PDFS = 2, 4
LENGTHS = (5, 2, 4)
SCALE = 0.7


def draw_bigram(num_pdfs: int = NUM_PDFS, seed: int = 0) -> StateBigram:
    """From alignments in which some pdf-ids never follow one another."""
    rng = np.random.default_rng(seed)
    pdf_ids = np.cumsum(rng.integers(0, 2, 60)).astype(np.int32) % num_pdfs
    return count_transitions(pdf_ids, np.array([0, 25, 60]), num_pdfs)


def draw_batch(
    lengths: tuple[int, ...] = LENGTHS, num_pdfs: int = NUM_PDFS, spread: float = 2.0
) -> tuple[torch.Tensor, Batch]:
    """Logits (M, B, P), and a batch of padded utterances with soft targets."""
    generator = torch.Generator().manual_seed(0)
    longest = max(lengths)
    num_rows = len(lengths) * longest
    logits = spread * torch.randn(NUM_MEMBERS, num_rows, num_pdfs, generator=generator)
    soft = torch.softmax(spread * torch.randn(1, num_rows, num_pdfs, generator=generator), 2)
    weights = (torch.arange(longest) < torch.tensor(lengths)[:, None]).float().view(1, -1)
    pdf_ids = torch.zeros(1, num_rows, dtype=torch.int64)
    return logits, Batch(torch.empty(0), torch.tensor(lengths), pdf_ids, sum(lengths), weights, soft)


def run(logits: torch.Tensor, batch: Batch, bigram: StateBigram, scale: float = SCALE) -> torch.Tensor:
    return SequenceTerm(SequenceConfig(scale=scale), bigram)(Seen(batch, logits))


def fill_transitions(bigram: StateBigram) -> np.ndarray:
    """Probabilities of all transitions, jumps too, float64 (P, P)."""
    starts, destinations, probabilities = bigram.by_source
    transitions = np.full((len(starts) - 1,) * 2, bigram.jump)
    for state, (start, end) in enumerate(pairwise(starts.astype(int))):
        for arc in range(start, end):
            transitions[state, destinations[arc]] += probabilities[arc]
    return transitions


def enumerate_paths(scores: np.ndarray, bigram: StateBigram) -> dict[tuple[int, ...], float]:
    """Log weight of every path through u, float64 (L, P)."""
    transitions, weights = fill_transitions(bigram), {}
    for path in product(range(scores.shape[1]), repeat=len(scores)):
        weight = np.log(float(bigram.initial[path[0]])) + np.log(float(bigram.final[path[-1]]))
        weight += sum(scores[frame, state] for frame, state in enumerate(path))
        weights[path] = weight + sum(np.log(transitions[pair]) for pair in pairwise(path))
    return weights


def sum_in_log_domain(scores: torch.Tensor, bigram: StateBigram) -> torch.Tensor:
    """Log of the sum over paths through u, float64 (L, P)."""
    transitions = torch.from_numpy(fill_transitions(bigram)).log()
    reached = torch.from_numpy(bigram.initial).double().log() + scores[0]
    for row in scores[1:]:
        reached = torch.logsumexp(reached[:, None] + transitions, 0) + row
    return torch.logsumexp(reached + torch.from_numpy(bigram.final).double().log(), 0)


def scale_scores(log_posteriors: torch.Tensor, bigram: StateBigram, scale: float) -> torch.Tensor:
    return scale * (log_posteriors.double() - torch.from_numpy(bigram.log_priors))


def diverge_in_log_domain(
    logits: torch.Tensor, soft: torch.Tensor, bigram: StateBigram, scale: float
) -> torch.Tensor:
    """KL of one utterance, of logits and soft targets (L, P); occupancies are derivatives of log Z."""
    teacher = scale_scores(soft.log(), bigram, scale).requires_grad_()
    student = scale_scores(torch.log_softmax(logits.double(), 1), bigram, scale)
    total = sum_in_log_domain(teacher, bigram)
    (occupancies,) = torch.autograd.grad(total, teacher)
    gap = (occupancies * (teacher.detach() - student)).sum()
    return gap - total.detach() + sum_in_log_domain(student, bigram)


def cut(values: torch.Tensor, utterance: int, lengths: tuple[int, ...] = LENGTHS) -> torch.Tensor:
    """The frames of one utterance, of (M, B, P)."""
    return values.unflatten(1, (len(lengths), -1))[:, utterance, : lengths[utterance]]


def test_sums_and_occupancies_are_those_of_all_paths() -> None:
    logits, batch = draw_batch()
    bigram = draw_bigram()
    found = find_paths(logits, batch.lengths, bigram, SCALE)
    for number in range(len(found.scores)):
        length = LENGTHS[number % len(LENGTHS)]
        weights = enumerate_paths(found.scores[number, :length].double().numpy(), bigram)
        total = np.logaddexp.reduce(list(weights.values()))
        assert found.log_totals[number].item() == pytest.approx(total, abs=1e-5)
        expected = np.zeros(found.scores.shape[1:])
        for path, weight in weights.items():
            expected[np.arange(length), path] += np.exp(weight - total)
        np.testing.assert_allclose(found.occupancies[number].numpy(), expected, atol=1e-6)


def test_the_term_is_the_divergence_between_distributions_over_paths() -> None:
    logits, batch = draw_batch()
    bigram = draw_bigram()
    expected = np.zeros(NUM_MEMBERS)
    for member, utterance in product(range(NUM_MEMBERS), range(len(LENGTHS))):
        logs = []
        for values in (cut(batch.soft_targets, utterance)[0].log(), cut(logits, utterance)[member]):
            weights = enumerate_paths(scale_scores(values, bigram, SCALE).numpy(), bigram)
            log_weights = np.array(list(weights.values()))
            logs.append(log_weights - np.logaddexp.reduce(log_weights))
        expected[member] += (np.exp(logs[0]) * (logs[0] - logs[1])).sum()
    np.testing.assert_allclose(run(logits, batch, bigram), expected / sum(LENGTHS), rtol=1e-5)
    weighted = SequenceTerm(SequenceConfig(scale=SCALE, weight=3), bigram)(Seen(batch, logits))
    np.testing.assert_allclose(weighted, 3 * expected / sum(LENGTHS), rtol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_the_gradient_is_that_of_autograd_in_the_log_domain(scale: float) -> None:
    logits, batch = draw_batch()
    bigram = draw_bigram()
    logits.requires_grad_()
    shares = torch.tensor([0.3, 2.0])
    losses = run(logits, batch, bigram, scale)
    (gradient,) = torch.autograd.grad(shares @ losses, logits)
    expected = [
        sum(
            diverge_in_log_domain(
                cut(logits, utterance)[member], cut(batch.soft_targets, utterance)[0], bigram, scale
            )
            for utterance in range(len(LENGTHS))
        )
        / sum(LENGTHS)
        for member in range(NUM_MEMBERS)
    ]
    (expected_gradient,) = torch.autograd.grad(shares.double() @ torch.stack(expected), logits)
    torch.testing.assert_close(losses, torch.stack(expected).float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(run(logits.detach(), batch, bigram, scale), losses.detach(), atol=0, rtol=0)


def test_a_student_like_the_teacher_has_nothing_to_learn() -> None:
    _, batch = draw_batch()
    logits = (batch.soft_targets.log() + torch.randn(1, batch.soft_targets.shape[1], 1)).requires_grad_()
    loss = run(logits, batch, draw_bigram())
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.abs().max() < 1e-6 and gradient.abs().max() < 1e-6


def test_of_no_scale_nothing_is_left() -> None:
    logits, batch = draw_batch()
    logits.requires_grad_()
    divergence = find_divergence(logits, batch.soft_targets, batch.lengths, draw_bigram(), 0.0)
    (gradient,) = torch.autograd.grad(divergence.sum(), logits)
    assert divergence.abs().max() < 1e-6 and gradient.abs().max() == 0


def test_where_all_transitions_are_alike_frames_are_apart() -> None:
    """Occupancies are posteriors over priors, made to sum to 1; the term is the divergence of those."""
    logits, batch = draw_batch()
    row = Arcs(
        np.arange(0, NUM_PDFS**2 + 1, NUM_PDFS, dtype=np.uint32),
        np.tile(np.arange(NUM_PDFS, dtype=np.uint32), NUM_PDFS),
        np.full(NUM_PDFS**2, 0.2, np.float32),
    )
    alike = np.full(NUM_PDFS, 0.2, np.float32)
    log_priors = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    bigram = StateBigram(row, row, alike, alike, 0.0, log_priors)
    priors = torch.from_numpy(log_priors).exp()
    student = torch.softmax(logits, 2) / priors
    teacher = batch.soft_targets / priors
    student, teacher = (values / values.sum(2, keepdim=True) for values in (student, teacher))
    frames = (teacher * (teacher / student).log()).sum(2) * batch.weights
    torch.testing.assert_close(run(logits, batch, bigram, 1.0), frames.sum(1) / sum(LENGTHS))
    found = find_paths(logits, batch.lengths, bigram, 1.0).occupancies.view(logits.shape)
    torch.testing.assert_close(found, student * batch.weights[..., None])


@pytest.mark.parametrize("garbage", [1e4, float("nan")])
def test_padding_changes_nothing(garbage: float) -> None:
    logits, batch = draw_batch()
    is_padding = (batch.weights == 0)[..., None]
    outcomes = []
    for filling in (0.0, garbage):
        filled = torch.where(is_padding, filling, logits).requires_grad_()
        soft = torch.where(is_padding, filling, batch.soft_targets)
        loss = run(filled, replace(batch, soft_targets=soft), draw_bigram())
        outcomes.append((loss.detach(), *torch.autograd.grad(loss.sum(), filled)))
    for value, with_garbage in zip(*outcomes, strict=True):
        assert torch.equal(value, with_garbage)
    assert (outcomes[1][1].masked_select(is_padding) == 0).all()


def test_utterances_and_members_are_apart() -> None:
    logits, batch = draw_batch()
    total = torch.zeros(NUM_MEMBERS)
    for utterance, member in product(range(len(LENGTHS)), range(NUM_MEMBERS)):
        length = LENGTHS[utterance]
        soft = cut(batch.soft_targets, utterance)
        alone = Batch(
            torch.empty(0), torch.tensor([length]), batch.pdf_ids[:, :length], length, soft_targets=soft
        )
        loss = run(cut(logits, utterance)[member : member + 1], alone, draw_bigram())
        total[member] += loss[0] * length / sum(LENGTHS)
    torch.testing.assert_close(run(logits, batch, draw_bigram()), total, rtol=1e-5, atol=1e-7)


PRINT_HASH = """
import hashlib, numba, numpy as np, torch
from asrdistill.nn.sequence_term import count_transitions, find_paths
bigram = count_transitions(np.arange(900, dtype=np.int32) ** 2 % 300, np.array([0, 500, 900]), 300)
logits = 2 * torch.randn(2, 4 * 50, 300, generator=torch.Generator().manual_seed(0))
found = find_paths(logits, torch.tensor([40, 33, 50, 1]), bigram, 0.7)
values = found.occupancies.numpy().tobytes() + found.log_totals.numpy().tobytes()
print(numba.get_num_threads(), hashlib.sha256(values).hexdigest())
"""


def test_the_number_of_threads_changes_nothing() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINT_HASH],
            env={**os.environ, "NUMBA_NUM_THREADS": num_threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for num_threads in ("1", "3")
    ]
    assert [num_threads for num_threads, _ in printed] == ["1", "3"]
    assert printed[0][1] == printed[1][1]


@pytest.mark.parametrize("spread", [2.0, 60.0])
def test_long_utterances_and_sure_students_stay_finite(spread: float) -> None:
    """What they are sure of is mostly no path that alignments have; they differ by a hundred nats a frame."""
    logits, batch = draw_batch((2000, 1500), 30, spread)
    bigram = draw_bigram(30)
    batch = replace(batch, soft_targets=batch.soft_targets.clamp(min=1e-8))
    logits = logits[:1].requires_grad_()
    loss = run(logits, batch, bigram, 1.0)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.isfinite(gradient).all() and gradient.abs().max() <= 1 / batch.num_frames
    with torch.no_grad():
        paths = [
            (cut(logits, utterance, (2000, 1500))[0], cut(batch.soft_targets, utterance, (2000, 1500))[0])
            for utterance in (0, 1)
        ]
    expected = sum(diverge_in_log_domain(*path, bigram, 1.0) for path in paths) / 3500
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_transitions_are_counted_within_stretches_of_aligned_frames() -> None:
    pdf_ids = np.array([0, 0, 1, -1, 2, 2, 0, 1, 0, -1, 2], np.int32)
    starts = np.array([0, 6, 6, 9, 11])
    pairs = np.eye(4)
    for source, destination in [(0, 0), (0, 1), (2, 2), (0, 1), (1, 0)]:
        pairs[source, destination] += 1
    ends = np.array([1.0, 0, 2, 0])
    totals = pairs.sum(1) + ends
    bigram = count_transitions(pdf_ids, starts, 4)
    expected = (1 - LEAK) * pairs / totals[:, None] + LEAK / 5
    np.testing.assert_allclose(fill_transitions(bigram), expected, rtol=1e-6)
    np.testing.assert_allclose(
        fill_transitions(replace(bigram, by_source=bigram.by_destination)), expected.T, rtol=1e-6
    )
    np.testing.assert_allclose(bigram.final, (1 - LEAK) * ends / totals + LEAK / 5, rtol=1e-6)
    np.testing.assert_allclose(bigram.final + expected.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(bigram.initial, (1 - LEAK) * np.array([2, 0, 0, 0]) / 2 + LEAK / 4, rtol=1e-6)
    np.testing.assert_allclose(bigram.log_priors, np.log(np.array([5, 3, 4, 1]) / 13), rtol=1e-6)


def test_what_has_no_paths_is_refused() -> None:
    logits, batch = draw_batch()
    with pytest.raises(RecipeError, match="reads single frames"):
        run(logits, replace(batch, lengths=None), draw_bigram())
    index = torch.zeros(1, logits.shape[1], 1, dtype=torch.int64)
    sparse = SparseRows(index, torch.ones(index.shape), None, index == 0)
    with pytest.raises(ContractError, match="keep only some pdf-ids"):
        run(logits, replace(batch, soft_targets=sparse), draw_bigram())
