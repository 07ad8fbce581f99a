"""Shards written anew, by another codec or with more teachers, against a dump with all of it at once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asrdistill.errors import ContractError
from asrdistill.nn.checkpoint import load_model, save_model
from asrdistill.nn.soft_targets import LowRankTargets
from asrdistill.pipeline import open_experiment, rewrite_shards
from asrdistill.stages import soft_targets
from asrdistill.targets.codecs import DenseConfig, save_array
from asrdistill.targets.rewriting import rewrite
from asrdistill.targets.shards import FRAME_RECORD, ShardReader, SoftTargetSample, write_index, write_shard

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py


def read_dense(shards_dir: Path, split: str = "train") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Soft targets, votes and distances of all frames."""
    reader = ShardReader(shards_dir)
    frames = reader.load(split, 2.0)
    assert frames.soft_targets is not None
    rows = frames.soft_targets.take(torch.arange(len(frames.pdf_ids))[None])
    assert isinstance(rows, torch.Tensor)
    records = np.concatenate(
        [s.records for shard in reader.index["splits"][split] for s in reader.samples(shard, None)]
    )
    return rows[0].numpy(), records["votes"].astype(int), records["distance"].astype(int)


@pytest.fixture(scope="module")
def divided(
    finished: Path, tiny_recipe: Path, asrdistill_process: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two experiments whose teachers together are those of the finished one: the first two, and the third.

    What they dump is of their own teachers, which are taken from there.
    """
    folders = []
    for name, members in (("first", [0, 1]), ("third", [2])):
        folder = tmp_path_factory.mktemp("divided") / name
        shutil.copytree(finished, folder)
        path = folder / "teachers/model.safetensors"
        model, described = load_model(path)
        seeds = [described["seeds"][member] for member in members]
        save_model(path, model.select_members(members), {"seeds": seeds, "diversity": ["seed"]})
        folders.append(folder)
    return folders[0], folders[1]


def dump(folder: Path) -> Path:
    """Shards of an experiment's teachers, made anew."""
    experiment, recipe = open_experiment(folder)
    shards_dir = folder / "soft_targets/shards"
    shutil.rmtree(shards_dir)
    soft_targets.run(recipe, experiment)
    return shards_dir


def test_another_codec_is_what_a_dump_with_it_would_be(
    finished: Path, transformed: Path, tmp_path: Path, asrdistill: Command
) -> None:
    out = tmp_path / "small"
    words = ("rewrite", finished, "--out", out, "--set", "soft_targets.codec={kind: transform}")
    outcome = asrdistill(*words)
    assert outcome.status == 0, outcome.stderr
    assert asrdistill("verify", out).status == 0
    exact, votes, distance = read_dense(finished / "soft_targets/shards")
    found, *records = read_dense(out)
    dumped, *_ = read_dense(transformed / "soft_targets/shards")
    np.testing.assert_array_equal(records, [votes, distance])
    for rows in (found, dumped):  # a unit at most, and what float16 rounds
        assert np.abs(rows - exact).max() < 0.03 + 1e-3
    errors = [np.abs(rows - exact).sum(1).mean() / 2 for rows in (found, dumped)]
    assert errors[0] < 1.1 * errors[1]
    sizes = [
        ShardReader(d).count_bytes()["bytes_per_frame"] for d in (out, transformed / "soft_targets/shards")
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    assert "is there already" in asrdistill(*words).stderr


def test_teachers_added_later_are_as_good_as_those_asked_at_once(
    finished: Path, divided: tuple[Path, Path], tmp_path: Path, asrdistill: Command
) -> None:
    first, third = divided
    shards_dir = dump(first)
    out = tmp_path / "all"
    outcome = asrdistill("rewrite", shards_dir, "--out", out, "--add-teachers", third)
    assert outcome.status == 0, outcome.stderr
    teachers = json.loads((out / "index.json").read_text())["teachers"]
    assert (teachers["num_teachers"], teachers["seeds"]) == (3, [1, 2])
    assert [added["seeds"] for added in teachers["added"]] == [[3]]
    exact, votes, distance = read_dense(finished / "soft_targets/shards")
    before, *_ = read_dense(shards_dir)
    found, found_votes, found_distance = read_dense(out)
    assert np.abs(before - exact).max() > 0.02
    np.testing.assert_allclose(found, exact, atol=5e-4)
    assert np.abs(found_distance - distance).max() <= 3
    assert np.abs(found_votes - votes).max() <= 1 and (found_votes == votes).mean() > 0.9


def test_corrected_targets_stay_right_on_average(
    finished: Path, divided: tuple[Path, Path], tmp_path: Path, asrdistill: Command
) -> None:
    """With teachers added, and written dense: over all frames nothing is missing of any tied state."""
    first, third = divided
    codec = ("--set", "soft_targets.codec={kind: transform, step: 1, correction: 0.05}")
    dense = ("--set", "soft_targets.codec={kind: dense}")
    corrected, all_three, written = tmp_path / "corrected", tmp_path / "all", tmp_path / "dense"
    for words in (
        (dump(first), "--out", corrected, *codec),
        (corrected, "--out", all_three, "--add-teachers", third),
        (all_three, "--out", written, *dense),
    ):
        outcome = asrdistill("rewrite", *words)
        assert outcome.status == 0, outcome.stderr
    exact, _, distance = read_dense(finished / "soft_targets/shards")
    found, _, found_distance = read_dense(all_three)
    again, *_ = read_dense(written)
    np.testing.assert_allclose(again, found, atol=1e-3)
    assert (found < 0).any()
    # Of each frame a pdf-id is off by a unit of either dump at most, at random.
    assert np.abs(found - exact).max() < 0.05 * (1 + 2 / 3) + 1e-3
    spread = 0.05 * (1 + 2 / 3) / 2
    assert np.abs((found - exact).mean(0)).max() < 5 * spread / len(exact) ** 0.5
    biased = read_plain(all_three) - exact
    assert np.abs(biased.mean(0)).max() > 10 * spread / len(exact) ** 0.5
    assert np.abs(found_distance - distance).mean() < 10


def read_plain(shards_dir: Path) -> np.ndarray:
    """What the code alone tells of all frames."""
    targets = ShardReader(shards_dir).load("train", 2.0).soft_targets
    assert isinstance(targets, LowRankTargets)
    rows = targets.without_corrections().take(torch.arange(len(targets))[None])
    return rows[0].numpy()


def write_dump(folder: Path, soft: np.ndarray, average: str = "arithmetic") -> ShardReader:
    """Dense shards of one utterance, with soft targets, float32 (N, P), at T = 2."""
    features, records = np.zeros((len(soft), 3), np.float16), np.zeros(len(soft), FRAME_RECORD)
    sample = SoftTargetSample("one", features, records, {2.0: save_array(soft.astype(np.float16))})
    write_shard(folder / "train-000000.tar", iter([sample]), "npy")
    shard = {"file": "train-000000.tar", "lengths": [len(soft)], "num_aligned": [len(soft)]}
    identity = {
        "codec": DenseConfig().model_dump(),
        "average": average,
        "temperatures": [2.0],
        "num_pdfs": soft.shape[1],
        "features": {"num_mel_bins": 3},
        "teachers": {"num_teachers": 2},
    }
    write_index(folder, {"train": [shard]}, identity)
    return ShardReader(folder)


def test_nothing_is_added_to_what_was_rounded_to_zero(tmp_path: Path) -> None:
    """Of thousands of tied states a little each would be a lot."""
    soft = np.zeros((30, 2000), np.float32)
    soft[:, :2] = 0.75, 0.25
    reader = write_dump(tmp_path, soft)
    rewrite(reader, tmp_path / "dense", DenseConfig())
    found, *_ = read_dense(tmp_path / "dense")
    np.testing.assert_array_equal(found, soft)


def test_what_is_small_must_be_there_for_other_temperatures(tmp_path: Path) -> None:
    write_dump(tmp_path, np.full((30, 4), np.float32(0.25)), "geometric")
    codec = "soft_targets.codec={kind: transform, correction: null}"
    with pytest.raises(ContractError, match=r"{kind: dense} keeps no small prob.*dump again with it"):
        rewrite_shards(tmp_path, tmp_path / "out", [codec], None)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_meant_is_refused(
    finished: Path, divided: tuple[Path, Path], tmp_path: Path, asrdistill: Command
) -> None:
    out = ("--out", tmp_path / "out")
    top_k = tmp_path / "top_k"
    of_codec = ("--set", "soft_targets.codec.kind=top_k")
    assert asrdistill("rewrite", finished, "--out", top_k, *of_codec).status == 0
    for words, expected in (
        ((finished, *out), "its codec is {kind: dense} already, and no teachers are added"),
        ((top_k, *out, "--set", "soft_targets.codec.kind=dense"), "codec top_k keeps a part"),
        ((finished, *out, "--add-teachers", divided[1]), "its teachers of seed 3 are in the soft targets"),
        ((finished, *out, "--add-teachers", tmp_path), "not an experiment"),
        ((finished, *out, "--set", "soft_targets.codec.kind=zip"), "soft_targets.codec"),
        ((finished, *out, "--set", "student.seed=3"), "only a codec is to be chosen here"),
        ((finished, "--out", top_k, "--set", "soft_targets.codec.kind=sampled"), "of other shards or"),
        ((finished, "--out", finished, *of_codec), "has other files"),
    ):
        outcome = asrdistill("rewrite", *words)
        assert (outcome.status, expected in outcome.error) == (1, True), outcome.stderr
        assert not (tmp_path / "out").exists()


def test_an_interrupted_rewriting_goes_on_and_a_damaged_one_is_mended(
    finished: Path, tmp_path: Path, asrdistill: Command
) -> None:
    """What was left: some shards and no index; then all, with a bit flipped."""
    words = ("--set", "soft_targets.codec={kind: transform}")
    whole, partial = tmp_path / "whole", tmp_path / "partial"
    assert asrdistill("rewrite", finished, "--out", whole, *words).status == 0
    assert asrdistill("rewrite", finished, "--out", partial, *words).status == 0
    identity = json.loads((whole / "index.json").read_text())
    made = ("schema", "codebooks", "splits", "sha256")
    (partial / ".identity.json").write_text(json.dumps({k: v for k, v in identity.items() if k not in made}))
    for name in ("index.json", "train-000001.tar", "dev-000000.tar"):
        (partial / name).unlink()
    kept = (partial / "train-000000.tar").stat().st_mtime_ns
    assert asrdistill("rewrite", finished, "--out", partial, *words).status == 0
    assert (partial / "train-000000.tar").stat().st_mtime_ns == kept
    files = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == files
    damaged = bytearray(files["train-000002.tar"])
    damaged[len(damaged) // 2] ^= 4
    (partial / "train-000002.tar").write_bytes(damaged)
    assert asrdistill("rewrite", finished, "--out", partial, *words).status == 0
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == files
