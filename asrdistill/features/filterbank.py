"""Log-mel filterbank, as Kaldi computes it.

Source: torchaudio.compliance.kaldi.fbank, without dither, so that the same recording gives the same bytes.
"""

import numpy as np
import torch
from pydantic import Field
from torchaudio.compliance import kaldi

from asrdistill.config import Config

INT16_SCALE = 32768.0


class FilterbankConfig(Config):
    """How frames are computed from audio."""

    num_mel_bins: int = Field(40, ge=8, le=256, description="log-mel coefficients a frame")
    frame_length_ms: float = Field(25.0, gt=0, description="length of the analysis window, milliseconds")
    frame_shift_ms: float = Field(10.0, gt=0, description="distance of two frames, milliseconds")

    @property
    def frame_shift_s(self) -> float:
        return self.frame_shift_ms / 1000


def compute_filterbank(samples: np.ndarray, sampling_rate_hz: int, config: FilterbankConfig) -> torch.Tensor:
    """Compute log-mel coefficients, float32 (frames, bins), natural logarithm.

    A recording shorter than one analysis window has no frame: shape (0, bins).

    Args:
        samples: float32 (samples,), full scale 1.0.
        sampling_rate_hz: of `samples`.
        config: what to compute.
    """
    if len(samples) < sampling_rate_hz * config.frame_length_ms / 1000:
        return torch.zeros(0, config.num_mel_bins)
    return kaldi.fbank(
        torch.from_numpy(samples)[None] * INT16_SCALE,
        sample_frequency=sampling_rate_hz,
        num_mel_bins=config.num_mel_bins,
        frame_length=config.frame_length_ms,
        frame_shift=config.frame_shift_ms,
        dither=0.0,
    )
