"""Reading recordings, against an analytic tone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asrdistill.corpus.audio import inspect_recording, load_audio, probe_duration
from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import CorpusError

WriteTone = Callable[..., Path]


def make_utterance(path: Path, offset: float, duration: float) -> Utterance:
    return Utterance("u", str(path), offset, duration, "A")


def tone(start_s: float, duration_s: float, rate_hz: int) -> np.ndarray:
    times = start_s + np.arange(round(duration_s * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * 440 * times)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_stretch_is_read(tmp_path: Path, write_tone: WriteTone, name: str) -> None:
    path = write_tone(tmp_path / name, 1.0)
    samples = load_audio(make_utterance(path, 0.25, 0.5), 16000)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, tone(0.25, 0.5, 16000), atol=1e-4)


def test_higher_rate_is_resampled(tmp_path: Path, write_tone: WriteTone) -> None:
    path = write_tone(tmp_path / "a.wav", 1.0, rate_hz=44100)
    samples = load_audio(make_utterance(path, 0.0, 1.0), 16000)
    assert len(samples) == 16000
    # The filter rings at both ends.
    np.testing.assert_allclose(samples[1000:-1000], tone(0, 1.0, 16000)[1000:-1000], atol=1e-3)


def test_stereo_and_missing_are_refused(tmp_path: Path, write_tone: WriteTone) -> None:
    path = write_tone(tmp_path / "a.wav", num_channels=2)
    with pytest.raises(CorpusError, match=r"utterance u: .*2 channels"):
        load_audio(make_utterance(path, 0, 0.5), 16000)
    with pytest.raises(CorpusError, match="utterance u"):
        load_audio(make_utterance(tmp_path / "b.wav", 0, 0.5), 16000)


def test_stretch_after_the_end_is_refused(tmp_path: Path, write_tone: WriteTone) -> None:
    path = write_tone(tmp_path / "a.wav", 0.5)
    with pytest.raises(CorpusError, match="utterance u"):
        load_audio(make_utterance(path, 2.0, 0.5), 16000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_cut_recording_is_not_whole(tmp_path: Path, write_tone: WriteTone, name: str) -> None:
    path = write_tone(tmp_path / name, 2.0)
    whole = inspect_recording(str(path))
    assert whole is not None
    assert (whole.duration_s, whole.num_channels, whole.sampling_rate_hz) == (2.0, 1, 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert inspect_recording(str(path)) is None


def test_wav_written_to_a_pipe_is_whole(tmp_path: Path, write_tone: WriteTone) -> None:
    path = write_tone(tmp_path / "a.wav", 0.5)
    content = bytearray(path.read_bytes())
    start = content.index(b"data") + 4
    content[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    recording = inspect_recording(str(path))
    assert recording is not None
    assert recording.num_frames == 8000


def test_duration_of_something_else(tmp_path: Path, write_tone: WriteTone) -> None:
    assert probe_duration(str(write_tone(tmp_path / "a.flac", 0.75))) == 0.75
    (tmp_path / "b.wav").write_text("not audio")
    assert probe_duration(str(tmp_path / "b.wav")) == 0
