"""Weights and training states on disk, and what a training state keeps."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from asrdistill.errors import ContractError, ExperimentError
from asrdistill.features.context import ContextConfig
from asrdistill.nn import checkpoint
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.checkpoint import (
    CheckpointWriter,
    History,
    TrainingState,
    load_model,
    load_state,
    read_epoch,
    save_model,
    save_state,
)
from asrdistill.nn.dnn import Dnn

CONFIG = AcousticModelConfig(num_hidden_layers=1, hidden_size=6, context=ContextConfig(past=1, future=0))
NUM_BINS, NUM_PDFS = 2, 3


def make_model(num_members: int) -> AcousticModel:
    return Dnn(CONFIG, NUM_BINS, NUM_PDFS, num_members).initialize(range(num_members))


def make_state(num_members: int = 3) -> TrainingState:
    """A state after one step with gradients that differ from member to member."""
    state = TrainingState.begin(make_model(num_members), "float32")
    step(state)
    state.histories[1].add(0.5, 0.25, 1.5)
    state.epoch, state.step, state.epoch_step = 1, 7, 2
    state.loss_sum += torch.tensor([0.5, 1.5, 2.5])
    return state


def step(state: TrainingState) -> None:
    for parameter in state.model.parameters():
        scale = torch.arange(1.0, parameter[0].numel() + 1).reshape(parameter.shape[1:])
        own = torch.tensor([1.0 + member for member in state.active])[:, None, None]
        parameter.grad = scale * own
    state.optimizer.step()


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_model_round_trip(tmp_path: Path) -> None:
    """Architecture and compute type come with the weights."""
    model = make_model(2)
    model.compute_dtype = torch.bfloat16
    description = {"what": "student", "speaker": "Zoë", "temperature": 2.0}
    save_model(tmp_path / "model.safetensors", model, description)
    loaded, found = load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, Dnn)
    assert_same_weights(model, loaded)
    assert (loaded.config, loaded.num_bins, loaded.num_pdfs) == (CONFIG, NUM_BINS, NUM_PDFS)
    assert (loaded.num_members, loaded.compute_dtype) == (2, torch.bfloat16)
    assert found.items() >= description.items()
    frames = torch.randn(5, NUM_BINS, generator=torch.Generator().manual_seed(0)).half()
    assert torch.equal(loaded.compute_logits(frames), model.compute_logits(frames))


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="run the stage that trains it"):
        load_model(tmp_path / "model.safetensors")


def test_state_round_trip(tmp_path: Path) -> None:
    state = make_state()
    path = tmp_path / "state.safetensors"
    state.retain([0, 2])
    save_state(path, state)
    loaded = load_state(path)
    assert loaded is not None
    assert (loaded.active, loaded.histories, loaded.epoch) == ([0, 2], state.histories, 1)
    assert (loaded.step, loaded.epoch_step, loaded.loss_sum.tolist()) == (7, 2, [0.5, 2.5])
    assert loaded.compute_dtype == "float32"
    assert_same_weights(loaded.best, state.best)
    for one in (state, loaded):  # the same gradients from here on
        step(one)
    assert_same_weights(loaded.model, state.model)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state.safetensors") is None
    assert read_epoch(tmp_path / "state.safetensors") is None


def test_the_epoch_is_read_alone(tmp_path: Path) -> None:
    save_state(tmp_path / "state.safetensors", make_state())
    assert read_epoch(tmp_path / "state.safetensors") == 1


def test_a_state_before_the_first_step_round_trips(tmp_path: Path) -> None:
    one = TrainingState.begin(make_model(2), "float32")
    save_state(tmp_path / "state", one)
    other = load_state(tmp_path / "state")
    assert other is not None
    for state in (one, other):
        step(state)
    assert_same_weights(one.model, other.model)


def test_a_state_whose_members_have_all_finished_round_trips(tmp_path: Path) -> None:
    state = make_state()
    state.retain([])
    save_state(tmp_path / "state", state)
    loaded = load_state(tmp_path / "state")
    assert loaded is not None
    assert (loaded.active, loaded.model.num_members, loaded.best.num_members) == ([], 0, 3)
    assert_same_weights(loaded.best, state.best)


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_state(tmp_path / name, make_state())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_who_stays_goes_on_as_if_nobody_had_left() -> None:
    """The optimiser's moments leave and stay with their members."""
    some, everyone = make_state(), make_state()
    some.retain([0, 2])
    assert some.active == [0, 2]
    assert some.loss_sum.tolist() == [0.5, 2.5]
    for name, tensor in some.tensors().items():
        if not name.startswith("best.") and tensor.dim():
            assert len(tensor) == 2, name
    for state in (some, everyone):
        step(state)
    for left, whole in zip(some.model.parameters(), everyone.model.parameters(), strict=True):
        assert torch.equal(left, whole[[0, 2]])


def test_best_weights_are_a_copy_of_the_right_member() -> None:
    state = make_state()
    state.retain([0, 2])
    before = state.best.select_members([0, 1])
    state.keep_best(row=1, member=2)
    kept = state.model.select_members([1])
    step(state)
    assert_same_weights(state.best.select_members([2]), kept)
    assert_same_weights(state.best.select_members([0, 1]), before)


def test_best_epoch_is_the_first_of_equals() -> None:
    history = History()
    assert history.best_epoch == 0
    for accuracy in (0.1, 0.4, 0.4, 0.3):
        history.add(1.0, accuracy, 1.0)
    assert history.best_epoch == 2


def test_curves_carry_names() -> None:
    curves = make_state().describe_curves(["a", "b", "c"])
    assert [curve["name"] for curve in curves] == ["a", "b", "c"]
    assert curves[1]["dev_frame_accuracy"] == [0.25]
    assert (curves[0]["best_epoch"], curves[1]["best_epoch"]) == (0, 1)


class Clock:
    """Time as a test wants it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(checkpoint.time, "monotonic", clock)
    return clock


Written = list[dict[str, torch.Tensor]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Written:
    """What is written, each write taking 2 s."""
    states: Written = []

    def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        clock.now += 2
        states.append({name: tensor.clone() for name, tensor in tensors.items()})

    monkeypatch.setattr(checkpoint, "_publish", write)
    return states


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CheckpointWriter]:
    """Writes as often as its interval says, whatever that costs."""
    monkeypatch.setattr(CheckpointWriter, "MAX_SHARE", 1e9)
    writer = CheckpointWriter(tmp_path / "state", 10.0)
    yield writer
    writer.close()


def offer_and_wait(writer: CheckpointWriter, state: TrainingState) -> None:
    writer.offer(state)
    if writer.writing:
        writer.writing.exception()


def test_none_is_due_before_the_interval(clock: Clock, written: Written, writer: CheckpointWriter) -> None:
    state = make_state()
    for seconds, expected in [(9.9, 0), (0.2, 1), (7.9, 1), (0.2, 2)]:  # writing takes 2 s of these
        clock.now += seconds
        offer_and_wait(writer, state)
        assert len(written) == expected


def test_a_written_state_is_the_one_that_was_offered(
    tmp_path: Path, clock: Clock, writer: CheckpointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread writes a copy: training goes on meanwhile."""
    state, may_write, write = make_state(), threading.Event(), checkpoint._publish
    save_state(tmp_path / "expected", state)

    def write_late(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        assert may_write.wait(10)
        write(path, tensors, metadata)

    monkeypatch.setattr(checkpoint, "_publish", write_late)
    clock.now += 10
    writer.offer(state)
    assert not (tmp_path / "state").exists()
    step(state)
    state.histories[0].add(1.0, 1.0, 1.0)
    state.loss_sum.zero_()
    state.step = state.epoch = 99
    clock.now += 100
    writer.offer(state)  # not due: one is being written
    may_write.set()
    writer.close()
    assert (tmp_path / "state").read_bytes() == (tmp_path / "expected").read_bytes()


def test_each_written_state_is_the_present_one(
    tmp_path: Path, clock: Clock, writer: CheckpointWriter
) -> None:
    """Before the optimiser has moments, with them, and after a member has left."""
    state = TrainingState.begin(make_model(3), "float32")
    for change in (lambda: None, lambda: step(state), lambda: state.retain([0, 2]), lambda: step(state)):
        change()
        clock.now += 10
        offer_and_wait(writer, state)
        save_state(tmp_path / "expected", state)
        assert (tmp_path / "state").read_bytes() == (tmp_path / "expected").read_bytes()


def test_checkpoints_cost_no_more_than_their_share(tmp_path: Path, clock: Clock, written: Written) -> None:
    """Writing takes 2 s; at a share of 3% the next one is not before 2 / 0.03 = 66.7 s."""
    writer = CheckpointWriter(tmp_path / "state", 10.0)
    state = make_state()
    clock.now += 10
    offer_and_wait(writer, state)
    begun = clock.now - 2
    for seconds, expected in [(20, 1), (66.6, 1), (66.7, 2)]:
        clock.now = begun + seconds
        offer_and_wait(writer, state)
        assert len(written) == expected
    writer.close()
    assert CheckpointWriter.MAX_SHARE == 0.03


def test_the_first_checkpoint_reckons_with_a_slow_disk(
    tmp_path: Path, clock: Clock, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_state()
    size_bytes = sum(tensor.nbytes for tensor in state.tensors().values())
    monkeypatch.setattr(checkpoint, "SLOW_DISK_BYTES_A_S", size_bytes / 3)  # 3 s, so none before 100 s
    writer = CheckpointWriter(tmp_path / "state", 10.0)
    for seconds, expected in [(99, 0), (2, 1)]:
        clock.now += seconds
        offer_and_wait(writer, state)
        assert len(written) == expected
    writer.close()


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_disk_that_is_full_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_the_end: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    monkeypatch.setattr(CheckpointWriter, "MAX_SHARE", 1e9)
    writer = CheckpointWriter(tmp_path / "state", 0.0)
    offer_and_wait(writer, make_state())
    with pytest.raises(ExperimentError, match="the disk is full"):
        writer.close() if at_the_end else writer.offer(make_state())
    assert list(tmp_path.iterdir()) == []
    writer.executor.shutdown()
