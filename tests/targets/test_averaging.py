"""The ensemble's average against a loop over teachers."""

import numpy as np
import pytest
import scipy.special
import torch

from asrdistill.features.context import ContextConfig
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dnn import Dnn
from asrdistill.targets.averaging import ask_teachers

CONFIG = AcousticModelConfig(num_hidden_layers=1, hidden_size=16, context=ContextConfig(past=1, future=0))
NUM_BINS, NUM_PDFS = 3, 5
NUM_TEACHERS = 4
TEMPERATURES = (1.0, 2.0, 10.0)


@pytest.fixture
def teachers() -> Dnn:
    model = Dnn(CONFIG, NUM_BINS, NUM_PDFS, NUM_TEACHERS).initialize(range(NUM_TEACHERS))
    with torch.no_grad():
        model.weights[-1].mul_(30)  # opinions that differ
    return model


@pytest.fixture
def frames() -> np.ndarray:
    """One utterance."""
    return np.random.default_rng(0).normal(size=(20, NUM_BINS)).astype(np.float16)


def test_average_is_the_mean_of_the_teachers_softmaxes(teachers: Dnn, frames: np.ndarray) -> None:
    averages = ask_teachers(teachers, frames, TEMPERATURES).averages
    assert averages.shape == (3, 20, 5)
    for temperature, average in zip(TEMPERATURES, averages, strict=True):
        expected = np.zeros((20, 5))
        for teacher in range(NUM_TEACHERS):
            logits = teachers.select_members([teacher]).compute_logits(frames)[0].double().numpy()
            expected += scipy.special.softmax(logits / temperature, axis=1) / NUM_TEACHERS
        np.testing.assert_allclose(average, expected, atol=1e-6)


def test_rows_sum_to_one(teachers: Dnn, frames: np.ndarray) -> None:
    sums = torch.from_numpy(ask_teachers(teachers, frames, TEMPERATURES).averages).sum(2)
    torch.testing.assert_close(sums, torch.ones(3, 20), atol=1e-6, rtol=0)


def test_order_of_the_teachers_does_not_matter(teachers: Dnn, frames: np.ndarray) -> None:
    other = teachers.select_members([2, 0, 3, 1])
    first, second = (
        torch.from_numpy(ask_teachers(model, frames, TEMPERATURES).averages) for model in (teachers, other)
    )
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


def test_the_geometric_average_is_the_softmax_of_the_mean_logits(teachers: Dnn, frames: np.ndarray) -> None:
    """That is the geometric mean of their posteriors, made to sum to 1; and not the arithmetic one."""
    found = ask_teachers(teachers, frames, TEMPERATURES, "geometric").averages
    for temperature, average in zip(TEMPERATURES, found, strict=True):
        members = [teachers.select_members([n]).compute_logits(frames)[0] for n in range(NUM_TEACHERS)]
        posteriors = [scipy.special.softmax(m.double().numpy() / temperature, axis=1) for m in members]
        product = np.prod(posteriors, axis=0) ** (1 / NUM_TEACHERS)
        np.testing.assert_allclose(average, product / product.sum(1, keepdims=True), atol=1e-6)
    arithmetic = ask_teachers(teachers, frames, (1.0,)).averages
    assert np.abs(arithmetic[0] - found[0]).max() > 0.05


def test_one_temperature_of_the_geometric_average_gives_any_other(teachers: Dnn, frames: np.ndarray) -> None:
    cold, warm = torch.from_numpy(ask_teachers(teachers, frames, (1.0, 3.0), "geometric").averages)
    torch.testing.assert_close(torch.softmax(cold.log() / 3, 1), warm)


def test_one_temperature_cannot_be_made_from_another(teachers: Dnn, frames: np.ndarray) -> None:
    """Tempering an average is not averaging tempered posteriors: why the reader refuses to."""
    cold, warm = torch.from_numpy(ask_teachers(teachers, frames, (1.0, 3.0)).averages)
    tempered = torch.softmax(cold.log() / 3, 1)
    assert (tempered - warm).abs().max() > 0.01


def test_bf16_teachers_are_averaged_in_float32(teachers: Dnn, frames: np.ndarray) -> None:
    exact = torch.from_numpy(ask_teachers(teachers, frames, (2.0,)).averages)
    teachers.compute_dtype = torch.bfloat16
    rough = torch.from_numpy(ask_teachers(teachers, frames, (2.0,)).averages)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.sum(2), torch.ones(1, 20), atol=1e-6, rtol=0)
    torch.testing.assert_close(rough, exact, atol=0.03, rtol=0)


def test_votes_and_distance_by_hand(teachers: Dnn, frames: np.ndarray) -> None:
    opinion = ask_teachers(teachers, frames, (2.0, 1.0))
    members = [
        teachers.select_members([n]).compute_logits(frames)[0].double().numpy() for n in range(NUM_TEACHERS)
    ]
    for frame in range(len(frames)):
        votes = np.bincount([int(member[frame].argmax()) for member in members])
        assert opinion.votes[frame] == votes.max()
        posteriors = [scipy.special.softmax(member[frame] / 2) for member in members]
        mean = np.mean(posteriors, axis=0)
        divergence = np.mean([scipy.special.rel_entr(p, mean).sum() for p in posteriors])
        expected = 255 * np.sqrt(divergence / np.log(NUM_TEACHERS))
        assert opinion.distance[frame] == pytest.approx(expected, abs=0.51)
    assert len(set(opinion.votes.tolist())) > 1
    assert opinion.distance.max() > 60


def test_a_single_teacher_agrees_with_itself(teachers: Dnn, frames: np.ndarray) -> None:
    opinion = ask_teachers(teachers.select_members([1]), frames, (2.0,))
    assert (opinion.votes == 1).all() and (opinion.distance == 0).all()
