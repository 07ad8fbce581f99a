"""Recipes: overrides, and errors that name key, value, expectation and the nearest valid key."""

import re
from pathlib import Path

import pytest

from asrdistill.errors import RecipeError
from asrdistill.recipe import Recipe, find_recipe, load_recipe


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("corpus: {kind: espeak}\nteachers:\n  training: {num_epochs: 3}\nlexicon:\n")
    return path


def explain(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["lexicon={}", *overrides])
    message = str(caught.value)
    assert "\n" not in message
    return message


def load(path: Path, *overrides: str) -> Recipe:
    return load_recipe(path, ["lexicon={}", *overrides])


def test_values_come_from_override_file_and_default(recipe_path: Path) -> None:
    recipe = load(recipe_path, "teachers.num_teachers=4", "student.training.num_epochs=7")
    assert recipe.teachers.num_teachers == 4
    assert recipe.teachers.training.num_epochs == 3
    assert recipe.student.training.num_epochs == 7
    assert recipe.student.training.batch_size == 1024


def test_an_override_reaches_below_an_empty_section(recipe_path: Path) -> None:
    assert str(load_recipe(recipe_path, ["lexicon.path=words.txt"]).lexicon.path) == "words.txt"


def test_the_last_override_wins(recipe_path: Path) -> None:
    assert load(recipe_path, "student.seed=5", "student.seed=6").student.seed == 6


@pytest.mark.parametrize(
    ("text", "weights"), [("0.3", (0.3,)), ("5e-1", (0.5,)), ("0", (0.0,)), ("[0.5, 0.1]", (0.5, 0.1))]
)
def test_hard_weight_is_one_or_several(recipe_path: Path, text: str, weights: tuple[float, ...]) -> None:
    assert load(recipe_path, f"student.hard_weight={text}").student.hard_weight == weights


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("techers.num_teachers=3", "unknown key techers .*did you mean teachers?"),
        ("teachers.num_teacher=3", "unknown key teachers.num_teacher .*did you mean num_teachers?"),
        ("teachers.training.num_epoch=3", "unknown key teachers.training.num_epoch .*mean num_epochs?"),
        ("student.model.hiden_size=3", "unknown key student.model.hiden_size .*did you mean hidden_size?"),
        ("student.model.context.passt=3", "unknown key student.model.context.passt .*did you mean past?"),
        ("corpus.minutes.trian=3", "unknown key corpus.minutes.trian .*did you mean train?"),
        ("corpus.acoustic.x=3", "unknown key corpus.acoustic .*did you mean acoustics?"),
        ("student.zzz=3", "unknown key student.zzz .*known here: hard_weight, temperature, seed"),
    ],
)
def test_the_nearest_key_is_named(recipe_path: Path, override: str, hint: str) -> None:
    message = explain(recipe_path, override)
    assert re.search(hint, message)
    assert str(recipe_path) in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("student.hard_weight=2", ["student.hard_weight", "2", "less than or equal to 1"]),
        ("student.hard_weight=[0.5, 1]", ["student.hard_weight is 1", "controls.kinds=hard_targets"]),
        ("controls.kinds=[hard_targets, hard_targets]", ["controls.kinds", "each kind is to be given once"]),
        ("controls.kinds=none", ["controls.kinds", "none", "hard_targets"]),
        ("soft_targets.perturbation.max_speed=0.1", ["max_speed is 0.1", "student.training.perturbation"]),
        ("soft_targets.guide=10", ["soft_targets.guide is 10", "numbered from 0 to 9"]),
        ("student.initial_weights=guide", ["student.initial_weights", "set soft_targets.guide"]),
        ("student.extra_terms=[{kind: relations}]", ["student.extra_terms", "set soft_targets.guide"]),
        ("student.extra_terms=[{kind: sequence}]", ["kind sequence", "tdnn or conformer"]),
        ("student.soft_term.kind=kl", ["student.soft_term.kind", "kl", "conditional, decoupled"]),
        ("student.extra_terms=[{kind: fitnets}]", ["student.extra_terms.0.kind", "hidden_states, relations"]),
        (
            "student.extra_terms=[{kind: relations, angel: 1}]",
            ["student.extra_terms.0.angel", "angle_weight"],
        ),
        ("student.annealing.temperature=1", ["student.annealing.temperature is 1", "average geometric"]),
        ("student.hard_weight=[]", ["student.hard_weight", "[]", "at least 1"]),
        ("teachers.num_teachers=ten", ["teachers.num_teachers", "'ten'", "integer"]),
        ("teachers=7", ["teachers", "7", "a section with some of num_teachers, seed"]),
        ("corpus.kind=wav", ["corpus.kind", "wav", "one of espeak, kaldi, nemo, librispeech"]),
        ("corpus={seed: 1}", ["corpus.kind", "nothing", "one of espeak, kaldi, nemo, librispeech"]),
        ("soft_targets.codec=transform", ["soft_targets.codec", "'transform'", "such as {kind: ...}"]),
        ("soft_targets.codec.kind=zip", ["zip", "one of dense, top_k, sampled, transform"]),
        ("corpus={kind: kaldi}", ["corpus.path is not set", "--set corpus.path=..."]),
        ("corpus.num_speakers.train=400", ["corpus: num_speakers: ", "420 voices", "at most"]),
    ],
)
def test_a_wrong_value_is_explained(recipe_path: Path, override: str, words: list[str]) -> None:
    message = explain(recipe_path, override)
    assert all(word in message for word in words), message
    assert len(message) < 300
    assert "pydantic" not in message


def test_losses_that_need_every_tied_state_are_refused_where_some_are_kept(recipe_path: Path) -> None:
    overrides = ("soft_targets.codec.kind=top_k", "student.soft_term.kind=decoupled")
    assert "student.soft_term" in explain(recipe_path, *overrides)
    load_recipe(find_recipe("espeak"), overrides[:1])


def test_all_mistakes_are_told_at_once(recipe_path: Path) -> None:
    message = explain(recipe_path, "teachers.seed=-1", "student.sed=1")
    assert "teachers.seed" in message
    assert "student.sed" in message


def test_a_temperature_that_is_not_stored_is_refused(recipe_path: Path) -> None:
    message = explain(recipe_path, "student.temperature=5")
    assert "student.temperature is 5, but soft targets are stored for 2" in message
    assert "add it to soft_targets.temperatures" in message
    both = load(recipe_path, "student.temperature=5", "soft_targets.temperatures=[2, 5]")
    assert both.student.temperature == 5


def test_students_that_would_be_one_are_refused(recipe_path: Path) -> None:
    """All start from the guide, and members of a stack see the data in one order."""
    alike = ("soft_targets.guide=0", "student.initial_weights=guide", "student.num_seeds=3")
    message = explain(recipe_path, *alike, "student.training.dropout=0")
    assert "student.num_seeds is 3, but students that start from the guide" in message
    assert load(recipe_path, *alike, "student.training.dropout=0.1").student.num_seeds == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("student.seed", "--set student.seed: expected key=value, for example student.temperature=5"),
        ("=5", "--set =5: expected key=value"),
        ("teachers.training.num_epochs.x=5", "num_epochs is a value (3), not a section"),
        ("student.hard_weight=[0.5", "the value is not readable as YAML"),
    ],
)
def test_a_wrong_override_is_explained(recipe_path: Path, override: str, words: str) -> None:
    assert words in explain(recipe_path, override)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "found nothing, expected lines `section: ...`"),
        (b"espeak", "found 'espeak', expected lines"),
        (b"corpus: {kind: espeak", "not readable as YAML"),
        (b"corpus: \xff", "not readable as YAML"),
        (b"{}", "corpus is not set"),
    ],
)
def test_a_file_that_is_no_recipe_is_explained(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_is_found_by_path_and_by_name(recipe_path: Path) -> None:
    assert find_recipe(str(recipe_path)) == recipe_path
    assert find_recipe("espeak").name == "espeak.yaml"


def test_an_unknown_recipe_gets_a_hint() -> None:
    with pytest.raises(RecipeError, match=r"recipe espeek: no such file.*did you mean espeak\?.*known: "):
        find_recipe("espeek")


@pytest.mark.parametrize(
    ("text", "diversity"),
    [
        ("order", ("order",)),
        ("[seed, subset]", ("seed", "subset")),
        ("[seed, order, subset]", ("seed", "order", "subset")),
    ],
)
def test_diversity_is_one_word_or_several(recipe_path: Path, text: str, diversity: tuple[str, ...]) -> None:
    assert load(recipe_path, f"teachers.diversity={text}").teachers.diversity == diversity
    assert load(recipe_path).teachers.diversity == ("seed",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("luck", ["teachers.diversity", "luck", "'seed', 'order' or 'subset'"]),
        ("[seed, luck]", ["teachers.diversity", "luck", "'seed', 'order' or 'subset'"]),
        ("[]", ["teachers.diversity", "[]", "at least 1"]),
    ],
)
def test_an_unknown_diversity_is_refused(recipe_path: Path, text: str, words: list[str]) -> None:
    message = explain(recipe_path, f"teachers.diversity={text}")
    assert all(word in message for word in words), message


@pytest.mark.parametrize("architecture", ["tdnn", "conformer"])
def test_an_order_of_its_own_needs_a_model_of_single_frames(recipe_path: Path, architecture: str) -> None:
    model = f"teachers.model.architecture={architecture}"
    message = explain(recipe_path, model, "teachers.diversity=[seed, order]")
    for words in ("teachers.diversity has order", architecture, "take seed or subset", "architecture=dnn"):
        assert words in message
    assert (
        load(recipe_path, model, "teachers.diversity=[seed, subset]").teachers.model.architecture
        == architecture
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "{architecture: conformer, hidden_size: 100, conformer: {num_heads: 3}}",
            ["hidden_size is 100", "num_heads 3"],
        ),
        (
            "{architecture: conformer, hidden_size: 12, conformer: {num_heads: 4}}",
            ["hidden_size is 12", "even number"],
        ),
        ("{architecture: conformer, conformer: {kernel_size: 4}}", ["conformer.kernel_size is 4", "odd"]),
    ],
)
def test_a_conformer_that_cannot_be_built_is_refused(
    recipe_path: Path, setting: str, words: list[str]
) -> None:
    message = explain(recipe_path, f"student.model={setting}")
    assert "student.model" in message
    assert all(word in message for word in words), message


def test_heads_matter_to_a_conformer_alone(recipe_path: Path) -> None:
    model = load(recipe_path, "student.model={hidden_size: 100, conformer: {num_heads: 3}}").student_model
    assert (model.architecture, model.hidden_size) == ("dnn", 100)
    conformer = "student.model={architecture: conformer, hidden_size: 24, conformer: {num_heads: 3}}"
    assert load(recipe_path, conformer).student_model.hidden_size == 24
