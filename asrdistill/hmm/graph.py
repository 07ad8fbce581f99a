"""The HMM of one utterance: its words' pronunciations in sequence, with optional silence around each word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asrdistill.hmm.topology import NUM_STATES_PER_PHONE, SILENCE_PHONE, TiedStates

SILENCE_WORD = -1


@dataclass(frozen=True)
class UtteranceGraph:
    """States of an utterance's HMM; each has a self-loop besides the arcs listed.

    Arcs carry no probability: with 0.5 for staying and 0.5 for going on, all paths of T frames are equally
    likely before the audio is heard.

    Attributes:
        pdf_ids: int32 (states,), the pdf-id that a state emits.
        words: int32 (states,), position in the transcript of the word that a state belongs to; silence: -1.
        predecessors: int32 (arcs,), the states before each state, grouped by state.
        predecessor_starts: int32 (states + 1,): state s has predecessors[starts[s]:starts[s + 1]].
        initial: bool (states,), where a path may start.
        final: bool (states,), where a path may end.
        min_frames: length of the shortest path.
    """

    pdf_ids: np.ndarray
    words: np.ndarray
    predecessors: np.ndarray
    predecessor_starts: np.ndarray
    initial: np.ndarray
    final: np.ndarray
    min_frames: int


def build_utterance_graph(
    words: Sequence[str], pronunciations: Mapping[str, Sequence[Sequence[str]]], tied_states: TiedStates
) -> UtteranceGraph:
    """Build the HMM of a transcript: silence? word (silence? word)* silence?, all pronunciations in parallel.

    Raises:
        KeyError: a word has no pronunciation (validation has left such utterances out).
    """
    pdf_ids: list[int] = []
    owners: list[int] = []
    before: list[list[int]] = []
    starts: list[int] = []

    def add_chain(phones: Sequence[str], owner: int, entries: list[int], may_start: bool = False) -> int:
        """Append a pronunciation's states, reached from `entries`, and return the last one."""
        if may_start:
            starts.append(len(pdf_ids))
        for pdf_id in (pdf for phone in phones for pdf in tied_states.pdf_ids(phone)):
            before.append(entries)
            entries = [len(pdf_ids)]
            pdf_ids.append(pdf_id)
            owners.append(owner)
        return entries[0]

    exits = [add_chain([SILENCE_PHONE], SILENCE_WORD, [], may_start=True)]
    min_frames = 0 if words else NUM_STATES_PER_PHONE
    for position, word in enumerate(words):
        variants = pronunciations[word]
        ends = [add_chain(phones, position, exits, may_start=position == 0) for phones in variants]
        exits = [*ends, add_chain([SILENCE_PHONE], SILENCE_WORD, ends)]
        min_frames += NUM_STATES_PER_PHONE * min(map(len, variants))
    initial, final = np.zeros(len(pdf_ids), bool), np.zeros(len(pdf_ids), bool)
    initial[starts] = True
    final[exits] = True
    return UtteranceGraph(
        np.array(pdf_ids, np.int32),
        np.array(owners, np.int32),
        np.array([state for states in before for state in states], np.int32),
        np.cumsum([0, *map(len, before)], dtype=np.int32),
        initial,
        final,
        min_frames,
    )


def build_equal_alignment(
    words: Sequence[str],
    pronunciations: Mapping[str, Sequence[Sequence[str]]],
    tied_states: TiedStates,
    num_frames: int,
) -> np.ndarray:
    """Pdf-ids, int32 (frames,): silence, the words' first pronunciations, silence; equally long states."""
    phones = [SILENCE_PHONE, *(phone for word in words for phone in pronunciations[word][0]), SILENCE_PHONE]
    chain = np.array([pdf for phone in phones for pdf in tied_states.pdf_ids(phone)], np.int32)
    return chain[np.arange(num_frames) * len(chain) // num_frames]
