"""Reference and hypothesis word by word, aligned as NIST's sclite aligns them.

A substitution costs 4, a deletion or an insertion 3; the cheapest alignment is told from its end, and where
several are, a substitution or a correct word goes before an insertion, that before a deletion. So a word's
partner is sclite's, and so are all counts. The number of errors may exceed the edit distance that
`asrdistill.scoring.word_errors` counts: five insertions and deletions are cheaper than four substitutions.
Source: NIST SCTK 2.4.10, sclite; its test finds the tool's alignments again.
"""

from collections.abc import Sequence

import numba
import numpy as np

# Of an alignment's characters.
CORRECT, SUBSTITUTION, INSERTION, DELETION = "C", "S", "I", "D"
_NAMES = np.frombuffer((CORRECT + SUBSTITUTION + INSERTION + DELETION).encode(), np.uint8)


def align_words(reference: Sequence[str], hypothesis: Sequence[str]) -> str:
    """What became of each word: `C` correct, `S` substituted, `D` deleted, `I` inserted."""
    numbers: dict[str, int] = {}
    sides = [
        np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int64)
        for words in (reference, hypothesis)
    ]
    operations = np.empty(len(reference) + len(hypothesis), np.int64)
    count = _align(*sides, operations)
    return _NAMES[operations[:count][::-1]].tobytes().decode()


@numba.njit(cache=True, nogil=True)
def _align(reference: np.ndarray, hypothesis: np.ndarray, operations: np.ndarray) -> int:
    """Fill in the operations, the last one first, as places in `_NAMES`; how many there are."""
    costs = np.empty((len(reference) + 1, len(hypothesis) + 1), np.int64)
    costs[0] = 3 * np.arange(len(hypothesis) + 1)
    for row in range(1, len(reference) + 1):
        costs[row, 0] = 3 * row
        for column in range(1, len(hypothesis) + 1):
            is_wrong = reference[row - 1] != hypothesis[column - 1]
            costs[row, column] = min(
                costs[row - 1, column - 1] + 4 * is_wrong,
                costs[row, column - 1] + 3,
                costs[row - 1, column] + 3,
            )
    row, column, count = len(reference), len(hypothesis), 0
    while row or column:
        is_wrong = row > 0 and column > 0 and reference[row - 1] != hypothesis[column - 1]
        if row and column and costs[row, column] == costs[row - 1, column - 1] + 4 * is_wrong:
            operations[count] = 1 if is_wrong else 0
            row, column = row - 1, column - 1
        elif column and costs[row, column] == costs[row, column - 1] + 3:
            operations[count] = 2
            column -= 1
        else:
            operations[count] = 3
            row -= 1
        count += 1
    return count
