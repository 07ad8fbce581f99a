"""Context windows: each frame with its past and future neighbours, gathered when a batch needs them."""

import numba
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


def gather_windows(
    frames: torch.Tensor, starts: np.ndarray, centres: torch.Tensor, past: int, future: int
) -> torch.Tensor:
    """Gather context windows; beyond an utterance's ends its first or last frame is repeated.

    Shapes: N frames of F bins, W = past + 1 + future.

    Args:
        frames: float16 (N, F).
        starts: int64 (utterances + 1,), as in `FrameStore.starts`.
        centres: int64, any shape: the frames that the windows are of.
        past: frames before the centre.
        future: frames after it.

    Returns:
        float16 (*centres.shape, W * F), oldest frame first.
    """
    assert frames.dtype == torch.float16, frames.dtype
    size = (past + 1 + future) * frames.shape[1]
    windows = np.empty((centres.numel(), size), np.uint16)
    bits = frames.numpy().view(np.uint16)
    _gather(bits, starts, centres.numpy().reshape(-1), past, future, windows)
    return torch.from_numpy(windows.view(np.float16)).view(*centres.shape, size)


@numba.njit(cache=True, parallel=True, nogil=True)
def _gather(
    frames: np.ndarray, starts: np.ndarray, centres: np.ndarray, past: int, future: int, windows: np.ndarray
) -> None:
    """Frames of one window lie side by side in memory, but for those beyond the utterance's ends."""
    num_bins = frames.shape[1]
    for row in numba.prange(len(centres)):
        centre, window = centres[row], windows[row]
        utterance = np.searchsorted(starts, centre, side="right") - 1
        first, last = starts[utterance], starts[utterance + 1] - 1
        for position in range(past + 1 + future):
            frame = min(max(centre - past + position, first), last)
            for number in range(num_bins):
                window[position * num_bins + number] = frames[frame, number]
