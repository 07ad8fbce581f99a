"""Two experiments compared on the same test utterances: what differs in settings, and in results."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asrdistill.errors import ContractError
from asrdistill.experiment import hash_file
from asrdistill.nn.checkpoint import load_model
from asrdistill.pipeline import flatten_settings, open_experiment, refuse_unfinished
from asrdistill.recipe import Recipe
from asrdistill.reporting.report import CONTROLS
from asrdistill.scoring.comparison import MEASURES, Outcome, compare_pairs
from asrdistill.scoring.outcomes import Outcomes

# Of the recipe, by which nothing is computed.
_UNIMPORTANT = ("name",)


def compare_experiments(first_dir: Path, second_dir: Path) -> dict[str, Any]:
    """Compare the systems that two finished experiments both have, each with its like.

    Of teachers, students and controls the first one stands for all.

    Returns:
        Plain values: of "first" and "second" its "dir" and "recipe"; "settings" that differ, as [key, first,
        second]; "same_targets", whether frames are scored against the same alignment, and phones against the
        same phones; "block" and "num_blocks"; and "pairs", as `scoring.comparison.compare_pairs` describes
        them, with the "system" that both are.

    Raises:
        ExperimentError: one is no experiment, or not finished.
        ContractError: their test utterances differ, or what was said in them.
    """
    opened = [_Finished(folder) for folder in (first_dir, second_dir)]
    first, second = opened
    _check_alike(first, second)
    is_same = first.targets_sha256 == second.targets_sha256
    names = [name for name in first.systems if name in second.systems]
    pairs = compare_pairs(
        [(first.read(name), second.read(name)) for name in names],
        first.outcomes.speech,
        MEASURES if is_same else ("wer",),  # frames have other targets, phones other references
    )
    for pair in pairs:
        pair["system"] = pair.pop("first")
        del pair["second"]
    return {
        "first": first.describe(),
        "second": second.describe(),
        "settings": list(_list_differences(first.recipe, second.recipe)),
        "same_targets": is_same,
        "block": first.outcomes.speech.block,
        "num_blocks": first.outcomes.speech.num_blocks,
        "pairs": pairs,
    }


class _Finished:
    """A finished experiment.

    Attributes:
        systems: what it is called -> name in the score stage, of the first of its seeds.
    """

    def __init__(self, folder: Path) -> None:
        self.dir = folder
        experiment, self.recipe = open_experiment(folder)
        refuse_unfinished(self.recipe, experiment, "report")
        self.outcomes = Outcomes(experiment.dir)
        self.targets_sha256 = hash_file(experiment.dir / "align/test.npy")
        _, student = load_model(experiment.dir / "student/model.safetensors")
        self.systems = {
            "one teacher": "teacher_00",
            "ensemble": "ensemble",
            "distilled": f"student_{student['chosen']:02d}",
            **{CONTROLS[kind]: f"{kind}_00" for kind in self.recipe.controls.kinds},
            "GMM-HMM": "aligner",
        }

    def read(self, name: str) -> Outcome:
        return self.outcomes.read(self.systems[name], name)

    def describe(self) -> dict[str, Any]:
        return {"dir": str(self.dir), "recipe": self.recipe.name}


def _check_alike(first: _Finished, second: _Finished) -> None:
    one, other = (finished.outcomes.references["wer"] for finished in (first, second))
    odd = one.keys() ^ other.keys()
    if odd:
        raise ContractError(
            f"{first.dir} and {second.dir}: {len(odd)} test utterances are in one of them alone, such as "
            f"{min(odd)}; expected the same ones in both: compare experiments on one corpus"
        )
    if list(one) != list(other):
        raise ContractError(
            f"{first.dir} and {second.dir}: their test utterances come in another order; make the corpus of "
            "one of them again with --force prepare"
        )
    for name, utterance in first.outcomes.utterances.items():
        twin = second.outcomes.utterances[name]
        if (utterance.speaker, utterance.duration) != (twin.speaker, twin.duration):
            raise ContractError(
                f"utterance {name}: {utterance.duration:.3f} s of speaker {utterance.speaker} in "
                f"{first.dir}, {twin.duration:.3f} s of speaker {twin.speaker} in {second.dir}; expected the "
                "same recording: compare experiments on one corpus"
            )
    for name, words in one.items():
        if words != other[name]:
            raise ContractError(
                f"utterance {name}: its transcript is {' '.join(words)!r} in {first.dir}, "
                f"{' '.join(other[name])!r} in {second.dir}; expected the same: compare experiments on one "
                "corpus"
            )


def _list_differences(first: Recipe, second: Recipe) -> Iterator[tuple[str, Any, Any]]:
    one, other = (_flatten(recipe) for recipe in (first, second))
    for key in one | other:
        if one.get(key) != other.get(key) and not key.startswith(_UNIMPORTANT):
            yield key, one.get(key), other.get(key)


def _flatten(recipe: Recipe) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in recipe.model_dump(mode="json").items():
        flat |= flatten_settings(key, value)
    return flat
