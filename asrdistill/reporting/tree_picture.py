"""A phone's decision trees: questions from left to right, one row a tied state.

The upper branch is the answer yes. A fork is as wide as its split won log-likelihood; blue asks the left
neighbour, orange the right. Lengths are in px.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from asrdistill.hmm.decision_tree import Leaf, Node, Question, leaves
from asrdistill.hmm.inventory import abbreviate_phones, check_phone
from asrdistill.hmm.topology import TiedStates
from asrdistill.reporting.svg import Ink

ROW_HEIGHT = 30.0
MARGIN = 16.0
_HEADING_HEIGHT = 36.0
_TITLE_HEIGHT = 32.0
_BRANCH_LENGTH = 30.0
_TEXT_SIZE = 11.0
_NOTE_SIZE = 10.0
_SMALL_SIZE = 9.0
_LETTER_WIDTH = 0.68
_MOST_PHONES = 4
_LINE_WIDTHS = (1.0, 5.0)
_FONT = "system-ui, 'DejaVu Sans', sans-serif"
_NOTE = "upper branch: yes; blue asks the left neighbour, orange the right; width: log-likelihood won (+)"


def draw_tree(tied_states: TiedStates, phone: str) -> str:
    """Draw the trees of a phone's three states as an SVG that stands alone, or takes a page's colours.

    Raises:
        TriphoneError: the phone is not in the inventory.
    """
    check_phone(tied_states, phone, "picture of decision trees")
    trees = tied_states.trees[tied_states.phone_ids[phone]]
    highest = max((node.gain for tree in trees for node in _list_questions(tree)), default=0.0) or 1.0
    pieces = [_write(MARGIN, MARGIN + 12, f"Decision trees of {phone}", size=15, weight=600)]
    pieces.append(_write(MARGIN, MARGIN + 30, _NOTE, size=_NOTE_SIZE, ink=Ink.MUTED))
    width, top = MARGIN + _measure(_NOTE, _NOTE_SIZE), MARGIN + _TITLE_HEIGHT
    for state, tree in enumerate(trees):
        drawing = _TreeDrawing(tree, tied_states.phones, top + _HEADING_HEIGHT, highest)
        pieces.append(_write(MARGIN, top + 28, _head(tree, state), size=12, weight=600))
        pieces += drawing.draw(drawing.root)
        width, top = max(width, drawing.right), drawing.bottom
    return _enclose(pieces, width + MARGIN, top + MARGIN, f"Decision trees of phone {phone}")


def _list_questions(node: Node) -> Iterator[Question]:
    if isinstance(node, Question):
        yield node
        yield from _list_questions(node.yes)
        yield from _list_questions(node.no)


def _head(tree: Node, state: int) -> str:
    found = list(leaves(tree))
    num_frames = sum(leaf.num_frames for leaf in found)
    plural = "s" if len(found) > 1 else ""
    return f"state {state}: {len(found)} tied state{plural}, {num_frames:,} frames"


@dataclass(frozen=True)
class _Placed:
    """A node with its place: the number of questions before it, and its row."""

    node: Node
    depth: int
    row: float
    children: tuple["_Placed", ...] = ()


def _place(node: Node, depth: int, rows: Iterator[int]) -> _Placed:
    if isinstance(node, Leaf):
        return _Placed(node, depth, next(rows))
    children = _place(node.yes, depth + 1, rows), _place(node.no, depth + 1, rows)
    return _Placed(node, depth, (children[0].row + children[1].row) / 2, children)


def _list_placed(placed: _Placed) -> Iterator[_Placed]:
    yield placed
    for child in placed.children:
        yield from _list_placed(child)


class _TreeDrawing:
    """One tree, laid out; a column of questions is as wide as its longest text.

    Attributes:
        root: of the tree, with its place.
        right: where the drawing ends.
        bottom: likewise, downwards.
    """

    def __init__(self, tree: Node, phones: tuple[str, ...], top: float, highest_gain: float) -> None:
        self.phones = phones
        self.top = top
        self.highest_gain = highest_gain
        self.root = _place(tree, 0, itertools.count())
        placed = list(_list_placed(self.root))
        self.widths = [0.0] * (1 + max(node.depth for node in placed))
        for item in placed:
            if isinstance(item.node, Question):
                text_width = _measure(self._abbreviate(item.node), _TEXT_SIZE)
                self.widths[item.depth] = max(self.widths[item.depth], text_width + 8)
        self.right = max(
            self._x(item.depth) + 8 + _measure("  ".join(_describe_leaf(item.node)), _TEXT_SIZE)
            for item in placed
            if isinstance(item.node, Leaf)
        )
        self.bottom = top + ROW_HEIGHT * sum(1 for _ in leaves(tree))

    def draw(self, placed: _Placed) -> Iterator[str]:
        """A node and all that follow it."""
        if isinstance(placed.node, Leaf):
            yield self._draw_leaf(placed, placed.node)
        else:
            yield self._draw_question(placed, placed.node)
            for child in placed.children:
                yield from self.draw(child)

    def _x(self, depth: int) -> float:
        return MARGIN + sum(self.widths[:depth]) + depth * _BRANCH_LENGTH

    def _y(self, row: float) -> float:
        return self.top + (row + 0.5) * ROW_HEIGHT

    def _abbreviate(self, question: Question) -> str:
        return f"{question.side}: {abbreviate_phones(question.phones, self.phones, _MOST_PHONES)}"

    def _draw_leaf(self, placed: _Placed, leaf: Leaf) -> str:
        x, y = self._x(placed.depth), self._y(placed.row)
        pdf_id, frames = _describe_leaf(leaf)
        return (
            f'<g><circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill: {_paint(Ink.TEXT)}"/>'
            f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" style="{_font(_TEXT_SIZE)}">'
            f'<tspan style="font-weight: 600; fill: {_paint(Ink.TEXT)}">{pdf_id}</tspan>'
            f'<tspan dx="6" style="fill: {_paint(Ink.MUTED)}">{frames}</tspan></text></g>'
        )

    def _draw_question(self, placed: _Placed, question: Question) -> str:
        x, y = self._x(placed.depth), self._y(placed.row)
        fork, child_x = x + self.widths[placed.depth], self._x(placed.depth + 1)
        upper, lower = (self._y(child.row) for child in placed.children)
        colour = _paint(Ink.ENSEMBLE if question.side == "left" else Ink.DISTILLED)
        thinnest, widest = _LINE_WIDTHS
        line_width = thinnest + (widest - thinnest) * (max(question.gain, 0) / self.highest_gain) ** 0.5
        stem = f"M {x:.1f} {y:.1f} H {fork:.1f}"
        branches = f"M {child_x:.1f} {upper:.1f} H {fork:.1f} V {lower:.1f} H {child_x:.1f}"
        return (
            f"<g><title>{escape(_tell_in_full(question))}</title>"
            f'<path d="{stem} {branches}" style="fill: none; stroke: {colour}; '
            f'stroke-width: {line_width:.2f}; stroke-linejoin: round; opacity: 0.6"/>'
            + _write(x + 2, y - 5, self._abbreviate(question))
            + _write(x + 2, y + 12, f"+{question.gain:,.0f}", size=_SMALL_SIZE, ink=Ink.MUTED)
            + _write(fork + 7, upper - 5, "yes", size=_SMALL_SIZE, ink=Ink.MUTED)
            + _write(fork + 7, lower + 11, "no", size=_SMALL_SIZE, ink=Ink.MUTED)
            + "</g>"
        )


def _describe_leaf(leaf: Leaf) -> tuple[str, str]:
    return f"pdf-id {leaf.pdf_id}", f"{leaf.num_frames:,} frames"


def _tell_in_full(question: Question) -> str:
    return (
        f"Is the {question.side} neighbour one of {' '.join(question.phones)}? "
        f"The split won a log-likelihood of {question.gain:,.1f}."
    )


def _measure(text: str, size: float) -> float:
    """About how long a text is: capitals set the measure, as most phones are written in them."""
    return len(text) * size * _LETTER_WIDTH


def _paint(ink: Ink) -> str:
    """The page's colour of that name, or our own where there is no page."""
    return f"var(--{ink.name.lower()}, {ink.value})"


def _font(size: float, weight: int = 400) -> str:
    return f"font: {weight} {size:g}px {_FONT}"


def _write(
    x: float, y: float, text: str, size: float = _TEXT_SIZE, weight: int = 400, ink: Ink = Ink.TEXT
) -> str:
    style = f"{_font(size, weight)}; fill: {_paint(ink)}"
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(text)}</text>'


def _enclose(pieces: list[str], width: float, height: float, description: str) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(description)} {size} '
        f'style="background: {_paint(Ink.PAPER)}">'
    )
    return "\n".join([head, *pieces, "</svg>\n"])
