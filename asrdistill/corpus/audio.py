"""Recordings: how long they are, whether they are whole, and the samples of an utterance."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr

from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import CorpusError
from asrdistill.experiment import hash_file
from asrdistill.progress import track

Result = TypeVar("Result")

NUM_THREADS = 8
BLOCK_FRAMES = 1 << 20
# A writer that could not seek back (a pipe) leaves these sizes in a WAV header.
UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Recording:
    """The format of a recording, the frames that could be decoded, and the SHA-256 of its file."""

    sampling_rate_hz: int
    num_channels: int
    num_frames: int
    sha256: str

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.sampling_rate_hz


def map_paths(function: Callable[[str], Result], paths: Iterable[str], what: str) -> dict[str, Result]:
    """Apply a function to each path once, in threads (decoding releases Python's lock)."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = track(pool.map(function, unique), what, total=len(unique), unit="file")
        return dict(zip(unique, results, strict=True))


def probe_duration(path: str) -> float:
    """Length that a recording's header promises, in seconds; 0 where it cannot be read."""
    try:
        header = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError):
        return 0.0
    return header.frames / header.samplerate


def inspect_recording(path: str) -> Recording | None:
    """Decode a whole recording; None where it is unreadable or shorter than its header promises."""
    try:
        with soundfile.SoundFile(path) as file:
            num_frames = sum(len(block) for block in file.blocks(BLOCK_FRAMES, dtype="int16"))
            recording = Recording(file.samplerate, file.channels, num_frames, hash_file(Path(path)))
            is_whole = num_frames == file.frames and not (
                file.format in ("WAV", "WAVEX") and _is_cut_short(Path(path))
            )
    except (soundfile.LibsndfileError, OSError):
        return None
    return recording if is_whole else None


def _is_cut_short(path: Path) -> bool:
    """Whether a RIFF file ends before its samples do, which libsndfile corrects without a word."""
    file_size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return size not in UNKNOWN_SIZES and file.tell() + size > file_size
            file.seek(size + size % 2, 1)
    return False


def load_audio(utterance: Utterance, sampling_rate_hz: int) -> np.ndarray:
    """Read the samples of one utterance, resampled where the recording's rate is another.

    Returns:
        float32 (samples,), within [-1, 1].

    Raises:
        CorpusError: the recording cannot be read, holds nothing there, or is not mono.
    """
    subject = f"utterance {utterance.id}: {utterance.audio_filepath}"
    try:
        with soundfile.SoundFile(utterance.audio_filepath) as file:
            rate_hz = file.samplerate
            file.seek(round(utterance.offset * rate_hz))
            samples = file.read(round(utterance.duration * rate_hz), dtype="float32")
    except (soundfile.LibsndfileError, OSError) as error:
        raise CorpusError(
            f"{subject} cannot be read ({error}); run again with --force prepare, which names all such"
        ) from error
    if samples.ndim != 1:
        raise CorpusError(
            f"{subject} has {samples.shape[1]} channels, expected one; "
            "make it mono and run again with --force prepare"
        )
    if not len(samples):
        raise CorpusError(
            f"{subject} holds no samples from {utterance.offset} s on; run again with --force prepare"
        )
    return samples if rate_hz == sampling_rate_hz else soxr.resample(samples, rate_hz, sampling_rate_hz)
