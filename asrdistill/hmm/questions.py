"""Questions that a decision tree may ask: sets of phones, from a file or by how the phones sound.

Shapes: P phones, 3 states each, C clusters, D coefficients. Moments of frames are float64 (..., 1 + 2 D):
their number, their sum and the sum of their squares, so that those of a union are the sum of the parts'.
Source: Kaldi's `cluster-phones` (`AutomaticallyObtainQuestions` of tree/build-tree.cc).
Differs: phones are merged bottom up, which needs no random start, where Kaldi splits top down by k-means; all
three states count, where Kaldi takes the middle one alone; silence is not clustered with the speech, but is
a question of its own; a set is asked as it is, where Kaldi refines it by k-means at every split.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asrdistill.corpus.source import read_lines
from asrdistill.errors import CorpusError
from asrdistill.hmm.topology import SILENCE_PHONE

# Of `acc-tree-stats`.
VARIANCE_FLOOR = 0.01
# Log-likelihoods are compared to a millionth, so that rounding does not decide between equals.
DECIMALS = 6
LOG_TWO_PI = float(np.log(2 * np.pi))

PhoneSet = tuple[str, ...]
"""Phones in the inventory's order."""


def gaussian_log_likelihood(moments: np.ndarray) -> np.ndarray:
    """Log-likelihood of frames under the Gaussian, of diagonal covariance, estimated on these same frames.

    Args:
        moments: float64 (..., 1 + 2 D).

    Returns:
        float64 (...), natural logarithm of the frames together; 0 where there are none.
    """
    dimension = moments.shape[-1] // 2
    num_frames = moments[..., :1]
    divisor = np.where(num_frames > 0, num_frames, 1.0)
    means, powers = np.split(moments[..., 1:] / divisor, [dimension], axis=-1)
    variances = np.maximum(powers - means**2, 0)
    floored = np.maximum(variances, VARIANCE_FLOOR)
    by_coefficient = LOG_TWO_PI + np.log(floored) + variances / floored
    result: np.ndarray = -0.5 * num_frames[..., 0] * by_coefficient.sum(-1)
    return result


def derive_questions(phones: Sequence[str], moments: np.ndarray) -> tuple[PhoneSet, ...]:
    """Cluster the phones by how much log-likelihood a common Gaussian for each state would lose.

    Args:
        phones: P names, in the order of their ids.
        moments: float64 (P, 3, 1 + 2 D) of the frames of each state.

    Returns:
        Silence, then every cluster there has been on the way from single phones to one of all, the largest
        first. Phones without frames are in none.
    """
    seen = [
        number
        for number, phone in enumerate(phones)
        if phone != SILENCE_PHONE and moments[number, :, 0].any()
    ]
    clusters = [sorted(seen[place] for place in cluster) for cluster in _cluster(moments[seen])]
    clusters.sort(key=lambda cluster: (-len(cluster), cluster))
    return ((SILENCE_PHONE,), *(tuple(phones[number] for number in cluster) for cluster in clusters))


def _cluster(moments: np.ndarray) -> list[list[int]]:
    """Merge the two clusters that lose least, the first two among equals, until one is left.

    Args:
        moments: float64 (C, 3, 1 + 2 D).

    Returns:
        The members of every cluster there has been.
    """
    moments = moments.copy()
    num_clusters = len(moments)
    members = [[number] for number in range(num_clusters)]
    found = list(members)
    is_left = np.ones(num_clusters, bool)
    losses = np.empty((num_clusters, num_clusters))
    for number in range(num_clusters):
        losses[number] = _losses_with(number, moments, is_left)
    for _ in range(num_clusters - 1):
        # The table is symmetric: the first minimum in it is a pair in ascending order.
        first, second = (int(place) for place in np.unravel_index(np.argmin(losses), losses.shape))
        moments[first] += moments[second]
        members[first] = members[first] + members[second]
        found.append(members[first])
        is_left[second] = False
        losses[second] = losses[:, second] = np.inf
        losses[first] = losses[:, first] = _losses_with(first, moments, is_left)
    return found


def _losses_with(number: int, moments: np.ndarray, is_left: np.ndarray) -> np.ndarray:
    """What merging each cluster with this one loses, float64 (C,); infinite for itself and those gone."""
    apart = gaussian_log_likelihood(moments).sum(-1)
    together = gaussian_log_likelihood(moments + moments[number]).sum(-1)
    losses = np.round(apart + apart[number] - together, DECIMALS)
    losses[~is_left] = np.inf
    losses[number] = np.inf
    return losses


def refuse_missing(path: Path) -> None:
    """Raises:
    CorpusError: there is no such file.
    """
    if not path.is_file():
        raise CorpusError(f"questions {path}: no such file; expected a line of phones for each set")


def read_questions(path: Path, phones: Sequence[str]) -> tuple[PhoneSet, ...]:
    """Read sets of phones, a line each: Kaldi's questions.int with names for numbers.

    Args:
        path: the file.
        phones: names of the inventory, in the order of their ids.

    Raises:
        CorpusError: the file is missing or empty, a line is empty or has a phone that the inventory lacks.
    """
    refuse_missing(path)
    questions: list[PhoneSet] = []
    for number, line in read_lines(path):
        if number != len(questions) + 1:
            raise CorpusError(
                f"questions {path}, line {len(questions) + 1}: empty; expected the phones of one set, "
                "separated by spaces; take the line out"
            )
        asked = set(line.split())
        if unknown := sorted(asked - set(phones)):
            raise CorpusError(_explain_unknown(f"questions {path}, line {number}", unknown[0], phones))
        questions.append(tuple(phone for phone in phones if phone in asked))
    if not questions:
        raise CorpusError(f"questions {path}: empty; expected a line of phones for each set")
    return tuple(dict.fromkeys(questions))


def _explain_unknown(subject: str, phone: str, phones: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(phone, phones, 1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return (
        f"{subject}: phone {phone!r} is not in the lexicon{hint} "
        f"(expected some of {' '.join(phones)}); correct the line"
    )
