"""Entropy coding of integers whose spread is known: range asymmetric numeral systems.

An integer's class says how far it is expected to be from zero. Each class has a table of frequencies, made
once and stored with what was coded, for a decoder must have the very same integers. What a table does not
reach is escaped; of classes of large integers the lowest bits are written as they are.
Source: Duda (2013), arXiv:1311.2540; the form with a state of 32 bits and words of 16 is Giesen's (2014),
arXiv:1402.3392. The coder begins with the last integer, so that the decoder begins with the first.
"""

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

PRECISION_BITS = 14
TOTAL = 1 << PRECISION_BITS
LOWEST_STATE = 1 << 16
# Mean magnitude of the first class; each further one has it sqrt(2) times as large.
FIRST_SCALE = 0.1
NUM_CLASSES = 33
# Magnitudes from 0.6 on are rounded up: of a Laplacian most values lie below the middle of their interval.
ROUNDING = 0.4
MAX_MAGNITUDE = (1 << 15) - 1
_LARGEST_SYMBOL = 63
_PART_BITS = 6
_SLOTS_A_PART = 1 << _PART_BITS


@dataclass(frozen=True)
class Tables:
    """Frequencies of the symbols of every class.

    Attributes:
        starts: int64 (classes, 2 * 63 + 3), cumulative; the symbols are -63 to 63 and the escape.
        num_low_bits: int64 (classes,), lowest bits that are not part of the symbol.
    """

    starts: np.ndarray
    num_low_bits: np.ndarray

    @property
    def are_whole(self) -> bool:
        """Whether every state of a decoder finds a symbol."""
        ends = (self.starts[:, 0] == 0) & (self.starts[:, -1] == TOTAL)
        return bool(ends.all() and (np.diff(self.starts, axis=1) >= 0).all())

    @cached_property
    def first_symbols(self) -> np.ndarray:
        """The symbol in which each 256th part of a table begins, uint8 (classes, 256)."""
        edges = np.arange(0, TOTAL, _SLOTS_A_PART)
        found = [np.searchsorted(row, edges, side="right") - 1 for row in self.starts]
        return np.stack(found).astype(np.uint8)


def choose_classes(mean_magnitudes: np.ndarray) -> np.ndarray:
    """The class, uint8, of integers that were real numbers of this mean magnitude before rounding."""
    octaves = np.log2(np.maximum(mean_magnitudes, FIRST_SCALE) / FIRST_SCALE)
    return np.minimum(np.rint(2 * octaves), NUM_CLASSES - 1).astype(np.uint8)


def make_tables() -> Tables:
    """Those of rounded Laplacians."""
    scales = FIRST_SCALE * 2 ** (np.arange(NUM_CLASSES) / 2)
    num_low_bits = np.maximum(np.ceil(np.log2(scales / 8)), 0).astype(np.int64)
    rows = [_cumulate(scale, int(bits)) for scale, bits in zip(scales, num_low_bits, strict=True)]
    return Tables(np.stack(rows), num_low_bits)


def quantize(values: np.ndarray, step: float) -> np.ndarray:
    """Round to multiples of `step`, int32."""
    magnitudes = np.floor(np.abs(values) / step + ROUNDING)
    return (np.sign(values) * np.minimum(magnitudes, MAX_MAGNITUDE)).astype(np.int32)


def _cumulate(scale: float, num_low_bits: int) -> np.ndarray:
    """Cumulative frequencies of one class, int64 (symbols + 1,); the escape has at least one in TOTAL."""
    edges = np.arange(MAX_MAGNITUDE + 1) + 1 - ROUNDING
    upper = 1 - np.exp(-edges / scale)
    one_side = np.diff(upper) / 2
    of_integers = np.concatenate([one_side[::-1], upper[:1], one_side])
    symbols = (np.arange(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1) >> num_low_bits) + _LARGEST_SYMBOL
    reached = (symbols >= 0) & (symbols <= 2 * _LARGEST_SYMBOL)
    of_symbols = np.bincount(symbols[reached], of_integers[reached], 2 * _LARGEST_SYMBOL + 1)
    frequencies = np.append(np.floor(of_symbols * (TOTAL - 1)).astype(np.int64), 1)
    frequencies[_LARGEST_SYMBOL] += TOTAL - frequencies.sum()
    return np.concatenate([[0], np.cumsum(frequencies)])


def encode(values: np.ndarray, classes: np.ndarray, tables: Tables) -> bytes:
    """Write integers, int32 (N,) of at most 15 bits, by their classes, uint8 (N,)."""
    words = np.empty(4 * len(values) + 2, np.uint16)
    num_words = _encode(values, classes, tables.starts, tables.num_low_bits, words)
    return words[:num_words][::-1].astype("<u2").tobytes()


def decode(content: bytes, classes: np.ndarray, tables: Tables) -> np.ndarray:
    """Read integers, int32 (N,), whose classes are known.

    Raises:
        ValueError: the content is not what was written for these classes.
    """
    words = np.frombuffer(content, "<u2") if len(content) % 2 == 0 else np.empty(0, "<u2")
    values = np.empty(len(classes), np.int32)
    frequencies = (tables.starts, tables.first_symbols, tables.num_low_bits)
    if len(words) < 2 or not _decode(words, classes, frequencies, values):
        raise ValueError("damaged")
    return values


@numba.njit(cache=True, nogil=True)
def _encode(
    values: np.ndarray,
    classes: np.ndarray,
    starts: np.ndarray,
    num_low_bits: np.ndarray,
    words: np.ndarray,
) -> int:
    state, count = LOWEST_STATE, 0
    escape = 2 * _LARGEST_SYMBOL + 1
    for place in range(len(values) - 1, -1, -1):
        value, table = values[place], starts[classes[place]]
        low_bits = num_low_bits[classes[place]]
        symbol = (value >> low_bits) + _LARGEST_SYMBOL
        if symbol < 0 or symbol >= escape or table[symbol + 1] == table[symbol]:
            symbol = escape
            raw = value + MAX_MAGNITUDE
            state, count = _push(state, count, words, (raw & 255) << 6, 64)
            state, count = _push(state, count, words, (raw >> 8) << 6, 64)
        elif low_bits:
            frequency = TOTAL >> low_bits
            low = value & ((1 << low_bits) - 1)
            state, count = _push(state, count, words, low * frequency, frequency)
        state, count = _push(state, count, words, table[symbol], table[symbol + 1] - table[symbol])
    words[count], words[count + 1] = state & 0xFFFF, state >> 16
    return count + 2


@numba.njit(cache=True, nogil=True)
def _push(state: int, count: int, words: np.ndarray, start: int, frequency: int) -> tuple[int, int]:
    if state >= frequency << (32 - PRECISION_BITS):
        words[count] = state & 0xFFFF
        state, count = state >> 16, count + 1
    return ((state // frequency) << PRECISION_BITS) + state % frequency + start, count


@numba.njit(cache=True, nogil=True)
def _decode(
    words: np.ndarray,
    classes: np.ndarray,
    frequencies: tuple[np.ndarray, np.ndarray, np.ndarray],
    values: np.ndarray,
) -> bool:
    starts, first_symbols, num_low_bits = frequencies
    state, place_of_word = (np.int64(words[0]) << 16) | words[1], 2
    escape = 2 * _LARGEST_SYMBOL + 1
    for place in range(len(values)):
        table = starts[classes[place]]
        low_bits = num_low_bits[classes[place]]
        slot = state & (TOTAL - 1)
        symbol = np.int64(first_symbols[classes[place], slot >> _PART_BITS])
        while table[symbol + 1] <= slot:
            symbol += 1
        frequency = table[symbol + 1] - table[symbol]
        state = frequency * (state >> PRECISION_BITS) + slot - table[symbol]
        state, place_of_word = _pull(state, place_of_word, words)
        if symbol == escape:
            high = (state & (TOTAL - 1)) >> 6
            state = ((state >> PRECISION_BITS) << 6) + (state & 63)
            state, place_of_word = _pull(state, place_of_word, words)
            low = (state & (TOTAL - 1)) >> 6
            state = ((state >> PRECISION_BITS) << 6) + (state & 63)
            state, place_of_word = _pull(state, place_of_word, words)
            values[place] = ((high << 8) | low) - MAX_MAGNITUDE
            continue
        low = 0
        if low_bits:
            free_bits = PRECISION_BITS - low_bits
            low = (state & (TOTAL - 1)) >> free_bits
            state = ((state >> PRECISION_BITS) << free_bits) + (state & ((1 << free_bits) - 1))
            state, place_of_word = _pull(state, place_of_word, words)
        values[place] = ((symbol - _LARGEST_SYMBOL) << low_bits) | low
    return state == LOWEST_STATE and place_of_word == len(words)


@numba.njit(cache=True, nogil=True)
def _pull(state: int, place: int, words: np.ndarray) -> tuple[int, int]:
    if state < LOWEST_STATE and place < len(words):
        return (state << 16) | words[place], place + 1
    return state, place
