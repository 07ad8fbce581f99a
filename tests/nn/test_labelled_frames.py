"""Labelled frames: what a batch holds of them, as single frames and as whole utterances."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from asrdistill.features.context import ContextConfig
from asrdistill.features.perturbation import PerturbationConfig, perturb
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.soft_targets import DenseTargets

STARTS = np.array([0, 13, 13, 30])


@pytest.fixture
def frames() -> LabelledFrames:
    """30 frames in three utterances, one of them empty; a frame's only coefficient is its number.

    Every third is not aligned.
    """
    numbers = np.arange(30)
    pdf_ids = np.where(numbers % 3 == 0, -1, numbers % 7).astype(np.int32)
    return LabelledFrames(
        numbers.astype(np.float16)[:, None], STARTS, pdf_ids, DenseTargets(np.eye(30, dtype=np.float16))
    )


ALIGNED = [number for number in range(30) if number % 3]


def make_config(past: int, future: int) -> AcousticModelConfig:
    return AcousticModelConfig(context=ContextConfig(past=past, future=future))


def make_model(past: int = 0, future: int = 0) -> Dnn:
    return Dnn(make_config(past, future), 1, 7, 1)


def test_usable_frames_are_counted(frames: LabelledFrames) -> None:
    assert len(frames) == 20
    assert frames.num_utterances == 3
    assert frames.num_usable.tolist() == [8, 0, 12]
    assert frames.lengths.tolist() == [13, 0, 17]
    assert frames.usable.tolist() == ALIGNED


def test_soft_targets_alone_are_enough_where_that_is_asked_for(
    frames: LabelledFrames, utterance_model_type: type[AcousticModel]
) -> None:
    model = utterance_model_type(make_config(0, 0), 1, 7, 1)
    alone = LabelledFrames(
        frames.frames, frames.starts, frames.pdf_ids, frames.soft_targets, uses_soft_alone=True
    )
    for all_frames in (alone, alone.select(np.arange(3))):
        assert (len(all_frames), all_frames.usable.tolist()) == (30, list(range(30)))
        assert all_frames.num_usable.tolist() == [13, 0, 17]
        batch = all_frames.take_utterances(np.array([0]), model)
        assert batch.weights is not None and batch.weights.tolist() == [[1] * 13]
        assert (batch.num_frames, batch.pdf_ids[0].tolist()) == (13, frames.pdf_ids[:13].tolist())


def test_frames_know_their_utterance(frames: LabelledFrames) -> None:
    wanted = torch.tensor([[0, 12, 13], [29, 5, 14]])
    assert frames.find_utterances(wanted).tolist() == [[0, 0, 2], [2, 0, 2]]


@pytest.mark.parametrize("num_sets", [1, 3])
def test_targets_stay_with_their_frames(frames: LabelledFrames, num_sets: int) -> None:
    rng = np.random.default_rng(0)
    centres = torch.from_numpy(np.stack([rng.permutation(ALIGNED)[:9] for _ in range(num_sets)]))
    batch = frames.take_windows(centres, make_model())
    assert batch.lengths is None and batch.weights is None
    assert batch.num_frames == 9
    assert torch.equal(batch.inputs[..., 0].long(), centres)
    assert torch.equal(batch.pdf_ids, centres % 7)
    assert isinstance(batch.soft_targets, torch.Tensor)
    assert batch.soft_targets.dtype == torch.float32
    assert torch.equal(batch.soft_targets.argmax(2), centres)


def test_unaligned_frames_are_context(frames: LabelledFrames) -> None:
    batch = frames.take_windows(frames.usable[None, :2], make_model(1, 1))
    # Frame 0 is not aligned, but frame 1 sees it.
    assert batch.inputs[0].tolist() == [[0, 1, 2], [1, 2, 3]]


def test_utterances_do_not_see_each_other(frames: LabelledFrames) -> None:
    batch = frames.take_windows(torch.tensor([[12, 13]]), make_model(2, 2))
    assert batch.inputs[0].tolist() == [[10, 11, 12, 12, 12], [13, 13, 13, 14, 15]]


def test_whole_utterances_are_padded_by_their_edges(
    frames: LabelledFrames, utterance_model_type: type[AcousticModel]
) -> None:
    model = utterance_model_type(make_config(2, 1), 1, 7, 1)
    batch = frames.take_utterances(np.array([2, 0]), model)
    assert batch.lengths is not None and batch.weights is not None
    assert isinstance(batch.soft_targets, torch.Tensor)
    assert batch.lengths.tolist() == [17, 13]
    assert batch.inputs.shape == (2, 2 + 17 + 1, 1)
    assert batch.inputs[0, :, 0].tolist() == [13, 13, *range(13, 30), 29]
    assert batch.inputs[1, :, 0].tolist() == [0, 0, *range(13), *[12] * 5]
    numbers = torch.tensor([*range(13, 30), *range(13), *[-1] * 4])
    counts = (numbers >= 0) & (numbers % 3 != 0)
    assert torch.equal(batch.weights, counts[None].float())
    assert batch.num_frames == 20
    assert torch.equal(batch.pdf_ids[0][counts], numbers[counts] % 7)
    assert ((batch.pdf_ids >= 0) & (batch.pdf_ids < 7)).all(), "padding too must be an index"
    assert torch.equal(batch.soft_targets[0].argmax(1)[counts], numbers[counts])


def test_padding_counts_for_nothing_and_is_the_utterances_own(
    utterance_model_type: type[AcousticModel],
) -> None:
    """Also beyond the split's last frame, and where the frame that is repeated has a hard target."""
    numbers = np.arange(8)
    frames = LabelledFrames(
        numbers.astype(np.float16)[:, None],
        np.array([0, 5, 6, 8]),
        numbers.astype(np.int32),
        DenseTargets(np.eye(8, dtype=np.float16)),
    )
    batch = frames.take_utterances(np.array([0, 2]), utterance_model_type(make_config(0, 1), 1, 8, 1))
    assert batch.weights is not None
    assert isinstance(batch.soft_targets, torch.Tensor)
    assert batch.weights.tolist() == [[1, 1, 1, 1, 1, 1, 1, 0, 0, 0]]
    assert batch.num_frames == 7
    assert batch.pdf_ids.tolist() == [[0, 1, 2, 3, 4, 6, 7, 7, 7, 7]]
    assert torch.equal(batch.soft_targets.argmax(2), batch.pdf_ids)


def test_selected_utterances_are_a_copy_in_memory(frames: LabelledFrames) -> None:
    selected = frames.select(np.array([2, 1, 0, 2]))
    numbers = [*range(13, 30), *range(13), *range(13, 30)]
    assert selected.frames[:, 0].tolist() == numbers
    assert selected.starts.tolist() == [0, 17, 17, 30, 47]
    assert selected.num_usable.tolist() == [12, 0, 8, 12]
    assert np.array_equal(selected.pdf_ids, frames.pdf_ids[numbers])
    assert isinstance(selected.soft_targets, DenseTargets) and isinstance(frames.soft_targets, DenseTargets)
    assert np.array_equal(selected.soft_targets.probabilities, frames.soft_targets.probabilities[numbers])
    assert not any(
        np.shares_memory(one, other)
        for one, other in ((selected.frames, frames.frames), (selected.pdf_ids, frames.pdf_ids))
    )
    selected.frames[:] = 0
    assert frames.frames[29, 0] == 29


def test_nothing_selected_is_empty(frames: LabelledFrames) -> None:
    selected = frames.select(np.array([], np.int64))
    assert (len(selected), selected.num_utterances, selected.frames.shape) == (0, 0, (0, 1))


def test_teachers_have_no_soft_targets(make_frames: Callable[..., LabelledFrames]) -> None:
    frames = make_frames(0)
    assert frames.take_windows(frames.usable[None, :5], make_model()).soft_targets is None
    selected = frames.select(np.array([0, 2]))
    assert selected.soft_targets is None


@pytest.mark.parametrize("reads_utterances", [False, True])
def test_weights_say_how_much_a_frame_counts(
    frames: LabelledFrames, utterance_model_type: type[AcousticModel], reads_utterances: bool
) -> None:
    """They go with their frames, and the number of frames that the loss is the mean over stays."""
    weights = np.arange(30, dtype=np.float32) / 30
    weighted = LabelledFrames(frames.frames, frames.starts, frames.pdf_ids, frames.soft_targets, weights)
    selected = weighted.select(np.array([2, 0]))
    if reads_utterances:
        model = utterance_model_type(make_config(0, 0), 1, 7, 1)
        batch = selected.take_utterances(np.array([0, 1]), model)
    else:
        batch = selected.take_windows(selected.usable[None], make_model())
    assert batch.weights is not None and batch.num_frames == 20
    counted = batch.weights[0] > 0
    found = batch.inputs.flatten()[: len(counted)][counted]
    torch.testing.assert_close(batch.weights[0][counted], found.float() / 30)
    assert int(counted.sum()) == 20


PLAYED = PerturbationConfig(max_warp=0, channel=0, max_gain=0, max_speed=0.3)
LONG_STARTS = np.array([0, 60, 60, 61, 200])


def make_long(uses_soft_alone: bool = False) -> LabelledFrames:
    """200 frames, each its number, of which those from 20 on to 35 and the last 25 are not aligned."""
    numbers = np.arange(200)
    is_aligned = ((numbers < 20) | (numbers >= 35)) & (numbers < 175)
    return LabelledFrames(
        numbers.astype(np.float16)[:, None],
        LONG_STARTS,
        np.where(is_aligned, numbers, -1).astype(np.int32),
        DenseTargets(np.eye(200, dtype=np.float16)),
        (numbers / 200).astype(np.float32),
        uses_soft_alone,
    )


@pytest.mark.parametrize("uses_soft_alone", [False, True])
def test_all_targets_follow_where_the_speed_changes(uses_soft_alone: bool) -> None:
    """To the frame that is nearest to what is heard, in the same utterance."""
    long = make_long(uses_soft_alone)
    played = long.perturb(PLAYED, (0, 3), np.array([4, 7, 5, 6]))
    assert isinstance(played.soft_targets, DenseTargets) and played.weights is not None
    origins = played.soft_targets.probabilities.argmax(1)
    heard = played.frames[:, 0].astype(np.float64)
    assert np.abs(heard - origins).max() < 0.5 + 1 / 16, "float16 tells sixteenths there"
    assert np.count_nonzero(origins != np.arange(200)) > 50
    assert np.array_equal(
        played.find_utterances(torch.from_numpy(origins)), np.repeat([0, 2, 3], [60, 1, 139])
    )
    assert np.array_equal(played.pdf_ids, long.pdf_ids[origins])
    np.testing.assert_allclose(played.weights, origins / 200, atol=1e-6)


@pytest.mark.parametrize("uses_soft_alone", [False, True])
def test_as_many_frames_are_usable_at_any_speed(uses_soft_alone: bool) -> None:
    """So an epoch can be planned before its frames are perturbed."""
    long = make_long(uses_soft_alone)
    expected = [60, 0, 1, 139] if uses_soft_alone else [45, 0, 1, 114]
    for epoch in range(10):
        played = long.perturb(PLAYED, (0, epoch), np.arange(4))
        assert played.num_usable.tolist() == long.num_usable.tolist() == expected
        assert np.array_equal(played.starts, LONG_STARTS) and len(played.usable) == sum(expected)


def test_perturbed_frames_keep_the_targets_of_the_frames_as_they_were(frames: LabelledFrames) -> None:
    weights = np.arange(30, dtype=np.float32) / 30
    weighted = LabelledFrames(frames.frames, STARTS, frames.pdf_ids, frames.soft_targets, weights, True)
    config = PerturbationConfig(channel=0.5, noise=0.1)
    perturbed = weighted.perturb(config, (0, 0), np.array([8, 2, 5]))
    for number, (start, end) in ((8, (0, 13)), (5, (13, 30))):
        view = perturb(frames.frames[start:end], np.random.default_rng((0, 0, number, 1)), config)
        np.testing.assert_array_equal(perturbed.frames[start:end], view.astype(np.float16))
    assert perturbed.num_usable.tolist() == [13, 0, 17]
    everything = torch.arange(30)[None]
    batch, clean = (one.take_windows(everything, make_model()) for one in (perturbed, weighted))
    for found, expected in (
        (batch.pdf_ids, clean.pdf_ids),
        (batch.weights, clean.weights),
        (batch.soft_targets, clean.soft_targets),
    ):
        assert isinstance(found, torch.Tensor) and isinstance(expected, torch.Tensor)
        assert torch.equal(found, expected)
    assert not torch.equal(batch.inputs, clean.inputs)
