"""The HMM of one utterance: its words' pronunciations in sequence, with optional silence around each word.

Every phone stands between its neighbours, across word boundaries: where these may be several (another
pronunciation, or silence), it stands there once for each pair of them. Arcs carry no probability: with 0.5
for staying and 0.5 for going on, all paths of T frames are equally likely before the audio is heard.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from asrdistill.hmm.topology import NUM_STATES_PER_PHONE, SILENCE_PHONE, TiedStates

SILENCE_WORD = -1
Pronunciations = Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True)
class UtteranceGraph:
    """States of an utterance's HMM; each has a self-loop besides the arcs listed.

    Attributes:
        codes: int32 (states,), of triphone states (hmm/topology.py); tied states say which pdf-id each emits.
        words: int32 (states,), position in the transcript of the word that a state belongs to; silence: -1.
        predecessors: int32 (arcs,), the states before each state, grouped by state.
        predecessor_starts: int32 (states + 1,): state s has predecessors[starts[s]:starts[s + 1]].
        initial: bool (states,), where a path may start.
        final: bool (states,), where a path may end.
        min_frames: length of the shortest path.
    """

    codes: np.ndarray
    words: np.ndarray
    predecessors: np.ndarray
    predecessor_starts: np.ndarray
    initial: np.ndarray
    final: np.ndarray
    min_frames: int


@dataclass
class _Phone:
    """A phone of a pronunciation, before its neighbours are told apart.

    Attributes:
        name: of the phone.
        owner: position of its word.
        before: numbers of the phones that may come before it.
        after: names of the phones that may come after it.
        is_first: the utterance may start with it.
        is_last: the utterance may end with it.
    """

    name: str
    owner: int
    before: list[int]
    after: set[str] = field(default_factory=set)
    is_first: bool = False
    is_last: bool = False


def build_utterance_graph(
    words: Sequence[str], pronunciations: Pronunciations, tied_states: TiedStates
) -> UtteranceGraph:
    """Build the HMM of a transcript: silence? word (silence? word)* silence?, all pronunciations in parallel.

    Raises:
        KeyError: a word has no pronunciation (validation has left such utterances out).
    """
    phones = _list_phones(words, pronunciations)
    shortest = sum(min(map(len, pronunciations[word])) for word in words) if words else 1
    return _expand(phones, tied_states, NUM_STATES_PER_PHONE * shortest)


def _list_phones(words: Sequence[str], pronunciations: Pronunciations) -> list[_Phone]:
    phones: list[_Phone] = []

    def add_chain(names: Sequence[str], owner: int, before: list[int], may_start: bool = False) -> int:
        """Append a pronunciation, reached from `before`, and return its last phone's number."""
        for name in names:
            phones.append(_Phone(name, owner, before, is_first=may_start and not before))
            for number in before:
                phones[number].after.add(name)
            before, may_start = [len(phones) - 1], False
        return before[0]

    exits = [add_chain([SILENCE_PHONE], SILENCE_WORD, [], may_start=True)]
    for position, word in enumerate(words):
        first = len(phones)
        ends = [add_chain(variant, position, exits) for variant in pronunciations[word]]
        if position == 0:
            for phone in phones[first:]:
                phone.is_first = phone.before == exits
        exits = [*ends, add_chain([SILENCE_PHONE], SILENCE_WORD, ends)]
    for number in exits:
        phones[number].is_last = True
    return phones


def _expand(phones: Sequence[_Phone], tied_states: TiedStates, min_frames: int) -> UtteranceGraph:
    """Give every phone its copies, one for each pair of neighbours, and each copy its three states."""
    codes: list[int] = []
    owners: list[int] = []
    before: list[list[int]] = []
    initial: list[int] = []
    final: list[int] = []
    # By phone: name of the right neighbour -> last states of the copies that stand before it.
    ends: list[dict[str, list[int]]] = []
    for phone in phones:
        copies: dict[str, list[int]] = {}
        for left, right in _list_neighbours(phone, phones):
            first, code = len(codes), tied_states.code(left, phone.name, right)
            codes += range(code, code + NUM_STATES_PER_PHONE)
            owners += [phone.owner] * NUM_STATES_PER_PHONE
            is_silence = phone.name == SILENCE_PHONE
            entries = [
                end
                for number in phone.before
                if is_silence or phones[number].name == left
                for end in ends[number].get(phone.name, ())
            ]
            before += [entries, [first], [first + 1]]
            if phone.is_first and left == SILENCE_PHONE:
                initial.append(first)
            if phone.is_last and right == SILENCE_PHONE:
                final.append(first + 2)
            for name in phone.after if is_silence else (right,):
                copies.setdefault(name, []).append(first + 2)
        ends.append(copies)
    return UtteranceGraph(
        np.array(codes, np.int32),
        np.array(owners, np.int32),
        np.array([state for states in before for state in states], np.int32),
        np.cumsum([0, *map(len, before)], dtype=np.int32),
        _mark(initial, len(codes)),
        _mark(final, len(codes)),
        min_frames,
    )


def _list_neighbours(phone: _Phone, phones: Sequence[_Phone]) -> Iterable[tuple[str, str]]:
    """The pairs of neighbours that a phone may have; silence is the same between all of them."""
    if phone.name == SILENCE_PHONE:
        return [(SILENCE_PHONE, SILENCE_PHONE)]
    lefts = {phones[number].name for number in phone.before} | ({SILENCE_PHONE} if phone.is_first else set())
    rights = phone.after | ({SILENCE_PHONE} if phone.is_last else set())
    return product(sorted(lefts), sorted(rights))


def _mark(states: Sequence[int], num_states: int) -> np.ndarray:
    marked = np.zeros(num_states, bool)
    marked[list(states)] = True
    return marked


def build_equal_alignment(
    words: Sequence[str], pronunciations: Pronunciations, tied_states: TiedStates, num_frames: int
) -> np.ndarray:
    """Codes, int32 (frames,): silence, the words' first pronunciations, silence; equally long states."""
    names = [SILENCE_PHONE, *(phone for word in words for phone in pronunciations[word][0]), SILENCE_PHONE]
    chain = chain_codes(names, tied_states)
    return chain[np.arange(num_frames) * len(chain) // num_frames]


def chain_codes(phones: Sequence[str], tied_states: TiedStates) -> np.ndarray:
    """Codes of the states of a sequence of phones, each between its neighbours, int32 (3 * phones,)."""
    silence = SILENCE_PHONE
    triphones = zip([silence, *phones[:-1]], phones, [*phones[1:], silence], strict=True)
    first = [
        tied_states.code(silence, silence, silence)
        if phone == silence
        else tied_states.code(left, phone, right)
        for left, phone, right in triphones
    ]
    return (np.array(first, np.int32)[:, None] + np.arange(NUM_STATES_PER_PHONE, dtype=np.int32)).reshape(-1)
