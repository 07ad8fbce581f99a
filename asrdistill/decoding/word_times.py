"""When each word of a hypothesis was spoken.

A lattice's path knows the pdf-id of each of its frames. Those tell where each phone begins, because a phone
goes through its first, second and last state in this order; and the phones are divided among the words by the
lexicon. So the times are exactly those of the path, whatever arcs the words stand on: a word runs from the
first frame of its first phone to the last frame of its last one, and silence belongs to no word. How near a
path is to what was spoken is up to the acoustic model: its frames are the resolution.

Where the phones can be divided in two ways, as A N O with `a` (A or A N) and `no` (N O or O), the
pronunciation that the lexicon has first is taken for the earlier word.
Source: Kaldi's lattice-align-words-lexicon.
Differs: along one path, not over the lattice.
"""

from collections.abc import Sequence

import numpy as np

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.lattice import Lattice, find_best_arcs
from asrdistill.decoding.posteriors import word_confidences
from asrdistill.errors import ContractError
from asrdistill.hmm.segments import Segment
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

Phones = tuple[str, ...]
Span = tuple[int, int]


def find_timed_words(
    lattice: Lattice,
    words: Sequence[str],
    lexicon: Lexicon,
    tied_states: TiedStates,
    acoustic_scale: float,
    insertion_penalty: float = 0.0,
) -> list[Segment]:
    """The words of the best path, with their times and confidences.

    Args:
        lattice: of one utterance.
        words: word of each word id.
        lexicon: the one that the decoding graph was built with.
        tied_states: likewise.
        acoustic_scale: factor on acoustic costs.
        insertion_penalty: cost of each word, natural log units.

    Raises:
        ContractError: the lexicon does not explain the path's phones.
    """
    arcs = find_best_arcs(lattice, acoustic_scale, insertion_penalty)
    word_ids = lattice.path_words(arcs)
    hypothesis = [words[word_id] for word_id in word_ids]
    alignment = lattice.path_alignment(arcs)
    spans = time_words(alignment, hypothesis, lexicon, tied_states, lattice.is_complete).tolist()
    confidences = word_confidences(lattice, word_ids, acoustic_scale, insertion_penalty).tolist()
    return [
        Segment(word, start, end, confidence)
        for word, (start, end), confidence in zip(hypothesis, spans, confidences, strict=True)
    ]


def time_words(
    alignment: np.ndarray,
    words: Sequence[str],
    lexicon: Lexicon,
    tied_states: TiedStates,
    is_complete: bool = True,
) -> np.ndarray:
    """First frame of each word and the frame after its last one: int32 (words, 2).

    Args:
        alignment: int32 (T,) pdf-id of each frame of a path.
        words: the path's words.
        lexicon: the one that the decoding graph was built with.
        tied_states: likewise.
        is_complete: False where the path may end in the midst of a word: the last word may then lack phones,
            even all of them, or phones of a word that is not known yet may follow it.

    Raises:
        ContractError: the phones cannot be divided among the words.
    """
    phones, starts = split_phones(alignment, tied_states)
    spans = _divide(phones, [lexicon.pronunciations.get(word, []) for word in words], is_complete)
    if spans is None:
        raise ContractError(
            f"word times: the phones {' '.join(phones)} cannot be divided among the words {' '.join(words)}; "
            "give the lexicon and the tied states that the decoding graph was built with"
        )
    boundaries = np.append(starts, len(alignment)).astype(np.int32)
    return boundaries[np.array(spans, np.int32).reshape(-1, 2)]


def split_phones(alignment: np.ndarray, tied_states: TiedStates) -> tuple[Phones, np.ndarray]:
    """The phones of an alignment, and the first frame of each: int32 (phones,)."""
    state = np.array([tied_states.state_of_pdf(pdf_id) for pdf_id in alignment.tolist()], np.int32)
    is_first = (state == 0) & (np.append(-1, state[:-1]) != 0)
    starts = np.flatnonzero(is_first).astype(np.int32)
    return tuple(tied_states.phone_of_pdf(pdf_id) for pdf_id in alignment[starts].tolist()), starts


def _divide(
    phones: Phones, pronunciations: Sequence[Sequence[Phones]], is_complete: bool
) -> list[Span] | None:
    """First phone of each word and the one after its last; None where the words do not explain the phones."""
    # For each number of words: where they may end -> the last one's start, and where the one before it ends.
    ends: list[dict[int, Span]] = [{0: (0, 0)}]
    for number, choices in enumerate(pronunciations, 1):
        may_break_off = not is_complete and number == len(pronunciations)
        after: dict[int, Span] = {}
        for before in ends[-1]:
            for start in _possible_starts(phones, before):
                for pronunciation in choices:
                    spoken = phones[start : start + len(pronunciation)]
                    if spoken == (pronunciation[: len(spoken)] if may_break_off else pronunciation):
                        after.setdefault(start + len(spoken), (start, before))
        ends.append(after)
    last = [end for end in ends[-1] if not is_complete or len(phones) in _possible_starts(phones, end)]
    if not last:
        return None
    spans: list[Span] = []
    end = last[0]
    for starts in reversed(ends[1:]):
        start, before = starts[end]
        spans.append((start, end))
        end = before
    return spans[::-1]


def _possible_starts(phones: Phones, end: int) -> list[int]:
    """Where a word may start, or the utterance end, after a word's end: at once, or behind silence."""
    starts = [end]
    while starts[-1] < len(phones) and phones[starts[-1]] == SILENCE_PHONE:
        starts.append(starts[-1] + 1)
    return starts
