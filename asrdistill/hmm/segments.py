"""Phones and words of an utterance, on frames; in seconds, as other systems give them; as triphone states.

A boundary at t seconds is the start of frame round(t / frame_shift_s): the inverse of our own CTM, where
frame n starts at n * frame_shift_s. Segments less than half a frame apart touch, at the later one's start.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from asrdistill.corpus.lexicon import STRESSED_VOWEL
from asrdistill.errors import CorpusError
from asrdistill.hmm.graph import chain_codes
from asrdistill.hmm.topology import NUM_STATES_PER_PHONE, SILENCE_PHONE, TiedStates

# In lower case, for where the lexicon has no phone of that name: silence in Kaldi and the Montreal Forced
# Aligner, and what is no phone of a word (`spn`: spoken noise, `nsn`: other noise).
SILENCE_NAMES = frozenset({"", "sil", "sp", "spn", "nsn", "<eps>"})
# Kaldi's marks of where in a word a phone stands: begin, inside, end, single.
WORD_POSITION = re.compile(r"_[BIES]$")


@dataclass(frozen=True)
class Segment:
    """A stretch of one utterance: a phone or a word.

    Attributes:
        name: of the phone or word.
        start: first frame.
        end: frame after the last.
        confidence: that it was spoken, 0 to 1 (decoding/posteriors.py); None: not a matter of doubt.
    """

    name: str
    start: int
    end: int
    confidence: float | None = None


@dataclass(frozen=True)
class TimedSegment:
    """A stretch of one utterance: a phone or a word.

    Attributes:
        name: of the phone or word.
        start_s: from the start of the utterance, in seconds.
        end_s: likewise.
    """

    name: str
    start_s: float
    end_s: float


def find_phones(codes: np.ndarray, phones: Sequence[str]) -> list[Segment]:
    """Phones of an utterance, from its triphone states.

    Args:
        codes: int (frames,), as in hmm/topology.py.
        phones: name of every phone id; none where the codes are another system's pdf-ids.
    """
    if not len(codes) or not phones:
        return []
    triphones, states = np.divmod(codes, NUM_STATES_PER_PHONE)
    is_new = (triphones[1:] != triphones[:-1]) | (states[1:] < states[:-1])
    edges = [0, *(np.flatnonzero(is_new) + 1).tolist(), len(codes)]
    names = [phones[number] for number in triphones // len(phones) % len(phones)]
    return [Segment(names[start], start, end) for start, end in pairwise(edges)]


def find_words(positions: np.ndarray, words: Sequence[str]) -> list[Segment]:
    """Words of an utterance.

    Args:
        positions: int (frames,), position in the transcript of the word spoken; silence: -1.
        words: the transcript.
    """
    edges = [0, *(np.flatnonzero(np.diff(positions)) + 1).tolist(), len(positions)]
    return [
        Segment(words[positions[start]], start, end)
        for start, end in pairwise(edges)
        if start < end and positions[start] >= 0
    ]


def to_frames(segments: Sequence[TimedSegment], frame_shift_s: float, utterance_id: str) -> list[Segment]:
    """Put segments on frames, in the order of time; one that is too short for a frame may be left out.

    Raises:
        CorpusError: two segments overlap by more than half a frame.
    """
    ordered = sorted(segments, key=lambda segment: (segment.start_s, segment.end_s))
    ends_s = []
    for before, after in pairwise(ordered):
        gap_s = after.start_s - before.end_s
        if gap_s < -frame_shift_s / 2:
            raise CorpusError(
                f"utterance {utterance_id}: {before.name} ends at {before.end_s:g} s, but {after.name} "
                f"starts at {after.start_s:g} s; expected segments that do not overlap: correct the alignment"
            )
        ends_s.append(after.start_s if abs(gap_s) < frame_shift_s / 2 else before.end_s)
    ends_s += [segment.end_s for segment in ordered[-1:]]
    placed = [
        Segment(s.name, _to_frame(s.start_s, frame_shift_s), _to_frame(end_s, frame_shift_s))
        for s, end_s in zip(ordered, ends_s, strict=True)
    ]
    return [segment for segment in placed if segment.start < segment.end]


def _to_frame(time_s: float, frame_shift_s: float) -> int:
    return math.floor(time_s / frame_shift_s + 0.5)


def fill_gaps(segments: Iterable[Segment], name: str, num_frames: int) -> list[Segment]:
    """Cover the frames from 0 to `num_frames`: what lies beside the segments gets segments of that name."""
    filled: list[Segment] = []
    end = 0
    for segment in segments:
        if segment.start > end:
            filled.append(Segment(name, end, segment.start))
        filled.append(segment)
        end = segment.end
    if end < num_frames:
        filled.append(Segment(name, end, num_frames))
    return filled


def find_phone(name: str, tied_states: TiedStates) -> str | None:
    """The phone of the inventory that another system's name stands for; None where there is none.

    The name as it is comes first, then without Kaldi's word position (AH0_B), then without ARPAbet's stress.
    """
    plain = WORD_POSITION.sub("", name)
    for candidate in (name, plain, STRESSED_VOWEL.sub(r"\1", plain)):
        if candidate in tied_states.phone_ids:
            return candidate
    return SILENCE_PHONE if plain.lower() in SILENCE_NAMES else None


def spell_codes(
    phones: Sequence[TimedSegment],
    num_frames: int,
    frame_shift_s: float,
    tied_states: TiedStates,
    utterance_id: str,
    max_mismatch_frames: int,
) -> np.ndarray:
    """Triphone states of an utterance whose phones are known, each phone's frames divided equally among them.

    What lies before and between the phones is silence. The last phone is cut or extended to the utterance's
    end before it is divided; one that starts later is dropped. A phone of two frames has its first and last
    state, one of a single frame its last state alone: no path through the HMM, but each phone keeps its
    frames and ends in its last state.

    Args:
        phones: of the utterance, at least one.
        num_frames: of its features.
        frame_shift_s: seconds between frames.
        tied_states: the inventory, whose phones are used.
        utterance_id: for messages.
        max_mismatch_frames: by how much the phones may end before or after the features.

    Returns:
        Codes (hmm/topology.py), int32 (num_frames,).

    Raises:
        CorpusError: an unknown phone, phones that overlap, or an end that is not that of the features.
    """
    named = [replace(phone, name=_find_phone(phone.name, tied_states, utterance_id)) for phone in phones]
    placed = to_frames(named, frame_shift_s, utterance_id)
    end = placed[-1].end if placed else 0
    check_num_frames(end, num_frames, max_mismatch_frames, utterance_id)
    fitted = _fit(_merge_silence(fill_gaps(placed, SILENCE_PHONE, end)), num_frames)
    if not fitted:
        return np.zeros(0, np.int32)
    lengths = [segment.end - segment.start for segment in fitted]
    states = np.concatenate([_divide(length) for length in lengths])
    phone_numbers = np.repeat(np.arange(len(fitted)), lengths)
    codes = chain_codes([segment.name for segment in fitted], tied_states)
    spelt: np.ndarray = codes[NUM_STATES_PER_PHONE * phone_numbers + states]
    return spelt


def check_num_frames(found: int, expected: int, max_mismatch_frames: int, utterance_id: str) -> None:
    """Compare an alignment's length with that of the features.

    Raises:
        CorpusError: they differ by more than `max_mismatch_frames`, or there is nothing to extend.
    """
    if abs(found - expected) > max_mismatch_frames or (expected and not found):
        raise CorpusError(
            f"utterance {utterance_id}: its imported alignment has {found} frames, its features {expected}; "
            f"expected a difference of at most {max_mismatch_frames} (max_mismatch_frames): align the same "
            "recordings with the same frame shift, silence at the end included"
        )


def _find_phone(name: str, tied_states: TiedStates, utterance_id: str) -> str:
    phone = find_phone(name, tied_states)
    if phone is None:
        advice = (
            "these look like Kaldi's numbers: name them with utils/int2sym.pl -f 5 phones.txt"
            if name.isdecimal()
            else "align with the phones of this lexicon, or give that alignment's lexicon as lexicon.path"
        )
        raise CorpusError(
            f"utterance {utterance_id}: its imported alignment has phone {name!r}, which the lexicon has "
            f"not; known phones: {' '.join(tied_states.phones)}; {advice}"
        )
    return phone


def _merge_silence(segments: Iterable[Segment]) -> list[Segment]:
    merged: list[Segment] = []
    for segment in segments:
        if merged and segment.name == merged[-1].name == SILENCE_PHONE:
            merged[-1] = replace(merged[-1], end=segment.end)
        else:
            merged.append(segment)
    return merged


def _fit(segments: Sequence[Segment], num_frames: int) -> list[Segment]:
    """Cut or extend the last segment to end at `num_frames`."""
    kept = [segment for segment in segments if segment.start < num_frames]
    return [*kept[:-1], *(replace(last, end=num_frames) for last in kept[-1:])]


def _divide(num_frames: int) -> np.ndarray:
    """States of a phone's frames, int (frames,); the last frame is always in the last state."""
    states = np.arange(num_frames) * NUM_STATES_PER_PHONE // num_frames
    states[-1] = NUM_STATES_PER_PHONE - 1
    return states
