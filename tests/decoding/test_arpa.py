"""ARPA files: what is written is read again, and files as other programs write them are read rightly."""

import gzip
import itertools
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.decoding.arpa import load_language_model, read_arpa, write_arpa
from asrdistill.decoding.ngram import SENTENCE_END, SENTENCE_START, NgramConfig, NgramModel, estimate_ngrams
from asrdistill.errors import CorpusError

SENTENCES = [text.split() for text in ("A B A C", "A A", "B C", "C A B A", "A B", "")]
VOCABULARY = ("A", "B", "C", "NEVER")
# Of all that programs write: text before the data, tabs and blanks, -99 and 0 for <s>, absent weights.
FOREIGN = """\
made by hand, sums to one after no history

\\data\\
ngram 1=6
ngram  2 = 4
ngram 3=2

\\1-grams:
-1.0\t<unk>
-0.8\t</s>
-99\t<s>\t-0.30
-0.5 yes -0.2
-0.6\tno\t-0.1
-0.9\tstop\t-0.4

\\2-grams:
-0.2\t<s> yes\t-0.15
-0.4\tyes no
-0.7\tno </s>
-0.3  no stop  -0.1

\\3-grams:
-0.1\t<s> yes no
-0.25 yes no </s>

\\end\\
"""
FOREIGN_WORDS = ("YES", "NO", "MAYBE", "PERHAPS")


def write(folder: Path, content: str, name: str = "foreign.arpa") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def list_histories(words: Sequence[str], longest: int) -> list[tuple[str, ...]]:
    histories = [h for length in range(longest + 1) for h in itertools.product(words, repeat=length)]
    return histories + [(SENTENCE_START, *history) for history in histories if len(history) < longest]


def check_sums(model: NgramModel) -> None:
    for history in list_histories(model.vocabulary, model.order - 1):
        total = sum(math.exp(model.log_prob(word, history)) for word in (*model.vocabulary, SENTENCE_END))
        assert total == pytest.approx(1, abs=1e-12), history


@pytest.mark.parametrize("smoothing", ["witten_bell", "kneser_ney"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
@settings(deadline=None, max_examples=10)
@given(sentences=st.lists(st.lists(st.sampled_from(("A", "B", "C", "MYSTERY")), max_size=6), max_size=8))
def test_round_trip(
    sentences: list[list[str]], name: str, order: int, smoothing: Literal["witten_bell", "kneser_ney"]
) -> None:
    written = estimate_ngrams(sentences, VOCABULARY, NgramConfig(order=order, smoothing=smoothing))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deeper" / name
        write_arpa(path, written)
        assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
        read = read_arpa(path, VOCABULARY)
        first = path.read_bytes()
        write_arpa(path, written)
        assert path.read_bytes() == first
    check_equal(read, written, 1e-6)


def check_equal(one: NgramModel, other: NgramModel, tolerance: float) -> None:
    assert one.vocabulary == other.vocabulary
    for history in list_histories(one.vocabulary, other.order - 1):
        for word in (*one.vocabulary, SENTENCE_END):
            assert one.log_prob(word, history) == pytest.approx(other.log_prob(word, history), abs=tolerance)


def test_written_file_by_hand(tmp_path: Path) -> None:
    model = estimate_ngrams([["A"]], ["A"], NgramConfig(order=2))
    write_arpa(tmp_path / "model.arpa", model)
    # A and the end once each: (1 + 2 / 2) / 4; after <s>, A once: (1 + 1 / 2) / 2; after A, the end once
    half, three_quarters = f"{math.log10(0.5):.8f}", f"{math.log10(0.75):.8f}"
    assert (tmp_path / "model.arpa").read_text() == (
        "\\data\\\nngram 1=3\nngram 2=2\n"
        f"\n\\1-grams:\n{half}\t</s>\n-99.00000000\t<s>\t{half}\n{half}\tA\t{half}\n"
        f"\n\\2-grams:\n{three_quarters}\t<s> A\n{three_quarters}\tA </s>\n"
        "\n\\end\\\n"
    )


def score_foreign(word: str, history: tuple[str, ...]) -> float:
    """Probability of a word by FOREIGN's numbers as they stand; MAYBE and PERHAPS halve <unk>."""
    log10_probs = {
        (SENTENCE_END,): -0.8,
        ("YES",): -0.5,
        ("NO",): -0.6,
        (SENTENCE_START, "YES"): -0.2,
        ("YES", "NO"): -0.4,
        ("NO", SENTENCE_END): -0.7,
        (SENTENCE_START, "YES", "NO"): -0.1,
        ("YES", "NO", SENTENCE_END): -0.25,
    }
    log10_backoffs = {
        (SENTENCE_START,): -0.3,
        ("YES",): -0.2,
        ("NO",): -0.1,
        (SENTENCE_START, "YES"): -0.15,
    }
    if (*history, word) in log10_probs:
        return 10 ** log10_probs[(*history, word)]
    if not history:
        return 10**-1.0 / 2
    return 10 ** log10_backoffs.get(history, 0) * score_foreign(word, history[1:])


@pytest.mark.parametrize("packed", [False, True])
def test_foreign_file_is_conditioned_on_the_vocabulary(tmp_path: Path, packed: bool) -> None:
    path = write(tmp_path, FOREIGN.replace("\n", "\r\n"))
    if packed:
        # By its content, not by its name.
        path.write_bytes(gzip.compress(path.read_bytes()))
    model = read_arpa(path, FOREIGN_WORDS)
    assert (model.order, model.vocabulary) == (3, tuple(sorted(FOREIGN_WORDS)))
    check_sums(model)
    for history in list_histories(FOREIGN_WORDS, 2):
        scores = {word: score_foreign(word, history) for word in (*FOREIGN_WORDS, SENTENCE_END)}
        for word, score in scores.items():
            expected = score / sum(scores.values())
            assert math.exp(model.log_prob(word, history)) == pytest.approx(expected), (history, word)


def test_what_is_dropped_and_shared_is_counted(tmp_path: Path) -> None:
    model = read_arpa(write(tmp_path, FOREIGN), FOREIGN_WORDS)
    coverage = model.coverage
    assert coverage is not None
    assert (coverage.num_shared_words, coverage.num_unknown_words, coverage.num_missing_words) == (2, 2, 0)
    assert (coverage.num_dropped_words, coverage.num_dropped_ngrams) == (1, 1)  # stop, no stop
    assert coverage.upper_cased
    assert str(coverage).startswith("2 words of the lexicon are in the file once upper-cased, 2 share")


@pytest.mark.parametrize("unknown", ["", "-99\t<unk>\n", "-inf\t<UNK>\t0\n"])
def test_without_unknown_word_missing_words_cannot_be_recognised(tmp_path: Path, unknown: str) -> None:
    content = FOREIGN.replace("-1.0\t<unk>\n", unknown)
    if not unknown:
        content = content.replace("ngram 1=6", "ngram 1=5")
    model = read_arpa(write(tmp_path, content), FOREIGN_WORDS)
    assert model.vocabulary == ("NO", "YES")
    assert model.coverage is not None
    assert (model.coverage.num_unknown_words, model.coverage.num_missing_words) == (0, 2)
    check_sums(model)
    perplexity = model.perplexity([["YES", "MAYBE", "NO"]])
    assert (perplexity.num_events, perplexity.num_oov) == (3, 1)
    expected = [
        model.log_prob("YES", [SENTENCE_START]),
        model.log_prob("NO", []),
        model.log_prob(SENTENCE_END, ["NO"]),
    ]
    assert perplexity.perplexity == pytest.approx(math.exp(-sum(expected) / 3))
    with pytest.raises(CorpusError, match=r"'MAYBE'.*language_model\.path"):
        model.log_prob("MAYBE", [])


def make_unigrams(*lines: str) -> str:
    return f"\\data\\\nngram 1={len(lines)}\n\n\\1-grams:\n" + "\n".join(lines) + "\n\n\\end\\\n"


def test_words_keep_their_case_where_more_match_so(tmp_path: Path) -> None:
    path = write(tmp_path, make_unigrams("-0.3 </s>", "-0.6 Yes", "-0.9 yes", "-0.9 no"))
    model = read_arpa(path, ["Yes", "yes", "NO"])
    assert model.vocabulary == ("Yes", "yes")
    assert model.coverage is not None
    assert not model.coverage.upper_cased
    assert (model.coverage.num_missing_words, model.coverage.num_dropped_words) == (1, 1)


def test_of_two_spellings_the_most_probable_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, make_unigrams("-0.3 </s>", "-0.6 may", "-0.9 May", "-0.6 été", "-0.7 ETE"))
    model = read_arpa(path, ["MAY", "ÉTÉ"])
    assert model.vocabulary == ("MAY", "ÉTÉ")
    assert model.log_prob("MAY", []) == pytest.approx(model.log_prob("ÉTÉ", []))
    assert model.coverage is not None
    assert model.coverage.num_dropped_words == 2


def test_word_of_probability_zero_counts_as_absent(tmp_path: Path) -> None:
    path = write(tmp_path, make_unigrams("-0.3 </s>", "-0.5 YES", "-99 NO", "-0.7 <unk>"))
    model = read_arpa(path, ["YES", "NO"])
    assert model.log_prob("NO", []) - model.log_prob("YES", []) == pytest.approx(-0.2 * math.log(10))


def test_history_without_its_own_ending_can_be_used(tmp_path: Path) -> None:
    """Pruned models have A B C, but nothing after B, and sometimes not even A B."""
    content = (
        "\\data\\\nngram 1=5\nngram 2=1\nngram 3=1\n\n\\1-grams:\n-0.4 </s>\n-99 <s> -0.2\n-0.6 A -0.1\n"
        "-0.7 B -0.3\n-0.8 C -0.5\n\n\\2-grams:\n-0.3 C A\n\n\\3-grams:\n-0.2 A B C\n\\end\\\n"
    )
    model = read_arpa(write(tmp_path, content), ["A", "B", "C"])
    check_sums(model)
    word_ids = {word: number for number, word in enumerate(model.vocabulary, 1)}
    assert model.to_acceptor(word_ids, 4).num_states == len(model.log_probs)
    write_arpa(tmp_path / "again.arpa", model)
    check_equal(read_arpa(tmp_path / "again.arpa", ["A", "B", "C"]), model, 1e-6)


DAMAGES: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.replace("\\data\\", "data"), r"line 26: the file ends here; expected `\\data\\`"),
    (lambda text: text.replace("ngram 1=6\n", ""), r"line 4: found `ngram  2 = 4`; expected `ngram 1=`"),
    (lambda text: text.replace("ngram", "gram"), r"line 4: .*expected `ngram 1=`"),
    (lambda text: text.replace("2 = 4", "2 = 5"), r"line 22: .*expected 5 2-grams .*not 4"),
    (lambda text: text.replace("1=6", "1=5"), r"line 16: .*expected 5 1-grams .*not 6"),
    (lambda text: text.replace("-0.6\tno", "-0.6x\tno"), r"line 13: .*instead of '-0.6x'"),
    (lambda text: text.replace("-0.6\tno", "nan\tno"), r"line 13: .*instead of 'nan'"),
    (lambda text: text.replace("-0.6\tno", "0.6\tno"), r"line 13: .*at most 0"),
    (lambda text: text.replace("-0.6\tno", "-0.6\tyes"), r"line 13: .*each word once"),
    (lambda text: text.replace("yes no\n-0.7", "<s> yes\n-0.7"), r"line 18: .*each n-gram once"),
    (lambda text: text.replace("-0.4\tyes no", "-0.4\tyes no yes"), r"line 18: .*instead of 'yes'"),
    (lambda text: text.replace("-0.4\tyes no", "-0.4\tyes"), r"line 18: .*a number, 2 words, a number"),
    (lambda text: text.replace("yes no </s>", "yes no </s> -0.1"), r"line 24: .*a number, 3 words;"),
    (lambda text: text.replace("\\2-grams:", "\\4-grams:"), r"line 16: .*expected `\\2-grams:`"),
    (lambda text: text.replace("\\end\\", ""), r"line 24: the file ends here; expected `\\end\\`"),
    (lambda text: text[: text.index("\\3-grams:")], r"line 20: the file ends here; expected `\\3-grams:`"),
    (lambda text: text.replace("ngram 3=2\n", ""), r"line 16: .*a number, 2 words;"),
    (lambda text: text.replace("\\end", "\\4-grams:"), r"line 26: .*expected `\\end\\`"),
    (lambda text: text.replace("-0.8\t</s>", "-0.8\tend"), "</s> is not among the 1-grams"),
    (lambda text: text.replace("yes", "oui").replace("no", "non"), r"none of its words \(such as non, oui"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damage_is_told_with_its_line(tmp_path: Path, damage: Callable[[str], str], message: str) -> None:
    content = damage(FOREIGN)
    assert content != FOREIGN
    path = write(tmp_path, content)
    with pytest.raises(CorpusError, match=message) as caught:
        read_arpa(path, FOREIGN_WORDS)
    assert str(caught.value).startswith(f"language model {path}")
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no such file; give language_model\.path"):
        read_arpa(tmp_path / "none.arpa", FOREIGN_WORDS)
    path = tmp_path / "latin.arpa"
    path.write_bytes(FOREIGN.replace("stop", "né").encode("latin-1"))
    with pytest.raises(CorpusError, match="not UTF-8"):
        read_arpa(path, FOREIGN_WORDS)
    path.write_bytes(gzip.compress(FOREIGN.encode())[:-20])
    with pytest.raises(CorpusError, match="cannot be read"):
        read_arpa(path, FOREIGN_WORDS)
    with pytest.raises(CorpusError, match="the vocabulary is empty"):
        read_arpa(write(tmp_path, FOREIGN), [])


def test_config_chooses_between_file_and_estimate(tmp_path: Path) -> None:
    estimated = load_language_model(NgramConfig(order=2, smoothing="kneser_ney"), SENTENCES, VOCABULARY)
    expected = estimate_ngrams(SENTENCES, VOCABULARY, NgramConfig(order=2, smoothing="kneser_ney"))
    assert estimated == expected
    config = NgramConfig(path=write(tmp_path, FOREIGN))
    read = load_language_model(config, SENTENCES, FOREIGN_WORDS)
    assert (read.order, read.vocabulary) == (3, tuple(sorted(FOREIGN_WORDS)))
