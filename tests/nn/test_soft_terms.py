"""Soft terms against loops over frames and pdf-ids in float64 from the papers' equations."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.nn import functional

from asrdistill.errors import ContractError
from asrdistill.nn.frames import Batch
from asrdistill.nn.loss import hard_cross_entropy, soft_cross_entropy
from asrdistill.nn.soft_targets import SparseRows
from asrdistill.nn.soft_terms import (
    ConditionalConfig,
    CorrelationConfig,
    CrossEntropyConfig,
    DecoupledConfig,
    SoftTermConfig,
    kl_divergence,
    soft_term,
)

NUM_MEMBERS, NUM_FRAMES, NUM_PDFS = 3, 12, 6
DECOUPLED, CORRELATION = DecoupledConfig(alpha=0.7, beta=3.0), CorrelationConfig(inter=1.5, intra=0.4)
TERMS: dict[str, SoftTermConfig] = {
    config.kind: config for config in (CrossEntropyConfig(), ConditionalConfig(), DECOUPLED, CORRELATION)
}
OTHERS = [config for kind, config in TERMS.items() if kind != "cross_entropy"]
every_term = pytest.mark.parametrize("config", TERMS.values(), ids=TERMS)
every_other_term = pytest.mark.parametrize("config", OTHERS, ids=[config.kind for config in OTHERS])
every_temperature = pytest.mark.parametrize("temperature", [1.0, 3.0])


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_batch(
    target_sets: int = 1, soft_sets: int = 1, weight_sets: int = 0, is_corrected: bool = False
) -> tuple[torch.Tensor, Batch]:
    """Logits (M, B, P), and targets and weights of every member, or of 1 for all.

    The ensemble is wrong in every third frame at least; frames 4 and 5 have no hard target.
    """
    logits, soft = 2 * draw(0, NUM_MEMBERS, NUM_FRAMES, NUM_PDFS), draw(1, soft_sets, NUM_FRAMES, NUM_PDFS)
    soft = torch.softmax(2 * soft, 2)
    pdf_ids = soft[:1].argmax(2).repeat(target_sets, 1)
    pdf_ids[:, ::3] = (pdf_ids[:, ::3] + 1) % NUM_PDFS
    pdf_ids[-1, 1] = (pdf_ids[-1, 1] + 2) % NUM_PDFS
    pdf_ids[:, 4:6] = -1
    if is_corrected:
        soft = soft + 0.1 * draw(2, *soft.shape).sign() * (draw(3, *soft.shape) > 0.5)
    weights = torch.randint(4, (weight_sets, NUM_FRAMES), generator=torch.Generator().manual_seed(4)).float()
    return logits, Batch(torch.empty(0), None, pdf_ids, NUM_FRAMES, weights if weight_sets else None, soft)


def find_softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def make_probabilities(soft: np.ndarray) -> np.ndarray:
    """What is left of a frame's corrected soft targets where those below 0 are none."""
    return np.maximum(soft, 0) / np.maximum(soft, 0).sum()


def find_divergence(one: np.ndarray, other: np.ndarray) -> float:
    return sum(p * np.log(p / q) for p, q in zip(one.tolist(), other.tolist(), strict=True) if p > 0)


def find_conditional(logits: np.ndarray, soft: np.ndarray, target: int, temperature: float) -> float:
    """Meng et al. 2019: the teacher where it is right, or nothing is known, the hard target elsewhere."""
    if target in (-1, soft.argmax()):
        student = find_softmax(logits / temperature)
        return -(temperature**2) * sum(soft[j] * np.log(student[j]) for j in range(NUM_PDFS))
    return float(-np.log(find_softmax(logits)[target]))


def find_decoupled(logits: np.ndarray, soft: np.ndarray, target: int, temperature: float) -> float:
    """Zhao et al. 2022, equations 1 to 7."""
    student, soft = find_softmax(logits / temperature), make_probabilities(soft)
    if target == -1:
        return temperature**2 * find_divergence(soft, student)
    binary = [np.array([row[target], 1 - row[target]]) for row in (soft, student)]
    among = [np.delete(row, target) / np.delete(row, target).sum() for row in (soft, student)]
    parts = DECOUPLED.alpha * find_divergence(*binary), DECOUPLED.beta * find_divergence(*among)
    return temperature**2 * sum(parts)


def take_member(logits: torch.Tensor, batch: Batch, member: int) -> tuple[np.ndarray, ...]:
    """Logits, soft targets, hard targets and weights of a member's frames, float64."""
    assert isinstance(batch.soft_targets, torch.Tensor)
    weights = torch.ones(1, NUM_FRAMES) if batch.weights is None else batch.weights
    every = (logits, batch.soft_targets, batch.pdf_ids, weights)
    return tuple(values[member % len(values)].numpy().astype(np.float64) for values in every)


every_axis = pytest.mark.parametrize(
    ("target_sets", "soft_sets", "weight_sets"), [(1, 1, 0), (3, 1, 3), (1, 3, 1), (3, 3, 3)]
)


@every_temperature
@every_axis
@pytest.mark.parametrize("is_corrected", [False, True])
@pytest.mark.parametrize(
    ("config", "find"), [(ConditionalConfig(), find_conditional), (DECOUPLED, find_decoupled)]
)
def test_a_term_is_the_papers_frame_by_frame(
    config: SoftTermConfig,
    find: Callable[[np.ndarray, np.ndarray, int, float], float],
    is_corrected: bool,
    target_sets: int,
    soft_sets: int,
    weight_sets: int,
    temperature: float,
) -> None:
    logits, batch = draw_batch(target_sets, soft_sets, weight_sets, is_corrected)
    found = soft_term(config, logits, batch, temperature)
    assert found.dtype == torch.float32 and found.shape == (NUM_MEMBERS,)
    for member in range(NUM_MEMBERS):
        rows, soft, pdf_ids, weights = take_member(logits, batch, member)
        frames = range(NUM_FRAMES)
        expected = [weights[b] * find(rows[b], soft[b], int(pdf_ids[b]), temperature) for b in frames]
        assert found[member].item() == pytest.approx(np.mean(expected), rel=1e-5)


@every_temperature
@every_axis
@pytest.mark.parametrize("is_corrected", [False, True])
def test_correlation_is_numpys_with_each_frame_as_often_as_it_counts(
    is_corrected: bool, target_sets: int, soft_sets: int, weight_sets: int, temperature: float
) -> None:
    """Huang et al. 2022: one less the mean over frames, and over pdf-ids."""
    logits, batch = draw_batch(target_sets, soft_sets, weight_sets, is_corrected)
    found = soft_term(CORRELATION, logits, batch, temperature)
    for member in range(NUM_MEMBERS):
        rows, soft, _, weights = take_member(logits, batch, member)
        student = np.array([find_softmax(row / temperature) for row in rows])
        taught = np.array([make_probabilities(row) for row in soft])
        inter = [1 - np.corrcoef(one, other)[0, 1] for one, other in zip(student, taught, strict=True)]
        repeated = [np.repeat(values, weights.astype(int), axis=0) for values in (student, taught)]
        intra = [1 - np.corrcoef(repeated[0][:, j], repeated[1][:, j])[0, 1] for j in range(NUM_PDFS)]
        parts = CORRELATION.inter * np.mean(weights * inter) + CORRELATION.intra * np.mean(intra)
        assert found[member].item() == pytest.approx(temperature**2 * parts, rel=1e-4)


@every_temperature
@pytest.mark.parametrize("is_corrected", [False, True])
@every_other_term
def test_gradients_are_those_of_finite_differences(
    config: SoftTermConfig, is_corrected: bool, temperature: float
) -> None:
    logits, batch = draw_batch(3, 1, 3, is_corrected)
    assert isinstance(batch.soft_targets, torch.Tensor) and batch.weights is not None
    batch = replace(batch, soft_targets=batch.soft_targets.double(), weights=batch.weights.double())
    assert torch.autograd.gradcheck(
        lambda rows: soft_term(config, rows, batch, temperature), logits.double().requires_grad_()
    )


def find_gradient(loss: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return gradient


def test_cross_entropy_is_the_losss_own() -> None:
    logits, batch = draw_batch(3, 3, 3, is_corrected=True)
    found = soft_term(CrossEntropyConfig(), logits, batch, 3.0)
    assert torch.equal(found, soft_cross_entropy(logits, batch, 3.0))


@every_temperature
def test_divergence_is_torchs_and_has_the_gradient_of_the_cross_entropy(temperature: float) -> None:
    logits, batch = draw_batch(1, 3, 1)
    soft = batch.soft_targets
    assert isinstance(soft, torch.Tensor) and batch.weights is not None
    logits.requires_grad_()
    found = kl_divergence(logits, soft, batch, temperature)
    log_student = (logits / temperature).log_softmax(2)
    of_torch = functional.kl_div(log_student, soft.log(), reduction="none", log_target=True).sum(2)
    torch.testing.assert_close(found, temperature**2 * (of_torch * batch.weights).sum(1) / NUM_FRAMES)
    cross_entropy = soft_cross_entropy(logits, batch, temperature)
    torch.testing.assert_close(find_gradient(found, logits), find_gradient(cross_entropy, logits))
    entropies = torch.distributions.Categorical(probs=soft).entropy()
    own = temperature**2 * (entropies * batch.weights).sum(1) / NUM_FRAMES
    torch.testing.assert_close((cross_entropy - found).detach(), own)


def test_at_a_high_temperature_divergence_is_half_the_variance_of_what_logits_differ_by() -> None:
    """Hinton et al. 2015, section 2.1: (1 / 2P) sum over j of (z_j - v_j)^2, of centred logits."""
    logits, taught = draw(0, NUM_MEMBERS, NUM_FRAMES, NUM_PDFS).double(), draw(1, 1, NUM_FRAMES, NUM_PDFS)
    _, batch = draw_batch()
    centred = [values - values.mean(2, keepdim=True) for values in (logits, taught.double())]
    expected = ((centred[0] - centred[1]) ** 2).sum(2).mean(1) / (2 * NUM_PDFS)
    errors = []
    for temperature in (10.0, 1000.0):
        soft = torch.softmax(taught.double() / temperature, 2)
        found = kl_divergence(logits, soft, batch, temperature)
        errors.append(float((found / expected - 1).abs().max()))
    assert errors[1] < 2e-3 < errors[0]


def test_conditional_of_an_ensemble_that_is_always_right_is_the_soft_cross_entropy() -> None:
    logits, batch = draw_batch(1, 1, 3)
    assert isinstance(batch.soft_targets, torch.Tensor)
    right = replace(batch, pdf_ids=batch.soft_targets.argmax(2))
    found = soft_term(ConditionalConfig(), logits, right, 3.0)
    torch.testing.assert_close(found, soft_cross_entropy(logits, right, 3.0))


def test_conditional_of_an_ensemble_that_is_always_wrong_is_the_hard_cross_entropy() -> None:
    logits, batch = draw_batch(1, 1, 3)
    assert isinstance(batch.soft_targets, torch.Tensor)
    wrong = replace(batch, pdf_ids=batch.soft_targets.argmin(2))
    found = soft_term(ConditionalConfig(), logits, wrong, 3.0)
    torch.testing.assert_close(found, hard_cross_entropy(logits, wrong))


@every_temperature
def test_decoupled_with_the_others_share_for_beta_is_the_divergence(temperature: float) -> None:
    """Zhao et al. 2022, equation 7, frame by frame."""
    logits, batch = draw_batch()
    soft = batch.soft_targets
    assert isinstance(soft, torch.Tensor)
    for frame in (0, 1, 2, 3, 6, 7):
        target = int(batch.pdf_ids[0, frame])
        at = slice(frame, frame + 1)
        one = Batch(torch.empty(0), None, batch.pdf_ids[:, at], 1, None, soft[:, at])
        config = DecoupledConfig(alpha=1, beta=1 - float(soft[0, frame, target]))
        found = soft_term(config, logits[:, at], one, temperature)
        torch.testing.assert_close(found, kl_divergence(logits[:, at], soft[:, at], one, temperature))


@pytest.mark.parametrize("is_right", [False, True])
def test_decoupled_of_an_ensemble_that_is_sure(is_right: bool) -> None:
    """Of the others a target that has everything says nothing; one that has nothing leaves everything."""
    temperature, config = 2.0, DecoupledConfig(alpha=0.7, beta=3.0)
    logits, batch = draw_batch()
    sure = torch.zeros(1, NUM_FRAMES, NUM_PDFS)
    sure[..., 1] = 1
    pdf_ids = torch.full((1, NUM_FRAMES), 1 if is_right else 2)
    found = soft_term(config, logits, replace(batch, pdf_ids=pdf_ids, soft_targets=sure), temperature)
    student = torch.softmax(logits.double() / temperature, 2)
    expected = -config.alpha * student[..., 1].log()
    if not is_right:
        of_others = 1 - student[..., 2]
        among = student[..., 1] / of_others
        expected = -config.alpha * of_others.log() - config.beta * among.log()
    torch.testing.assert_close(found.double(), temperature**2 * expected.mean(1), rtol=1e-5, atol=1e-6)


@every_term
@pytest.mark.parametrize("scale", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("place", [0, 1, NUM_PDFS - 1])
def test_probabilities_of_0_and_1_do_no_harm(config: SoftTermConfig, scale: float, place: int) -> None:
    """Of the ensemble, of the student, or of both, in agreement or not; or a student of equal logits."""
    logits, batch = draw_batch()
    sure = functional.one_hot(torch.full((1, NUM_FRAMES), place), NUM_PDFS).float()
    logits = (scale * logits).requires_grad_()
    loss = soft_term(config, logits, replace(batch, soft_targets=sure), 1.0)
    assert bool(loss.isfinite().all()) and bool(find_gradient(loss, logits).isfinite().all())


@every_temperature
def test_correlation_is_0_of_posteriors_that_are_a_line_of_the_ensembles(temperature: float) -> None:
    """Share * soft + rest, the same share in all frames: neither scale nor offset counts."""
    _, batch = draw_batch(1, 1, 1)
    assert isinstance(batch.soft_targets, torch.Tensor)
    for share in (1.0, 0.3):
        posteriors = share * batch.soft_targets + (1 - share) / NUM_PDFS
        found = soft_term(CORRELATION, temperature * posteriors.log(), batch, temperature)
        assert found.item() == pytest.approx(0, abs=1e-5)
    uneven = torch.where(torch.arange(NUM_FRAMES)[:, None] % 2 == 0, batch.soft_targets, 1 / NUM_PDFS)
    mixed = 0.5 * uneven + 0.5 * batch.soft_targets
    only_inter, only_intra = CorrelationConfig(inter=1, intra=0), CorrelationConfig(inter=0, intra=1)
    logits = temperature * mixed.log()
    assert soft_term(only_inter, logits, batch, temperature).item() == pytest.approx(0, abs=1e-5)
    assert soft_term(only_intra, logits, batch, temperature).item() > 0.01


def test_correlation_with_what_does_not_vary_is_none() -> None:
    logits, batch = draw_batch()
    batch = replace(batch, soft_targets=torch.full((1, NUM_FRAMES, NUM_PDFS), 1 / NUM_PDFS))
    logits.requires_grad_()
    found = soft_term(CORRELATION, logits, batch, 2.0)
    expected = torch.full((NUM_MEMBERS,), 4 * (CORRELATION.inter + CORRELATION.intra))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
    assert bool(find_gradient(found, logits).isfinite().all())


@every_term
def test_frames_that_do_not_count_change_nothing(config: SoftTermConfig) -> None:
    """Whatever the student says of them, and whatever stands for their targets."""
    logits, batch = draw_batch(3, 1, 1)
    soft = batch.soft_targets
    assert isinstance(soft, torch.Tensor)
    weights = torch.ones(1, NUM_FRAMES)
    weights[0, [2, 5, 9]] = 0
    is_padding = (weights == 0)[..., None]
    batch = replace(batch, weights=weights, num_frames=NUM_FRAMES - 3)
    other = replace(
        batch,
        soft_targets=torch.where(is_padding, 20 * draw(7, *soft.shape), soft),
        pdf_ids=torch.where(weights == 0, 3, batch.pdf_ids),
    )
    rows = [logits, torch.where(is_padding, 50 * draw(8, *logits.shape), logits)]
    losses = []
    for of_one, values in zip((batch, other), rows, strict=True):
        values.requires_grad_()
        losses.append(soft_term(config, values, of_one, 2.0))
    torch.testing.assert_close(losses[1], losses[0])
    gradients = [find_gradient(loss, values) for loss, values in zip(losses, rows, strict=True)]
    torch.testing.assert_close(gradients[1], gradients[0])
    assert not bool(gradients[1][:, [2, 5, 9]].any())


@every_term
@pytest.mark.parametrize("soft_sets", [1, NUM_MEMBERS])
def test_members_do_not_know_of_each_other(config: SoftTermConfig, soft_sets: int) -> None:
    logits, batch = draw_batch(3, soft_sets, 3)
    assert isinstance(batch.soft_targets, torch.Tensor) and batch.weights is not None
    together = soft_term(config, logits, batch, 2.0)
    for member in range(NUM_MEMBERS):
        own = slice(member, member + 1)
        alone = replace(
            batch,
            pdf_ids=batch.pdf_ids[own],
            weights=batch.weights[own],
            soft_targets=batch.soft_targets[own] if soft_sets > 1 else batch.soft_targets,
        )
        torch.testing.assert_close(together[own], soft_term(config, logits[own], alone, 2.0))


def keep_two(soft: torch.Tensor) -> SparseRows:
    """The two likeliest pdf-ids of each frame."""
    probabilities, pdf_ids = soft.topk(2)
    return SparseRows(pdf_ids, probabilities, None, torch.ones_like(pdf_ids, dtype=torch.bool))


@every_other_term
def test_soft_targets_of_some_pdf_ids_are_refused_in_words(config: SoftTermConfig) -> None:
    logits, batch = draw_batch()
    assert isinstance(batch.soft_targets, torch.Tensor)
    sparse = replace(batch, soft_targets=keep_two(batch.soft_targets))
    with pytest.raises(
        ContractError, match=rf"soft term {config.kind}: .* only some .* \(dense, transform\)"
    ):
        soft_term(config, logits, sparse, 2.0)
    assert bool(soft_term(CrossEntropyConfig(), logits, sparse, 2.0).isfinite().all())


def test_settings_are_told_apart_by_their_kind() -> None:
    reader: TypeAdapter[SoftTermConfig] = TypeAdapter(SoftTermConfig)
    for kind, config in TERMS.items():
        assert type(reader.validate_python({"kind": kind})) is type(config)
    assert reader.validate_python({"kind": "decoupled", "beta": 8}) == DecoupledConfig(beta=8.0)
    for wrong in ({"kind": "kl"}, {"kind": "conditional", "beta": 1}, {"kind": "decoupled", "alpha": -1}):
        with pytest.raises(ValidationError):
            reader.validate_python(wrong)
