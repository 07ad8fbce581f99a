"""What transcripts are worth, on a corpus that has them all: those of some speakers are put away."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.source import UNTRANSCRIBED
from asrdistill.errors import CorpusError

SEED = 1


def hide_transcripts(splits: Mapping[str, list[Utterance]], share: float) -> dict[str, list[Utterance]]:
    """Take the transcripts of some training speakers away; their speech joins the untranscribed split.

    Speakers, in an order that is always the same, keep theirs as long as they have no more than `share` of
    the training utterances together; at least one does. Who has no name is a speaker of his own.

    Raises:
        CorpusError: all of them would.
    """
    found = dict(splits)
    if share == 1:
        return found
    by_speaker: dict[tuple[str, str], list[Utterance]] = {}
    for utterance in splits["train"]:
        who = ("utterance", utterance.id) if utterance.speaker is None else ("speaker", utterance.speaker)
        by_speaker.setdefault(who, []).append(utterance)
    names = sorted(by_speaker)
    kept: set[tuple[str, str]] = set()
    num_kept = 0
    for number in np.random.default_rng(SEED).permutation(len(names)):
        count = len(by_speaker[names[number]])
        if not kept or num_kept + count <= share * len(splits["train"]):
            kept.add(names[number])
            num_kept += count
    if len(kept) == len(names):
        raise CorpusError(
            f"corpus.transcribed_share is {share:g}, but with whole speakers nothing can be put away of the "
            f"{len(splits['train'])} training utterances of {len(names)}; give a smaller share, or 1"
        )
    hidden = [u for speaker, theirs in by_speaker.items() if speaker not in kept for u in theirs]
    found["train"] = [u for speaker, theirs in by_speaker.items() if speaker in kept for u in theirs]
    found[UNTRANSCRIBED] = [*splits.get(UNTRANSCRIBED, []), *(replace(u, text="") for u in hidden)]
    return found
