"""The inventory of tied states, told on a terminal: what a triphone is tied to and why, and how many."""

import difflib
from collections.abc import Sequence

from asrdistill.errors import UserError
from asrdistill.hmm.decision_tree import Leaf, Node, leaves, trace
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

PHONES_SHOWN = 6
_LINE_WIDTH = 100


class TriphoneError(UserError):
    """A phone that the inventory lacks, or a triphone that is not written as one."""


def describe_triphone(tied_states: TiedStates, triphone: str) -> str:
    """Tell which tied states a triphone uses, and the questions that lead to them.

    Args:
        tied_states: the inventory.
        triphone: as in AH-B+T: left neighbour, phone, right neighbour.

    Raises:
        TriphoneError: it is not of this form, or one of its phones is not in the inventory.
    """
    left, phone, right = parse_triphone(tied_states, triphone)
    trees = tied_states.trees[tied_states.phone_ids[phone]]
    paths = [_describe_path(tree, state, left, right, tied_states.phones) for state, tree in enumerate(trees)]
    return "\n\n".join([f"{phone} between {left} and {right}", *paths])


def parse_triphone(tied_states: TiedStates, triphone: str) -> tuple[str, str, str]:
    """Left neighbour, phone and right neighbour of AH-B+T; names of phones may have - and + in them.

    Raises:
        TriphoneError: it is not of this form, or one of its phones is not in the inventory.
    """
    readings = [
        (triphone[:minus], triphone[minus + 1 : plus], triphone[plus + 1 :])
        for minus, first in enumerate(triphone)
        for plus, second in enumerate(triphone)
        if (first, second) == ("-", "+") and 0 < minus < plus - 1 < len(triphone) - 2
    ]
    if not readings:
        raise TriphoneError(
            f"triphone {triphone!r}: not of the form left-phone+right, such as AH-B+T; "
            f"write {SILENCE_PHONE} for what is before and after an utterance"
        )
    known = tied_states.phone_ids.keys()
    found = next((reading for reading in readings if known >= set(reading)), readings[0])
    for phone in found:
        check_phone(tied_states, phone, f"triphone {triphone!r}")
    return found


def check_phone(tied_states: TiedStates, phone: str, subject: str) -> None:
    """See that a phone is in the inventory.

    Raises:
        TriphoneError: it is not; tells the nearest that is.
    """
    if phone in tied_states.phone_ids:
        return
    if not tied_states.has_phones:
        raise TriphoneError(f"{subject}: {describe_inventory(tied_states)}; expected tied states of our own")
    phones = tied_states.phones
    same = [known for known in phones if known.casefold() == phone.casefold()]
    nearest = same or difflib.get_close_matches(phone, phones, 1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise TriphoneError(
        f"{subject}: phone {phone!r} is not in the inventory; {hint}expected one of {' '.join(phones)}"
    )


def abbreviate_phones(asked: Sequence[str], phones: Sequence[str], most: int = PHONES_SHOWN) -> str:
    """A set of phones in a few: those in it, those not in it, or the first of them and how many there are.

    Args:
        asked: the set.
        phones: all of the inventory.
        most: how many names there may be.
    """
    others = [phone for phone in phones if phone not in asked]
    if len(asked) <= most:
        return " ".join(asked)
    if not others:
        return "any phone"
    if len(others) <= most:
        return "any but " + " ".join(others)
    return f"{' '.join(asked[: most - 1])} … ({len(asked)} phones)"


def _describe_path(tree: Node, state: int, left: str, right: str, phones: tuple[str, ...]) -> str:
    asked, leaf = trace(tree, left, right)
    heading = f"state {state}: pdf-id {leaf.pdf_id}, made from {leaf.num_frames:,} frames"
    if not asked:
        return f"{heading}\n  the same between all phones"
    texts = [f"is {question.side} {_write_set(question.phones, phones)}?" for question, _ in asked]
    width = max(map(len, texts))
    answers = [
        f"{'yes' if is_yes else 'no':3} ({left if question.side == 'left' else right})"
        for question, is_yes in asked
    ]
    lines = [f"  {text:{width}}  {answer}" for text, answer in zip(texts, answers, strict=True)]
    return "\n".join([heading, *lines])


def _write_set(asked: Sequence[str], phones: Sequence[str]) -> str:
    text = abbreviate_phones(asked, phones)
    return text if len(asked) == 1 or text.startswith("any ") else f"one of {text}"


def describe_inventory(tied_states: TiedStates) -> str:
    """Tell how many tied states there are, what splitting won, and the leaves of each state of each phone."""
    if not tied_states.has_phones:
        return f"{tied_states.num_pdfs:,} pdf-ids of another system, whose phones are not known here"
    num_frames = sum(
        leaf.num_frames for trees in tied_states.trees for tree in trees for leaf in leaves(tree)
    )
    kind = "triphones" if tied_states.is_context_dependent else "monophones"
    lines = [f"{len(tied_states.phones)} phones, {tied_states.num_pdfs:,} tied states of {kind}"]
    if num_frames:
        gain = total_gain(tied_states) / num_frames
        lines.append(f"made from {num_frames:,} frames; splitting won a log-likelihood of {gain:.2f} a frame")
    rows = [
        [phone, *(str(sum(1 for _ in leaves(tree))) for tree in trees)]
        for phone, trees in zip(tied_states.phones, tied_states.trees, strict=True)
    ]
    return "\n".join([*lines, "", "tied states of each phone's states 0, 1 and 2:", *_set_in_columns(rows)])


def _set_in_columns(rows: list[list[str]]) -> list[str]:
    """A table's rows side by side, downwards first, as many as fit on a line."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [
        "  ".join([f"{row[0]:{widths[0]}}", *(f"{n:>{w}}" for n, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    num_columns = max(1, _LINE_WIDTH // (len(cells[0]) + 5))
    num_lines = -(-len(cells) // num_columns)
    return ["     ".join(cells[line::num_lines]) for line in range(num_lines)]


def total_gain(tied_states: TiedStates) -> float:
    """Log-likelihood of the training split that all splits together won over monophones."""

    def sum_gains(node: Node) -> float:
        return 0.0 if isinstance(node, Leaf) else node.gain + sum_gains(node.yes) + sum_gains(node.no)

    return sum(sum_gains(tree) for trees in tied_states.trees for tree in trees)
