"""Weights and training states on disk, and what a training state keeps."""

from pathlib import Path

import pytest
import torch

from asrdistill.errors import ContractError
from asrdistill.nn.acoustic_model import StackedAcousticModel
from asrdistill.nn.checkpoint import (
    History,
    TrainingState,
    load_model,
    load_state,
    save_model,
    save_state,
)

SIZES = (4, 6, 3)


def make_state(num_members: int = 3) -> TrainingState:
    """A state after one step with gradients that differ from member to member."""
    model = StackedAcousticModel(SIZES, num_members).initialize(range(num_members))
    state = TrainingState.begin(model, "float32")
    step(state)
    state.histories[1].add(0.5, 0.25, 1.5)
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
    model = StackedAcousticModel(SIZES, 2).initialize([1, 2])
    description = {"what": "student", "speaker": "Zoë", "temperature": 2.0}
    save_model(tmp_path / "model.safetensors", model, description)
    loaded, found = load_model(tmp_path / "model.safetensors")
    assert_same_weights(model, loaded)
    assert found == description


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
    assert (loaded.active, loaded.histories, loaded.epoch) == (state.active, state.histories, state.epoch)
    assert loaded.compute_dtype == "float32"
    assert_same_weights(loaded.best, state.best)
    for one in (state, loaded):  # the same gradients from here on
        step(one)
    assert_same_weights(loaded.model, state.model)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state.safetensors") is None


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_state(tmp_path / name, make_state())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_who_stays_goes_on_as_if_nobody_had_left() -> None:
    """The optimiser's moments leave and stay with their members."""
    some, everyone = make_state(), make_state()
    some.retain([0, 2])
    assert some.active == [0, 2]
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
