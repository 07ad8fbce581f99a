"""Transcripts to a pdf-id for every frame: GMM-HMMs from a flat start, then forced alignment."""

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.corpus.manifest import Utterance, read_manifest
from asrdistill.corpus.source import SPLITS
from asrdistill.errors import CorpusError
from asrdistill.experiment import Experiment
from asrdistill.features.cepstra import compute_cepstra
from asrdistill.features.frame_store import FrameStore
from asrdistill.hmm.alignment import read_unaligned, write_alignments
from asrdistill.hmm.gmm import DiagonalGmm
from asrdistill.hmm.graph import build_utterance_graph
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.training import GmmTrainer, TrainingUtterance, align_utterance
from asrdistill.progress import say, track
from asrdistill.recipe import Recipe

SETTINGS = ("alignment",)
READS = (
    "prepare/lexicon.txt",
    *(f"prepare/manifests/{split}.jsonl" for split in SPLITS),
    *(f"features/{split}.{kind}" for split in SPLITS for kind in ("f16", "json")),
)
WRITES = (
    "align/tied_states.json",
    "align/gmm.safetensors",
    *(f"align/{split}.{kind}" for split in SPLITS for kind in ("npy", "json", "words.ctm", "phones.ctm")),
)


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Train the aligner on the training split and align every split with it."""
    folder = experiment.stage_dir("align")
    lexicon = Lexicon.read(experiment.dir / "prepare/lexicon.txt")
    tied_states = TiedStates.of_monophones(lexicon.phones)
    train = _read_split(experiment, "train")
    gmm = GmmTrainer(train, lexicon.pronunciations, tied_states, recipe.alignment).train()
    gmm.write(folder / "gmm.safetensors")
    for split in SPLITS:
        utterances = train if split == "train" else _read_split(experiment, split)
        _align_split(recipe, experiment, split, utterances, gmm, lexicon, tied_states)
    tied_states.write(folder / "tied_states.json")


def _read_split(experiment: Experiment, split: str) -> list[TrainingUtterance]:
    store = FrameStore(experiment.stage_dir("features"), split)
    utterances: list[Utterance] = read_manifest(experiment.dir / f"prepare/manifests/{split}.jsonl")
    assert [u.id for u in utterances] == store.utterance_ids
    return [
        TrainingUtterance(utterance.id, utterance.words, compute_cepstra(store.frames_of(index)))
        for index, utterance in enumerate(utterances)
    ]


def _align_split(
    recipe: Recipe,
    experiment: Experiment,
    split: str,
    utterances: list[TrainingUtterance],
    gmm: DiagonalGmm,
    lexicon: Lexicon,
    tied_states: TiedStates,
) -> None:
    folder = experiment.stage_dir("align")
    alignments = {
        u.id: align_utterance(
            gmm, u.cepstra, build_utterance_graph(u.words, lexicon.pronunciations, tied_states)
        )
        for u in track(utterances, f"align {split}")
    }
    write_alignments(
        folder,
        split,
        alignments,
        {u.id: len(u.cepstra) for u in utterances},
        {u.id: u.words for u in utterances},
        tied_states,
        recipe.features.frame_shift_s,
    )
    unaligned = read_unaligned(folder, split)
    say(f"  {split}: {len(utterances) - len(unaligned)} of {len(utterances)} utterances aligned")
    if not unaligned:
        return
    named = ", ".join(unaligned[:10])
    if len(unaligned) > recipe.alignment.max_unaligned * len(utterances):
        raise CorpusError(
            f"split {split}: {len(unaligned)} of {len(utterances)} utterances have too few frames for their "
            f"transcripts ({named}); at most a share of {recipe.alignment.max_unaligned:g} may stay without "
            "alignment: look at their transcripts and recordings, or raise alignment.max_unaligned"
        )
    say(f"  {split}: too few frames for the transcript, not aligned: {named}")
