"""Recordings to frame stores, normalised by speaker: log-mel frames for networks, cepstra for mixtures."""

from contextlib import ExitStack

from asrdistill.corpus.audio import load_audio
from asrdistill.corpus.manifest import read_manifest
from asrdistill.corpus.source import SPLITS, UNTRANSCRIBED
from asrdistill.experiment import Experiment
from asrdistill.features.cepstra import NUM_CEPSTRA, compute_cepstra
from asrdistill.features.filterbank import compute_filterbank
from asrdistill.features.frame_store import FrameStore, FrameStoreWriter, list_store_files, name_cepstra
from asrdistill.progress import say, track
from asrdistill.recipe import Recipe

SETTINGS = ("features", "corpus.sampling_rate_hz")
EVERYTHING = (*SPLITS, UNTRANSCRIBED)
READS = ("prepare/recordings.json", *(f"prepare/manifests/{split}.jsonl" for split in EVERYTHING))
WRITES = list_store_files((*EVERYTHING, *map(name_cepstra, SPLITS)))


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Compute the frames of every split."""
    folder = experiment.stage_dir("features")
    rate = recipe.corpus.sampling_rate_hz
    for split in EVERYTHING:
        utterances = read_manifest(experiment.dir / f"prepare/manifests/{split}.jsonl")
        with ExitStack() as stack:
            log_mel = stack.enter_context(FrameStoreWriter(folder, split, recipe.features.num_mel_bins))
            cepstra = None
            if split != UNTRANSCRIBED:  # no mixtures hear it
                writer = FrameStoreWriter(folder, name_cepstra(split), NUM_CEPSTRA)
                cepstra = stack.enter_context(writer)
            for utterance in track(utterances, f"features {split}"):
                frames = compute_filterbank(load_audio(utterance, rate), rate, recipe.features).numpy()
                log_mel.add(utterance, frames)
                if cepstra:
                    cepstra.add(utterance, compute_cepstra(frames))
        store = FrameStore(folder, split)
        if len(store):
            say(f"  {split}: {store.num_frames} frames of {len(store)} utterances")
