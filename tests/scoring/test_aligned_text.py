"""Alignments as text and as a page, and confusions, against cases worked by hand."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.errors import ContractError
from asrdistill.scoring.aligned_text import (
    align_utterances,
    count_confusions,
    format_alignments,
    measure_width,
)
from asrdistill.scoring.alignment_page import render_alignments

REFERENCES = {"s1-1": ["THE", "QUICK", "BROWN", "FOX"], "s2-1": ["A", "DOG"], "s2-2": []}
HYPOTHESES = {"s1-1": ["A", "QUICK", "FOX", "FOX"], "s2-1": ["A", "BIG", "DOG"], "s2-2": []}
WORDS = st.lists(st.sampled_from(["a", "b", "cc", "日本", "<i>", "&amp;", "é" * 30, "***"]), max_size=40)


class Page(HTMLParser):
    """Ids of sections, links, words crossed out and put in, and the text, as a browser takes them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.words: dict[str, list[str]] = {"del": [], "ins": [], "b": []}
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = tag
        known = dict(attrs)
        if tag == "section":
            self.anchors.append(known["id"] or "")
        if "href" in known:
            self.links.append(known["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.words:
            self.words[self._open].append(data)


def test_columns() -> None:
    text = format_alignments(align_utterances(REFERENCES, HYPOTHESES, {"s1-1": "anna"}))
    assert text == (
        "id: s1-1\n"
        "speaker: anna\n"
        "words: C 2 S 2 D 0 I 0\n"
        "REF:  THE QUICK BROWN FOX\n"
        "HYP:  A   QUICK FOX   FOX\n"
        "EVAL: S         S\n"
        "\n"
        "id: s2-1\n"
        "words: C 2 S 0 D 0 I 1\n"
        "REF:  A *** DOG\n"
        "HYP:  A BIG DOG\n"
        "EVAL:   I\n"
        "\n"
        "id: s2-2\n"
        "words: C 0 S 0 D 0 I 0\n"
        "REF:\n"
        "HYP:\n"
        "EVAL:\n"
    )


def test_wide_and_combining_characters_take_their_columns() -> None:
    assert [measure_width(text) for text in ("ab", "日本", "e\u0301", "a\u200bb", "ｆ", "")] == [
        2,
        4,
        1,
        2,
        2,
        0,
    ]
    text = format_alignments(align_utterances({"x": ["日本", "e\u0301é", "b"]}, {"x": ["a", "c", "d"]}))
    assert text.endswith("REF:  日本 e\u0301é b\nHYP:  a    c  d\nEVAL: S    S  S\n")


def test_a_line_of_exactly_100_columns_is_not_broken() -> None:
    # 5 of the row's name, and 19 words of 4 with a space before each.
    words = ["word"] * 19
    (line,) = (row for row in format_one(words, words) if row.startswith("REF:"))
    assert len(line) == 100
    first, second = (row for row in format_one([*words[1:], "words"], []) if row.startswith("REF:"))
    assert (len(first), second) == (95, "REF:  words")


def test_a_word_longer_than_a_line_has_one_of_its_own() -> None:
    long_word = "w" * 120
    said = ["a", long_word, "b"]
    assert format_one(said, ["a", "b"])[2:] == [
        "REF:  a", "HYP:  a", "EVAL:", f"REF:  {long_word}", "HYP:  ***", "EVAL: D",
        "REF:  b", "HYP:  b", "EVAL:"
    ]  # fmt: skip


def format_one(reference: list[str], hypothesis: list[str]) -> list[str]:
    return format_alignments(align_utterances({"x": reference}, {"x": hypothesis})).splitlines()


@given(WORDS, WORDS)
def test_every_word_is_in_its_column_and_no_line_is_too_long(
    reference: list[str], hypothesis: list[str]
) -> None:
    rows = format_one(reference, hypothesis)[2:]
    sides: dict[str, list[str]] = {"REF:": [], "HYP:": [], "EVAL:": []}
    for row in rows:
        name, *words = row.split()
        sides[name] += words
        assert measure_width(row) <= 100
    assert len(sides["REF:"]) == len(sides["HYP:"])
    deleted, inserted = sides["EVAL:"].count("D"), sides["EVAL:"].count("I")
    assert sides["REF:"].count("***") == reference.count("***") + inserted
    assert sides["HYP:"].count("***") == hypothesis.count("***") + deleted
    assert [w for w in sides["REF:"] if w != "***"] == [w for w in reference if w != "***"]
    assert [w for w in sides["HYP:"] if w != "***"] == [w for w in hypothesis if w != "***"]


def test_a_reference_without_a_hypothesis_is_refused() -> None:
    with pytest.raises(ContractError, match="utterance b: has a reference but no hypothesis"):
        align_utterances({"a": [], "b": []}, {"a": []})


def test_confusions() -> None:
    references = {"1": ["a", "b", "c", "d"], "2": ["a", "b"], "3": ["e"], "4": ["z", "c"]}
    hypotheses = {"1": ["x", "b", "c"], "2": ["x", "y"], "3": ["e", "f"], "4": ["c"]}
    found = count_confusions(align_utterances(references, hypotheses))
    assert found.substitutions == [("a", "x", 2), ("b", "y", 1)]
    assert found.deletions == [("d", 1), ("z", 1)]
    assert found.insertions == [("f", 1)]


def test_confusions_are_the_same_in_any_order_of_the_utterances() -> None:
    aligned = align_utterances({str(n): ["r"] for n in range(30)}, {str(n): [f"h{n % 7}"] for n in range(30)})
    found = count_confusions(aligned, limit=3)
    assert found == count_confusions(aligned[::-1], limit=3)
    assert found.substitutions == [("r", "h0", 5), ("r", "h1", 5), ("r", "h2", 4)]


def test_the_page_has_every_error_marked_and_the_worst_utterance_first() -> None:
    page = Page(render_alignments(align_utterances(REFERENCES, HYPOTHESES), "Student, test"))
    assert page.anchors == ["s1-1", "s2-1", "s2-2"]
    # The first three are the legend.
    assert page.words["b"][3:] == ["S", "S", "I"]
    assert page.words["del"][2:] == ["THE", "BROWN"]
    assert page.words["ins"][2:] == ["A", "FOX", "BIG"]
    turned = dict(reversed(list(REFERENCES.items())))
    assert Page(render_alignments(align_utterances(turned, HYPOTHESES), "x")).anchors == page.anchors


def test_the_page_keeps_equally_bad_utterances_in_order_and_has_20_confusions() -> None:
    names = [f"u{number:02}" for number in range(25)]
    references = {name: [f"said-{name}"] for name in reversed(names)}
    html = render_alignments(align_utterances(references, {name: ["x"] for name in names}), "x")
    assert Page(html).anchors == names[::-1]
    rows = re.findall(r"<tr><td>(.+?)</td><td>(.+?)</td><td>(.+?)</td></tr>", html)
    assert rows == [(f"said-{name}", "x", "1") for name in names[:20]]
    assert "Deleted most often" not in html


def test_the_page_escapes_everything() -> None:
    hostile = '<script>alert("1")</script>'
    aligned = align_utterances(
        {f"{hostile} {{{{ x }}}}": [hostile, "same<b>", "gone<i>"]},
        {f"{hostile} {{{{ x }}}}": ["&lt;", "same<b>"]},
        {f"{hostile} {{{{ x }}}}": hostile},
    )
    html = render_alignments(aligned, hostile)
    page = Page(html)
    assert {"script", "i"}.isdisjoint(page.tags)
    assert "same&lt;b&gt;" in html
    assert page.words["del"][2:] == [hostile, "gone<i>"]
    assert page.words["ins"][2:] == ["&lt;"]
    (anchor,) = page.anchors
    assert unquote(anchor) == f"{hostile} {{{{ x }}}}"
    assert not re.search(r"\s", anchor)
    assert [unquote(link) for link in page.links] == [f"#{anchor}"]


def test_the_page_needs_no_network_and_is_the_same_every_time() -> None:
    aligned = align_utterances(REFERENCES, HYPOTHESES)
    html = render_alignments(aligned, "x")
    assert html == render_alignments(aligned, "x")
    assert not re.search(r"https?:|src=|@import|url\(|<link", html)
    assert "prefers-color-scheme: dark" in html and "width=device-width" in html
    assert "0 utterances" in render_alignments([], "x")
