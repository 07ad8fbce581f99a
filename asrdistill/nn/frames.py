"""Labelled frames: those of a split, in memory or memory-mapped, and the batches that training takes of them.

Teachers get them from the frame store and the alignments, students from the soft-target shards.
Shapes: N frames of F bins, U utterances, P pdf-ids; of a batch M members, B frames, S utterances.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from asrdistill.features.context import gather_windows
from asrdistill.features.frame_store import FrameStore
from asrdistill.features.perturbation import NO_CUTS, PerturbationConfig, perturb_traced
from asrdistill.hmm.alignment import read_pdf_ids
from asrdistill.hmm.topology import NOT_ALIGNED
from asrdistill.nn.guide import Reach
from asrdistill.nn.soft_targets import SoftRows, SoftTargets

# Apart from the seeds of soft targets' views: teachers are to be asked about views that they have not learnt.
_VIEWS_IN_TRAINING = 1


@dataclass(frozen=True)
class Batch:
    """Frames of one optimiser step. A leading axis of 1 stands for all members alike.

    Attributes:
        inputs: float16, as `AcousticModel.forward` wants them: windows (M or 1, B, D), or padded utterances.
        lengths: int64 (S,) of utterances; None of windows.
        pdf_ids: int64 (M or 1, B), hard targets; -1 where there is none, and the soft term counts alone.
        num_frames: frames that count, those that the loss is the mean over.
        weights: float32 (M or 1, B), how often a frame counts; None: every one once.
        soft_targets: of a student's frames.
    """

    inputs: torch.Tensor
    lengths: torch.Tensor | None
    pdf_ids: torch.Tensor
    num_frames: int
    weights: torch.Tensor | None = None
    soft_targets: SoftRows | None = None


class FrameSource(Protocol):
    """Where the frames of a split come from, a pool of utterances at a time.

    Attributes:
        lengths: frames of every utterance, usable or not: int64 (U,).
        num_usable: int64 (U,), frames of every utterance that can be trained on.
        num_utterances: U.
    """

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def num_usable(self) -> np.ndarray: ...

    @property
    def num_utterances(self) -> int: ...

    def __len__(self) -> int:
        """Usable frames."""

    def draw_pools(self, pool_frames: int, seed: tuple[int, ...]) -> list[np.ndarray]:
        """Divide the utterances, in an order drawn by the seed, into pools of about so many frames."""

    def select(self, utterances: np.ndarray) -> "LabelledFrames":
        """A copy of some utterances in memory."""


class FrameSubset:
    """Some utterances of a source that stays where it is.

    Attributes:
        lengths: frames of every utterance: int64 (U,).
        num_usable: int64 (U,), frames of every utterance that can be trained on.
    """

    def __init__(self, source: FrameSource, utterances: np.ndarray) -> None:
        """Args:
        source: of the frames.
        utterances: of it, int64 (U,), each once.
        """
        self._source, self._utterances = source, utterances
        self.lengths, self.num_usable = source.lengths[utterances], source.num_usable[utterances]

    def __len__(self) -> int:
        return int(self.num_usable.sum())

    @property
    def num_utterances(self) -> int:
        return len(self._utterances)

    def draw_pools(self, pool_frames: int, seed: tuple[int, ...]) -> list[np.ndarray]:
        """See `FrameSource`: what the source's pools have of them, so that they are as quick to read."""
        places = np.full(self._source.num_utterances, -1)
        places[self._utterances] = np.arange(self.num_utterances)
        pools = [places[pool] for pool in self._source.draw_pools(pool_frames, seed)]
        return [pool[pool >= 0] for pool in pools if (pool >= 0).any()]

    def select(self, utterances: np.ndarray) -> "LabelledFrames":
        """A copy of some utterances in memory."""
        return self._source.select(self._utterances[utterances])


class LabelledFrames:
    """Frames with their hard targets and, for a student, their soft targets.

    Frames without a hard target (pdf-id -1) serve as context only, unless their soft targets are to be learnt
    alone. What is memory-mapped stays on disk: no array here has N entries but those that were given, and
    `usable` where it is asked for.

    Attributes:
        num_usable: int64 (U,), frames of every utterance that can be trained on.
    """

    def __init__(
        self,
        frames: np.ndarray,
        starts: np.ndarray,
        pdf_ids: np.ndarray,
        soft_targets: SoftTargets | None = None,
        weights: np.ndarray | None = None,
        uses_soft_alone: bool = False,
    ) -> None:
        """Args:
        frames: float16 (N, F).
        starts: int64 (U + 1,), as in `FrameStore.starts`.
        pdf_ids: int32 (N,), hard targets; -1 where there is none.
        soft_targets: of N frames, or None.
        weights: float32 (N,), how much each frame counts; None: all once.
        uses_soft_alone: whether frames without a hard target are trained on by their soft targets.
        """
        self.frames, self.pdf_ids, self.soft_targets, self.weights = frames, pdf_ids, soft_targets, weights
        self.starts = np.ascontiguousarray(starts, np.int64)
        self.uses_soft_alone = uses_soft_alone
        self.num_usable = self.lengths if uses_soft_alone else self._count_aligned()

    def _count_aligned(self) -> np.ndarray:
        aligned = (self.pdf_ids[start:end] != NOT_ALIGNED for start, end in pairwise(self.starts))
        return np.array([np.count_nonzero(mask) for mask in aligned], np.int64)

    def __len__(self) -> int:
        return int(self.num_usable.sum())

    @property
    def num_utterances(self) -> int:
        return len(self.num_usable)

    @property
    def lengths(self) -> np.ndarray:
        """Frames of every utterance, usable or not: int64 (U,)."""
        return np.diff(self.starts)

    @cached_property
    def usable(self) -> torch.Tensor:
        """The frames that can be trained on, int64."""
        if self.uses_soft_alone:
            return torch.arange(len(self.pdf_ids))
        return torch.from_numpy(np.flatnonzero(self.pdf_ids != NOT_ALIGNED))

    def draw_pools(self, pool_frames: int, seed: tuple[int, ...]) -> list[np.ndarray]:
        """See `FrameSource`: any utterance may be in a pool with any other."""
        order = np.random.default_rng(seed).permutation(self.num_utterances)
        pool_of = (np.cumsum(self.lengths[order]) - 1) // pool_frames
        return np.split(order, np.flatnonzero(np.diff(pool_of)) + 1)

    def select(self, utterances: np.ndarray) -> "LabelledFrames":
        """A copy of some utterances in memory."""
        spans = [slice(*self.starts[number : number + 2]) for number in utterances]
        soft = self.soft_targets
        if soft is not None:
            soft = soft.join([soft.slice(span) for span in spans]) if spans else soft.slice(slice(0, 0))
        starts = np.cumsum([0, *(span.stop - span.start for span in spans)])
        weights = None if self.weights is None else _join(self.weights, spans)
        frames, pdf_ids = _join(self.frames, spans), _join(self.pdf_ids, spans)
        return LabelledFrames(frames, starts, pdf_ids, soft, weights, self.uses_soft_alone)

    def perturb(
        self, config: PerturbationConfig, seed: tuple[int, ...], numbers: np.ndarray
    ) -> "LabelledFrames":
        """A view of each utterance with its targets, drawn by (seed, its number in the split).

        Soft targets, like hard ones, are those of the frames as they were: a student is to say of a perturbed
        frame what the teachers said of the clean one, and not what they would say of it as it now is. How far
        apart the two are tells `asrdistill.targets.augmentation_check`; students learn better from teachers
        that see what they see (Beyer et al. 2022, arXiv:2106.05237, on images).
        Where the speed changes, all targets and weights follow, and as many frames are usable as before.
        """
        frames = np.empty(self.frames.shape, np.float16)
        origins = np.empty(len(frames), np.int64)
        for number, (start, end) in zip(numbers.tolist(), pairwise(self.starts), strict=True):
            rng = np.random.default_rng((*seed, number, _VIEWS_IN_TRAINING))
            cuts = self._find_cuts(start, end)
            frames[start:end], of_view = perturb_traced(self.frames[start:end], rng, config, cuts)
            origins[start:end] = start + of_view
        pdf_ids, soft, weights = self.pdf_ids, self.soft_targets, self.weights
        if config.max_speed:
            pdf_ids = pdf_ids[origins]
            soft = None if soft is None else soft.gather(origins)
            weights = None if weights is None else weights[origins]
        return LabelledFrames(frames, self.starts, pdf_ids, soft, weights, self.uses_soft_alone)

    def _find_cuts(self, start: int, end: int) -> np.ndarray:
        """Where usable frames of an utterance begin or end, int64, counted from its start."""
        if self.uses_soft_alone:
            return NO_CUTS
        return np.flatnonzero(np.diff(self.pdf_ids[start:end] != NOT_ALIGNED)) + 1

    def find_utterances(self, frames: torch.Tensor) -> torch.Tensor:
        """The utterances that frames belong to, int64, of the frames' shape."""
        return torch.from_numpy(np.searchsorted(self.starts, frames.numpy(), side="right") - 1)

    def take_windows(self, centres: torch.Tensor, model: Reach) -> Batch:
        """The frames at `centres`, int64 (M or 1, B), with their windows and targets."""
        windows = gather_windows(
            torch.from_numpy(self.frames), self.starts, centres, model.past, model.future
        )
        pdf_ids = torch.from_numpy(self.pdf_ids)[centres].long()
        weights = None if self.weights is None else torch.from_numpy(self.weights)[centres]
        return Batch(windows, None, pdf_ids, centres.shape[1], weights, self._take_soft(centres))

    def take_utterances(self, utterances: np.ndarray, model: Reach) -> Batch:
        """Whole utterances, padded to the longest one; padding and frames that are not usable weigh 0."""
        first = torch.from_numpy(self.starts[:-1][utterances])
        lengths = torch.from_numpy(self.lengths[utterances])
        longest = int(lengths.max())
        frames = torch.from_numpy(self.frames)
        padded = gather_windows(frames, self.starts, first, model.past, longest - 1 + model.future)
        position = torch.arange(longest)
        index = (first[:, None] + torch.minimum(position, lengths[:, None] - 1)).view(1, -1)
        pdf_ids = torch.from_numpy(self.pdf_ids)[index].long()
        is_usable = (position < lengths[:, None]).view(1, -1)
        if not self.uses_soft_alone:
            is_usable &= pdf_ids != NOT_ALIGNED
        weights = is_usable.float()
        num_frames = int(weights.sum())
        if self.weights is not None:
            weights *= torch.from_numpy(self.weights)[index]
        return Batch(
            padded.view(len(utterances), -1, frames.shape[1]),
            lengths,
            pdf_ids if self.uses_soft_alone else pdf_ids.clamp(min=0),
            num_frames,
            weights,
            self._take_soft(index),
        )

    def _take_soft(self, index: torch.Tensor) -> SoftRows | None:
        return None if self.soft_targets is None else self.soft_targets.take(index)


def _join(array: np.ndarray, spans: list[slice]) -> np.ndarray:
    return np.concatenate([array[span] for span in spans]) if spans else array[:0]


def read_labelled_frames(features_dir: Path, align_dir: Path, split: str) -> LabelledFrames:
    """The frames of a split with their hard targets, memory-mapped, from frame store and alignment."""
    store = FrameStore(features_dir, split)
    pdf_ids = read_pdf_ids(align_dir, split, store.num_frames)
    return LabelledFrames(store.frames, store.starts, pdf_ids)
