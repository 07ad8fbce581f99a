"""Soft targets that are transformed, rounded and coded: how near they come back, and in how many bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from asrdistill.nn.soft_targets import LowRankTargets
from asrdistill.targets.transform import Codebook, TransformConfig, learn_codebook

NUM_PDFS, RANK = 60, 5
# How far the transform alone comes; corrections have a test of their own.
ALONE: dict[str, Any] = {"correction": None}


def draw_utterances(seed: int, num_utterances: int = 12, rank: int = RANK) -> list[np.ndarray]:
    """Posteriors, float32 (N, P), whose logits are combinations of few components that change slowly."""
    components = np.random.default_rng(99).normal(size=(rank, NUM_PDFS))
    bias = np.random.default_rng(98).normal(size=NUM_PDFS)
    rng = np.random.default_rng(seed)
    utterances = []
    for _ in range(num_utterances):
        num_frames = int(rng.integers(20, 90))
        steps, window = rng.normal(size=(num_frames + 29, rank)), np.hanning(32)[1:-1]
        window /= np.linalg.norm(window)
        slow = np.stack([np.convolve(row, window, "valid") for row in steps.T], 1)
        logits = torch.from_numpy(slow @ components + bias)
        utterances.append(torch.softmax(logits, 1).float().numpy())
    return utterances


def encode(codebook: Codebook, dense: np.ndarray) -> bytes:
    return codebook.encode(dense, np.random.default_rng(0))


def divergence(dense: np.ndarray, codebook: Codebook) -> float:
    """Mean Kullback-Leibler divergence of what comes back, nats."""
    targets = codebook.decode(encode(codebook, dense), len(dense))
    found = targets.take(torch.arange(len(dense))[None])[0].numpy().astype(np.float64)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    return float((dense * np.log(dense / found)).sum(1).mean())


def measure(utterances: list[np.ndarray], codebook: Codebook) -> tuple[float, float]:
    """Bytes a frame and divergence."""
    num_bytes = sum(len(encode(codebook, dense)) for dense in utterances)
    return num_bytes / sum(map(len, utterances)), float(
        np.mean([divergence(dense, codebook) for dense in utterances])
    )


def test_a_finer_step_costs_bytes_and_comes_nearer() -> None:
    sample, held_out = draw_utterances(0), draw_utterances(1)
    found = [
        measure(held_out, learn_codebook(sample, TransformConfig(step=step, **ALONE)))
        for step in (0.2, 0.05, 0.01)
    ]
    sizes, divergences = zip(*found, strict=True)
    assert sizes[0] < sizes[1] < sizes[2] < 16
    assert divergences[0] > 4 * divergences[1] > 16 * divergences[2]
    assert divergences[2] < 1e-4


def test_no_more_components_are_kept_than_there_are() -> None:
    codebook = learn_codebook(draw_utterances(0), TransformConfig(step=0.05, **ALONE))
    assert len(codebook.components) == RANK


def test_the_squared_error_of_the_coefficients_is_that_of_the_weighted_log_probabilities() -> None:
    """So one step for all of them is right: the transform keeps lengths."""
    codebook = learn_codebook(draw_utterances(0), TransformConfig(**ALONE))
    gram = (codebook.components * codebook.priors) @ codebook.components.T
    np.testing.assert_allclose(gram, np.eye(RANK), atol=1e-4)


def test_frames_that_change_slowly_cost_less_in_blocks() -> None:
    sample, held_out = draw_utterances(0), draw_utterances(1)
    sizes = [
        measure(held_out, learn_codebook(sample, TransformConfig(block_frames=frames, **ALONE)))[0]
        for frames in (1, 16)
    ]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize("num_frames", [1, 15, 16, 17])
def test_utterances_of_any_length(num_frames: int) -> None:
    codebook = learn_codebook(draw_utterances(0), TransformConfig(step=0.02, **ALONE))
    dense = draw_utterances(3)[0][:num_frames]
    assert divergence(dense, codebook) < 0.01


def test_an_utterance_of_no_frames_is_one() -> None:
    codebook = learn_codebook(draw_utterances(0), TransformConfig())
    assert len(codebook.decode(encode(codebook, np.empty((0, NUM_PDFS), np.float32)), 0)) == 0


def test_what_the_sample_does_not_show_still_comes_back_as_probabilities() -> None:
    """A one-hot target, a uniform one, a pdf-id that was never likely."""
    codebook = learn_codebook(draw_utterances(0), TransformConfig(step=0.02, **ALONE))
    odd = np.zeros((3, NUM_PDFS), np.float32)
    odd[0, 7], odd[1], odd[2, -1] = 1, 1 / NUM_PDFS, 1
    targets = codebook.decode(encode(codebook, odd), 3)
    found = targets.take(torch.arange(3)[None])[0]
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_a_codebook_that_was_written_reads_the_same_bytes(tmp_path: Path) -> None:
    codebook = learn_codebook(draw_utterances(0), TransformConfig())
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for path in paths:
        codebook.write(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    again, dense = Codebook.read(paths[0]), draw_utterances(1)[0]
    content = encode(codebook, dense)
    assert encode(again, dense) == content
    np.testing.assert_array_equal(
        again.decode(content, len(dense)).coefficients, codebook.decode(content, len(dense)).coefficients
    )


def test_a_damaged_codebook_is_refused(tmp_path: Path) -> None:
    """One whose tables would lead a decoder out of them."""
    codebook, path = learn_codebook(draw_utterances(0), TransformConfig()), tmp_path / "codebook"
    last = codebook.tables.starts[-1]
    for place, value in ((-1, last[-1] - 1), (0, 1), (60, last[61] + 1)):
        kept, last[place] = last[place], value
        codebook.write(path)
        last[place] = kept
        with pytest.raises(ValueError, match="damaged"):
            Codebook.read(path)
    codebook.write(path)
    Codebook.read(path)


def test_a_codebook_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    learn_codebook(draw_utterances(0), TransformConfig()).write(tmp_path / "codebook")
    arrays = load_file(tmp_path / "codebook")
    for correction in (None, np.array([-0.5]), np.array([1e-9]), np.array([np.nan])):
        changed = {key: value for key, value in arrays.items() if key != "correction"}
        save_file(changed if correction is None else {**changed, "correction": correction}, tmp_path / "old")
        with pytest.raises(ValueError, match="damaged"):
            Codebook.read(tmp_path / "old")


def test_the_same_sample_teaches_the_same_codebook(tmp_path: Path) -> None:
    contents = []
    for number in range(2):
        torch.manual_seed(number)
        learn_codebook(draw_utterances(0), TransformConfig()).write(tmp_path / "codebook")
        contents.append((tmp_path / "codebook").read_bytes())
    assert contents[0] == contents[1]


def test_learning_leaves_torchs_own_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    learn_codebook(draw_utterances(0), TransformConfig())
    assert torch.equal(torch.rand(1), expected)


def test_corrections_make_good_what_rounding_took() -> None:
    """Students are told the soft targets on average, however coarse the step."""
    codebook = learn_codebook(draw_utterances(0), TransformConfig(step=0.5, correction=0.05))
    dense, rng, repeats = draw_utterances(1)[0], np.random.default_rng(0), 1500
    everything, total = torch.arange(len(dense))[None], np.zeros(dense.shape)
    for _ in range(repeats):
        told = codebook.decode(codebook.encode(dense, rng), len(dense))
        total += told.take(everything)[0].numpy()
    np.testing.assert_allclose(total / repeats, dense, atol=5 * 0.025 / repeats**0.5)
    assert told.corrections is not None
    alone = LowRankTargets(told.coefficients, told.basis).take(everything)[0].numpy()
    assert np.abs(alone - dense).max() > 0.05


def test_a_step_that_rounds_everything_to_zero_leaves_all_to_corrections() -> None:
    codebook = learn_codebook(draw_utterances(0), TransformConfig(step=100, correction=0.01))
    dense = draw_utterances(1)[0]
    told = codebook.decode(encode(codebook, dense), len(dense)).take(torch.arange(len(dense))[None])[0]
    np.testing.assert_allclose(told, dense, atol=0.0101)


def test_what_is_damaged_is_refused() -> None:
    codebook = learn_codebook(draw_utterances(0), TransformConfig())
    dense = draw_utterances(1)[0]
    content, start = encode(codebook, dense), len(codebook.fingerprint)
    for damaged in (
        content[:start],
        content[: start + 3],
        content[:start] + b"\xff\xff\xff\x7f" + content[start + 4 :],  # more corrections than there can be
        content[: start + 4] + b"\xff" + content[start + 5 :],  # of a class that there is not
        content[:-2],
    ):
        with pytest.raises(ValueError, match="damaged"):
            codebook.decode(damaged, len(dense))
