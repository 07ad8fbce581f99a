"""Cepstra with differences, the features of the Gaussian models.

Diagonal Gaussians want coefficients that are nearly uncorrelated: the cosine transform of the normalised
log-mel frames, 13 coefficients, with first and second differences over +-2 frames (Kaldi's `add-deltas`).
"""

import numpy as np
from scipy.fft import dct

NUM_CEPSTRA = 13
DELTA_WINDOW = 2
DIMENSION = 3 * NUM_CEPSTRA


def compute_cepstra(log_mel: np.ndarray) -> np.ndarray:
    """Cepstra and their differences, float32 (frames, 39), of log-mel frames (frames, bins)."""
    static = dct(log_mel.astype(np.float32), type=2, norm="ortho", axis=1)[:, :NUM_CEPSTRA]
    first = _differences(static)
    return np.concatenate([static, first, _differences(first)], axis=1).astype(np.float32)


def _differences(frames: np.ndarray) -> np.ndarray:
    """Slope of a line through +-2 frames; the ends are repeated beyond the utterance."""
    if not len(frames):
        return frames
    padded = np.pad(frames, ((DELTA_WINDOW, DELTA_WINDOW), (0, 0)), mode="edge")
    num_frames = len(frames)
    slope = np.zeros_like(frames)
    for step in range(1, DELTA_WINDOW + 1):
        ahead = padded[DELTA_WINDOW + step : DELTA_WINDOW + step + num_frames]
        behind = padded[DELTA_WINDOW - step : DELTA_WINDOW - step + num_frames]
        slope += step * (ahead - behind)
    return slope / (2 * sum(step**2 for step in range(1, DELTA_WINDOW + 1)))
