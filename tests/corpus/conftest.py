"""Small recordings, made here and not by the code under test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

WriteTone = Callable[..., Path]


@pytest.fixture
def write_tone() -> WriteTone:
    """Give a function that writes a tone as WAV or FLAC, by the name's ending."""

    def write(path: Path, duration_s: float = 0.5, rate_hz: int = 16000, num_channels: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(duration_s * rate_hz)) / rate_hz)
        soundfile.write(path, np.repeat(tone[:, None], num_channels, axis=1), rate_hz, subtype="PCM_16")
        return path

    return write
