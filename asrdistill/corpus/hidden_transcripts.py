"""What transcripts are worth, on a corpus that has them all: those of some speakers are put away."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.source import UNTRANSCRIBED

SEED = 1


def hide_transcripts(splits: Mapping[str, list[Utterance]], share: float) -> dict[str, list[Utterance]]:
    """Take the transcripts of some training speakers away; their speech joins the untranscribed split.

    Speakers keep theirs, in an order that is always the same, until these have `share` of the training
    utterances; at least one speaker does. Who has no name is a speaker of his own.
    """
    found = dict(splits)
    if share == 1:
        return found
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in splits["train"]:
        by_speaker.setdefault(utterance.speaker or utterance.id, []).append(utterance)
    kept: set[str] = set()
    num_kept = 0
    for number in np.random.default_rng(SEED).permutation(len(by_speaker)):
        speaker = sorted(by_speaker)[number]
        if kept and num_kept + len(by_speaker[speaker]) > share * len(splits["train"]):
            break
        kept.add(speaker)
        num_kept += len(by_speaker[speaker])
    hidden = [u for speaker, theirs in by_speaker.items() if speaker not in kept for u in theirs]
    found["train"] = [u for speaker, theirs in by_speaker.items() if speaker in kept for u in theirs]
    found[UNTRANSCRIBED] = [*splits.get(UNTRANSCRIBED, []), *(replace(u, text="") for u in hidden)]
    return found
