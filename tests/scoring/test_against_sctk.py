"""Alignments and MAPSSWE against NIST's own tools; where these are not installed, against what they printed.

Debian's package sctk 2.4.10. What is recognised is drawn at random.
"""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from asrdistill.scoring.significance import compare_segments
from asrdistill.scoring.word_alignment import align_words

Transcripts = dict[str, list[str]]

SPEAKERS = ("anna", "bert", "carl", "dora")
# Seed, utterances, words of the language, share of words that each of two systems has wrong; what sc_stats
# printed: segments, Z, p.
PAIRS = [
    (1, 200, 6, (0.3, 0.35), (403, -3.378, "<0.001")),
    (2, 300, 50, (0.5, 0.5), (426, -1.833, "0.067")),
    (3, 100, 1000, (0.1, 0.2), (164, -6.385, "<0.001")),
    (4, 400, 10, (0.6, 0.62), (542, -1.995, "0.047")),
    (5, 50, 3, (0.9, 0.8), (80, 1.834, "0.067")),
    (6, 300, 20, (0.25, 0.25), (539, -0.162, "0.873")),
    (7, 500, 30, (0.4, 0.42), (805, -0.552, "0.582")),
    (8, 20, 5, (0.1, 0.12), (24, 1.366, "0.174")),
    (9, 3, 40, (0.3, 0.0001), (6, 2.200, "0.028")),
]
needs_sctk = pytest.mark.skipif(shutil.which("sctk") is None, reason="NIST's sctk is not installed")
every_pair = pytest.mark.parametrize(("seed", "num_utterances", "num_words", "error_rates", "printed"), PAIRS)


def draw_words(rng: np.random.Generator, count: int, num_words: int) -> list[str]:
    return [f"word{number}" for number in rng.integers(num_words, size=count)]


def draw_references(num_utterances: int, num_words: int, seed: int) -> Transcripts:
    """Sentences of one to fifteen words; few different ones make alignments ambiguous."""
    rng = np.random.default_rng(seed)
    return {
        f"{SPEAKERS[number % len(SPEAKERS)]}-{number:04d}": draw_words(
            rng, int(rng.integers(1, 16)), num_words
        )
        for number in range(num_utterances)
    }


def recognise(references: Transcripts, num_words: int, error_rate: float, seed: int) -> Transcripts:
    """What a recogniser would understand that deletes, replaces and inserts at random."""
    rng, hypotheses = np.random.default_rng((seed, 1)), {}
    for name, words in references.items():
        hypothesis = draw_words(rng, int(rng.random() < error_rate), num_words)
        for word in words:
            kind = rng.random() / error_rate
            if kind >= 0.3:
                hypothesis += draw_words(rng, 1, num_words) if kind < 0.8 else [word]
            hypothesis += draw_words(rng, int(0.8 < kind < 1), num_words)
        hypotheses[name] = hypothesis
    return hypotheses


def draw_pair(
    seed: int, num_utterances: int, num_words: int, error_rates: tuple[float, float]
) -> tuple[Transcripts, Transcripts, Transcripts]:
    """References, and hypotheses of two systems."""
    references = draw_references(num_utterances, num_words, seed)
    first, second = (
        recognise(references, num_words, rate, 2 * seed + number) for number, rate in enumerate(error_rates)
    )
    return references, first, second


def write_all(folder: Path, *transcripts: Transcripts) -> list[Path]:
    """Each in NIST's form `trn`."""
    paths = [folder / f"{number}.trn" for number in range(len(transcripts))]
    for path, one in zip(paths, transcripts, strict=True):
        path.write_text("".join(f"{' '.join(words)} ({name})\n" for name, words in one.items()))
    return paths


def run_sctk(*words: object, content: str = "") -> str:
    command = ["sctk", *map(str, words)]
    return subprocess.run(command, input=content, capture_output=True, text=True, check=True).stdout


def run_sclite(references: Path, *hypotheses: Path) -> str:
    """sclite's alignments, in its SGML."""
    systems = [word for path in hypotheses for word in ("-h", path, "trn")]
    return run_sctk("sclite", "-s", "-i", "rm", "-r", references, "trn", *systems, "-o", "sgml", "stdout")


def read_alignments(sgml: str) -> dict[str, str]:
    """The operations of each utterance, as `align_words` writes them."""
    found = re.findall(r'<PATH id="\((.+?)\)"[^>]*>\n(.*)\n</PATH>', sgml)
    return {name: "".join(part[0] for part in line.split(":") if part) for name, line in found}


@needs_sctk
@pytest.mark.parametrize(("num_words", "error_rate"), [(2, 0.6), (6, 0.3), (50, 0.5), (1000, 0.9)])
def test_every_word_is_aligned_as_sclite_does(num_words: int, error_rate: float, tmp_path: Path) -> None:
    references = draw_references(500, num_words, 0)
    hypotheses = recognise(references, num_words, error_rate, 1)
    expected = read_alignments(run_sclite(*write_all(tmp_path, references, hypotheses)))
    assert expected == {name: align_words(references[name], hypotheses[name]) for name in references}


@needs_sctk
@every_pair
def test_nothing_else_is_printed_today(
    seed: int,
    num_utterances: int,
    num_words: int,
    error_rates: tuple[float, float],
    printed: tuple[int, float, str],
    tmp_path: Path,
) -> None:
    alignments = run_sclite(*write_all(tmp_path, *draw_pair(seed, num_utterances, num_words, error_rates)))
    test = ("sc_stats", "-p", "-t", "mapsswe", "-n", "-")
    details = re.search(r"# segs: (\d+)\).*Z Stat: *(\S+)\)", run_sctk(*test, "-v", content=alignments))
    table = re.search(r"\|\s+MP\s+\|\|.*?(<?[01]\.\d+)", run_sctk(*test, "-u", content=alignments))
    assert details and table
    assert (int(details[1]), float(details[2]), table[1]) == printed


@every_pair
def test_matched_pairs_are_those_of_sc_stats(
    seed: int,
    num_utterances: int,
    num_words: int,
    error_rates: tuple[float, float],
    printed: tuple[int, float, str],
) -> None:
    references, *systems = draw_pair(seed, num_utterances, num_words, error_rates)
    first, second = (
        [align_words(references[name], hypotheses[name]) for name in references] for hypotheses in systems
    )
    found = compare_segments(first, second)
    p_value = "<0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
    assert (found.num_segments, round(found.z, 3), p_value) == printed
    other_way_round = compare_segments(second, first)
    assert (other_way_round.z, other_way_round.p_value) == (-found.z, found.p_value)
