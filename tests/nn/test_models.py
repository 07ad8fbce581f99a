"""What holds for every architecture, and above all for those that read whole utterances."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asrdistill.features.context import ContextConfig
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig, ConformerConfig, TdnnConfig
from asrdistill.nn.batches import Diversity
from asrdistill.nn.checkpoint import load_model, make_optimizer, save_model
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.gradient import AutogradGradient
from asrdistill.nn.models import ARCHITECTURES, build_model
from asrdistill.nn.objective import Objective
from asrdistill.nn.training import Trainer, TrainingConfig

NUM_BINS, NUM_PDFS, SEEDS = 4, 6, (11, 12, 13)
LENGTHS = (12, 1, 30, 7, 25)
CONFIGS = {
    name: AcousticModelConfig(
        architecture=name,
        num_hidden_layers=2,
        hidden_size=16,
        context=ContextConfig(past=1, future=2),
        tdnn=TdnnConfig(kernel_size=3, dilations=(1, 2)),
        conformer=ConformerConfig(num_heads=2, kernel_size=5),
    )
    for name in ("dnn", "tdnn", "conformer")
}
UTTERANCE_READERS = ("tdnn", "conformer")


def make_model(name: str, seeds: tuple[int, ...] = SEEDS) -> AcousticModel:
    return build_model(CONFIGS[name], NUM_BINS, NUM_PDFS, len(seeds)).initialize(seeds)


def draw_frames(seed: int, lengths: tuple[int, ...] = LENGTHS) -> LabelledFrames:
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *lengths])
    frames = rng.normal(size=(starts[-1], NUM_BINS)).astype(np.float16)
    return LabelledFrames(frames, starts, rng.integers(NUM_PDFS, size=starts[-1]).astype(np.int32))


def train(model: AcousticModel, seeds: tuple[int, ...], num_steps: int) -> list[torch.Tensor]:
    """The losses of all steps.

    The frames are such that no unit's input comes within rounding of 0, where ReLU passes it or does not:
    with those of seed 0 one did (6.8e-8 in a stack, -3.2e-7 alone), and a member parted from itself there.
    """
    frames, optimizer = draw_frames(1), make_optimizer(model)
    dropout = Dropout(0.1, seeds)
    gradient = AutogradGradient(model, dropout)
    losses = []
    for step in range(num_steps):
        batch = frames.take_utterances(np.array([step % 5, (step + 2) % 5]), model)
        dropout.step = step
        losses.append(gradient.compute(batch, torch.ones(len(seeds)), 1.0))
        optimizer.step()
    return losses


def test_every_architecture_of_a_recipe_can_be_built(tmp_path: Path) -> None:
    assert set(ARCHITECTURES) == set(CONFIGS)
    frames = draw_frames(0).frames
    for name in CONFIGS:
        model = make_model(name)
        logits = model.compute_logits(frames)
        assert logits.shape == (len(SEEDS), len(frames), NUM_PDFS)
        assert logits.dtype == torch.float32
        save_model(tmp_path / name, model, {})
        assert torch.equal(load_model(tmp_path / name)[0].compute_logits(frames), logits)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_member_is_the_same_alone_and_among_others(name: str) -> None:
    stack, frames = make_model(name), draw_frames(1).frames
    logits = stack.compute_logits(frames)
    for member, seed in enumerate(SEEDS):
        alone = make_model(name, (seed,)).compute_logits(frames)
        torch.testing.assert_close(logits[member], alone[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(stack.select_members([2, 0]).compute_logits(frames), logits[[2, 0]])
    assert float((logits[0] - logits[1]).abs().max()) > 0.01


@pytest.mark.parametrize("name", UTTERANCE_READERS)
def test_a_member_trains_the_same_alone_and_among_others(name: str) -> None:
    stack = make_model(name)
    losses = torch.stack(train(stack, SEEDS, 200))
    assert (losses[-20:].mean(0) < 0.9 * losses[:20].mean(0)).all()
    for member, seed in enumerate(SEEDS):
        alone = make_model(name, (seed,))
        train(alone, (seed,), 200)
        stacked, single = (
            torch.cat([parameter[row].detach().flatten() for parameter in model.parameters()])
            for model, row in ((stack, member), (alone, 0))
        )
        assert float((stacked - single).norm()) <= 1e-5 * float(single.norm())


@pytest.mark.parametrize("name", UTTERANCE_READERS)
@torch.no_grad()
def test_logits_do_not_depend_on_what_else_is_in_the_batch(name: str) -> None:
    model, frames = make_model(name), draw_frames(2)
    batch = frames.take_utterances(np.arange(5), model)
    logits = model(batch.inputs, batch.lengths).unflatten(1, (5, -1))
    for number, length in enumerate(LENGTHS):
        start, end = frames.starts[number : number + 2]
        alone = model.compute_logits(frames.frames[start:end])
        torch.testing.assert_close(logits[:, number, :length], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", UTTERANCE_READERS)
def test_dropout_is_each_members_own(name: str) -> None:
    model, frames = make_model(name, (5, 5)), draw_frames(2)
    batch = frames.take_utterances(np.arange(5), model)
    whole = model(batch.inputs, batch.lengths)
    assert torch.equal(whole[0], whole[1])
    first, second = model(batch.inputs, batch.lengths, Dropout(0.5, (1, 2))).detach()
    assert float((first - second).abs().max()) > 0.01
    assert not torch.equal(first, whole[0])


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_bf16_gives_float32_logits_nearby(name: str) -> None:
    model, frames = make_model(name), draw_frames(3).frames
    exact = model.compute_logits(frames)
    model.compute_dtype = torch.bfloat16
    rough = model.compute_logits(frames)
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).norm()) < 0.02 * float(exact.norm())
    kept = model.in_compute_dtype().compute_logits(frames)
    torch.testing.assert_close(kept, rough, atol=1e-6, rtol=1e-6)


def draw_memory_task(seed: int) -> LabelledFrames:
    """The pdf-id tells the signs of the frames two before and one after: a frame itself tells nothing."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *rng.integers(20, 60, size=60)])
    frames = rng.normal(size=(starts[-1], NUM_BINS)).astype(np.float16)
    signs = frames[:, 0] > 0
    pdf_ids = (2 * np.roll(signs, 2) + np.roll(signs, -1)).astype(np.int32)
    pdf_ids[starts[:-1]] = pdf_ids[starts[:-1] + 1] = pdf_ids[starts[1:] - 1] = -1
    return LabelledFrames(frames, starts, pdf_ids)


@pytest.mark.parametrize("name", UTTERANCE_READERS)
def test_training_learns_what_only_the_neighbours_tell(name: str, tmp_path: Path) -> None:
    """Four equally likely pdf-ids: who sees a frame alone is right in 25 of 100."""
    trainer = Trainer(
        model_config=CONFIGS[name].model_copy(update={"hidden_size": 32}),
        num_bins=NUM_BINS,
        num_pdfs=4,
        config=TrainingConfig(num_epochs=12, batch_size=200, learning_rate=5e-3, precision="fp32"),
        objective=Objective((1.0, 1.0)),
        train_frames=draw_memory_task(0),
        dev_frames=draw_memory_task(1),
        names=("one", "two"),
        seeds=(1, 2),
        diversity=Diversity(7),
        checkpoint_path=tmp_path / "state.safetensors",
    )
    state = trainer.train()
    for history in state.histories:
        assert max(history.dev_frame_accuracy) > 0.75
