"""Frame accuracy over the size of the ensemble.

Task: the frame accuracy (frame_accuracy.py) of ensembles of 1, 2, ... M members; for each size the mean, the
lowest and the highest over several subsets of the M members.
Definition: an ensemble's posterior is the arithmetic mean of its members' posteriors (softmax at T = 1). Of
at most 5 members all subsets are taken. Of more, those of size k < M are the M cyclic ones
{i, i + 1, ..., i + k - 1} modulo M: every member is in k of them, so none counts more than another. Of size M
there is one.
Source: accuracy over the number of averaged networks as in Lakshminarayanan, Pritzel & Blundell (2017),
arXiv:1612.01474; the averaging is that of Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3.
Conventions: size 1 is the members one at a time, so its mean is the baseline; size M is the ensemble.
Known differences: lowest and highest are of the subsets taken. Of more than 5 members those are few of all,
so the range is narrower than over all; and the larger subsets are, the more they share, so the range shrinks
to nothing at size M. It is no confidence interval. Posteriors are added in float32, where the ensemble's own
score adds them in the logarithm: of pdf-ids that are all but equally probable the other may win, which moves
single frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.scoring.frame_accuracy import FrameAccuracy, count_frames

ALL_SUBSETS_UP_TO = 5


@dataclass(frozen=True)
class SizeAccuracy:
    """Frame accuracy of ensembles of one size, fractions.

    Attributes:
        size: members of each.
        mean: over the subsets.
        min: the lowest of them.
        max: the highest of them.
        num_subsets: how many.
    """

    size: int
    mean: float
    min: float
    max: float
    num_subsets: int


def list_subsets(num_members: int) -> list[tuple[int, ...]]:
    """The subsets that are taken, of all sizes, in lexicographic order.

    Each but the single members is one that stands before it, with one more member at its end.
    """
    members = range(num_members)
    if num_members <= ALL_SUBSETS_UP_TO:
        return sorted(subset for size in members for subset in combinations(members, size + 1))
    cyclic = [
        tuple((start + offset) % num_members for offset in range(size))
        for size in range(1, num_members)
        for start in members
    ]
    return sorted([*cyclic, tuple(members)])


class EnsembleSizes:
    """Counts the correct frames of every subset, utterance by utterance.

    Attributes:
        subsets: members of each.
        counts: frames of each, so far.
    """

    def __init__(self, num_members: int) -> None:
        self.num_members = num_members
        self.subsets = list_subsets(num_members)
        self.counts = [FrameAccuracy(0, 0)] * len(self.subsets)

    def add(self, posteriors: np.ndarray, pdf_ids: np.ndarray) -> None:
        """Count one utterance.

        Args:
            posteriors: float32 (M, L, P) of M members, L frames, P pdf-ids; not their logarithms.
            pdf_ids: int (L,) hard targets.

        Raises:
            ContractError: the number of members differs, or `count_frames` refuses.
        """
        if posteriors.ndim != 3 or len(posteriors) != self.num_members:
            raise ContractError(
                f"ensemble size: posteriors have shape {posteriors.shape}, expected "
                f"({self.num_members}, frames, pdf-ids): one row for each of {self.num_members} members"
            )
        if posteriors.size and posteriors.min() < 0:
            raise ContractError(
                f"ensemble size: a posterior is {posteriors.min():g}, expected none below 0; "
                "did you give logits or log posteriors?"
            )
        # sums[k]: of the subset's first k + 1 members; an earlier subset left all but the last.
        sums = np.empty_like(posteriors)
        for number, subset in enumerate(self.subsets):
            last = len(subset) - 1
            before = sums[last - 1] if last else 0
            np.add(before, posteriors[subset[-1]], out=sums[last])
            self.counts[number] += count_frames(sums[last], pdf_ids)

    def summarize(self) -> list[SizeAccuracy]:
        """Frame accuracy of each size, from 1 member to all."""
        by_size: dict[int, list[float]] = {size: [] for size in range(1, self.num_members + 1)}
        for subset, count in zip(self.subsets, self.counts, strict=True):
            by_size[len(subset)].append(count.accuracy)
        return [_summarize(size, accuracies) for size, accuracies in by_size.items()]


def _summarize(size: int, accuracies: Sequence[float]) -> SizeAccuracy:
    mean = float(np.mean(accuracies))
    return SizeAccuracy(size, mean, min(accuracies), max(accuracies), len(accuracies))
