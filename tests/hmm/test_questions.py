"""Questions: clusters against trying every pair on the frames themselves, files against what they say."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from asrdistill.errors import CorpusError
from asrdistill.hmm.questions import (
    VARIANCE_FLOOR,
    derive_questions,
    gaussian_log_likelihood,
    read_questions,
)
from asrdistill.hmm.topology import SILENCE_PHONE

DIMENSION = 3
PHONES = (SILENCE_PHONE, "b", "d", "g", "s", "z")

Frames = dict[str, list[np.ndarray]]
"""Of every phone, the frames of each of its three states."""


def moments_of(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([[len(frames)], frames.sum(0), (frames**2).sum(0)])


def stack_moments(frames: Frames) -> np.ndarray:
    return np.array([[moments_of(own) for own in states] for states in frames.values()])


def log_likelihood_of(frames: np.ndarray) -> float:
    """Under the Gaussian of these frames, whose variance has a floor."""
    if not len(frames):
        return 0.0
    deviations = np.sqrt(np.maximum(frames.var(0), VARIANCE_FLOOR))
    return float(scipy.stats.norm.logpdf(frames, frames.mean(0), deviations).sum())


def draw_frames(centres: dict[str, float], num_frames: int = 60, seed: int = 0) -> Frames:
    """Frames of three states a phone about its centre."""
    rng = np.random.default_rng(seed)
    return {
        phone: [rng.normal(centre + state, 1.0, (num_frames, DIMENSION)) for state in range(3)]
        for phone, centre in centres.items()
    }


def cluster_by_trying(frames: Frames) -> set[frozenset[str]]:
    """Every set on the way from single phones to all, by merging the pair that loses least."""
    clusters = [frozenset([phone]) for phone in frames if phone != SILENCE_PHONE]
    found = set(clusters)

    def score(cluster: frozenset[str]) -> float:
        states = [np.concatenate([frames[phone][state] for phone in cluster]) for state in range(3)]
        return sum(map(log_likelihood_of, states))

    while len(clusters) > 1:
        pairs = itertools.combinations(clusters, 2)
        first, second = min(
            pairs, key=lambda pair: score(pair[0]) + score(pair[1]) - score(pair[0] | pair[1])
        )
        clusters = [cluster for cluster in clusters if cluster not in (first, second)] + [first | second]
        found.add(first | second)
    return found


@pytest.mark.parametrize("num_frames", [0, 1, 2, 500])
def test_log_likelihood_equals_scipy(num_frames: int) -> None:
    frames = np.random.default_rng(1).normal(5, [0.01, 1, 30], (num_frames, DIMENSION))
    found = gaussian_log_likelihood(moments_of(frames))
    assert found == pytest.approx(log_likelihood_of(frames), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_equal_trying_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = draw_frames({phone: rng.normal(0, 2) for phone in PHONES}, num_frames=20, seed=seed)
    questions = derive_questions(PHONES, stack_moments(frames))
    assert questions[0] == (SILENCE_PHONE,)
    assert {frozenset(asked) for asked in questions[1:]} == cluster_by_trying(frames)
    assert len(questions) == 1 + 5 + 4
    assert [len(asked) for asked in questions[1:]] == sorted(map(len, questions[1:]), reverse=True)


def test_planted_groups_are_found() -> None:
    """Stops about 0, fricatives about 6: both groups are questions, and so is every phone alone."""
    centres = {SILENCE_PHONE: -9.0, "b": 0.0, "d": 0.3, "g": -0.3, "s": 6.0, "z": 6.3}
    questions = derive_questions(PHONES, stack_moments(draw_frames(centres)))
    assert {("b", "d", "g"), ("s", "z"), *((phone,) for phone in PHONES)} <= set(questions)
    assert ("b", "d", "g", "s", "z") in questions


def test_phones_without_frames_are_in_no_question() -> None:
    frames = draw_frames(dict.fromkeys(PHONES, 1.0))
    frames["g"] = [np.zeros((0, DIMENSION))] * 3
    questions = derive_questions(PHONES, stack_moments(frames))
    assert set(itertools.chain(*questions)) == set(PHONES) - {"g"}
    nothing = np.zeros((len(PHONES), 3, 1 + 2 * DIMENSION))
    assert derive_questions(PHONES, nothing) == ((SILENCE_PHONE,),)


def test_questions_are_read_in_order_each_once(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("z s\nSIL\n  s z  \nb\td g\n\n")
    assert read_questions(path, PHONES) == (("s", "z"), (SILENCE_PHONE,), ("b", "d", "g"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("b d\nb Z\n", r"questions\.txt, line 2: phone 'Z' is not in the lexicon"),
        ("SIL\ns zz\n", r"line 2: phone 'zz' .* did you mean z\?"),
        ("b d\n\nz\n", r"questions\.txt, line 2: empty; expected the phones of one set"),
        ("\nb\n", "line 1: empty"),
        ("", "empty; expected a line of phones for each set"),
        ("  \n\n", "empty; expected a line of phones"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(text)
    with pytest.raises(CorpusError, match=complaint):
        read_questions(path, PHONES)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.txt: no such file"):
        read_questions(tmp_path / "none.txt", PHONES)
