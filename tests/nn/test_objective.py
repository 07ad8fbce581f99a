"""Losses of more than two terms: annealed, with a guide, interrupted and resumed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig, TdnnConfig
from asrdistill.nn.batches import Diversity
from asrdistill.nn.checkpoint import TrainingState
from asrdistill.nn.frames import Batch, LabelledFrames
from asrdistill.nn.guide import JointReach
from asrdistill.nn.hidden_terms import HiddenStatesConfig
from asrdistill.nn.models import build_model
from asrdistill.nn.objective import AnnealingConfig, Objective, TermSources
from asrdistill.nn.relation_terms import RelationsConfig
from asrdistill.nn.sequence_term import SequenceConfig, count_transitions
from asrdistill.nn.shallow_terms import ShallowHeadsConfig
from asrdistill.nn.soft_terms import ConditionalConfig, CorrelationConfig, DecoupledConfig
from asrdistill.nn.training import Trainer, TrainingConfig, _Epoch

MakeFrames = Callable[..., LabelledFrames]
MakeTrainer = Callable[..., Trainer]
CONFIG = TrainingConfig(num_epochs=3, batch_size=128, precision="fp32", dropout=0.1)
STUDENT = AcousticModelConfig(
    architecture="tdnn", num_hidden_layers=2, hidden_size=12, tdnn=TdnnConfig(dilations=(1,))
)
GUIDE = STUDENT.model_copy(update={"num_hidden_layers": 4, "hidden_size": 16})
TERMS = {
    "hidden states": HiddenStatesConfig(distance="mse", layers="similar"),
    "cosine": HiddenStatesConfig(distance="cosine", layers="last"),
    "relations": RelationsConfig(num_frames=12),
    "shallow heads": ShallowHeadsConfig(every=1),
    "sequence": SequenceConfig(),
}


def build(config: AcousticModelConfig, seeds: Sequence[int] = (1,)) -> AcousticModel:
    return build_model(config, 3, 4, len(seeds)).initialize(seeds)


@pytest.fixture
def make_trainer(make_frames: MakeFrames, tmp_path: Path) -> MakeTrainer:
    def make(
        objective: Objective,
        seeds: Sequence[int] = (11, 12),
        name: str = "state",
        config: TrainingConfig = CONFIG,
        model: AcousticModelConfig = STUDENT,
        guide: AcousticModelConfig = GUIDE,
    ) -> Trainer:
        frames = make_frames(0, with_soft_targets=True)
        return Trainer(
            model_config=model,
            num_bins=3,
            num_pdfs=4,
            config=config,
            objective=objective,
            train_frames=frames,
            dev_frames=make_frames(1),
            names=[str(seed) for seed in seeds],
            seeds=seeds,
            diversity=Diversity(5),
            checkpoint_path=tmp_path / f"{name}.safetensors",
            sources=TermSources(build(guide), count_transitions(frames.pdf_ids, frames.starts, 4)),
            checkpoint_interval_s=0.0,
        )

    return make


def list_weights(state: TrainingState) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in state.best.parameters()]


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_a_term_changes_what_is_learnt_and_members_do_not_know_of_each_other(
    make_trainer: MakeTrainer, term: object
) -> None:
    objective = Objective((0.5, 0.5), 2.0, extra_terms=(term,))  # type: ignore[arg-type]
    state = make_trainer(objective).train()
    plain = make_trainer(Objective((0.5, 0.5), 2.0), name="plain").train()
    pairs = zip(list_weights(state), list_weights(plain), strict=True)
    assert max(float((one - other).abs().max()) for one, other in pairs) > 1e-3
    alone = make_trainer(Objective((0.5,), 2.0, extra_terms=(term,)), [12], "alone").train()  # type: ignore[arg-type]
    for stacked, single in zip(list_weights(state), list_weights(alone), strict=True):
        # Layers are paired for all members alike, so only of others is it the same when it is alone.
        if term is not TERMS["hidden states"]:
            torch.testing.assert_close(stacked[1], single[0], atol=1e-4, rtol=1e-3)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("num_steps", [1, 4, 7])
def test_a_stop_leaves_no_trace(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, num_steps: int
) -> None:
    """With everything at once, members that leave early, and projections that are trained too."""
    terms = tuple(TERMS.values())
    objective = Objective(
        (0.2, 0.7),
        2.0,
        annealing=AnnealingConfig(hard_weight=1),
        soft_term=DecoupledConfig(),
        extra_terms=terms,
    )
    unsteady = CONFIG.model_copy(update={"num_epochs": 5, "patience": 1, "learning_rate": 0.05})
    undisturbed = make_trainer(objective, name="undisturbed", config=unsteady).train()
    done, step = 0, _Epoch._step

    def step_or_die(self: _Epoch, batch: Batch) -> None:
        nonlocal done
        if done == num_steps:
            raise Killed
        done += 1
        step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(_Epoch, "_step", step_or_die)
        trainer = make_trainer(objective, config=unsteady)
        with pytest.raises(Killed):
            trainer.train()
    resumed = make_trainer(objective, config=unsteady).train()
    for one, other in zip(list_weights(resumed), list_weights(undisturbed), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(resumed.parameters, undisturbed.parameters, strict=True):
        assert torch.equal(one, other)
    assert resumed.histories == undisturbed.histories


@pytest.mark.parametrize("term", [ConditionalConfig(), DecoupledConfig(), CorrelationConfig()])
def test_soft_terms_are_trained_with(make_trainer: MakeTrainer, term: object) -> None:
    state = make_trainer(Objective((0.5, 0.5), 2.0, soft_term=term)).train()  # type: ignore[arg-type]
    plain = make_trainer(Objective((0.5, 0.5), 2.0), name="plain").train()
    pairs = zip(list_weights(state), list_weights(plain), strict=True)
    assert max(float((one - other).abs().max()) for one, other in pairs) > 1e-3


def test_the_guide_is_not_changed(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Objective((0.5, 0.5), 2.0, extra_terms=(TERMS["hidden states"],)))
    trainer.train()
    assert trainer.sources.guide is not None
    for weight, other in zip(trainer.sources.guide.parameters(), build(GUIDE).parameters(), strict=True):
        assert torch.equal(weight, other) and weight.grad is None


def test_a_student_may_start_as_its_guide(make_trainer: MakeTrainer) -> None:
    still = CONFIG.model_copy(update={"num_epochs": 1, "learning_rate": 1e-30})
    objective = Objective((0.5, 0.5), 2.0, starts_from_guide=True)
    state = make_trainer(objective, config=still, model=GUIDE).train()
    for weight, other in zip(state.best.parameters(), build(GUIDE).parameters(), strict=True):
        torch.testing.assert_close(weight, other.expand_as(weight), atol=1e-20, rtol=0)


def test_weights_and_temperature_move_linearly() -> None:
    objective = Objective((0.2, 0.6), 4.0, annealing=AnnealingConfig(hard_weight=1, temperature=1))
    assert objective.hard_weights_at(0, [0, 1]).tolist() == pytest.approx([0.2, 0.6])
    assert objective.hard_weights_at(0.5, [1]).tolist() == pytest.approx([0.8])
    assert objective.hard_weights_at(1, [0, 1]).tolist() == pytest.approx([1, 1])
    assert [objective.temperature_at(p) for p in (0, 0.5, 1)] == pytest.approx([4, 2.5, 1])
    plain = Objective((0.2,), 4.0)
    assert (plain.hard_weights_at(0.9, [0]).tolist(), plain.temperature_at(0.9)) == (pytest.approx([0.2]), 4)


def test_softened_targets_are_those_of_the_same_logits_at_another_temperature() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(1, 7, 5))

    def soften(temperature: float) -> np.ndarray:
        powers = np.exp(logits / temperature)
        return powers / powers.sum(2, keepdims=True)

    batch = Batch(
        torch.empty(0), None, torch.zeros(1, 7), 7, None, torch.tensor(soften(4), dtype=torch.float32)
    )
    for temperature in (1.0, 2.5, 4.0, 6.0):
        found = Objective((0.5,), 4.0).soften(batch, temperature).soft_targets
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found.numpy(), soften(temperature), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("reads_utterances", [True, False])
def test_each_hears_what_it_would_hear_alone(make_frames: MakeFrames, reads_utterances: bool) -> None:
    """Batches for the farther reach, cut to that of each."""
    if reads_utterances:
        student, guide = build(STUDENT), build(GUIDE)
    else:
        context = STUDENT.context.model_copy(update={"past": 2, "future": 1})
        wider = STUDENT.context.model_copy(update={"past": 3, "future": 5})
        student = build(STUDENT.model_copy(update={"architecture": "dnn", "context": context}))
        guide = build(STUDENT.model_copy(update={"architecture": "dnn", "context": wider}))
    frames, reach = make_frames(0), JointReach(student, guide)
    assert (reach.past, reach.future) == (guide.past, guide.future)

    def take(of: object) -> torch.Tensor:
        if reads_utterances:
            return frames.take_utterances(np.array([0, 2, 5]), of).inputs  # type: ignore[arg-type]
        return frames.take_windows(torch.tensor([[0, 5, 40, 100]]), of).inputs  # type: ignore[arg-type]

    for model in (student, guide):
        assert torch.equal(reach.narrow(take(reach), model), take(model))
