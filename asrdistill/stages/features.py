"""Recordings to normalised log-mel frames in the frame store."""

import numpy as np

from asrdistill.corpus.audio import load_audio
from asrdistill.corpus.manifest import Utterance, read_manifest
from asrdistill.corpus.source import SPLITS
from asrdistill.experiment import Experiment
from asrdistill.features.filterbank import compute_filterbank
from asrdistill.features.frame_store import FrameStore, write_frame_store
from asrdistill.progress import say, track
from asrdistill.recipe import Recipe

SETTINGS = ("features", "corpus.sampling_rate_hz")
READS = ("prepare/recordings.json", *(f"prepare/manifests/{split}.jsonl" for split in SPLITS))
WRITES = tuple(f"features/{split}.{kind}" for split in SPLITS for kind in ("f16", "json"))


def run(recipe: Recipe, experiment: Experiment) -> None:
    """Compute the frames of every split."""
    folder = experiment.stage_dir("features")
    rate = recipe.corpus.sampling_rate_hz

    def compute(utterance: Utterance) -> np.ndarray:
        return compute_filterbank(load_audio(utterance, rate), rate, recipe.features).numpy()

    for split in SPLITS:
        utterances = read_manifest(experiment.dir / f"prepare/manifests/{split}.jsonl")
        write_frame_store(
            folder, split, track(utterances, f"features {split}"), compute, recipe.features.num_mel_bins
        )
        store = FrameStore(folder, split)
        say(f"  {split}: {store.num_frames} frames of {len(store)} utterances")
