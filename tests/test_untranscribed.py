"""Speech without transcripts: soft targets alone, for the student alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrdistill.errors import ContractError
from asrdistill.nn.frames import LabelledFrames
from asrdistill.targets.shards import ShardReader
from asrdistill.targets.streaming import ShardFrames, open_training_frames
from asrdistill.targets.training_share import choose_utterances

pytestmark = pytest.mark.end_to_end

Command = Callable[..., Any]  # gives the Outcome of conftest.py
NUM_UNTRANSCRIBED = 9


def read_manifest(finished: Path, split: str) -> list[dict[str, Any]]:
    lines = (finished / f"prepare/manifests/{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def corpus(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished experiment's speech as manifests; the last utterances of train have no text."""
    folder = tmp_path_factory.mktemp("corpus")
    splits = {split: read_manifest(finished, split) for split in ("train", "dev", "test")}
    splits["untranscribed"] = [
        {key: value for key, value in utterance.items() if key != "text"}
        for utterance in splits["train"][-NUM_UNTRANSCRIBED:]
    ]
    splits["train"] = splits["train"][:-NUM_UNTRANSCRIBED]
    for split, utterances in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(u) + "\n" for u in utterances))
    return folder


@pytest.fixture(scope="module")
def recipe(corpus: Path, tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "more.yaml"
    _, _, rest = tiny_recipe.read_text().partition("alignment:")
    source = f"corpus: {{kind: nemo, path: {corpus}, untranscribed: untranscribed.jsonl}}\n"
    path.write_text(source + "alignment:" + rest)
    return path


@pytest.fixture(scope="module")
def distilled(recipe: Path, asrdistill_process: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untranscribed") / "more"
    outcome = asrdistill_process("run", recipe, "--exp", folder, "--stage", "student")
    assert outcome.status == 0, outcome.stderr
    assert f"untranscribed: {NUM_UNTRANSCRIBED} utterances" in outcome.stderr
    return folder


def test_it_has_soft_targets_and_no_hard_ones(corpus: Path, distilled: Path) -> None:
    reader = ShardReader(distilled / "soft_targets/shards")
    samples = [s for shard in reader.index["splits"]["train"] for s in reader.samples(shard, 2.0)]
    lines = (corpus / "untranscribed.jsonl").read_text().splitlines()
    untranscribed = [json.loads(line)["id"] for line in lines]
    found = {s.id: s for s in samples}
    assert {f"{name}{view}" for name in untranscribed for view in ("", "~view1")} <= found.keys()
    for name, sample in found.items():
        has_none = name.removesuffix("~view1") in untranscribed
        assert ((sample.records["pdf_id"] == -1).all()) == has_none
    frames = reader.load("train", 2.0)
    assert len(frames) == len(frames.pdf_ids) > np.count_nonzero(frames.pdf_ids != -1)


def test_a_student_can_leave_it_out(distilled: Path) -> None:
    reader = ShardReader(distilled / "soft_targets/shards")
    train = json.loads((distilled / "features/train.json").read_text())
    in_memory, on_disk = open_training_frames(reader, 2.0)[0], ShardFrames(reader, "train", 2.0)
    for frames in (in_memory, on_disk):
        assert choose_utterances(frames, reader, 1, 7, True) is frames
        chosen = choose_utterances(frames, reader, 1, 7, False)
        assert len(chosen) == 2 * sum(train["num_frames"]) < len(frames)
        utterances = chosen.select(np.arange(chosen.num_utterances))
        assert (utterances.pdf_ids != -1).all()


def test_controls_see_what_the_student_saw(
    recipe: Path, distilled: Path, tmp_path: Path, asrdistill_process: Command
) -> None:
    folder = tmp_path / "less"
    shutil.copytree(distilled, folder)
    settings = ("student.uses_untranscribed=false", "student.train_share=0.5", "controls.kinds=hard_targets")
    words = [word for setting in settings for word in ("--set", setting)]
    outcome = asrdistill_process("run", recipe, "--exp", folder, "--stage", "controls", *words)
    assert outcome.status == 0, outcome.stderr
    steps = []
    for stage in ("student", "controls/hard_targets"):
        lines = (folder / f"metrics/{stage}/metrics.jsonl").read_text().splitlines()
        steps.append(max(json.loads(line)["step"] for line in lines))
    train = json.loads((distilled / "features/train.json").read_text())
    assert steps[0] == steps[1] > 0
    assert steps[0] <= 2 * (sum(train["num_frames"]) // 256)


def test_hard_targets_are_drawn_where_there_are_some(distilled: Path) -> None:
    reader = ShardReader(distilled / "soft_targets/shards")
    soft, hard = (
        choose_utterances(ShardFrames(reader, "train", temperature), reader, 0.5, 7, temperature is not None)
        for temperature in (2.0, None)
    )
    train = json.loads((distilled / "features/train.json").read_text())
    total, longest = 2 * sum(train["num_frames"]), 2 * max(train["num_frames"])
    assert total / 2 - longest < len(hard) <= total / 2
    assert len(soft) > total / 2


def test_a_share_without_anything_to_learn_from_is_refused(distilled: Path) -> None:
    reader = ShardReader(distilled / "soft_targets/shards")
    frames = open_training_frames(reader, 2.0)[0].select(np.arange(2 * NUM_UNTRANSCRIBED))
    nothing = LabelledFrames(frames.frames, frames.starts, np.full_like(frames.pdf_ids, -1))
    with pytest.raises(ContractError, match=r"student\.train_share is 0\.01, of which no frame"):
        choose_utterances(nothing, reader, 0.01, 7, True)


def test_transcripts_are_put_away_on_request(
    recipe: Path, tmp_path: Path, finished: Path, asrdistill: Command
) -> None:
    setting = ("--set", "corpus.transcribed_share=0.5")
    outcome = asrdistill("run", recipe, "--exp", tmp_path / "exp", "--stage", "prepare", *setting)
    assert outcome.status == 0, outcome.stderr
    kept, hidden = (read_manifest(tmp_path / "exp", split) for split in ("train", "untranscribed"))
    assert len(kept) + len(hidden) == len(read_manifest(finished, "train"))
    assert all(u["text"] for u in kept) and not any(u["text"] for u in hidden)
    assert len(hidden) > NUM_UNTRANSCRIBED


def test_teachers_have_not_heard_it(distilled: Path) -> None:
    """Metrics tell how many frames an epoch has: the teachers' are those of train, the student's all."""
    index, train = (
        json.loads((distilled / f"features/{split}.json").read_text()) for split in ("untranscribed", "train")
    )
    assert len(index["utterance_ids"]) == NUM_UNTRANSCRIBED
    assert not set(index["utterance_ids"]) & set(train["utterance_ids"])
    counts = [sum(store["num_frames"]) for store in (train, index)]
    batch = 256
    for stage, num_frames in (("teachers", counts[0]), ("student", 2 * sum(counts))):
        lines = (distilled / f"metrics/{stage}/metrics.jsonl").read_text().splitlines()
        assert max(json.loads(line)["step"] for line in lines) == 2 * (num_frames // batch)


def test_a_speaker_of_dev_is_refused(corpus: Path, recipe: Path, tmp_path: Path, asrdistill: Command) -> None:
    utterances = [json.loads(line) for line in (corpus / "dev.jsonl").read_text().splitlines()]
    path = tmp_path / "stranger.jsonl"
    path.write_text(json.dumps({**utterances[0], "id": "another"}) + "\n")
    setting = ("--set", f"corpus.untranscribed={path}")
    outcome = asrdistill("run", recipe, "--exp", tmp_path / "exp", "--stage", "prepare", *setting)
    assert outcome.status == 1
    assert "(dev+untranscribed)" in outcome.error


def test_it_needs_no_text_but_sound(corpus: Path, recipe: Path, tmp_path: Path, asrdistill: Command) -> None:
    path = tmp_path / "gone.jsonl"
    path.write_text(json.dumps({"id": "gone", "audio_filepath": "nowhere.wav", "duration": 1.0}) + "\n")
    setting = ("--set", f"corpus.untranscribed={path}")
    outcome = asrdistill("run", recipe, "--exp", tmp_path / "exp", "--stage", "prepare", *setting)
    assert outcome.status == 1
    assert "split untranscribed: 1 of 1 utterances cannot be used" in outcome.error
    assert "missing audio" in outcome.error and "empty text" not in outcome.error
