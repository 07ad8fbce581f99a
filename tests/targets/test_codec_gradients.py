"""What a student is taught through each codec, from bytes to the gradient: against torch, against dense."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from asrdistill.nn.frames import Batch
from asrdistill.nn.loss import LossGradient
from asrdistill.nn.soft_targets import SoftRows
from asrdistill.targets.codecs import Codec, CodecConfig, DenseConfig, SampledConfig, TopKConfig, open_codec
from asrdistill.targets.planning import fill_in
from asrdistill.targets.transform import TransformConfig, learn_codebook

NUM_FRAMES, NUM_PDFS, TEMPERATURE = 30, 40, 2.0
# Each with the probability that one draw adds or takes.
UNBIASED = [
    (SampledConfig(num_draws=8), 1 / 8),
    (TransformConfig(step=0.5, correction=0.05), 0.05),
    (TransformConfig(step=4.0, correction=0.3), 0.3),
]
EVERY = [
    DenseConfig(),
    TopKConfig(num_kept=5),
    TopKConfig(num_kept=NUM_PDFS),
    TransformConfig(correction=None),
    *(config for config, _ in UNBIASED),
]


def draw_soft_targets() -> np.ndarray:
    """Posteriors that change slowly, float32 (N, P)."""
    rng = np.random.default_rng(0)
    logits = np.cumsum(rng.normal(size=(NUM_FRAMES, NUM_PDFS)), 0) / 2
    return np.asarray(torch.softmax(torch.from_numpy(logits).float(), 1))


def make_codec(config: CodecConfig, soft: np.ndarray, folder: Path) -> Codec:
    path = folder / "codebook.safetensors"
    if isinstance(config, TransformConfig):
        learn_codebook([soft], config).write(path)
    return open_codec(config, path)


def tell(codec: Codec, soft: np.ndarray, seed: int) -> SoftRows:
    content = codec.encode(soft, np.random.default_rng(seed))
    return codec.decode(content, len(soft)).take(torch.arange(len(soft))[None])


def compute_gradient(logits: torch.Tensor, rows: SoftRows) -> torch.Tensor:
    """As training gets it, float32 (1, N, P)."""
    no_targets = torch.full((1, NUM_FRAMES), -1)
    loss = LossGradient()
    batch = Batch(torch.empty(0), None, no_targets, NUM_FRAMES, None, rows)
    loss.compute(logits.clone(), batch, torch.zeros(1), TEMPERATURE)
    return loss.gradient.clone()


def draw_logits() -> torch.Tensor:
    return torch.randn(1, NUM_FRAMES, NUM_PDFS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", EVERY, ids=lambda config: str(config.model_dump(exclude_defaults=True)))
def test_the_gradient_is_torchs_for_what_was_told(config: CodecConfig, tmp_path: Path) -> None:
    soft, logits = draw_soft_targets(), draw_logits().requires_grad_()
    rows = tell(make_codec(config, soft, tmp_path), soft, 0)
    softened = logits / TEMPERATURE
    told = fill_in(rows, torch.softmax(softened, 2).detach())
    loss = TEMPERATURE**2 * functional.cross_entropy(softened[0], told[0])
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    torch.testing.assert_close(compute_gradient(logits.detach(), rows), logits.grad)


@pytest.mark.parametrize(("config", "unit"), UNBIASED)
def test_on_average_the_gradient_is_the_dense_one(config: CodecConfig, unit: float, tmp_path: Path) -> None:
    """Of each logit within five standard errors, and five draws of those who are hardly ever drawn.

    And it is drawn each time: a single one is far off.
    """
    soft, logits, repeats = draw_soft_targets(), draw_logits(), 400
    codec = make_codec(config, soft, tmp_path)
    dense = compute_gradient(logits, torch.from_numpy(soft)[None])
    drawn = torch.stack(
        [compute_gradient(logits, tell(codec, soft, seed)) for seed in range(repeats)]
    ).double()
    error, spread = drawn.mean(0) - dense, drawn.std(0)
    of_one_draw = TEMPERATURE * unit / NUM_FRAMES / repeats
    assert (error.abs() <= 5 * spread / repeats**0.5 + 5 * of_one_draw).all()
    assert (drawn[0] - dense).norm() > 5 * error.norm()


def test_a_code_without_corrections_is_not_the_dense_one_on_average(tmp_path: Path) -> None:
    """So the test above can fail."""
    soft, logits = draw_soft_targets(), draw_logits()
    codec = make_codec(TransformConfig(step=0.5, correction=None), soft, tmp_path)
    dense = compute_gradient(logits, torch.from_numpy(soft)[None])
    told = compute_gradient(logits, tell(codec, soft, 0))
    assert (told - dense).norm() > 0.02 * dense.norm()
