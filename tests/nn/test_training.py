"""The training loop: members do not know of each other, and a stop leaves no trace."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from asrdistill.errors import RecipeError
from asrdistill.features.context import ContextConfig
from asrdistill.nn import training
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Diversity, draw_bags
from asrdistill.nn.checkpoint import CheckpointWriter, TrainingState, save_state
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.frames import Batch, LabelledFrames
from asrdistill.nn.gradient import DnnGradient
from asrdistill.nn.models import ARCHITECTURES
from asrdistill.nn.objective import Objective
from asrdistill.nn.soft_targets import DenseTargets
from asrdistill.nn.trained import train_once
from asrdistill.nn.training import Evaluation, Trainer, TrainingConfig, evaluate

MakeFrames = Callable[..., LabelledFrames]
MakeTrainer = Callable[..., Trainer]
MODEL = AcousticModelConfig(num_hidden_layers=2, hidden_size=20, context=ContextConfig(past=1, future=1))
CONFIG = TrainingConfig(num_epochs=4, batch_size=64, precision="fp32", dropout=0.2)
SEEDS = (11, 12, 13)
STEPS_AN_EPOCH = 492 // 64
SHARED = Diversity(5)


@pytest.fixture
def make_trainer(make_frames: MakeFrames, tmp_path: Path) -> MakeTrainer:
    def make(
        seeds: Sequence[int] = SEEDS,
        name: str = "state",
        config: TrainingConfig = CONFIG,
        objective: Objective | None = None,
        diversity: Diversity = SHARED,
        model: AcousticModelConfig = MODEL,
        pool_frames: int = 10_000,
        metrics_dir: Path | None = None,
    ) -> Trainer:
        return Trainer(
            model_config=model,
            num_bins=3,
            num_pdfs=4,
            config=config,
            objective=objective or Objective((1.0,) * len(seeds)),
            train_frames=make_frames(0, with_soft_targets=objective is not None),
            dev_frames=make_frames(1),
            names=[f"member {seed}" for seed in seeds],
            seeds=seeds,
            diversity=diversity,
            checkpoint_path=tmp_path / f"{name}.safetensors",
            metrics_dir=metrics_dir,
            checkpoint_interval_s=0.0,
            pool_frames=pool_frames,
        )

    return make


@pytest.fixture
def architecture(
    request: pytest.FixtureRequest, utterance_model_type: type[AcousticModel]
) -> AcousticModelConfig:
    """Of single frames, or of whole utterances under a borrowed name."""
    if request.param == "dnn":
        return MODEL
    request.getfixturevalue("monkeypatch").setitem(ARCHITECTURES, "tdnn", utterance_model_type)
    return MODEL.model_copy(update={"architecture": "tdnn"})


of_each_kind = pytest.mark.parametrize("architecture", ["dnn", "utterances"], indirect=True)


def read_bytes(state: TrainingState, folder: Path) -> bytes:
    save_state(folder / "final", state)
    return (folder / "final").read_bytes()


def measure_distance(state: TrainingState, member: int, alone: TrainingState) -> float:
    """How far a member's best weights are from those of the same member alone, relative to their length."""
    stacked = torch.cat([parameter[member].flatten() for parameter in state.best.parameters()])
    single = torch.cat([parameter[0].flatten() for parameter in alone.best.parameters()])
    return float(((stacked - single).norm() / single.norm()).detach())


def assert_close(state: TrainingState, member: int, alone: TrainingState) -> None:
    assert measure_distance(state, member, alone) < 1e-5
    one, other = state.histories[member], alone.histories[0]
    assert one.train_loss == pytest.approx(other.train_loss, abs=1e-5)
    assert one.dev_frame_accuracy == pytest.approx(other.dev_frame_accuracy, abs=0.003)
    assert one.dev_cross_entropy == pytest.approx(other.dev_cross_entropy, abs=1e-5)


@of_each_kind
@pytest.mark.parametrize("kinds", [("seed",), ("order",), ("subset",), ("seed", "order", "subset")])
def test_a_member_of_a_stack_is_the_member_trained_alone(
    make_trainer: MakeTrainer, architecture: AcousticModelConfig, kinds: tuple[str, ...]
) -> None:
    """After 200 steps, in float32, whatever distinguishes the members."""
    if architecture.architecture != "dnn":
        kinds = tuple(kind for kind in kinds if kind != "order") or ("seed",)
    config = CONFIG.model_copy(update={"num_epochs": 40, "patience": 40})
    diversity = Diversity(5, SEEDS if "order" in kinds else None, SEEDS if "subset" in kinds else None)
    seeds = SEEDS if "seed" in kinds else (7, 7, 7)
    arguments = {"config": config, "model": architecture, "pool_frames": 300}
    stack = make_trainer(seeds, diversity=diversity, **arguments).train()
    assert stack.step >= 200
    for member in range(3):
        own = diversity.of_members([member])
        alone = make_trainer([seeds[member]], f"alone{member}", diversity=own, **arguments).train()
        assert_close(stack, member, alone)
        others = [measure_distance(stack, other, alone) for other in range(3) if other != member]
        assert min(others) > 0.01, "members differ"


def test_members_may_have_hard_weights_of_their_own(make_trainer: MakeTrainer) -> None:
    stack = make_trainer([7, 7], objective=Objective((0.5, 0.0), 2.0)).train()
    for member, weight in enumerate((0.5, 0.0)):
        alone = make_trainer([7], f"alone{member}", objective=Objective((weight,), 2.0)).train()
        assert_close(stack, member, alone)
    assert measure_distance(stack, 0, alone) > 0.01


def test_smoothing_is_training_on_uniform_soft_targets(make_trainer: MakeTrainer) -> None:
    """Whatever soft targets the frames have; torch's own label smoothing is in test_loss.py."""
    smoothed = make_trainer([7], objective=Objective((0.3,), smooths=True)).train()
    taught = make_trainer([7], "taught", objective=Objective((0.3,))).train()
    assert measure_distance(smoothed, 0, taught) > 1e-3  # where those that are close are 1e-5 apart
    trainer = make_trainer([7], "uniform", objective=Objective((0.3,)))
    assert isinstance(trainer.train_frames, LabelledFrames)
    trainer.train_frames.soft_targets = DenseTargets(
        np.full((len(trainer.train_frames.frames), 4), 0.25, np.float16)
    )
    assert_close(smoothed, 0, trainer.train())


def test_what_is_trained_is_kept_and_not_trained_again(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Also where it was killed between the weights and the checkpoint."""

    def make(checkpoint_path: Path) -> Trainer:
        trainer = make_trainer()
        trainer.checkpoint_path = checkpoint_path
        return trainer

    path, names = tmp_path / "kept.safetensors", ["a", "b", "c"]
    first = train_once(path, names, make)
    assert [curve["name"] for curve in first.curves] == names
    assert first.dev_frame_accuracies == [max(curve["dev_frame_accuracy"]) for curve in first.curves]
    checkpoint = tmp_path / "kept.checkpoint.safetensors"
    assert not checkpoint.exists()
    checkpoint.write_bytes(b"left behind")

    def refuse(_: Path) -> Trainer:
        raise AssertionError("trained again")

    again = train_once(path, names, refuse)
    assert again.curves == first.curves and not checkpoint.exists()
    for weight, other in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_the_last_weights_are_kept_on_request(make_trainer: MakeTrainer) -> None:
    """Whatever dev says of them, and no member leaves early."""
    unsteady = CONFIG.model_copy(
        update={"num_epochs": 6, "patience": 1, "learning_rate": 0.05, "keeps": "last"}
    )
    state = make_trainer(config=unsteady).train()
    assert {len(history.dev_frame_accuracy) for history in state.histories} == {6}
    assert any(history.best_epoch < 6 for history in state.histories)
    for best, last in zip(state.best.parameters(), state.model.parameters(), strict=True):
        assert torch.equal(best, last)


def test_what_is_told_of_a_model_is_told_of_the_weights_that_were_kept(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    changed = {"num_epochs": 6, "learning_rate": 0.05, "keeps": "last"}

    def make(checkpoint_path: Path) -> Trainer:
        trainer = make_trainer(config=CONFIG.model_copy(update=changed))
        trainer.checkpoint_path = checkpoint_path
        return trainer

    trained = train_once(tmp_path / "kept.safetensors", ["a", "b", "c"], make)
    assert trained.dev_frame_accuracies == [curve["dev_frame_accuracy"][-1] for curve in trained.curves]
    assert {curve["best_epoch"] for curve in trained.curves} == {6}


class Killed(BaseException):
    """What ends a run at once."""


def kill_after(patch: pytest.MonkeyPatch, num_steps: int) -> None:
    """Let a run write a checkpoint after every step, and end when it wants to do one more than so many."""
    step, offer, done = training._Epoch._step, CheckpointWriter.offer, 0

    def step_or_die(self: training._Epoch, batch: Batch) -> None:
        nonlocal done
        if done == num_steps:
            raise Killed
        done += 1
        step(self, batch)

    def offer_and_wait(self: CheckpointWriter, state: TrainingState) -> None:
        offer(self, state)
        if self.writing:
            self.writing.result()

    patch.setattr(training._Epoch, "_step", step_or_die)
    patch.setattr(CheckpointWriter, "offer", offer_and_wait)
    patch.setattr(CheckpointWriter, "MAX_SHARE", 1e9)


# Members leave at different epochs: the rate is high, and no epoch may be worse than the best.
UNSTEADY = CONFIG.model_copy(update={"num_epochs": 8, "patience": 1, "learning_rate": 0.05})
EVERYTHING = Diversity(5, SEEDS, SEEDS)


def test_resumed_equals_uninterrupted_byte_for_byte(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pools, own orders, bags, dropout; stopped within, right before and after the end of epochs."""
    arguments = {"config": UNSTEADY, "diversity": EVERYTHING, "pool_frames": 150}
    whole = make_trainer(name="whole", **arguments).train()
    epochs = sorted(len(history.train_loss) for history in whole.histories)
    assert epochs[0] < epochs[-1], "a member is to leave before the others"
    expected, left = read_bytes(whole, tmp_path), STEPS_AN_EPOCH * epochs[0]
    assert whole.step > left + 1
    for num_steps in (
        0,
        1,
        3,
        STEPS_AN_EPOCH - 1,
        STEPS_AN_EPOCH,
        STEPS_AN_EPOCH + 1,
        left,
        left + 1,
        left + 3,
    ):
        with monkeypatch.context() as patch:
            kill_after(patch, num_steps)
            with pytest.raises(Killed):
                make_trainer(name=f"stopped{num_steps}", **arguments).train()
        resumed = make_trainer(name=f"stopped{num_steps}", **arguments)
        steps = count_steps(resumed, monkeypatch)
        assert read_bytes(resumed.train(), tmp_path) == expected
        assert len(steps) == whole.step - num_steps, "it is gone on from where it was"


def count_steps(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that a trainer does from here on, by what dropout is told."""
    steps: list[int] = []
    compute = DnnGradient.compute

    def spy(self: DnnGradient, batch: Batch, weights: torch.Tensor, temperature: float) -> torch.Tensor:
        if self.model is trainer.state.model:
            steps.append(self.dropout.step)
        return compute(self, batch, weights, temperature)

    monkeypatch.setattr(DnnGradient, "compute", spy)
    return steps


@of_each_kind
def test_stopped_again_and_again(
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    architecture: AcousticModelConfig,
    tmp_path: Path,
) -> None:
    """Each run does two steps more."""
    config = CONFIG.model_copy(update={"num_epochs": 2})
    arguments = {
        "config": config, "model": architecture, "pool_frames": 150, "diversity": Diversity(5, None, SEEDS),
        "objective": Objective((0.5, 0.1, 0.0), 2.0),
    }  # fmt: skip
    expected = make_trainer(name="whole", **arguments).train()
    num_runs, state = 0, None
    while state is None:
        num_runs += 1
        assert num_runs < 30
        with monkeypatch.context() as patch:
            kill_after(patch, 2)
            try:
                state = make_trainer(name="stopped", **arguments).train()
            except Killed:
                continue
    assert num_runs == expected.step // 2 + 1 if expected.step % 2 else expected.step // 2
    assert read_bytes(state, tmp_path) == read_bytes(expected, tmp_path)


def test_stopped_while_it_judges(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = read_bytes(make_trainer(name="whole").train(), tmp_path)
    with monkeypatch.context() as patch:
        kill_after(patch, -1)

        def die(*_: object) -> Evaluation:
            raise Killed

        patch.setattr(training, "evaluate", die)
        with pytest.raises(Killed):
            make_trainer().train()
    resumed = make_trainer()
    steps = count_steps(resumed, monkeypatch)
    assert read_bytes(resumed.train(), tmp_path) == expected
    assert steps[0] == STEPS_AN_EPOCH, "nothing but the judgement was left of the first epoch"


def test_a_finished_training_is_not_trained_again(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the last step's checkpoint was written; the last judgement is repeated."""
    with monkeypatch.context() as patch:
        kill_after(patch, -1)
        before = read_bytes(make_trainer().train(), tmp_path)
    again = make_trainer()
    steps = count_steps(again, monkeypatch)
    assert read_bytes(again.train(), tmp_path) == before
    assert steps == []


def script_dev(monkeypatch: pytest.MonkeyPatch, curves: dict[int, list[float]]) -> list[AcousticModel]:
    """Let dev frame accuracies follow a script; gives the models judged, epoch by epoch."""
    judged: list[AcousticModel] = []

    def judge(model: AcousticModel, *_: object) -> Evaluation:
        epoch = len(judged)
        judged.append(model.select_members(range(model.num_members)))
        values = [curve[epoch] for curve in curves.values() if epoch < len(curve)]
        assert len(values) == model.num_members
        return Evaluation(torch.tensor(values), torch.ones(len(values)))

    monkeypatch.setattr(training, "evaluate", judge)
    return judged


@pytest.mark.parametrize("diversity", [SHARED, EVERYTHING])
def test_a_finished_member_leaves_and_the_others_do_not_notice(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, diversity: Diversity
) -> None:
    config = CONFIG.model_copy(update={"patience": 2, "num_epochs": 6})
    # Member 1 is best after its first epoch, so that it leaves after the third; member 2 takes its row.
    curves = {0: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1: [0.5, 0.4, 0.5], 2: [0.1, 0.2, 0.3, 0.4, 0.6, 0.5]}
    judged = script_dev(monkeypatch, curves)
    state = make_trainer(config=config, diversity=diversity).train()
    assert [model.num_members for model in judged] == [3, 3, 3, 2, 2, 2]
    assert [history.best_epoch for history in state.histories] == [6, 1, 5]
    assert [len(history.train_loss) for history in state.histories] == [6, 3, 6]
    assert state.active == [0, 2]
    assert len(state.loss_sum) == 2
    assert all(len(moment["exp_avg"]) == 2 for moment in state.optimizer.state.values())
    for member, (epoch, row) in enumerate([(6, 0), (1, 1), (5, 1)]):
        expected = judged[epoch - 1].select_members([row])
        for kept, weights in zip(state.best.parameters(), expected.parameters(), strict=True):
            assert torch.equal(kept[member], weights[0])
    for member in (0, 2):
        script_dev(monkeypatch, {0: curves[member]})
        own = diversity.of_members([member])
        alone = make_trainer([SEEDS[member]], f"alone{member}", config, diversity=own)
        assert_close(state, member, alone.train())


def spy_on_batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    batches: list[Batch] = []
    compute = DnnGradient.compute

    def spy(self: DnnGradient, batch: Batch, weights: torch.Tensor, temperature: float) -> torch.Tensor:
        batches.append(batch)
        return compute(self, batch, weights, temperature)

    monkeypatch.setattr(DnnGradient, "compute", spy)
    return batches


def test_every_epoch_has_an_order_of_its_own(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = spy_on_batches(monkeypatch)
    make_trainer([1]).train()
    assert len(batches) == STEPS_AN_EPOCH * CONFIG.num_epochs
    firsts = [batch.inputs for batch in batches[::STEPS_AN_EPOCH]]
    assert all(not torch.equal(one, other) for i, one in enumerate(firsts) for other in firsts[:i])


def test_members_get_the_orders_and_bags_that_they_are_to_have(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = spy_on_batches(monkeypatch)
    trainer = make_trainer(diversity=EVERYTHING)
    trainer.train()
    counts = draw_bags(SEEDS, 7)
    assert not torch.equal(counts[0], counts[1])
    for batch in batches:
        assert batch.inputs.shape == (3, 64, 9)
        assert batch.weights is not None
        assert not torch.equal(batch.inputs[0], batch.inputs[1])
    frames = trainer.train_frames
    all_windows = frames.take_windows(frames.usable[None], Dnn(MODEL, 3, 4, 1)).inputs[0]
    utterances = frames.find_utterances(frames.usable)
    for member in range(3):
        for window, weight in zip(batches[0].inputs[member], batches[0].weights[member], strict=True):
            (place,) = torch.nonzero((all_windows == window).all(1))[0]
            assert weight == counts[member, utterances[place]]


def test_steps_are_counted_through_all_epochs(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout follows the count: starting anew each epoch would repeat it."""
    trainer = make_trainer([1])
    steps = count_steps(trainer, monkeypatch)
    trainer.train()
    assert steps == list(range(CONFIG.num_epochs * STEPS_AN_EPOCH))


def test_training_ends_when_all_have_finished(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = script_dev(monkeypatch, {0: [0.5, 0.4]})
    state = make_trainer([1], config=CONFIG.model_copy(update={"patience": 1, "num_epochs": 50})).train()
    assert (state.epoch, state.active, len(judged)) == (2, [], 2)


@of_each_kind
def test_the_toy_problem_is_learnt(make_trainer: MakeTrainer, architecture: AcousticModelConfig) -> None:
    num_epochs = 25 if architecture.architecture == "dnn" else 60  # fewer batches, one layer less
    config = CONFIG.model_copy(update={"num_epochs": num_epochs, "learning_rate": 0.01, "dropout": 0.1})
    state = make_trainer(config=config, model=architecture).train()
    # Chance is 0.25; 492 frames do not teach where the quadrants meet to the last per cent.
    assert min(max(history.dev_frame_accuracy) for history in state.histories) > 0.88
    assert state.histories[0].train_loss[0] > 2 * state.histories[0].train_loss[-1]


def test_a_split_smaller_than_a_batch_trains(make_trainer: MakeTrainer) -> None:
    config = CONFIG.model_copy(update={"batch_size": 100_000, "num_epochs": 2})
    state = make_trainer(config=config).train()
    assert np.isfinite(state.histories[0].train_loss).all()
    assert state.step == 2


def test_the_epochs_loss_is_the_mean_over_its_batches(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[torch.Tensor] = []
    compute = DnnGradient.compute

    def spy(self: DnnGradient, batch: Batch, weights: torch.Tensor, temperature: float) -> torch.Tensor:
        losses.append(compute(self, batch, weights, temperature).clone())
        return losses[-1]

    monkeypatch.setattr(DnnGradient, "compute", spy)
    state = make_trainer().train()
    means = torch.stack(losses).double().view(CONFIG.num_epochs, STEPS_AN_EPOCH, 3).mean(1)
    for member, history in enumerate(state.histories):
        assert history.train_loss == pytest.approx(means[:, member].tolist())


def test_a_loss_that_is_no_number_is_told(make_trainer: MakeTrainer) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(RecipeError, match=r"diverged in epoch 1.*lower training\.learning_rate"):
        make_trainer(config=config).train()


@of_each_kind
@torch.no_grad()
def test_evaluation_equals_torch(
    make_frames: MakeFrames, architecture: AcousticModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asrdistill.nn.batches.EVALUATION_FRAMES", 400)  # several batches, some padded
    frames = make_frames(3)
    model = ARCHITECTURES[architecture.architecture](architecture, 3, 4, 2).initialize([1, 2])
    found = evaluate(model, frames)
    spans = [slice(*frames.starts[u : u + 2]) for u in range(frames.num_utterances) if u != 3]
    pdf_ids = torch.from_numpy(np.concatenate([frames.pdf_ids[span] for span in spans])).long()
    logits = torch.cat([model.compute_logits(frames.frames[span]) for span in spans], 1)
    for member in range(2):
        accuracy = (logits[member].argmax(1) == pdf_ids).double().mean()
        assert float(found.frame_accuracy[member]) == pytest.approx(float(accuracy))
        loss = cross_entropy(logits[member], pdf_ids)
        assert float(found.cross_entropy[member]) == pytest.approx(float(loss), rel=1e-5)


def test_nothing_to_evaluate_gives_numbers_all_the_same() -> None:
    frames = LabelledFrames(np.ones((5, 3), np.float16), np.array([0, 5]), np.full(5, -1, np.int32))
    found = evaluate(Dnn(MODEL, 3, 4, 2), frames)
    assert found.frame_accuracy.tolist() == found.cross_entropy.tolist() == [0, 0]


def list_rates(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    trainer.train()
    return rates


def test_rate_rises_then_falls_to_its_final_share(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainingConfig(
        num_epochs=10, learning_rate=0.005, warmup_share=0.1, final_rate_share=0.02, batch_size=24,
        patience=10, precision="fp32",
    )  # fmt: skip
    rates = list_rates(make_trainer([1], config=config), monkeypatch)
    assert len(rates) == 200
    assert 0 < rates[0] < 0.0003
    assert max(rates) == pytest.approx(0.005)
    assert rates.index(max(rates)) == 20
    assert rates[-1] == pytest.approx(0.0001, rel=0.02)
    assert rates[110] == pytest.approx((0.005 + 0.0001) / 2)
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()


def test_without_warmup_the_rate_starts_at_its_highest(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"warmup_share": 0.0, "final_rate_share": 1.0})
    assert list_rates(make_trainer([1], config=config), monkeypatch) == [1e-3] * 28


def test_weight_decay_shrinks_weights(make_trainer: MakeTrainer) -> None:
    lengths = []
    for decay in (0.0, 1.0):
        config = CONFIG.model_copy(update={"weight_decay": decay, "learning_rate": 0.01})
        model = make_trainer([1], f"decay{decay}", config).train().model
        lengths.append(float(torch.cat([p.detach().flatten() for p in model.parameters()]).norm()))
    assert lengths[1] < 0.95 * lengths[0]


def test_metrics_tell_of_every_epoch_once(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also those of a run that was stopped right after an epoch, before the next checkpoint."""
    folder = tmp_path / "metrics"
    with monkeypatch.context() as patch:
        kill_after(patch, STEPS_AN_EPOCH)
        with pytest.raises(Killed):
            make_trainer(metrics_dir=folder).train()
    state = make_trainer(metrics_dir=folder).train()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    judged = [line for line in lines if "dev_frame_accuracy" in line]
    assert [line["step"] for line in judged] == [STEPS_AN_EPOCH * epoch for epoch in (1, 2, 3, 4)]
    for epoch, line in enumerate(judged):
        for seed, history in zip(SEEDS, state.histories, strict=True):
            assert line["dev_frame_accuracy"][f"member {seed}"] == history.dev_frame_accuracy[epoch]
    steps = [line["step"] for line in lines if "train_loss" in line]
    assert steps == list(range(1, 4 * STEPS_AN_EPOCH + 1))
