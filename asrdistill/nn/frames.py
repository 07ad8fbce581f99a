"""Labelled frames, and batches of them in seeded random order.

Teachers get them from the frame store and the alignments, students from the soft-target shards.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from asrdistill.features.context import ContextConfig, bounds_of_frames, gather_windows
from asrdistill.hmm.alignment import NOT_ALIGNED


@dataclass(frozen=True)
class Batch:
    """Frames of one optimiser step.

    Attributes:
        windows: float16 (B, D) context windows.
        pdf_ids: int64 (B,) hard targets.
        soft_targets: float32 (B, P), or None.
    """

    windows: torch.Tensor
    pdf_ids: torch.Tensor
    soft_targets: torch.Tensor | None


class LabelledFrames:
    """All frames of a split with their hard targets and, for a student, their soft targets.

    Shapes: N frames, F bins, P pdf-ids. Frames of utterances that could not be aligned (pdf-id -1) serve as
    context only.
    """

    def __init__(
        self,
        frames: np.ndarray,
        starts: np.ndarray,
        pdf_ids: np.ndarray,
        soft_targets: np.ndarray | None = None,
    ) -> None:
        """Args:
        frames: float16 (N, F).
        starts: int64 (utterances + 1,), as in `FrameStore.starts`.
        pdf_ids: int (N,), hard targets; -1 where there is none.
        soft_targets: float16 (N, P), or None.
        """
        self.frames = torch.from_numpy(frames)
        self.first, self.last = bounds_of_frames(starts)
        self.pdf_ids = torch.from_numpy(pdf_ids.astype(np.int64))
        self.soft_targets = None if soft_targets is None else torch.from_numpy(soft_targets)
        self.usable = torch.nonzero(self.pdf_ids != NOT_ALIGNED).flatten()

    def __len__(self) -> int:
        return len(self.usable)

    def take(self, centres: torch.Tensor, context: ContextConfig) -> Batch:
        """The frames at `centres`, int64 (B,), with their neighbours and targets."""
        soft = None if self.soft_targets is None else self.soft_targets[centres].float()
        windows = gather_windows(self.frames, self.first, self.last, centres, context)
        return Batch(windows, self.pdf_ids[centres], soft)

    def shuffled(self, batch_size: int, seed: tuple[int, int], context: ContextConfig) -> Iterator[Batch]:
        """Usable frames, each once, in an order that depends on `seed` alone, but for a short last batch."""
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
        )
        order = self.usable[torch.randperm(len(self.usable), generator=generator)]
        for position in range(0, len(order) - batch_size + 1, batch_size):
            yield self.take(order[position : position + batch_size], context)

    def in_order(self, batch_size: int, context: ContextConfig) -> Iterator[Batch]:
        """Every usable frame once, in the order of the corpus."""
        for centres in self.usable.split(batch_size):
            yield self.take(centres, context)
