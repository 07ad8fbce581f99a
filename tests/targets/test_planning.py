"""What codecs are said to cost and keep, against what is counted by hand; and the choice among them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter

from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.soft_targets import SparseTargets
from asrdistill.nn.training import TrainingConfig
from asrdistill.targets.codecs import CodecConfig, DenseConfig, SampledConfig, TopKConfig
from asrdistill.targets.planning import LADDER, Cost, Planner, Sample, choose, describe_codec, fill_in
from asrdistill.targets.transform import TransformConfig

Command = Callable[..., Any]  # gives the Outcome of conftest.py
NUM_BINS, NUM_PDFS, CORPUS_FRAMES = 6, 30, 1_000_000


@pytest.fixture(scope="module")
def planner() -> Planner:
    """Of utterances whose soft targets follow from their frames."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(NUM_BINS, NUM_PDFS))
    frames, averages = [], []
    for _ in range(12):
        steps = rng.normal(size=(80, NUM_BINS))
        slow = np.stack([steps[n : n + 8].mean(0) for n in range(60)]).astype(np.float16)
        frames.append(slow)
        logits = torch.from_numpy(2 * slow.astype(np.float64) @ weights)
        averages.append(torch.softmax(logits, 1).float().numpy())
    model = AcousticModelConfig(num_hidden_layers=1, hidden_size=16)
    training = TrainingConfig(batch_size=64, precision="fp32")
    return Planner(Sample(frames, averages, 1e-4), model, training, 2.0, CORPUS_FRAMES)


def test_dense_targets_cost_two_bytes_a_pdf_id_and_lose_nothing(planner: Planner) -> None:
    cost = planner.measure(DenseConfig())
    size = 128 + 2 * NUM_PDFS * 60
    assert cost.bytes_a_frame == pytest.approx(512 * (1 + -(-size // 512)) / 60)
    # Of features 720 bytes after a header of 128, of records 360 after one of 192: numpy names their fields.
    others = 512 * (1 + 2) + 512 * (1 + 2)
    assert cost.size_bytes == pytest.approx(CORPUS_FRAMES * (cost.bytes_a_frame + others / 60))
    assert cost.seconds > CORPUS_FRAMES * 1e-4
    assert cost.divergence == pytest.approx(0, abs=1e-5)
    assert (cost.retained_mass, cost.same_winner) == (pytest.approx(1, abs=1e-3), pytest.approx(1, abs=0.01))
    assert cost.angle_degrees < 0.1


def test_what_is_kept_of_the_largest_is_their_sum(planner: Planner) -> None:
    dense = np.concatenate(planner.measured)
    costs = [planner.measure(TopKConfig(num_kept=kept)) for kept in (2, 10)]
    for kept, cost in zip((2, 10), costs, strict=True):
        expected = -np.sort(-dense, axis=1)[:, :kept].sum(1).mean()
        assert cost.retained_mass == pytest.approx(expected, abs=1e-3)
        assert cost.divergence is not None and cost.divergence > 0
    assert costs[0].angle_degrees > 2 * costs[1].angle_degrees > 0
    assert costs[0].divergence > costs[1].divergence  # type: ignore[operator]


def test_more_draws_come_nearer_and_no_divergence_is_told(planner: Planner) -> None:
    costs = [planner.measure(SampledConfig(num_draws=draws)) for draws in (2, 32)]
    assert costs[0].angle_degrees > 2 * costs[1].angle_degrees
    assert costs[0].retained_mass < costs[1].retained_mass < 1
    assert [cost.divergence for cost in costs] == [None, None]


def test_a_finer_step_comes_nearer(planner: Planner) -> None:
    costs = [planner.measure(TransformConfig(step=step, correction=None)) for step in (0.3, 0.005)]
    assert costs[0].angle_degrees > 2 * costs[1].angle_degrees
    assert costs[0].divergence > 10 * costs[1].divergence  # type: ignore[operator]


def test_corrections_turn_the_gradient_back(planner: Planner) -> None:
    """And where one takes more than there is, no divergence is told."""
    costs = [planner.measure(TransformConfig(step=0.5, correction=unit)) for unit in (None, 0.1, 0.01)]
    assert costs[0].angle_degrees > 3 * costs[2].angle_degrees
    assert costs[0].bytes_a_frame < costs[2].bytes_a_frame
    assert costs[0].divergence is not None and costs[1].divergence is None


def test_what_is_left_open_is_shared_out_as_the_student_does() -> None:
    targets = SparseTargets(
        np.array([0, 1]), np.array([1], np.int32), np.array([0.4], np.float32), np.array([0.6], np.float32)
    )
    told = fill_in(targets.take(torch.zeros(1, 1, dtype=torch.int64)), torch.tensor([[[0.1, 0.7, 0.2]]]))
    torch.testing.assert_close(told, torch.tensor([[[0.2, 0.4, 0.4]]]))


COSTS = [
    Cost(DenseConfig(), 2000, 8e9, 60, 0.0, 1.0, 1.0, 0.0),
    Cost(TopKConfig(), 70, 3e8, 60, 0.2, 0.5, 0.9, 18.0),
    Cost(SampledConfig(), 35, 2e8, 60, None, 0.4, 0.5, 4.9),
    Cost(TransformConfig(), 20, 1e8, 60, 0.01, 1.0, 0.9, 2.0),
]


@pytest.mark.parametrize(
    ("max_bytes", "max_divergence", "expected"),
    [
        (None, None, "transform"),
        (1e10, None, "dense"),
        (2.5e8, None, "transform"),
        (1e7, None, None),
        (None, 0.001, "dense"),
        (None, 0.5, "transform"),
        (1e9, 0.001, None),
    ],
)
def test_the_cheapest_within_the_budget_is_chosen(
    max_bytes: float | None, max_divergence: float | None, expected: str | None
) -> None:
    chosen = choose(COSTS, max_bytes, max_divergence)
    assert (chosen.codec.kind if chosen else None) == expected
    steep = [replace(cost, angle_degrees=60.0) for cost in COSTS]
    assert choose(steep, None, None) is None


def test_a_codec_is_described_as_the_setting_that_it_is() -> None:
    assert describe_codec(TopKConfig(num_kept=3)) == "{kind: top_k, num_kept: 3}"
    assert describe_codec(DenseConfig()) == "{kind: dense}"
    for codec in LADDER:
        read = yaml.safe_load(describe_codec(codec))
        assert TypeAdapter(CodecConfig).validate_python(read) == codec


@pytest.mark.end_to_end
def test_the_command_prints_a_ladder_and_a_setting(finished: Path, asrdistill: Command) -> None:
    outcome = asrdistill("plan", finished, "--minutes", "0.5")
    assert outcome.status == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert sum("kind: " in line for line in lines) == 17  # 16 codecs and the setting
    assert lines[-1].startswith("--set 'soft_targets.codec={kind: ")
    assert (
        "no codec is within the budget"
        in asrdistill("plan", finished, "--minutes", "0.5", "--max-gb", "0").stdout
    )
    assert "--minutes is nan" in asrdistill("plan", finished, "--minutes", "nan").error
    assert "take more --minutes" in asrdistill("plan", finished, "--minutes", "0.001").error
