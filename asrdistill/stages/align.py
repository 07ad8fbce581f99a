"""Transcripts to a pdf-id for every frame: GMM-HMMs from a flat start, then forced alignment."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.corpus.manifest import read_manifest
from asrdistill.corpus.source import SPLITS
from asrdistill.errors import CorpusError
from asrdistill.experiment import Experiment
from asrdistill.features.frame_store import FrameStore, list_store_files, name_cepstra
from asrdistill.hmm.aligner import Alignment, Speech
from asrdistill.hmm.alignment import compute_log_priors, read_pdf_ids, read_unaligned, write_alignments
from asrdistill.hmm.ctm import read_ctm_frames, write_ctm
from asrdistill.hmm.graph import SILENCE_WORD
from asrdistill.hmm.imported import ImportedAlignmentConfig, list_files, read_imported
from asrdistill.hmm.questions import read_questions, refuse_missing
from asrdistill.hmm.textgrid import write_textgrids
from asrdistill.hmm.topology import NOT_ALIGNED, TiedStates, list_phones
from asrdistill.hmm.training import GmmTrainer
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.batches import Diversity
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.objective import Objective
from asrdistill.nn.realignment import compute_scaled_log_likelihoods, realign_utterance
from asrdistill.nn.training import Trainer
from asrdistill.progress import say, track
from asrdistill.recipe import NOT_IMPORTED, TOO_FEW_FRAMES, Recipe

SETTINGS = ("alignment", "realignment")
READS = (
    "prepare/lexicon.txt",
    *(f"prepare/manifests/{split}.jsonl" for split in SPLITS),
    *list_store_files((*SPLITS, *map(name_cepstra, SPLITS))),
)
WRITES = (
    "align/tied_states.json",
    "align/gmm.safetensors",
    "align/transform.safetensors",
    *(f"align/{split}.{kind}" for split in SPLITS for kind in ("npy", "json", "words.ctm", "phones.ctm")),
)
WHERE_TO_LOOK = {
    NOT_IMPORTED: "the files of alignment.imported",
    TOO_FEW_FRAMES: "their transcripts and recordings",
}


def list_external_inputs(recipe: Recipe) -> list[Path]:
    """Files outside the experiment whose contents the result depends on."""
    questions, imported = recipe.alignment.gmm.tied_states.questions, recipe.alignment.imported
    files = [questions.absolute()] if questions and questions.is_file() else []
    return files + (list_files(imported) if imported else [])


def check_files(recipe: Recipe) -> None:
    """See that the file of questions is there.

    Raises:
        CorpusError: it is not.
    """
    path = recipe.alignment.gmm.tied_states.questions
    if path:
        refuse_missing(path)


def check(recipe: Recipe, experiment: Experiment) -> None:
    """Refuse questions, or another system's alignment, that cannot be used, while an earlier result is there.

    Raises:
        CorpusError: as `read_questions` and `read_imported`.
    """
    lexicon = Lexicon.read(experiment.dir / "prepare/lexicon.txt")
    questions, config = recipe.alignment.gmm.tied_states.questions, recipe.alignment.imported
    if questions:
        read_questions(questions, list_phones(lexicon.phones))
    if config is None:
        return
    monophones = TiedStates.of_monophones(lexicon.phones)
    for split in SPLITS:
        store = FrameStore(experiment.stage_dir("features"), name_cepstra(split))
        num_frames = dict(zip(store.utterance_ids, np.diff(store.starts).tolist(), strict=True))
        read_imported(config, split, num_frames, recipe.features.frame_shift_s, monophones)


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Train the aligner and align every split with it, or take over the alignments of another system."""
    lexicon = Lexicon.read(experiment.dir / "prepare/lexicon.txt")
    speech = {split: _read_split(experiment, split) for split in SPLITS}
    config = recipe.alignment.gmm
    if recipe.alignment.imported:
        found, tied_states = _import_alignments(recipe, recipe.alignment.imported, speech, lexicon)
        codes = _join_codes(speech["train"], found["train"])
        aligner = GmmTrainer(
            speech["train"], lexicon.pronunciations, lexicon.phones, config, codes, tied_states
        ).train()
    else:
        aligner = GmmTrainer(speech["train"], lexicon.pronunciations, lexicon.phones, config).train()
        found = {split: aligner.align(speech[split], lexicon.pronunciations) for split in SPLITS}
    why_unaligned = NOT_IMPORTED if recipe.alignment.imported else TOO_FEW_FRAMES
    for split in SPLITS:
        _publish(recipe, experiment, split, speech[split], found[split], aligner.tied_states, why_unaligned)
    if recipe.realignment.realign == "dnn":
        _realign(recipe, experiment, speech, lexicon, aligner.tied_states)
    aligner.write(experiment.stage_dir("align"))


def _import_alignments(
    recipe: Recipe, config: ImportedAlignmentConfig, speech: Mapping[str, Speech], lexicon: Lexicon
) -> tuple[dict[str, list[Alignment | None]], TiedStates | None]:
    """Alignments of another system; which words its frames belong to, it does not say.

    Returns:
        For each split its alignments, and the tied states that their codes stand for; None: the codes are
        those of triphone states, which are still to be tied.
    """
    tied_states = None
    if config.kind == "kaldi":
        assert config.num_pdfs is not None
        tied_states = TiedStates.of_unknown_phones(config.num_pdfs)
        say(
            f"  {config.num_pdfs:,} pdf-ids, whose phones are not known here: frame accuracy will be "
            "measured, but no word error rate"
        )
    monophones = TiedStates.of_monophones(lexicon.phones)
    found: dict[str, list[Alignment | None]] = {}
    for split in SPLITS:
        num_frames = dict(zip(speech[split].ids, speech[split].num_frames.tolist(), strict=True))
        codes = read_imported(config, split, num_frames, recipe.features.frame_shift_s, monophones)
        found[split] = [
            None if one is None else Alignment(one, np.full(len(one), SILENCE_WORD, np.int32), 0.0)
            for one in codes.values()
        ]
    return found, tied_states


def _join_codes(speech: Speech, alignments: Sequence[Alignment | None]) -> np.ndarray:
    """The code of every frame of a split, int32 (frames,), -1 where there is none."""
    return np.concatenate(
        [
            np.full(length, NOT_ALIGNED, np.int32) if alignment is None else alignment.codes
            for length, alignment in zip(speech.num_frames, alignments, strict=True)
        ]
    )


def check_exportable(recipe: Recipe) -> None:
    """See that an alignment will have phones that can be written.

    Raises:
        CorpusError: it is another system's, of whose phones nothing is known.
    """
    if recipe.alignment.imported and recipe.alignment.imported.kind == "kaldi":
        raise CorpusError(
            "alignment.imported: found kind kaldi, pdf-ids whose phones are not known here, so that neither "
            "words nor phones can be written; expected an alignment of our own, or kind ctm or textgrid "
            "(ali-to-phones --ctm-output makes CTM files of Kaldi's alignments)"
        )


def export(recipe: Recipe, experiment: Experiment, out_dir: Path) -> None:
    """Write words and phones in time: CTM files, and a Praat TextGrid for each utterance."""
    shift_s = recipe.features.frame_shift_s
    if recipe.alignment.imported:
        say("  the alignment is another system's, which tells phones and no words: tiers of words stay empty")
    for split in SPLITS:
        found = {}
        for kind in ("words", "phones"):
            path = experiment.stage_dir("align") / f"{split}.{kind}.ctm"
            found[kind] = read_ctm_frames(path, shift_s)
            write_ctm(out_dir / path.name, found[kind], shift_s)
        store = FrameStore(experiment.stage_dir("features"), split)
        lengths = dict(zip(store.utterance_ids, np.diff(store.starts).tolist(), strict=True))
        words = {name: found["words"].get(name, []) for name in found["phones"]}
        write_textgrids(out_dir / split, words, found["phones"], lengths, shift_s)
        say(f"  {out_dir / split}: {len(words)} TextGrids")


def _read_split(experiment: Experiment, split: str) -> Speech:
    store = FrameStore(experiment.stage_dir("features"), name_cepstra(split))
    utterances = read_manifest(experiment.dir / f"prepare/manifests/{split}.jsonl")
    assert [u.id for u in utterances] == store.utterance_ids
    cepstra = [store.frames_of(index).astype(np.float32) for index in range(len(store))]
    return Speech.of(store.utterance_ids, [u.words for u in utterances], cepstra)


def _publish(
    recipe: Recipe,
    experiment: Experiment,
    split: str,
    speech: Speech,
    alignments: Sequence[Alignment | None],
    tied_states: TiedStates,
    why_unaligned: str,
) -> None:
    """Write a split's alignments, and tell, or refuse, what could not be aligned."""
    folder = experiment.stage_dir("align")
    write_alignments(
        folder,
        split,
        dict(zip(speech.ids, alignments, strict=True)),
        dict(zip(speech.ids, speech.num_frames.tolist(), strict=True)),
        dict(zip(speech.ids, speech.transcripts, strict=True)),
        tied_states,
        recipe.features.frame_shift_s,
    )
    unaligned = read_unaligned(folder, split)
    say(f"  {split}: {len(alignments) - len(unaligned)} of {len(alignments)} utterances aligned")
    if not unaligned:
        return
    named = ", ".join(unaligned[:10])
    if len(unaligned) > recipe.alignment.max_unaligned * len(alignments):
        raise CorpusError(
            f"split {split}: {len(unaligned)} of {len(alignments)} utterances have no alignment: "
            f"{why_unaligned} ({named}); at most a share of {recipe.alignment.max_unaligned:g} may stay "
            f"without: look at {WHERE_TO_LOOK[why_unaligned]}, or raise alignment.max_unaligned"
        )
    say(f"  {split}: {why_unaligned}, not aligned: {named}")


def _realign(
    recipe: Recipe,
    experiment: Experiment,
    speech: Mapping[str, Speech],
    lexicon: Lexicon,
    tied_states: TiedStates,
) -> None:
    """Train a network on the mixtures' alignment, and align every split with it."""
    stores = {split: FrameStore(experiment.stage_dir("features"), split) for split in SPLITS}
    folder = experiment.stage_dir("align")
    pdf_ids = {split: read_pdf_ids(folder, split, stores[split].num_frames) for split in ("train", "dev")}
    model = _train_network(recipe, stores, pdf_ids, tied_states.num_pdfs, folder).in_compute_dtype()
    log_priors = compute_log_priors(pdf_ids["train"], tied_states.num_pdfs)
    for split, store in stores.items():
        alignments = []
        for index in track(range(len(store)), f"realign {split}"):
            scores = compute_scaled_log_likelihoods(model, log_priors, store.frames_of(index))
            words = speech[split].transcripts[index]
            alignments.append(realign_utterance(scores, words, lexicon.pronunciations, tied_states))
        _publish(recipe, experiment, split, speech[split], alignments, tied_states, TOO_FEW_FRAMES)


def _train_network(
    recipe: Recipe,
    stores: Mapping[str, FrameStore],
    pdf_ids: Mapping[str, np.ndarray],
    num_pdfs: int,
    folder: Path,
) -> AcousticModel:
    """The network that aligns."""
    train, dev = (
        LabelledFrames(stores[split].frames, stores[split].starts, pdf_ids[split])
        for split in ("train", "dev")
    )
    config = recipe.realignment
    trainer = Trainer(
        model_config=config.model,
        num_bins=recipe.features.num_mel_bins,
        num_pdfs=num_pdfs,
        config=config.training,
        objective=Objective((1.0,)),
        train_frames=train,
        dev_frames=dev,
        names=["realigner"],
        seeds=[config.seed],
        diversity=Diversity(config.seed),
        checkpoint_path=folder / "realigner.checkpoint.safetensors",
    )
    return trainer.train().best
