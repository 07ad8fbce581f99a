"""ReLU and dropout in one pass over the activations, in place.

A unit's fate follows from (seed of its member, step, layer, frame, unit) by a counter-based generator
(SplitMix64, Steele et al. 2014), so that a member's dropout does not depend on the stack it is in, on the
number of threads, or on a stop in between.
"""

from collections.abc import Sequence

import numba
import numpy as np
import torch

BYTE_RANGE = 256
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_INTEGER_OF = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


@numba.njit(cache=True, inline="always")
def _mix(counter: np.uint64) -> np.uint64:
    counter = (counter ^ (counter >> np.uint64(30))) * _MIX_1
    counter = (counter ^ (counter >> np.uint64(27))) * _MIX_2
    return counter ^ (counter >> np.uint64(31))


@numba.njit(cache=True, parallel=True, nogil=True)
def _relu_dropout(values: np.ndarray, seeds: np.ndarray, threshold: int) -> None:
    """values: signed integers with the bits of floats, (M, B, H): a float is positive where its bits are."""
    num_members, num_frames, width = values.shape
    for row in numba.prange(num_members * num_frames):
        member, frame = row // num_frames, row % num_frames
        line = values[member, frame]
        base = _mix(seeds[member] + np.uint64(frame) * _GOLDEN)
        for block in range((width + 7) // 8):
            noise = _mix(base + np.uint64(block + 1) * _GOLDEN)
            for unit in range(8 * block, min(8 * block + 8, width)):
                if line[unit] <= 0 or (noise >> np.uint64(8 * (unit & 7))) & np.uint64(255) < threshold:
                    line[unit] = 0


class Dropout:
    """Drops hidden units, each member by its own seed.

    Attributes:
        scale: what kept activations are to be multiplied by, 1 / (1 - rate).
    """

    def __init__(self, rate: float, seeds: Sequence[int]) -> None:
        """Args:
        rate: share of units dropped, rounded to 1/256.
        seeds: one for each member.
        """
        self.threshold = round(rate * BYTE_RANGE)
        self.scale = BYTE_RANGE / (BYTE_RANGE - self.threshold)
        self.seeds = seeds

    def apply_relu(self, values: torch.Tensor, step: int, layer: int) -> None:
        """Replace values (M, B, H) by their ReLU, some of them dropped; without the scale."""
        if not self.threshold:
            values.relu_()
            return
        entropy = [
            np.random.SeedSequence((seed, step, layer)).generate_state(1, np.uint64)[0] for seed in self.seeds
        ]
        bits = values.view(_INTEGER_OF[values.dtype]).numpy()
        _relu_dropout(bits, np.array(entropy, np.uint64), self.threshold)
