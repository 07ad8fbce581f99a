"""Soft targets of many frames in the form in which they were stored, and what a batch takes of them.

Shapes: N frames, P pdf-ids, M members or 1 for all alike, B frames of a batch, K pdf-ids kept of a frame at
most, R components.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch.nn.functional import pad

from asrdistill.nn.softmax_loops import add_units, softmax_in_place

_EXPANDED_AT_A_TIME = 4096


@dataclass(frozen=True)
class SparseRows:
    """Soft targets of a batch of which most pdf-ids are left out.

    Attributes:
        pdf_ids: int64 (M or 1, B, K); a frame that keeps fewer than K is filled up with its first one.
        probabilities: float32, of that shape, 0 where it is filled up.
        rest: float32 (M or 1, B), what the pdf-ids left out have together; None: they have nothing.
        is_kept: bool, of the shape of `pdf_ids`, False where it is filled up.
    """

    pdf_ids: torch.Tensor
    probabilities: torch.Tensor
    rest: torch.Tensor | None
    is_kept: torch.Tensor

    def widen(self, num_kept: int) -> "SparseRows":
        """The same, filled up to K = `num_kept`."""
        missing = num_kept - self.pdf_ids.shape[2]
        return SparseRows(
            torch.cat([self.pdf_ids, self.pdf_ids[..., :1].expand(-1, -1, missing)], 2),
            pad(self.probabilities, (0, missing)),
            self.rest,
            pad(self.is_kept, (0, missing)),
        )


# Probabilities, float32 (M or 1, B, P), or those that were kept. Where they are corrected, some are below 0,
# and rows sum to 1 on average only.
SoftRows = torch.Tensor | SparseRows


def join_rows(parts: Sequence[SoftRows]) -> SoftRows:
    """Those of several batches, of at least one and all of one kind, as one."""
    dense = [part for part in parts if isinstance(part, torch.Tensor)]
    if dense:
        return torch.cat(dense, 1)
    sparse = [part for part in parts if isinstance(part, SparseRows)]
    most = max(part.pdf_ids.shape[2] for part in sparse)
    rests = [part.rest for part in sparse if part.rest is not None]
    widened = [part.widen(most) for part in sparse]
    return SparseRows(
        torch.cat([part.pdf_ids for part in widened], 1),
        torch.cat([part.probabilities for part in widened], 1),
        torch.cat(rests, 1) if rests else None,
        torch.cat([part.is_kept for part in widened], 1),
    )


class SoftTargets(ABC):
    """Soft targets of N frames."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """What they take in memory, but for what all parts share."""

    @classmethod
    @abstractmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Those of several stretches of frames, of at least one, as one."""

    @abstractmethod
    def slice(self, span: slice) -> Self:
        """Those of a stretch of frames."""

    @abstractmethod
    def gather(self, frames: np.ndarray) -> Self:
        """Those of some frames, int64 (frames,), in their order; a frame may come several times."""

    @abstractmethod
    def take(self, frames: torch.Tensor) -> SoftRows:
        """Those of some frames, int64 (M or 1, B)."""

    def without_corrections(self) -> "SoftTargets":
        """What the code alone tells: probabilities, but not right on average."""
        return self


def _find_places(starts: np.ndarray, frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where that stands which frames, int64 (M or 1, B), have from their starts on, K places at most.

    Returns:
        int64 (M or 1, B, K), filled up with a frame's first one; and bool of this shape, False there.
    """
    first = starts[frames.numpy()]
    counts = starts[frames.numpy() + 1] - first
    place = np.arange(counts.max(initial=0))
    is_kept = place < counts[..., None]
    return first[..., None] + np.where(is_kept, place, 0), is_kept


def _gather_places(starts: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where that stands which frames, int64 (K,), have, frame after frame.

    Returns:
        Starts of what is gathered, int64 (K + 1,); and the places, int64 (gathered,).
    """
    first, counts = starts[frames], np.diff(starts)[frames]
    gathered = np.concatenate([[0], np.cumsum(counts)])
    return gathered, np.arange(gathered[-1]) + np.repeat(first - gathered[:-1], counts)


class DenseTargets(SoftTargets):
    """A probability for each pdf-id, float16 (N, P); of corrected ones some are below 0."""

    def __init__(self, probabilities: np.ndarray) -> None:
        self.probabilities = probabilities

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def num_bytes(self) -> int:
        return self.probabilities.nbytes

    @classmethod
    def join(cls, parts: Sequence["DenseTargets"]) -> "DenseTargets":
        return cls(np.concatenate([part.probabilities for part in parts]))

    def slice(self, span: slice) -> "DenseTargets":
        return DenseTargets(self.probabilities[span])

    def gather(self, frames: np.ndarray) -> "DenseTargets":
        return DenseTargets(self.probabilities[frames])

    def take(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.probabilities)[frames].float()


class SparseTargets(SoftTargets):
    """The probabilities that were kept, frame after frame.

    Attributes:
        starts: int64 (N + 1,), frame n keeps those from `starts[n]` to `starts[n + 1]`, at least one.
        pdf_ids: int32 (kept,), of each.
        probabilities: float32 (kept,).
        rest: float32 (N,), what is left to all others; None: nothing.
    """

    def __init__(
        self, starts: np.ndarray, pdf_ids: np.ndarray, probabilities: np.ndarray, rest: np.ndarray | None
    ) -> None:
        assert len(starts) == 1 or np.diff(starts).min() > 0, "a frame keeps nothing"
        self.starts, self.pdf_ids, self.probabilities, self.rest = starts, pdf_ids, probabilities, rest

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def num_bytes(self) -> int:
        rest_bytes = 0 if self.rest is None else self.rest.nbytes
        return self.starts.nbytes + self.pdf_ids.nbytes + self.probabilities.nbytes + rest_bytes

    @classmethod
    def join(cls, parts: Sequence["SparseTargets"]) -> "SparseTargets":
        counts = np.concatenate([np.diff(part.starts) for part in parts])
        rests = [part.rest for part in parts if part.rest is not None]
        return cls(
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([part.pdf_ids for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate(rests) if rests else None,
        )

    def slice(self, span: slice) -> "SparseTargets":
        starts = self.starts[span.start : span.stop + 1]
        kept = slice(starts[0], starts[-1])
        rest = None if self.rest is None else self.rest[span]
        return SparseTargets(starts - starts[0], self.pdf_ids[kept], self.probabilities[kept], rest)

    def gather(self, frames: np.ndarray) -> "SparseTargets":
        starts, places = _gather_places(self.starts, frames)
        rest = None if self.rest is None else self.rest[frames]
        return SparseTargets(starts, self.pdf_ids[places], self.probabilities[places], rest)

    def take(self, frames: torch.Tensor) -> SparseRows:
        index, is_kept = _find_places(self.starts, frames)
        return SparseRows(
            torch.from_numpy(self.pdf_ids[index].astype(np.int64)),
            torch.from_numpy(np.where(is_kept, self.probabilities[index], np.float32(0))),
            None if self.rest is None else torch.from_numpy(self.rest[frames.numpy()]),
            torch.from_numpy(is_kept),
        )


class Corrections:
    """Pdf-ids of each frame that have a unit of probability more or less than is told otherwise.

    Attributes:
        starts: int64 (N + 1,), frame n has those from `starts[n]` to `starts[n + 1]`.
        pdf_ids: int32 (corrections,).
        signs: int8 (corrections,), 1 or -1.
        unit: what is added or taken.
    """

    def __init__(self, starts: np.ndarray, pdf_ids: np.ndarray, signs: np.ndarray, unit: float) -> None:
        self.starts, self.pdf_ids, self.signs, self.unit = starts, pdf_ids, signs, unit

    @property
    def num_bytes(self) -> int:
        """What they take in memory."""
        return self.starts.nbytes + self.pdf_ids.nbytes + self.signs.nbytes

    @classmethod
    def join(cls, parts: Sequence["Corrections"]) -> "Corrections":
        """Those of several stretches of frames as one."""
        counts = np.concatenate([np.diff(part.starts) for part in parts])
        return cls(
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([part.pdf_ids for part in parts]),
            np.concatenate([part.signs for part in parts]),
            parts[0].unit,
        )

    def slice(self, span: slice) -> "Corrections":
        """Those of a stretch of frames."""
        starts = self.starts[span.start : span.stop + 1]
        kept = slice(starts[0], starts[-1])
        return Corrections(starts - starts[0], self.pdf_ids[kept], self.signs[kept], self.unit)

    def gather(self, frames: np.ndarray) -> "Corrections":
        """Those of some frames, int64 (frames,), in their order; a frame may come several times."""
        starts, places = _gather_places(self.starts, frames)
        return Corrections(starts, self.pdf_ids[places], self.signs[places], self.unit)

    def add_to(self, rows: torch.Tensor, frames: torch.Tensor) -> None:
        """Correct the soft targets, float32 (M or 1, B, P), of some frames, int64 (M or 1, B)."""
        add_units(
            rows.view(-1, rows.shape[2]).numpy(),  # no copy
            frames.flatten().numpy(),
            self.starts,
            self.pdf_ids,
            self.signs,
            np.float32(self.unit),
        )


@dataclass(frozen=True)
class LogBasis:
    """Log-probabilities, but for a constant a frame, as a mean and a combination of few components.

    Attributes:
        mean: float32 (P,).
        components: float32 (R, P).
    """

    mean: torch.Tensor
    components: torch.Tensor

    @cached_property
    def _rows(self) -> torch.Tensor:
        """The components and, as one more, the mean, float32 (R + 1, P): one product is faster than a sum."""
        return torch.cat([self.components, self.mean[None]])

    def combine(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Log-probabilities, float32 (N, P), but for a constant a frame, of coefficients, float16 (N, R)."""
        widened = torch.ones(len(coefficients), len(self._rows))
        widened[:, :-1] = coefficients
        return widened @ self._rows


class LowRankTargets(SoftTargets):
    """softmax(mean + coefficients @ components), corrected, made anew for every batch.

    Corrections make the soft targets right on average: in a single frame a pdf-id may have less than nothing,
    by a unit at most, and all together more or less than 1.

    Attributes:
        coefficients: float16 (N, R).
        basis: what they multiply.
        corrections: of them, or None.
    """

    def __init__(
        self, coefficients: np.ndarray, basis: LogBasis, corrections: Corrections | None = None
    ) -> None:
        self.coefficients, self.basis, self.corrections = coefficients, basis, corrections

    def __len__(self) -> int:
        return len(self.coefficients)

    @property
    def num_bytes(self) -> int:
        return self.coefficients.nbytes + (self.corrections.num_bytes if self.corrections else 0)

    @classmethod
    def join(cls, parts: Sequence["LowRankTargets"]) -> "LowRankTargets":
        corrections = [part.corrections for part in parts if part.corrections]
        return cls(
            np.concatenate([part.coefficients for part in parts]),
            parts[0].basis,
            Corrections.join(corrections) if corrections else None,
        )

    def slice(self, span: slice) -> "LowRankTargets":
        corrections = self.corrections.slice(span) if self.corrections else None
        return LowRankTargets(self.coefficients[span], self.basis, corrections)

    def gather(self, frames: np.ndarray) -> "LowRankTargets":
        corrections = self.corrections.gather(frames) if self.corrections else None
        return LowRankTargets(self.coefficients[frames], self.basis, corrections)

    def without_corrections(self) -> "LowRankTargets":
        return LowRankTargets(self.coefficients, self.basis)

    def expand(self) -> DenseTargets:
        """The same, made once for all batches."""
        dense = np.empty((len(self), len(self.basis.mean)), np.float16)
        for start in range(0, len(self), _EXPANDED_AT_A_TIME):
            frames = torch.arange(start, min(start + _EXPANDED_AT_A_TIME, len(self)))
            dense[start : start + len(frames)] = self.take(frames[None])[0].numpy()
        return DenseTargets(dense)

    def take(self, frames: torch.Tensor) -> torch.Tensor:
        logits = self.basis.combine(torch.from_numpy(self.coefficients)[frames].flatten(0, 1))
        softmax_in_place(logits.numpy())
        soft = logits.unflatten(0, tuple(frames.shape))
        if self.corrections:
            self.corrections.add_to(soft, frames)
        return soft
