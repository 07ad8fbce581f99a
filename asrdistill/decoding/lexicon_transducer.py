"""The lexicon as a transducer L: phones in, words out, optional silence between words.

Input labels: phone id + 1, then `#0` (of the grammar's back-off arcs), then the disambiguation symbols
that keep L o G determinisable; the last of these follows every silence. A word stands on the first arc of its
pronunciation.

Source: Mohri, Pereira & Riley (2002), Computer Speech & Language 16(1); Kaldi's make_lexicon_fst.py.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.transducer import Arcs
from asrdistill.errors import CorpusError
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates


def build_lexicon_transducer(
    lexicon: Lexicon,
    word_ids: dict[str, int],
    backoff_id: int,
    tied_states: TiedStates,
    silence_probability: float,
) -> Arcs:
    """Build L over all words of a lexicon.

    Args:
        lexicon: pronunciations.
        word_ids: output label of every word.
        backoff_id: output label of `#0`.
        tied_states: the inventory that numbers the phones.
        silence_probability: of a silence before the first word and after each word.

    Raises:
        CorpusError: a pronunciation is empty, or one of its phones has no HMM states.
    """
    symbols = {phone: number for number, phone in enumerate(tied_states.phones, 1)}
    backoff_symbol = len(symbols) + 1
    silence, speech = -np.log(silence_probability), -np.log1p(-silence_probability)
    start, between, before_silence, after_silence = range(4)
    num_states = 4
    num_marks = 0
    rows = [(start, between, 0, 0, speech), (start, before_silence, 0, 0, silence)]
    for word, pronunciation, mark in _mark_ambiguous(lexicon):
        labels = _label_phones(word, pronunciation, symbols)
        labels += [backoff_symbol + mark] if mark else []
        num_marks = max(num_marks, mark)
        source, word_id = between, word_ids[word]
        for label in labels[:-1]:
            rows.append((source, num_states, label, word_id, 0.0))
            source, word_id = num_states, 0
            num_states += 1
        rows.append((source, between, labels[-1], word_id, speech))
        rows.append((source, before_silence, labels[-1], word_id, silence))
    rows.append((before_silence, after_silence, symbols[SILENCE_PHONE], 0, 0.0))
    rows.append((after_silence, between, backoff_symbol + num_marks + 1, 0, 0.0))
    rows.append((between, between, backoff_symbol, backoff_id, 0.0))
    final = np.full(num_states, np.inf)
    final[between] = 0
    return Arcs.of_rows(start, rows, final)


def _label_phones(word: str, pronunciation: tuple[str, ...], symbols: dict[str, int]) -> list[int]:
    try:
        return [symbols[phone] for phone in pronunciation]
    except KeyError as error:
        raise CorpusError(
            f"lexicon, word {word!r}: phone {error.args[0]!r} has no HMM states; "
            "use the lexicon that the alignment was made with"
        ) from error


def _mark_ambiguous(lexicon: Lexicon) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Yield each pronunciation with the number of its disambiguation symbol, 0 where it needs none.

    Homophones, and pronunciations that another one begins with, need one: the words of a string of phones
    would not be determined by a bounded look ahead otherwise.
    """
    entries = [
        (word, pronunciation)
        for word in sorted(lexicon.pronunciations)
        for pronunciation in dict.fromkeys(map(tuple, lexicon.pronunciations[word]))
    ]
    for word, pronunciation in entries:
        if not pronunciation:
            raise CorpusError(f"lexicon, word {word!r}: a pronunciation is empty; give it at least one phone")
    num_bearers = Counter(pronunciation for _, pronunciation in entries)
    prefixes = {pronunciation[:end] for pronunciation in num_bearers for end in range(1, len(pronunciation))}
    used: Counter[tuple[str, ...]] = Counter()
    for word, pronunciation in entries:
        ambiguous = num_bearers[pronunciation] > 1 or pronunciation in prefixes
        used[pronunciation] += ambiguous
        yield word, pronunciation, used[pronunciation]
