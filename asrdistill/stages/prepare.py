"""Corpus to manifests and lexicon, checked."""

from pathlib import Path

from asrdistill.corpus.config import import_corpus, input_paths
from asrdistill.corpus.lexicon import LexiconConfig, load_lexicon
from asrdistill.corpus.manifest import write_manifest
from asrdistill.corpus.source import SPLITS, UNTRANSCRIBED
from asrdistill.corpus.validation import Validation, validate
from asrdistill.experiment import Experiment, write_json
from asrdistill.progress import say
from asrdistill.recipe import Recipe

SETTINGS = ("corpus", "lexicon", "validation")
READS: tuple[str, ...] = ()
WRITES = (
    "prepare/audio/",
    *(f"prepare/manifests/{split}.jsonl" for split in (*SPLITS, UNTRANSCRIBED)),
    "prepare/lexicon.txt",
    "prepare/recordings.json",
    "prepare/validation.json",
)


def list_external_inputs(recipe: Recipe) -> list[Path]:
    """Files outside the experiment whose contents the result depends on."""
    lexicon_path = locate_lexicon(recipe).path
    lexicon = [lexicon_path] if lexicon_path else []
    return [path.absolute() for path in [*input_paths(recipe.corpus), *lexicon] if path.is_file()]


def locate_lexicon(recipe: Recipe) -> LexiconConfig:
    """The lexicon's settings; a relative path is looked for in the corpus's folder first."""
    folder, path = getattr(recipe.corpus, "path", None), recipe.lexicon.path
    if folder and path and (folder / path).is_file():
        return recipe.lexicon.model_copy(update={"path": folder / path})
    return recipe.lexicon


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Import or synthesise the corpus, find pronunciations, leave out what cannot be used."""
    folder = experiment.stage_dir("prepare")
    splits = import_corpus(recipe.corpus, folder / "audio")
    words = {word for utterances in splits.values() for utterance in utterances for word in utterance.words}
    lexicon = load_lexicon(locate_lexicon(recipe), words)
    validation = validate(splits, lexicon, recipe.validation, recipe.corpus.sampling_rate_hz)
    for split in (*SPLITS, UNTRANSCRIBED):
        write_manifest(folder / "manifests" / f"{split}.jsonl", validation.kept.get(split, []))
    lexicon.write(folder / "lexicon.txt")
    # What the features depend on besides the manifests: the sound itself.
    write_json(folder / "recordings.json", validation.recordings)
    write_json(folder / "validation.json", validation.to_json())
    _tell(validation)


def _tell(validation: Validation) -> None:
    for split, found in validation.to_json()["splits"].items():
        left_out = f", {found['num_left_out']} left out" if found["num_left_out"] else ""
        say(
            f"  {split}: {found['num_utterances']} utterances, {found['num_speakers']} speakers, "
            f"{found['hours']:.2f} h{left_out}"
        )
    if validation.missing_words:
        say("  words without a pronunciation: " + ", ".join(validation.missing_words))
