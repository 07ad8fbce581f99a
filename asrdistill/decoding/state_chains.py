"""HMM states in place of phones: chains of three, small by determinisation, self-loops at the end.

A state is inside a phone where a chain has one or two of its pdf-ids behind it, and between phones elsewhere.
Self-loops of the states inside come before minimisation, as a state must hold one pdf-id alone; those of last
states after it, as a state between phones is reached from many and is worth sharing.

Shapes: P pdf-ids; input labels are pdf_id + 1 in 1 to P, disambiguation symbols above.

Source: Kaldi's mkgraph.sh (H o CLG, determinizestar, minimizeencoded, add-self-loops).
Differs: all self-loops have the same probability; see `add_last_loops` for where it is paid.
"""

import kaldifst
import numpy as np
from numpy.typing import ArrayLike

from asrdistill.decoding.transducer import Arcs, Columns, of_fst, to_fst
from asrdistill.hmm.topology import NUM_STATES_PER_PHONE, TiedStates


def expand_states(
    phones: Arcs, spelling: np.ndarray, tied_states: TiedStates, self_loop_probability: float
) -> Arcs:
    """Turn a transducer of phones into one of HMM states, without disambiguation symbols.

    Args:
        phones: determinisable with its disambiguation symbols.
        spelling: int32 (labels, 3), see `context`.
        tied_states: the inventory.
        self_loop_probability: of staying in a state for one more frame.
    """
    states = np.array([-1, *(tied_states.state_of_pdf(pdf_id) for pdf_id in range(tied_states.num_pdfs))])
    fst = to_fst(spell_out(phones, spelling))
    kaldifst.determinize_star(fst)
    fst = to_fst(add_inner_loops(of_fst(fst), states))
    kaldifst.minimize_encoded(fst)
    return add_last_loops(of_fst(fst), states, self_loop_probability)


def spell_out(phones: Arcs, spelling: np.ndarray) -> Arcs:
    """Replace each phone by three arcs, one a state of its HMM; word and cost stay on the first one.

    Chains that end in the same states and lead to the same place are shared: a new state stands for the last
    arc, or the last two, and for the pdf-id that it is reached by.
    """
    letters = spelling[phones.input_label]
    is_phone = letters[:, 2] > 0
    first, second, third = letters[is_phone].T.astype(np.int64)
    width = int(spelling.max()) + 1
    target, tail_letters, tail_of_arc = _share(phones.destination[is_phone], second * width + third, width**2)
    tail_of_head, head_letter, head_of_arc = _share(tail_of_arc, first, width)
    tail_second, tail_third = np.divmod(tail_letters, width)
    heads = phones.num_states + np.arange(len(head_letter))
    tails = phones.num_states + len(heads) + np.arange(len(target))
    entries = (phones.source[is_phone], heads[head_of_arc], first)
    others = (phones.source[~is_phone], phones.destination[~is_phone], letters[~is_phone, 0])
    columns = _stack_arcs(
        (*others, phones.output_label[~is_phone], phones.weight[~is_phone]),
        (*entries, phones.output_label[is_phone], phones.weight[is_phone]),
        (heads, tails[tail_of_head], tail_second[tail_of_head], 0, 0),
        (tails, target, tail_third, 0, 0),
    )
    return Arcs(phones.start, *columns, _extend(phones.final, len(heads) + len(tails))).sorted_by_source()


def add_inner_loops(arcs: Arcs, states: np.ndarray) -> Arcs:
    """Let paths stay in the first and second state of a phone, as yet without cost.

    Args:
        arcs: after determinisation; an arc of a phone's first or second state leads to a state of its own.
        states: int (1 + P,) state of each input label's pdf-id, 0 to 2; -1 for the empty one.
    """
    state = _find_states(arcs, states)
    is_inner = (state >= 0) & (state < NUM_STATES_PER_PHONE - 1)
    inner, label, _ = _share(arcs.destination[is_inner], arcs.input_label[is_inner], len(states))
    existing = (arcs.source, arcs.destination, arcs.input_label, arcs.output_label, arcs.weight)
    columns = _stack_arcs(existing, (inner, inner, label, 0, 0))
    return Arcs(arcs.start, *columns, arcs.final).sorted_by_source()


def add_last_loops(arcs: Arcs, states: np.ndarray, self_loop_probability: float) -> Arcs:
    """Let paths stay in the last state of a phone, give all transitions their cost, drop what emits nothing.

    A last state goes before the state between phones that it leads to; where it is the only way in, the two
    are one state. The cost of leaving the last state is paid on entering it, so that the way out is free.

    Args:
        arcs: with the loops of the other states.
        states: as for `add_inner_loops`.
        self_loop_probability: of staying in a state for one more frame.
    """
    stay, leave = -np.log(self_loop_probability), -np.log1p(-self_loop_probability)
    state = _find_states(arcs, states)
    label = np.where(state < 0, 0, arcs.input_label)
    is_loop = (state >= 0) & (arcs.source == arcs.destination)
    is_last = state == NUM_STATES_PER_PHONE - 1
    target, last_label, last_of_arc = _share(arcs.destination[is_last], label[is_last], len(states))
    ways_in = np.bincount(target, minlength=arcs.num_states)
    ways_in += np.bincount(arcs.destination[~is_last & ~is_loop], minlength=arcs.num_states)
    ways_in[arcs.start] += 1
    merged = ways_in[target] == 1
    last = np.where(merged, target, arcs.num_states + np.cumsum(~merged) - 1)
    destination = arcs.destination.copy()
    destination[is_last] = last[last_of_arc]
    cost = np.where(is_loop, stay, leave * np.maximum(state, 0))
    columns = _stack_arcs(
        (arcs.source, destination, label, arcs.output_label, arcs.weight + cost),
        (last, last, last_label, 0, stay),
        (last[~merged], target[~merged], 0, 0, 0),
    )
    return Arcs(arcs.start, *columns, _extend(arcs.final, int(np.count_nonzero(~merged)))).sorted_by_source()


def _find_states(arcs: Arcs, states: np.ndarray) -> np.ndarray:
    """The HMM state, 0 to 2, that each arc enters; -1 where it emits nothing."""
    is_mark = arcs.input_label >= len(states)
    found: np.ndarray = states[np.where(is_mark, 0, arcs.input_label)]
    return found


def _share(
    place: np.ndarray, letter: np.ndarray, num_letters: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct pairs of a place and a letter below `num_letters`, and which of them each arc has."""
    pairs, pair_of_arc = np.unique(place.astype(np.int64) * num_letters + letter, return_inverse=True)
    places, letters = np.divmod(pairs, num_letters)
    return places, letters, pair_of_arc


def _extend(final: np.ndarray, num_new_states: int) -> np.ndarray:
    return np.concatenate([final, np.full(num_new_states, np.inf, np.float32)])


def _stack_arcs(*pieces: tuple[ArrayLike, ...]) -> Columns:
    """One set of columns of several; what stands as a number holds for every arc of its piece."""
    rows = [np.broadcast_arrays(*piece) for piece in pieces]
    source, destination, input_label, output_label, weight = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    return source, destination, input_label, output_label, weight
