"""The ensemble's opinion: the average of what its members predict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from asrdistill.errors import ContractError
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.softmax_loops import add_posteriors, count_votes, find_entropies
from asrdistill.targets.teacher_shares import Average, average_with_shares, share_out_weights

BYTE = 255
AVERAGING_RULES: dict[Average, str] = {
    "arithmetic": "arithmetic mean over teachers of softmax(logits / T)",
    "geometric": "softmax of the mean over teachers of logits / T",
}


@dataclass(frozen=True)
class Opinion:
    """What M teachers make of an utterance of L frames.

    Attributes:
        averages: float32 (T, L, P), every row sums to 1.
        winners: int64 (M, L), the pdf-id that each teacher finds likeliest.
        entropies: float32 (L,), the mean of those of the teachers' posteriors at the first temperature, nats.
        divergence: float32 (L,), Jensen-Shannon, of these posteriors.
    """

    averages: np.ndarray
    winners: np.ndarray
    entropies: np.ndarray
    divergence: np.ndarray

    @property
    def votes(self) -> np.ndarray:
        """How many teachers find the pdf-id likeliest that most of them do, uint8 (L,), at most 255."""
        return count_votes(self.winners).clip(max=BYTE).astype(np.uint8)

    @property
    def distance(self) -> np.ndarray:
        """How far the teachers are from each other, uint8 (L,), as `write_distance` writes it."""
        return write_distance(self.divergence, len(self.winners))

    def slice(self, span: slice) -> "Opinion":
        """That of some frames."""
        return Opinion(
            self.averages[:, span], self.winners[:, span], self.entropies[span], self.divergence[span]
        )


@torch.inference_mode()
def ask_teachers(
    model: AcousticModel,
    frames: np.ndarray | Sequence[np.ndarray],
    temperatures: tuple[float, ...],
    average: Average = "arithmetic",
    pdf_ids: np.ndarray | None = None,
    wrong_weight: float = 1.0,
) -> Opinion:
    """Average the teachers' posteriors into soft targets, and tell how much they disagree.

    The geometric mean of posteriors is that of their logits: one at T is one at T' with its logarithm times
    T / T'. Of the arithmetic mean, the paper's, nothing of the kind is true.
    Shapes: M teachers, T temperatures, L frames of F bins, P pdf-ids. Averages are made in float32 whatever
    the members compute in.
    Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3; Lin (1991), "Divergence measures based
    on the Shannon entropy".

    Args:
        model: the teachers.
        frames: float16 (L, F), one utterance; or several, whose frames then follow each other.
        temperatures: each logit is divided by T before the softmax.
        average: which mean over teachers.
        pdf_ids: int32 (L,), hard targets, -1 where there is none; None: there are none.
        wrong_weight: how much teachers count that are wrong, as `share_out_weights` says.

    Raises:
        ContractError: a posterior is not a number.
    """
    utterances = [frames] if isinstance(frames, np.ndarray) else frames
    num_frames, num_teachers = sum(map(len, utterances)), model.num_members
    averages = np.zeros((len(temperatures), num_frames, model.num_pdfs), np.float32)
    winners = np.empty((num_teachers, num_frames), np.int64)
    entropies = np.zeros((len(temperatures), num_frames), np.float32)
    share, asked = np.float32(1 / num_teachers), []
    for teacher, winner in zip(model.members, winners, strict=True):
        # One after the other: the logits of all would leave the cache, and the weights be read as often.
        logits = teacher.compute_logits_of_several(utterances)[0].contiguous().numpy()
        for place in range(len(temperatures) if average == "arithmetic" else 1):
            soft, at = averages[place], np.float32(temperatures[place])
            add_posteriors(logits, at, share, soft, winner, entropies[place])
        if average == "geometric" or wrong_weight != 1:
            asked.append(logits)
    if not np.isfinite(entropies).all():
        raise ContractError(
            "teachers: their posteriors are not all numbers, so their training has gone wrong; train them "
            "again, with a lower teachers.training.learning_rate or teachers.training.precision=fp32"
        )
    divergence = find_entropies(averages[0]) - entropies[0]
    if average == "geometric":
        mean = torch.from_numpy(sum(asked) / np.float32(num_teachers))
        for place, temperature in enumerate(temperatures):
            averages[place] = torch.softmax(mean / temperature, dim=1).numpy()
    if pdf_ids is not None and wrong_weight != 1:
        shares = share_out_weights(winners, pdf_ids, wrong_weight)
        for place, temperature in enumerate(temperatures):
            averages[place] = average_with_shares(asked, shares, temperature, average)
    return Opinion(averages, winners, entropies[0], divergence)


def write_distance(divergence: np.ndarray, num_teachers: int) -> np.ndarray:
    """The root of Jensen-Shannon divergences, float32 (L,): uint8, 255 where it is largest.

    It is so where it is the logarithm of the number of teachers.
    """
    roots = np.sqrt(divergence.clip(min=0) / math.log(max(num_teachers, 2)))
    return np.rint(BYTE * roots).clip(max=BYTE).astype(np.uint8)


def read_distance(distance: np.ndarray, num_teachers: int) -> np.ndarray:
    """The divergences that `write_distance` wrote, float32 (L,)."""
    return np.square(distance / np.float32(BYTE)) * np.float32(math.log(max(num_teachers, 2)))
