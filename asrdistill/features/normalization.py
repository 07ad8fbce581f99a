"""Mean and variance normalisation, per speaker, or per utterance where no speaker is known."""

from dataclasses import dataclass

import numpy as np

VARIANCE_FLOOR = 1e-4


@dataclass
class Moments:
    """Sums that give mean and variance of frames, added up in float64."""

    count: int
    total: np.ndarray
    total_square: np.ndarray

    @classmethod
    def zeros(cls, num_bins: int) -> "Moments":
        return cls(0, np.zeros(num_bins), np.zeros(num_bins))

    def add(self, frames: np.ndarray) -> None:
        """Add frames, float (frames, bins)."""
        wide = frames.astype(np.float64)
        self.count += len(wide)
        self.total += wide.sum(0)
        self.total_square += (wide**2).sum(0)

    def normalize(self, frames: np.ndarray) -> np.ndarray:
        """Give frames, float32 (frames, bins), mean 0 and variance 1 over all that was added."""
        mean = self.total / max(self.count, 1)
        variance = np.maximum(self.total_square / max(self.count, 1) - mean**2, VARIANCE_FLOOR)
        return ((frames - mean) / np.sqrt(variance)).astype(np.float32)
