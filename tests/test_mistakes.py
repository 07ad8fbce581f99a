"""The mistakes that users make: status 1, one paragraph that says what to do, and nothing lost."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

Command = Callable[..., Any]  # gives the Outcome of conftest.py
Snapshot = dict[str, tuple[int, str]]
SPEAKERS = {"train": "anna", "dev": "bert", "test": "cora"}


def write_noise(path: Path, rate_hz: int = 16000, num_channels: int = 1) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (rate_hz, num_channels))
    soundfile.write(path, noise, rate_hz, subtype="PCM_16")


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    """A corpus in Kaldi's form without fault: three splits of one speaker and two utterances each."""
    corpus_dir = tmp_path / "corpus"
    for split, speaker in SPEAKERS.items():
        data_dir = corpus_dir / split
        data_dir.mkdir(parents=True)
        ids = [f"{speaker}-{number}" for number in range(2)]
        for name in ids:
            write_noise(data_dir / f"{name}.wav")
        (data_dir / "wav.scp").write_text("".join(f"{name} {split}/{name}.wav\n" for name in ids))
        (data_dir / "text").write_text("".join(f"{name} one two\n" for name in ids))
        (data_dir / "utt2spk").write_text("".join(f"{name} {speaker}\n" for name in ids))
    return corpus_dir


@pytest.fixture
def recipe_path(tmp_path: Path, corpus_dir: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(f"corpus: {{kind: kaldi, path: {corpus_dir}}}\n")
    return path


def check_told(outcome: Any, *fragments: str) -> None:
    assert outcome.status == 1, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "\n" not in outcome.error
    assert 40 < len(outcome.error) < 600
    for fragment in fragments:
        assert fragment in outcome.error
    assert outcome.stdout == ""


def share_speaker(corpus_dir: Path) -> None:
    (corpus_dir / "dev/utt2spk").write_text("bert-0 anna\nbert-1 bert\n")


def make_stereo(corpus_dir: Path) -> None:
    write_noise(corpus_dir / "test/cora-1.wav", num_channels=2)


def make_telephone(corpus_dir: Path) -> None:
    write_noise(corpus_dir / "train/anna-0.wav", rate_hz=8000)


def empty_transcript(corpus_dir: Path) -> None:
    (corpus_dir / "train/text").write_text("anna-0 one two\nanna-1\n")


def speak_unknown_word(corpus_dir: Path) -> None:
    (corpus_dir / "train/text").write_text("anna-0 one two\nanna-1 one zyxgrfl\n")


def cut_short(corpus_dir: Path) -> None:
    path = corpus_dir / "dev/bert-0.wav"
    path.write_bytes(path.read_bytes()[:10_000])


FAULTS: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (share_speaker, ("anna", "dev+train", "divide the corpus by speaker")),
    (make_stereo, ("split test", "stereo", "cora-1", "one channel", "sox IN OUT remix")),
    (make_telephone, ("split train", "anna-0", "sampling rate too low", "corpus.sampling_rate_hz", "8000")),
    (empty_transcript, ("split train", "anna-1", "empty text", "add it or remove")),
    (speak_unknown_word, ("split train", "anna-1", "ZYXGRFL (1)", "lexicon.path")),
    (cut_short, ("split dev", "bert-0", "unreadable audio", "copy them again")),
]


@pytest.mark.parametrize(("damage", "fragments"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_faulty_corpus(
    damage: Callable[[Path], None],
    fragments: tuple[str, ...],
    corpus_dir: Path,
    recipe_path: Path,
    tmp_path: Path,
    asrdistill: Command,
    take_snapshot: Callable[[Path], Snapshot],
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(corpus_dir, whole)
    damage(corpus_dir)
    before = take_snapshot(corpus_dir)
    command = ("run", recipe_path, "--exp", tmp_path / "exp", "--stage", "prepare")
    check_told(asrdistill(*command), *fragments)
    assert take_snapshot(corpus_dir) == before
    shutil.rmtree(corpus_dir)
    whole.rename(corpus_dir)
    assert asrdistill(*command).status == 0
    assert "prepare: finished" in asrdistill(*command).stderr


def test_faults_that_the_recipe_allows_are_counted(
    corpus_dir: Path, recipe_path: Path, tmp_path: Path, asrdistill: Command
) -> None:
    empty_transcript(corpus_dir)
    words = ("run", recipe_path, "--exp", tmp_path / "exp", "--stage", "prepare")
    outcome = asrdistill(*words, "--set", "validation.max_left_out=0.5")
    assert outcome.status == 0
    assert "train: 1 utterances, 1 speakers, 0.00 h, 1 left out" in outcome.stderr


def test_wrong_corpus_path(recipe_path: Path, tmp_path: Path, asrdistill_process: Command) -> None:
    place = f"corpus.path={tmp_path / 'nowhere'}"
    outcome = asrdistill_process("run", recipe_path, "--exp", tmp_path / "exp", "--set", place)
    check_told(outcome, str(tmp_path / "nowhere/train"), "no such folder", "set corpus.path")


def test_misspelt_key_in_the_recipe(recipe_path: Path, tmp_path: Path, asrdistill_process: Command) -> None:
    recipe_path.write_text(recipe_path.read_text() + "teachers: {training: {num_epoch: 3}}\n")
    outcome = asrdistill_process("run", recipe_path, "--exp", tmp_path / "exp")
    check_told(outcome, str(recipe_path), "teachers.training.num_epoch", "did you mean num_epochs?")
    assert not (tmp_path / "exp").exists()


def test_misspelt_key_on_the_command_line(recipe_path: Path, tmp_path: Path, asrdistill: Command) -> None:
    outcome = asrdistill("run", recipe_path, "--exp", tmp_path / "exp", "--set", "student.temprature=5")
    check_told(outcome, "student.temprature", "did you mean temperature?")
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("key", "fragments"),
    [
        ("language_model.path", ("language model", "no such file", "leave it out")),
        ("alignment.gmm.tied_states.questions", ("questions", "no such file", "a line of phones")),
    ],
)
def test_files_that_later_stages_need_are_missed_at_once(
    key: str, fragments: tuple[str, ...], recipe_path: Path, tmp_path: Path, asrdistill: Command
) -> None:
    path = tmp_path / "nowhere.txt"
    outcome = asrdistill("run", recipe_path, "--exp", tmp_path / "exp", "--set", f"{key}={path}")
    check_told(outcome, str(path), *fragments)
    assert not (tmp_path / "exp").exists()


def test_questions_of_other_phones_leave_the_alignment_there(
    tiny_recipe: Path, finished_copy: Path, tmp_path: Path, asrdistill: Command
) -> None:
    questions, alignment = tmp_path / "questions.txt", finished_copy / "align/train.npy"
    questions.write_text("S Z\nXYZ\n")
    setting = f"alignment.gmm.tied_states.questions={questions}"
    outcome = asrdistill("run", tiny_recipe, "--exp", finished_copy, "--set", setting)
    check_told(outcome, str(questions), "line 2", "XYZ")
    assert alignment.is_file()


@pytest.mark.parametrize("command", [("status",), ("plan",), ("decode", "ensemble", "--out", "out")])
def test_experiment_of_an_earlier_version(
    command: tuple[str, ...], finished_copy: Path, asrdistill: Command
) -> None:
    """One from before tied triphones, whose recipe had settings that are no more."""
    recipe = finished_copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("alignment:", "alignment:\n  num_iterations: 20", 1))
    outcome = asrdistill(command[0], finished_copy, *command[1:])
    check_told(outcome, "another version", "alignment.num_iterations", f"run RECIPE --exp {finished_copy}")


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_damaged_tied_states(content: str, finished_copy: Path, asrdistill: Command) -> None:
    (finished_copy / "align/tied_states.json").write_text(content)
    check_told(asrdistill("tied-states", finished_copy), "tied_states.json: damaged", "--force align")


def test_no_hypothesis_wanted(finished: Path, tmp_path: Path, asrdistill: Command) -> None:
    outcome = asrdistill("decode", finished, "ensemble", "--out", tmp_path / "out", "--num-best", "0")
    check_told(outcome, "--num-best is 0, expected 1 or more")
    assert not (tmp_path / "out").exists()


def test_unknown_recipe(asrdistill: Command, tmp_path: Path) -> None:
    outcome = asrdistill("run", "espeek", "--exp", tmp_path / "exp")
    check_told(outcome, "recipe espeek: no such file", "did you mean espeak?", "path of a YAML file")
    assert not (tmp_path / "exp").exists()


def test_experiment_that_cannot_be_written(recipe_path: Path, tmp_path: Path, asrdistill: Command) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    outcome = asrdistill("run", recipe_path, "--exp", tmp_path / "notes.txt/exp")
    check_told(outcome, str(tmp_path / "notes.txt/exp"), "cannot be written", "--exp DIR")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_mistaken_corpus_leaves_what_was_made_of_the_right_one(
    recipe_path: Path, tmp_path: Path, asrdistill: Command, take_snapshot: Callable[[Path], Snapshot]
) -> None:
    command = ("run", recipe_path, "--exp", tmp_path / "exp", "--stage", "features")
    assert asrdistill(*command).status == 0
    before = take_snapshot(tmp_path / "exp/features")
    assert asrdistill(*command, "--set", "corpus.path=/nowhere").status == 1
    assert take_snapshot(tmp_path / "exp/features") == before
    again = asrdistill(*command)
    assert again.status == 0
    assert "features: finished" in again.stderr


@pytest.mark.end_to_end
@pytest.mark.parametrize("override", ["student.temperature=5", "techers.seed=3", "student.seed=x"])
def test_a_finished_experiment_outlives_a_mistake(
    override: str,
    tiny_recipe: Path,
    finished_copy: Path,
    asrdistill: Command,
    take_snapshot: Callable[[Path], Snapshot],
) -> None:
    before = take_snapshot(finished_copy)
    check_told(asrdistill("run", tiny_recipe, "--exp", finished_copy, "--set", override))
    assert take_snapshot(finished_copy) == before
    assert asrdistill("run", tiny_recipe, "--exp", finished_copy).stderr.count(": finished") == 9


def test_forcing_a_stage_that_comes_after_the_last_one_loses_nothing(
    tiny_recipe: Path, finished_copy: Path, asrdistill: Command
) -> None:
    words = ("run", tiny_recipe, "--exp", finished_copy, "--stage", "align", "--force", "teachers")
    outcome = asrdistill(*words)
    assert outcome.status == 1
    assert "--force teachers: it comes after --stage align" in outcome.error
    assert (finished_copy / "teachers/stamp.json").is_file()
