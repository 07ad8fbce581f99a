"""Context windows: each frame with its past and future neighbours, gathered when a batch needs them."""

import numpy as np
import torch
from pydantic import Field

from asrdistill.config import Config


class ContextConfig(Config):
    """Which neighbours of a frame the model sees (Hinton et al. 2015: 20 past, the frame, 5 future)."""

    past: int = Field(20, ge=0, description="frames before the classified one")
    future: int = Field(5, ge=0, description="frames after the classified one")

    @property
    def num_frames(self) -> int:
        return self.past + 1 + self.future


def bounds_of_frames(starts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """First and last frame of the utterance that each frame belongs to, int64 (frames,) each.

    Args:
        starts: int64 (utterances + 1,), as in `FrameStore.starts`.
    """
    lengths = np.diff(starts)
    first = np.repeat(starts[:-1], lengths)
    last = np.repeat(starts[1:] - 1, lengths)
    return torch.from_numpy(first), torch.from_numpy(last)


def gather_windows(
    frames: torch.Tensor,
    first: torch.Tensor,
    last: torch.Tensor,
    centres: torch.Tensor,
    context: ContextConfig,
) -> torch.Tensor:
    """Gather context windows; beyond an utterance's ends its first or last frame is repeated.

    Shapes: N frames of F bins, B windows of W frames.

    Args:
        frames: (N, F).
        first: int64 (N,), first frame of each frame's utterance.
        last: int64 (N,), last frame of each frame's utterance.
        centres: int64 (B,), the frames to be classified.
        context: the neighbours to take.

    Returns:
        (B, W * F), oldest frame first.
    """
    offsets = torch.arange(-context.past, context.future + 1)
    wanted = centres[:, None] + offsets
    wanted = torch.maximum(torch.minimum(wanted, last[centres, None]), first[centres, None])
    return frames[wanted].flatten(1)
