"""Cepstra, and two ways to show the Gaussian models how they change: differences, and neighbours.

Diagonal Gaussians want coefficients that are nearly uncorrelated: the cosine transform of log-mel frames, 13
coefficients, which the frame store then normalises by speaker, with first and second differences over +-2
frames (Kaldi's `add-deltas`), or with neighbouring frames beside them (Kaldi's `splice-feats`) for a
transform to choose from.
"""

import numpy as np
from scipy.fft import dct

NUM_CEPSTRA = 13
DELTA_WINDOW = 2
DIMENSION = 3 * NUM_CEPSTRA


def compute_cepstra(log_mel: np.ndarray) -> np.ndarray:
    """Cepstra, float32 (frames, 13), of log-mel frames (frames, bins)."""
    cepstra = dct(log_mel.astype(np.float32), type=2, norm="ortho", axis=1)
    return np.ascontiguousarray(cepstra[:, :NUM_CEPSTRA], np.float32)


def add_deltas(cepstra: np.ndarray) -> np.ndarray:
    """Cepstra (frames, 13), their first and their second differences, float32 (frames, 39)."""
    first = _differences(cepstra)
    return np.concatenate([cepstra, first, _differences(first)], axis=1).astype(np.float32)


def splice(cepstra: np.ndarray, context: int) -> np.ndarray:
    """Each frame between its neighbours, float32 (frames, (2 * context + 1) * 13), the earliest first.

    The ends are repeated beyond the utterance.
    """
    num_frames, num_coefficients = cepstra.shape
    wanted = np.arange(num_frames)[:, None] + np.arange(-context, context + 1)
    spliced = cepstra[np.clip(wanted, 0, num_frames - 1)]
    return spliced.reshape(num_frames, (2 * context + 1) * num_coefficients).astype(np.float32, copy=False)


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
