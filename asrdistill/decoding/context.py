"""Which tied states the phones on the arcs of a transducer go through: cross-word context.

Composition with the context transducer C turns every phone into a triphone, and says so one phone later: the
arc that read a phone bears the triphone in the middle of which is the phone before it. Words and costs thus
come up to one phone early.

The result is a transducer and its spelling: int32 (labels, 3), the pdf-ids + 1 of the three states that each
input label stands for. A label that is a disambiguation symbol is spelled (number, 0, 0), the number above
those of all pdf-ids; the empty one (0, 0, 0). Two triphones with the same spelling are the same to all that
follows (Kaldi: the same physical triphone).

Source: Mohri, Pereira & Riley (2002), Computer Speech & Language 16(1); Kaldi's fstcomposecontext and
make-ilabel-transducer.
"""

import kaldifst
import numpy as np

from asrdistill.decoding.transducer import Arcs, of_fst
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates


def spell_phones(
    lg: kaldifst.StdVectorFst, num_symbols: int, tied_states: TiedStates
) -> tuple[Arcs, np.ndarray]:
    """Find the tied states of the phones of L o G.

    Args:
        lg: input labels are phone id + 1, then disambiguation symbols.
        num_symbols: phones and disambiguation symbols together.
        tied_states: where it depends on no context, the transducer stays as it is.

    Returns:
        The transducer and its spelling.
    """
    num_phones = len(tied_states.phones)
    marks = range(num_phones + 1, num_symbols + 1)
    if tied_states.is_context_dependent:
        lg, windows = kaldifst.compose_context(list(marks), context_width=3, central_position=1, ifst=lg)
    else:
        windows = [[], *([0, symbol, 0] for symbol in range(1, num_phones + 1)), *([-mark] for mark in marks)]
    spelling = [_spell(window, tied_states) for window in windows]
    return of_fst(lg), np.array(spelling, np.int32)


def _spell(window: list[int], tied_states: TiedStates) -> tuple[int, int, int]:
    """Spell what C calls a label: three symbols, a mark's negative, 0 for C's own mark, or nothing."""
    if not window:
        return 0, 0, 0
    if len(window) == 1:
        return tied_states.num_pdfs + 1 - window[0], 0, 0
    names = (SILENCE_PHONE, *tied_states.phones)  # 0 is what lies before or after the utterance
    left, phone, right = (names[symbol] for symbol in window)
    first, second, third = tied_states.pdf_ids(left, phone, right)
    return first + 1, second + 1, third + 1
