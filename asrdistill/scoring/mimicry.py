"""Mimicry: how closely a student follows its ensemble, frame by frame.

Task: compare the posteriors of student and ensemble on the frames of a split, and say where they part.
Definition: agreement is the share of frames on which both find the same pdf-id likeliest. KL is the mean of
sum_p e_p (log e_p - log s_p), the divergence of the student's posterior s from the ensemble's e at
temperature 1, in nats. Entropy is the ensemble's, in nats: its doubt. All are given over all frames; by
phone, that of the hard target; by entropy, in 10 bins of equal width from 0 to log P; and for the four cases
of ensemble and student being right or wrong, right meaning that the likeliest pdf-id is the hard target.
Sources: Stanton et al. (2021), arXiv:2106.05945, who measure a student's fidelity by agreement and KL, apart
from its accuracy; the direction is that of distillation, Hinton, Vinyals & Dean (2015), arXiv:1503.02531.
Conventions: entropy bins are closed on the left, the last one on both sides. Of equally probable pdf-ids the
lowest one is taken. Scores are normalised first. A log posterior of the ensemble below -87 counts as -87: it
weighs nothing. A pdf-id belongs to one phone, for the decision trees tie states of one phone alone. Where
nothing is known of the phones, all pdf-ids are of one, "?".
Known differences: a student is trained at a higher temperature, on soft targets that a codec may have cut,
and with hard targets mixed in; its KL at temperature 1 is not what it was trained to lower. Phones of much
entropy have a high KL also under the same agreement; the share of KL depends on how frequent a phone is.

Shapes: T frames, P pdf-ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.hmm.topology import TiedStates
from asrdistill.scoring.calibration import BLOCK, check_finite
from asrdistill.scoring.frame_accuracy import check_frames

NUM_ENTROPY_BINS = 10
UNKNOWN_PHONE = "?"
# Columns of a sum over frames.
_FRAMES, _AGREED, _KL, _ENTROPY, _ENSEMBLE_RIGHT, _STUDENT_RIGHT = range(6)
# The exponential of less is no normal float32.
_LEAST_LOG_POSTERIOR = np.float32(-87)


@dataclass(frozen=True, eq=False)
class PdfPhones:
    """The phone that each pdf-id belongs to.

    Attributes:
        names: of the phones.
        of_pdf: an index into them for every pdf-id, int (P,).
    """

    names: tuple[str, ...]
    of_pdf: np.ndarray


def map_pdfs_to_phones(tied_states: TiedStates) -> PdfPhones:
    """The phone of every pdf-id; one, `UNKNOWN_PHONE`, of all where the phones are not known."""
    num_pdfs = tied_states.num_pdfs
    if not tied_states.has_phones:
        return PdfPhones((UNKNOWN_PHONE,), np.zeros(num_pdfs, np.int64))
    of_pdf = [tied_states.phone_ids[tied_states.phone_of_pdf(pdf_id)] for pdf_id in range(num_pdfs)]
    return PdfPhones(tied_states.phones, np.array(of_pdf))


@dataclass(frozen=True, eq=False)
class Mimicry:
    """Sums over frames, grouped in three ways; those of two utterances add up.

    The columns are frames, those that agree, KL, entropy, those where the ensemble is right, those where the
    student is.

    Attributes:
        phones: names of the phones.
        num_pdfs: P, of which the entropy bins depend.
        by_phone: float64 (phones, 6).
        by_entropy: float64 (10, 6).
        by_case: float64 (4, 6): both wrong, only the student right, only the ensemble, both.
    """

    phones: tuple[str, ...]
    num_pdfs: int
    by_phone: np.ndarray
    by_entropy: np.ndarray
    by_case: np.ndarray

    def __add__(self, other: "Mimicry") -> "Mimicry":
        if (self.phones, self.num_pdfs) != (other.phones, other.num_pdfs):
            raise ContractError(
                f"mimicry: {len(self.phones)} phones and {self.num_pdfs} pdf-ids cannot be added to "
                f"{len(other.phones)} and {other.num_pdfs}, or their names differ; all utterances must "
                "be compared under the same tied states"
            )
        return Mimicry(
            self.phones,
            self.num_pdfs,
            self.by_phone + other.by_phone,
            self.by_entropy + other.by_entropy,
            self.by_case + other.by_case,
        )

    def describe(self) -> dict[str, Any]:
        """As report.json gives it: `overall`, `phones`, `entropy` and `cases`.

        A row has `frames`, their `share` of all, `agreement`, `kl`, its share `kl_share` of the sum over all
        frames, `entropy`, `ensemble_accuracy` and `student_accuracy`; means over no frames are None. Phones
        are sorted by `kl_share`, the largest first; those without frames are left out.

        Raises:
            ContractError: no frames were compared.
        """
        total = self.by_case.sum(axis=0)
        if not total[_FRAMES]:
            raise ContractError(
                "mimicry: no frames were compared; expected at least one utterance that could be aligned: "
                "look at what the align stage left out"
            )
        phones = zip(self.phones, self.by_phone, strict=True)
        phone_rows = [{"phone": name, **_describe(row, total)} for name, row in phones if row[_FRAMES]]
        edges = np.linspace(0, np.log(self.num_pdfs), NUM_ENTROPY_BINS + 1).tolist()
        return {
            "overall": _describe(total, total),
            "phones": sorted(phone_rows, key=lambda row: -row["kl_share"]),
            "entropy": [
                {"low": low, "high": high, **_describe(row, total)}
                for low, high, row in zip(edges[:-1], edges[1:], self.by_entropy, strict=True)
            ],
            "cases": [
                {"ensemble_right": case >= 2, "student_right": case % 2 == 1, **_describe(row, total)}
                for case, row in reversed(list(enumerate(self.by_case)))
            ],
        }


def _describe(row: np.ndarray, total: np.ndarray) -> dict[str, Any]:
    frames = int(row[_FRAMES])
    agreement, kl, entropy, ensemble, student = (
        float(value) / frames if frames else None for value in row[_AGREED:]
    )
    return {
        "frames": frames,
        "share": float(frames / total[_FRAMES]),
        "agreement": agreement,
        "kl": kl,
        "kl_share": float(row[_KL] / total[_KL]) if total[_KL] else 0.0,
        "entropy": entropy,
        "ensemble_accuracy": ensemble,
        "student_accuracy": student,
    }


def sum_mimicries(mimicries: Iterable[Mimicry], phones: PdfPhones) -> Mimicry:
    """That of all utterances; of none, one without frames."""
    num_phones, num_columns = len(phones.names), _STUDENT_RIGHT + 1
    empty = (np.zeros((size, num_columns)) for size in (num_phones, NUM_ENTROPY_BINS, 4))
    return sum(mimicries, Mimicry(phones.names, len(phones.of_pdf), *empty))


def compare_with_ensemble(
    ensemble: np.ndarray, student: np.ndarray, pdf_ids: np.ndarray, phones: PdfPhones
) -> Mimicry:
    """Compare student and ensemble on one utterance.

    Args:
        ensemble: its log posteriors, float (T, P); logits or joint scores do as well.
        student: likewise.
        pdf_ids: int (T,) hard targets.
        phones: of the P pdf-ids.

    Raises:
        ContractError: the shapes differ, a target is no column, or a log posterior is not a finite number.
    """
    if not ensemble.shape == student.shape == (len(ensemble), len(phones.of_pdf)):
        raise ContractError(
            f"mimicry: log posteriors of the ensemble have shape {ensemble.shape}, the student's "
            f"{student.shape}, and {len(phones.of_pdf)} pdf-ids have a phone; expected (frames, pdf-ids) of "
            "the same frames and the same tied states: run again with --force teachers"
        )
    check_frames("mimicry", ensemble, pdf_ids)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(pdf_ids), BLOCK)]
    return sum_mimicries(
        (_compare_block(ensemble[block], student[block], pdf_ids[block], phones) for block in blocks), phones
    )


def _compare_block(
    ensemble: np.ndarray, student: np.ndarray, pdf_ids: np.ndarray, phones: PdfPhones
) -> Mimicry:
    log_e, log_s = _normalize(ensemble), _normalize(student)
    log_e = np.maximum(log_e, _LEAST_LOG_POSTERIOR)
    weights = np.exp(log_e)
    kl = np.einsum("tp,tp->t", weights, log_e - log_s)
    entropy = -np.einsum("tp,tp->t", weights, log_e)
    check_finite("mimicry", kl)
    top_e, top_s = ensemble.argmax(axis=1), student.argmax(axis=1)
    right_e, right_s = top_e == pdf_ids, top_s == pdf_ids
    columns = (np.ones(len(kl)), top_e == top_s, kl, entropy, right_e, right_s)
    num_pdfs = len(phones.of_pdf)
    bins = (NUM_ENTROPY_BINS * entropy / np.log(max(num_pdfs, 2))).astype(np.int64)
    return Mimicry(
        phones.names,
        num_pdfs,
        _group(columns, phones.of_pdf[pdf_ids], len(phones.names)),
        _group(columns, np.clip(bins, 0, NUM_ENTROPY_BINS - 1), NUM_ENTROPY_BINS),
        _group(columns, 2 * right_e + right_s, 4),
    )


def _normalize(scores: np.ndarray) -> np.ndarray:
    """Log posteriors, (T, P), of scores that need not be normalised."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is refused later
        below = scores - scores.max(axis=1, keepdims=True)
        normalized: np.ndarray = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    return normalized


def _group(columns: Iterable[np.ndarray], groups: np.ndarray, num_groups: int) -> np.ndarray:
    """Sums of each column, (T,), over the frames of each group: float64 (groups, columns)."""
    return np.stack([np.bincount(groups, column, num_groups) for column in columns], axis=1)
