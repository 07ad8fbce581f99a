"""Ensembles of every size against brute force over combinations, and against the scored systems."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from asrdistill.errors import ContractError
from asrdistill.scoring.ensemble_size import EnsembleSizes, SizeAccuracy, list_subsets

NUM_PDFS = 7
# The ensemble is scored from averaged logarithms: a tie may fall the other way.
FRAMES_OF_DOUBT = 2


def make_utterances(num_members: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Posteriors float32 (M, L, P), not all right, of members that agree in part; and hard targets (L,)."""
    rng = np.random.default_rng(num_members)
    utterances = []
    for num_frames in (90, 1, 0, 160):
        pdf_ids = rng.integers(0, NUM_PDFS, num_frames)
        common = rng.normal(0, 0.7, (num_frames, NUM_PDFS)) + 1.2 * np.eye(NUM_PDFS)[pdf_ids]
        logits = common + rng.normal(0, 1.5, (num_members, num_frames, NUM_PDFS))
        exponentials = np.exp(logits)
        posteriors = exponentials / exponentials.sum(2, keepdims=True)
        utterances.append((posteriors.astype(np.float32), pdf_ids))
    return utterances


def summarize(utterances: list[tuple[np.ndarray, np.ndarray]], num_members: int) -> list[SizeAccuracy]:
    sizes = EnsembleSizes(num_members)
    for posteriors, pdf_ids in utterances:
        sizes.add(posteriors, pdf_ids)
    return sizes.summarize()


def compute_accuracy(utterances: list[tuple[np.ndarray, np.ndarray]], subset: tuple[int, ...]) -> float:
    """Frame accuracy of the average of some members, in float64."""
    posteriors = np.concatenate([p for p, _ in utterances], axis=1).astype(np.float64)
    targets = np.concatenate([t for _, t in utterances])
    return float(np.mean(posteriors[list(subset)].mean(0).argmax(1) == targets))


@pytest.mark.parametrize("num_members", [1, 2, 3, 5])
def test_few_members_as_by_brute_force_over_all_combinations(num_members: int) -> None:
    utterances = make_utterances(num_members)
    for found in summarize(utterances, num_members):
        subsets = list(combinations(range(num_members), found.size))
        accuracies = [compute_accuracy(utterances, subset) for subset in subsets]
        assert found.num_subsets == len(subsets)
        assert found.mean == pytest.approx(np.mean(accuracies), abs=1e-12)
        assert (found.min, found.max) == pytest.approx((min(accuracies), max(accuracies)), abs=1e-12)


@pytest.mark.parametrize("num_members", [6, 10])
def test_many_members_as_by_brute_force_over_cyclic_neighbours(num_members: int) -> None:
    utterances = make_utterances(num_members)
    sizes = summarize(utterances, num_members)
    assert [found.size for found in sizes] == list(range(1, num_members + 1))
    for found in sizes:
        around = np.add.outer(np.arange(num_members), np.arange(found.size)) % num_members
        subsets = {tuple(sorted(row)) for row in around.tolist()}
        accuracies = [compute_accuracy(utterances, subset) for subset in subsets]
        assert found.num_subsets == len(subsets) == (1 if found.size == num_members else num_members)
        assert found.mean == pytest.approx(np.mean(accuracies), abs=1e-12)
        assert (found.min, found.max) == pytest.approx((min(accuracies), max(accuracies)), abs=1e-12)
    assert sizes[0].min < sizes[0].mean < sizes[-1].mean


@pytest.mark.parametrize("num_members", [1, 2, 4, 5, 6, 7, 10, 11])
def test_every_member_is_in_equally_many_subsets_of_each_size(num_members: int) -> None:
    subsets = list_subsets(num_members)
    assert len({frozenset(subset) for subset in subsets}) == len(subsets)
    for size in range(1, num_members + 1):
        of_size = [subset for subset in subsets if len(set(subset)) == len(subset) == size]
        counted = Counter(member for subset in of_size for member in subset)
        assert set(counted) == set(range(num_members)) and len(set(counted.values())) == 1


def test_mismatched_members_and_logits_are_refused() -> None:
    posteriors, pdf_ids = make_utterances(3)[0]
    with pytest.raises(ContractError, match=r"shape \(3, 90, 7\), expected \(4, frames, pdf-ids\)"):
        EnsembleSizes(4).add(posteriors, pdf_ids)
    with pytest.raises(ContractError, match="expected none below 0; did you give logits or log posteriors"):
        EnsembleSizes(3).add(np.log(posteriors), pdf_ids)
    with pytest.raises(ContractError, match=r"shape \(90, 7\), targets \(89,\)"):
        EnsembleSizes(3).add(posteriors, pdf_ids[1:])


@pytest.mark.end_to_end
@pytest.mark.parametrize("split", ["dev", "test"])
def test_sizes_agree_with_the_scored_systems(finished: Path, split: str) -> None:
    def read(path: str) -> dict:
        return json.loads((finished / path).read_text(encoding="utf-8"))

    sizes = read("score/ensemble_size.json")[split]
    assert [(size["size"], size["num_subsets"]) for size in sizes] == [(1, 3), (2, 3), (3, 1)]
    alone = [read(f"score/systems/teacher_{m:02d}.json")["frame_accuracy"][split] for m in range(3)]
    num_frames = np.count_nonzero(np.load(finished / f"align/{split}.npy") >= 0)
    doubt = FRAMES_OF_DOUBT / num_frames
    assert sizes[0]["mean"] == pytest.approx(np.mean(alone), abs=doubt)
    assert (sizes[0]["min"], sizes[0]["max"]) == pytest.approx((min(alone), max(alone)), abs=doubt)
    ensemble = read("score/systems/ensemble.json")["frame_accuracy"][split]
    assert sizes[2]["min"] == sizes[2]["mean"] == sizes[2]["max"] == pytest.approx(ensemble, abs=doubt)
    report = read("report/report.json")
    assert report["ensemble_size"][split] == sizes
    baseline = report["systems"]["baseline"]["frame_accuracy"][split]
    assert sizes[0]["mean"] == pytest.approx(baseline, abs=doubt)


@pytest.mark.end_to_end
def test_flops_are_those_of_the_matrix_products(finished: Path) -> None:
    """An input of 26 frames of 40 bins, two layers of 64 units."""
    report = json.loads((finished / "report/report.json").read_text(encoding="utf-8"))
    flops = 2 * (26 * 40 * 64 + 64 * 64 + 64 * report["num_tied_states"])
    found = [report["systems"][name]["flops_a_frame"] for name in ("baseline", "ensemble", "distilled")]
    assert found == [flops, 3 * flops, flops]
