"""What teachers are said to make of augmented speech, against softmaxes in float64."""

import numpy as np
import pytest
import scipy.special
import torch

from asrdistill.errors import ContractError
from asrdistill.features.context import ContextConfig
from asrdistill.features.perturbation import PerturbationConfig, perturb_traced
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dnn import Dnn
from asrdistill.targets.augmentation_check import AUGMENTATIONS, Checked, check_augmentations, render

CONFIG = AcousticModelConfig(num_hidden_layers=1, hidden_size=16, context=ContextConfig(past=1, future=1))
NUM_BINS, NUM_PDFS, NUM_TEACHERS = 4, 6, 3
STILL = PerturbationConfig(max_warp=0, channel=0, max_gain=0)
SEVERAL = {
    "still": STILL,
    "noise": STILL.model_copy(update={"noise": 0.3}),
    "speed": STILL.model_copy(update={"max_speed": 0.4}),
}


@pytest.fixture
def teachers() -> Dnn:
    model = Dnn(CONFIG, NUM_BINS, NUM_PDFS, NUM_TEACHERS).initialize(range(NUM_TEACHERS))
    with torch.no_grad():
        model.weights[-1].mul_(30)  # opinions that differ
    return model


@pytest.fixture
def utterances() -> list[np.ndarray]:
    """Three, of speech that changes within some frames; one of a single frame."""
    rng = np.random.default_rng(0)
    steps = [rng.normal(size=(length, NUM_BINS)) for length in (50, 1, 90)]
    return [np.repeat(step, 3, 0).astype(np.float16) for step in steps]


@pytest.fixture
def pdf_ids(utterances: list[np.ndarray]) -> list[np.ndarray]:
    """Drawn, and a third of them missing."""
    rng = np.random.default_rng(1)
    return [np.where(np.arange(len(u)) % 3, rng.integers(0, NUM_PDFS, len(u)), -1) for u in utterances]


def ask_directly(teachers: Dnn, frames: np.ndarray, temperature: float) -> np.ndarray:
    """The mean of the teachers' softmaxes, float64 (frames, P), one teacher at a time."""
    members = [teachers.select_members([teacher]) for teacher in range(NUM_TEACHERS)]
    logits = [member.compute_logits(frames)[0].double().numpy() for member in members]
    return np.mean([scipy.special.softmax(row / temperature, axis=1) for row in logits], axis=0)


@pytest.mark.parametrize("name", SEVERAL)
def test_measures_are_those_of_a_loop_over_frames(
    teachers: Dnn, utterances: list[np.ndarray], pdf_ids: list[np.ndarray], name: str
) -> None:
    divergences, same, right = [], [], []
    for number, frames in enumerate(utterances):
        view, origins = perturb_traced(frames, np.random.default_rng((7, number)), SEVERAL[name])
        before = ask_directly(teachers, frames, 2.0)
        after = ask_directly(teachers, view.astype(np.float16), 2.0)
        for frame, origin in enumerate(origins):
            divergences.append(scipy.special.rel_entr(before[origin], after[frame]).sum())
            same.append(before[origin].argmax() == after[frame].argmax())
            if pdf_ids[number][origin] >= 0:
                right.append(after[frame].argmax() == pdf_ids[number][origin])
    checked = check_augmentations(teachers, utterances, pdf_ids, 2.0, SEVERAL, 7)
    (found,) = [one for one in checked if one.name == name]
    assert found.divergence == pytest.approx(np.mean(divergences), rel=1e-4, abs=1e-6)
    assert found.same_winner == pytest.approx(np.mean(same))
    assert found.accuracy == pytest.approx(np.mean(right))


def test_of_speech_as_it_is_teachers_say_what_they_said(teachers: Dnn, utterances: list[np.ndarray]) -> None:
    (found,) = check_augmentations(teachers, utterances, None, 1.0, {"none": AUGMENTATIONS["none"]}, 0)
    assert found.divergence == pytest.approx(0, abs=1e-6)
    assert (found.name, found.same_winner, found.accuracy) == ("none", 1.0, None)


@pytest.mark.parametrize("setting", ["noise", "channel", "max_gain", "max_warp"])
def test_stronger_augmentations_lead_further_from_cached_targets(
    teachers: Dnn, utterances: list[np.ndarray], setting: str
) -> None:
    strengths = (0.02, 0.1, 0.4)
    configs = {f"{strength}": STILL.model_copy(update={setting: strength}) for strength in strengths}
    checked = check_augmentations(teachers, utterances, None, 1.0, configs, 0)
    assert [one.name for one in checked] == ["0.02", "0.1", "0.4"]
    assert 0 < checked[0].divergence < checked[1].divergence < checked[2].divergence
    assert checked[0].same_winner > checked[2].same_winner


def test_cached_targets_follow_the_speed(teachers: Dnn) -> None:
    """Of speech that stands still for long, targets of the same place are right but at its edges."""
    steps = np.random.default_rng(0).normal(size=(30, NUM_BINS))
    slow = np.repeat(steps, 20, 0).astype(np.float16)
    configs = {"speed": AUGMENTATIONS["speed"]}
    (found,) = check_augmentations(teachers, [slow], None, 1.0, configs, 3)
    view, origins = perturb_traced(slow, np.random.default_rng((3, 0)), configs["speed"])
    before, after = (
        ask_directly(teachers, frames, 1.0).argmax(1) for frames in (slow, view.astype(np.float16))
    )
    assert np.abs(origins - np.arange(600)).max() > 5
    assert found.same_winner > 0.95 > 0.9 > (before == after).mean()


def test_the_average_is_the_one_that_is_asked_for(teachers: Dnn, utterances: list[np.ndarray]) -> None:
    configs = {"noise": SEVERAL["noise"]}
    frames = utterances[0]
    view, _ = perturb_traced(frames, np.random.default_rng((5, 0)), configs["noise"])
    logits = [
        teachers.compute_logits(asked).double().numpy().mean(0) for asked in (frames, view.astype(np.float16))
    ]
    before, after = (scipy.special.softmax(mean / 2, axis=1) for mean in logits)
    (found,) = check_augmentations(teachers, [frames], None, 2.0, configs, 5, "geometric")
    assert found.divergence == pytest.approx(scipy.special.rel_entr(before, after).sum(1).mean(), rel=1e-4)


def test_each_augmentation_is_one_alone() -> None:
    """A valid one that differs from none in one setting, another each."""
    nothing = AUGMENTATIONS["none"].model_dump()
    changed = {
        name: [key for key, value in config.model_dump().items() if value != nothing[key]]
        for name, config in AUGMENTATIONS.items()
    }
    assert changed.pop("none") == []
    assert sorted(changed) == ["bands", "channel", "gain", "gaps", "noise", "speed", "warp"]
    assert all(len(settings) == 1 for settings in changed.values())
    assert len({settings[0] for settings in changed.values()}) == len(changed)
    for config in AUGMENTATIONS.values():
        assert PerturbationConfig.model_validate(config.model_dump()) == config
    view, _ = perturb_traced(np.ones((9, 8), np.float16), np.random.default_rng(0), AUGMENTATIONS["none"])
    assert np.array_equal(view, np.ones((9, 8)))


def test_hard_targets_of_other_frames_are_refused(teachers: Dnn, utterances: list[np.ndarray]) -> None:
    shorter = [np.zeros(length, np.int32) for length in (150, 2, 269)]
    with pytest.raises(ContractError, match="number 1 has 3 frames and 2 hard"):
        check_augmentations(teachers, utterances, shorter, 1.0, SEVERAL, 0)
    with pytest.raises(ContractError, match="3 utterances, hard targets of 2"):
        check_augmentations(teachers, utterances, shorter[:2], 1.0, SEVERAL, 0)


@pytest.mark.parametrize("utterances", [[], [np.empty((0, NUM_BINS), np.float16)]])
def test_no_speech_is_refused(teachers: Dnn, utterances: list[np.ndarray]) -> None:
    with pytest.raises(ContractError, match="no frame"):
        check_augmentations(teachers, utterances, None, 1.0, SEVERAL, 0)


def test_the_table_tells_what_was_checked() -> None:
    table = render([Checked("none", -1e-9, 1.0, 0.75), Checked("noise", 0.12345, 0.9, None)])
    assert table.splitlines() == [
        "augmentation               KL  winner accuracy",
        "none                   0.0000  100.0%    75.0%",
        "noise                  0.1235   90.0%        -",
    ]
