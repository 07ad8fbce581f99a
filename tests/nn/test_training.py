"""The training loop: members do not know of each other, and a stop leaves no trace."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from asrdistill.features.context import ContextConfig
from asrdistill.nn import training
from asrdistill.nn.acoustic_model import StackedAcousticModel
from asrdistill.nn.checkpoint import TrainingState
from asrdistill.nn.frames import Batch, LabelledFrames
from asrdistill.nn.gradient import StackedGradient
from asrdistill.nn.training import Evaluation, Objective, Trainer, TrainingConfig, evaluate

MakeFrames = Callable[..., LabelledFrames]
CONTEXT = ContextConfig(past=1, future=1)
SIZES = (9, 20, 20, 4)
CONFIG = TrainingConfig(num_epochs=4, batch_size=64, precision="fp32", dropout=0.2)
SEEDS = (11, 12, 13)


@pytest.fixture
def make_trainer(make_frames: MakeFrames, tmp_path: Path) -> Callable[..., Trainer]:
    def make(
        seeds: Sequence[int] = SEEDS,
        name: str = "state",
        config: TrainingConfig = CONFIG,
        objective: Objective | None = None,
    ) -> Trainer:
        return Trainer(
            sizes=SIZES,
            context=CONTEXT,
            config=config,
            objective=objective or Objective((1.0,) * len(seeds)),
            train_frames=make_frames(0, with_soft_targets=objective is not None),
            dev_frames=make_frames(1),
            seeds=seeds,
            order_seed=5,
            checkpoint_path=tmp_path / f"{name}.safetensors",
        )

    return make


def assert_close(state: TrainingState, member: int, alone: TrainingState) -> None:
    for stacked, single in zip(state.best.parameters(), alone.best.parameters(), strict=True):
        torch.testing.assert_close(stacked[member], single[0], atol=1e-5, rtol=1e-4)
    one, other = state.histories[member], alone.histories[0]
    assert one.train_loss == pytest.approx(other.train_loss, abs=1e-5)
    assert one.dev_frame_accuracy == pytest.approx(other.dev_frame_accuracy, abs=0.003)


def test_a_member_of_a_stack_is_the_member_trained_alone(make_trainer: Callable[..., Trainer]) -> None:
    stack = make_trainer().train()
    for member, seed in enumerate(SEEDS):
        assert_close(stack, member, make_trainer([seed], f"alone{seed}").train())


def test_members_may_have_hard_weights_of_their_own(make_trainer: Callable[..., Trainer]) -> None:
    stack = make_trainer([7, 7], objective=Objective((0.5, 0.0), 2.0)).train()
    for member, weight in enumerate((0.5, 0.0)):
        alone = make_trainer([7], f"alone{member}", objective=Objective((weight,), 2.0)).train()
        assert_close(stack, member, alone)
    assert not torch.equal(stack.best.weights[0][0], stack.best.weights[0][1])


@pytest.mark.parametrize("stop_after", [1, 3])
def test_resumed_equals_uninterrupted_byte_for_byte(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    whole = make_trainer(name="whole")
    whole.train()
    stopped = make_trainer(name="stopped")
    save = training.save_state

    def save_and_stop(path: Path, state: TrainingState) -> None:
        save(path, state)
        if state.epoch == stop_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
    make_trainer(name="stopped").train()
    assert stopped.checkpoint_path.read_bytes() == whole.checkpoint_path.read_bytes()


def test_a_finished_training_is_not_trained_again(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    trainer.train()
    before = trainer.checkpoint_path.read_bytes()
    assert make_trainer().train().epoch == CONFIG.num_epochs
    assert trainer.checkpoint_path.read_bytes() == before


def script_dev(monkeypatch: pytest.MonkeyPatch, curves: dict[int, list[float]]) -> list[StackedAcousticModel]:
    """Let dev frame accuracies follow a script; gives the models judged, epoch by epoch."""
    judged: list[StackedAcousticModel] = []

    def judge(model: StackedAcousticModel, *_: object) -> Evaluation:
        epoch = len(judged)
        judged.append(model.select_members(range(model.num_members)))
        values = [curve[epoch] for curve in curves.values() if epoch < len(curve)]
        assert len(values) == model.num_members
        return Evaluation(torch.tensor(values), torch.ones(len(values)))

    monkeypatch.setattr(training, "evaluate", judge)
    return judged


def test_a_finished_member_leaves_and_the_others_do_not_notice(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"patience": 2, "num_epochs": 6})
    # Member 1 is best after its first epoch, so that it leaves after the third; member 2 takes its row.
    curves = {0: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1: [0.5, 0.4, 0.5], 2: [0.1, 0.2, 0.3, 0.4, 0.6, 0.5]}
    judged = script_dev(monkeypatch, curves)
    state = make_trainer(config=config).train()
    assert [model.num_members for model in judged] == [3, 3, 3, 2, 2, 2]
    assert [history.best_epoch for history in state.histories] == [6, 1, 5]
    assert [len(history.train_loss) for history in state.histories] == [6, 3, 6]
    for member, (epoch, row) in enumerate([(6, 0), (1, 1), (5, 1)]):
        expected = judged[epoch - 1].select_members([row])
        for kept, weights in zip(state.best.parameters(), expected.parameters(), strict=True):
            assert torch.equal(kept[member], weights[0])
    for member in (0, 2):
        script_dev(monkeypatch, {0: curves[member]})
        assert_close(state, member, make_trainer([SEEDS[member]], f"alone{member}", config).train())


def test_every_epoch_has_an_order_of_its_own(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer([1])
    take, centres = trainer.train_frames.take, []

    def spy(wanted: torch.Tensor, context: ContextConfig) -> Batch:
        centres.append(wanted.tolist())
        return take(wanted, context)

    monkeypatch.setattr(trainer.train_frames, "take", spy)
    trainer.train()
    steps_an_epoch = len(trainer.train_frames) // CONFIG.batch_size
    assert len(centres) == steps_an_epoch * CONFIG.num_epochs
    firsts = centres[::steps_an_epoch]
    assert all(one != other for i, one in enumerate(firsts) for other in firsts[:i])


def test_steps_are_counted_through_all_epochs(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning rate and dropout follow the count: starting anew each epoch would repeat both."""
    steps: list[int] = []
    compute = training.StackedGradient.compute

    def spy(self: StackedGradient, batch: Batch, weights: torch.Tensor, t: float, step: int) -> torch.Tensor:
        steps.append(step)
        return compute(self, batch, weights, t, step)

    monkeypatch.setattr(training.StackedGradient, "compute", spy)
    trainer = make_trainer([1])
    trainer.train()
    assert steps == list(range(CONFIG.num_epochs * (len(trainer.train_frames) // CONFIG.batch_size)))


def test_training_ends_when_all_have_finished(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = script_dev(monkeypatch, {0: [0.5, 0.4]})
    state = make_trainer([1], config=CONFIG.model_copy(update={"patience": 1, "num_epochs": 50})).train()
    assert (state.epoch, state.active, len(judged)) == (2, [], 2)


def test_the_toy_problem_is_learnt(make_trainer: Callable[..., Trainer]) -> None:
    config = CONFIG.model_copy(update={"num_epochs": 25, "learning_rate": 0.01, "dropout": 0.1})
    state = make_trainer(config=config).train()
    # Chance is 0.25; 492 frames do not teach where the quadrants meet to the last per cent.
    assert min(max(history.dev_frame_accuracy) for history in state.histories) > 0.88
    assert state.histories[0].train_loss[0] > 2 * state.histories[0].train_loss[-1]


def test_a_split_smaller_than_a_batch_trains(make_trainer: Callable[..., Trainer]) -> None:
    config = CONFIG.model_copy(update={"batch_size": 100_000, "num_epochs": 2})
    state = make_trainer(config=config).train()
    assert np.isfinite(state.histories[0].train_loss).all()


@torch.no_grad()
def test_evaluation_equals_torch(make_frames: MakeFrames) -> None:
    frames = make_frames(3)
    model = StackedAcousticModel(SIZES, 2).initialize([1, 2])
    batch = next(frames.in_order(len(frames), CONTEXT))
    logits = model(batch.windows)
    found = evaluate(model, frames, CONTEXT)
    for member in range(2):
        accuracy = (logits[member].argmax(1) == batch.pdf_ids).double().mean()
        assert float(found.frame_accuracy[member]) == pytest.approx(float(accuracy))
        loss = cross_entropy(logits[member], batch.pdf_ids)
        assert float(found.cross_entropy[member]) == pytest.approx(float(loss), rel=1e-5)


def test_rate_rises_then_falls_to_its_final_share(make_trainer: Callable[..., Trainer]) -> None:
    config = TrainingConfig(num_epochs=10, learning_rate=0.5, warmup_share=0.1, final_rate_share=0.02)
    trainer = replace(make_trainer(), config=config)
    rates = [trainer._rate(step, 20) for step in range(200)]
    assert 0 < rates[0] < 0.03
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) == 20
    assert rates[-1] == pytest.approx(0.01, rel=0.02)
    assert rates[110] == pytest.approx((0.5 + 0.01) / 2)
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
