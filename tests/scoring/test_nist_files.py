"""Files for sclite: as text, and read by the tool itself where it is installed (Debian's sctk 2.4.10)."""

import re
import shutil
import string
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import ContractError
from asrdistill.hmm.segments import Segment
from asrdistill.scoring.nist_files import escape_id, escape_word, write_nist_ctm, write_stm, write_trn
from asrdistill.scoring.word_alignment import align_words

Transcripts = dict[str, list[str]]
Score = Callable[[Transcripts, Transcripts], tuple[int, ...]]

needs_sctk = pytest.mark.skipif(shutil.which("sctk") is None, reason="NIST's sctk is not installed")
FRAME_SHIFT_S = 0.01
HOSTILE_WORDS = [
    "(uh)", "(s-1)", "(uh", "uh)", "()", "<unk>", "<O>", "<", "{a/b}", "{a", "{", "{}", "}", "/", "a/b", "@",
    "@a", "%hes", "100%", "%7B", "wor-", "-wor", "-", ";;", ";;a", "a;;", "a;b", ";", "*", "**", "***", "a*",
    "\\", "a\\", "\\{", "\\;", "#", '"', "'", "|", "é", "日本", "e\u0301", "\ufeff", "a\u00a0b", "a b",
    "IGNORE_TIME_SEGMENT_IN_SCORING", "ignore_time_segment_in_scoring", "\x01", "w" * 400,
    "<ALT>", "<ALT_BEGIN>", "<alt_end>", "<ALTER>", "<Alt", "a<ALT>",
]  # fmt: skip
HOSTILE_IDS = [
    "0001", "a b", "(x)", "x(1)", "(x", "x)", ";;x", "x;y", "*", "{x}", "@", "-1", "é-1", "日本", "%20",
    "<x>", "a/b.wav", "a\\b", "a\u00a0b", '"q"', "x" * 400,
]  # fmt: skip


def read_counts(*files: object) -> tuple[int, ...]:
    """Utterances, words, correct, substitutions, deletions and insertions that sclite counts."""
    command = ["sctk", "sclite", "-s", *map(str, files), "-o", "rsum", "stdout"]
    printed = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")
    found = re.search(r"\| *Sum *\| *(\d+) +(\d+) *\| *(\d+) +(\d+) +(\d+) +(\d+)", printed)
    assert found, printed
    return tuple(map(int, found.groups()))


def score_trn(references: Transcripts, hypotheses: Transcripts) -> tuple[int, ...]:
    with tempfile.TemporaryDirectory() as name:
        write_trn(Path(name, "r"), references)
        write_trn(Path(name, "h"), hypotheses)
        return read_counts("-r", Path(name, "r"), "trn", "-h", Path(name, "h"), "trn", "-i", "rm")


def score_ctm(references: Transcripts, hypotheses: Transcripts) -> tuple[int, ...]:
    utterances = [
        Utterance(name, "", 0.0, 3.0, " ".join(words), f"speaker {name[:1]}")
        for name, words in references.items()
    ]
    segments = {
        name: [Segment(word, 10 * place, 10 * place + 9, 0.5) for place, word in enumerate(words)]
        for name, words in hypotheses.items()
    }
    with tempfile.TemporaryDirectory() as name:
        write_stm(Path(name, "r"), utterances)
        write_nist_ctm(Path(name, "h"), segments, FRAME_SHIFT_S)
        return read_counts("-r", Path(name, "r"), "stm", "-h", Path(name, "h"), "ctm")


@pytest.fixture(params=[score_trn, score_ctm], ids=["trn", "ctm"])
def score(request: pytest.FixtureRequest) -> Score:
    found: Score = request.param
    return found


def test_trn_as_text(tmp_path: Path) -> None:
    write_trn(
        tmp_path / "a.trn",
        {"s-2": ["(uh)", "{A/B}", "wor-"], "s (1)": [], "é": ["100%", "%7B", ";;", "<unk>", "日本"]},
    )
    assert (tmp_path / "a.trn").read_bytes().decode() == (
        "(uh) %7BA/B} wor- (s-2)\n(s%20%281%29)\n100% %257B %3B%3B <unk> 日本 (é)\n"
    )


def test_stm_as_text(tmp_path: Path) -> None:
    utterances = [
        Utterance("b", "x.wav", 7.5, 1.23456, "ONE {TWO", "an na"),
        Utterance("a b", "x.wav", 0.0, 2.0, ""),
    ]
    write_stm(tmp_path / "a.stm", utterances)
    assert (tmp_path / "a.stm").read_text() == (
        "a%20b 1 unknown 0.000 2.000 <O>\nb 1 an%20na 0.000 1.235 <O> ONE %7BTWO\n"
    )


def test_ctm_as_text(tmp_path: Path) -> None:
    segments = {"b;": [Segment("@", 0, 10, 0.25)], "a b": [Segment("it's", 5, 30)]}
    write_nist_ctm(tmp_path / "a.ctm", segments, FRAME_SHIFT_S)
    assert (tmp_path / "a.ctm").read_text() == ("a%20b 1 0.050 0.250 it's\nb%3B 1 0.000 0.100 %40 0.2500\n")


def test_nothing_at_all(tmp_path: Path) -> None:
    write_trn(tmp_path / "a.trn", {})
    write_stm(tmp_path / "a.stm", [])
    write_nist_ctm(tmp_path / "a.ctm", {"a": []}, FRAME_SHIFT_S)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["", "", ""]


@given(st.text())
@example("%{41")
@example("%%41%4{")
@example("ıGNORE_TIME_SEGMENT_IN_SCORING")
def test_escapes_are_undone_by_unquote(text: str) -> None:
    assert unquote(escape_word(text)) == unquote(escape_id(text)) == text
    assert len(f"<{escape_word(text)}>".split()) == 1


@pytest.mark.parametrize(
    ("word", "escaped"),
    [
        ("{a/b}", "%7Ba/b}"), ("a;b", "a%3Bb"), ("@", "%40"), ("a\\", "a%5C"), ("*", "%2A"), ("%7B", "%257B"),
        ("a b", "a%20b"), ("a\u3000b", "a%E3%80%80b"), ("<ALT_BEGIN>", "%3CALT_BEGIN>"), ("<alt", "%3Calt"),
        ("xIgnore_Time_Segment_In_Scoring", "x%49gnore_Time_Segment_In_Scoring"),
    ],
)  # fmt: skip
def test_what_sclite_would_misread_is_escaped(word: str, escaped: str) -> None:
    assert escape_word(word) == escaped


@pytest.mark.parametrize(
    "word", ["HELLO", "it's", "(uh)", "wor-", "<unk>", "100%", "%hes", "日本", "a/b", "a<ALT>"]
)
def test_ordinary_words_stay(word: str) -> None:
    assert escape_word(word) == word


@pytest.mark.parametrize(
    ("transcripts", "message"),
    [
        ({"": ["a"]}, "utterance id '': 0 bytes, expected 1 to 400"),
        ({"a": ["b", ""]}, "utterance a: word '': 0 bytes"),
        ({"a": ["w" * 401]}, "401 bytes"),
        ({"é" * 201: ["a"]}, "402 bytes"),
        ({"a": "two words"}, "utterance a: words are one string, 'two words'"),
        ({"a-1": ["a"], "A-1": ["a"]}, "utterances a-1 and A-1: the ids differ in case alone"),
    ],
)
def test_refused(tmp_path: Path, transcripts: Transcripts, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        write_trn(tmp_path / "a.trn", transcripts)
    assert not list(tmp_path.iterdir())


def test_stm_and_ctm_refuse_as_well(tmp_path: Path) -> None:
    twins = [Utterance(name, "", 0.0, 1.0, "a") for name in ("a", "b", "a")]
    with pytest.raises(ContractError, match="utterances a and a"):
        write_stm(tmp_path / "a.stm", twins)
    with pytest.raises(ContractError, match="utterance a: word"):
        write_nist_ctm(tmp_path / "a.ctm", {"a": [Segment("", 0, 1)]}, FRAME_SHIFT_S)


@needs_sctk
@pytest.mark.parametrize("word", HOSTILE_WORDS, ids=ascii)
def test_sclite_takes_every_word_for_one(word: str, score: Score) -> None:
    """An utterance a case: correct, substituted, inserted, deleted; at every place, alone, doubled."""
    if score is score_ctm and len(word.split()) != 1:
        pytest.skip("a manifest's transcript has no word with a space in it")
    w, start = word, re.split(r"\W", word)[0]
    # The start of the word, such as `a` of `a;b`, is another word.
    other = start if start not in ("", word) else "q"
    cases = [
        (["o", w, "p"], ["o", w, "p"], "CCC"), (["o", w, "p"], ["o", other, "p"], "CSC"),
        (["o", other, "p"], ["o", w, "p"], "CSC"), ([w], [w], "C"), ([w], [other], "S"), ([other], [w], "S"),
        (["o", "p"], ["o", w, "p"], "CIC"), (["o", w, "p"], ["o", "p"], "CDC"),
        (["o", "p", w], ["o", "p"], "CCD"),
        ([w, "o", "p"], ["o", "p"], "DCC"), (["o", "p"], [w, "o", "p"], "ICC"),
        (["o", "p"], ["o", "p", w], "CCI"),
        ([w, w], [w, other], "CS"), ([], [w], "I"), ([w], [], "D"),
    ]  # fmt: skip
    references = {f"s-{number:02}": reference for number, (reference, _, _) in enumerate(cases)}
    hypotheses = {f"s-{number:02}": hypothesis for number, (_, hypothesis, _) in enumerate(cases)}
    assert score(references, hypotheses) == count_operations("".join(case[2] for case in cases), len(cases))


@needs_sctk
@pytest.mark.parametrize("name", HOSTILE_IDS, ids=ascii)
def test_sclite_finds_every_utterance(name: str, score: Score) -> None:
    long_word = "w" * 400
    references = {name: [long_word, "b"], "other-1": ["c"]}
    assert score(references, {name: [long_word, "x"], "other-1": ["c"]}) == (2, 3, 2, 1, 0, 0)


@needs_sctk
def test_sclite_counts_what_align_words_does(score: Score) -> None:
    """Utterances in no order, ids of both cases, words of all punctuation; empty ones on either side."""
    rng = np.random.default_rng(0)
    words = [*string.punctuation, *(f"{a}{b}" for a in string.punctuation for b in "ab;"), "É", "é", "A", "a"]

    def draw() -> list[str]:
        return [words[place] for place in rng.integers(len(words), size=rng.integers(6))]

    names = [f"{'aBcD_'[number % 5]}{rng.integers(10**9)}-{number}" for number in range(300)]
    references = {name: draw() for name in names}
    hypotheses = {
        name: [word if rng.random() < 0.7 else "x" for word in references[name]] + draw()[:1]
        for name in names
    }
    assert [] in references.values() and [] in hypotheses.values()
    operations = "".join(align_words(references[name], hypotheses[name]) for name in names)
    assert score(references, hypotheses) == count_operations(operations, 300)


@needs_sctk
def test_nothing_recognised(score: Score) -> None:
    references = {"a-1": ["a", "b"], "a-2": [], "b-1": ["c"]}
    empty: Transcripts = {name: [] for name in references}
    assert score(references, empty) == (3, 3, 0, 0, 3, 0)
    extra = {"a-1": ["a", "b"], "a-2": ["x"], "b-1": []}
    assert score(references, extra) == (3, 3, 2, 0, 1, 1)


def count_operations(operations: str, num_utterances: int) -> tuple[int, ...]:
    """As `read_counts` gives them."""
    num_words = len(operations) - operations.count("I")
    return num_utterances, num_words, *(operations.count(kind) for kind in "CSDI")
