"""Speech synthesis with eSpeak NG, whose phoneme events tell when each phone begins.

eSpeak NG keeps state between calls that `espeak_Terminate` does not reset, seeds its noise from the clock,
and draws from the C library's `rand` besides. Each utterance is therefore made by a freshly loaded library
with both seeds set: the samples depend on the text and the voice alone.
"""

import _ctypes
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import espeakng_loader
import numpy as np
import soxr

from asrdistill.errors import CorpusError

# Constants and structures of espeak-ng/speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS = 0x0001
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
POS_CHARACTER = 1
EVENT_LIST_TERMINATED = 0
EVENT_PHONEME = 7
PARAMETER_RATE, PARAMETER_VOLUME, PARAMETER_PITCH = 1, 2, 3

SEED = 1
VOLUME_PERCENT = 30  # of eSpeak's usual volume, at which its louder voices clip
PAUSE_S = 0.2  # silence put before and after the speech
PAUSES = ("_", "_:", "_!", "_|", "_^")


@dataclass(frozen=True)
class Voice:
    """A speaker of the synthesiser.

    Attributes:
        variant: name of an eSpeak NG voice variant.
        pitch: 0 to 99; 50 is the variant's own.
        rate_wpm: words per minute.
    """

    variant: str
    pitch: int
    rate_wpm: int


@dataclass(frozen=True)
class PhoneTime:
    """A phone in eSpeak NG's notation, its start and end in seconds from the first sample."""

    phone: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Synthesis:
    """What was spoken, and when.

    Attributes:
        samples: float32 (samples,), within [-1, 1].
        phone_times: the phones in order, pauses left out.
    """

    samples: np.ndarray
    phone_times: list[PhoneTime]


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@cache
def _paths() -> tuple[str, bytes]:
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path().encode()


@contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """Load eSpeak NG anew; gives the library and its sampling rate in Hz."""
    library_path, voices_path = _paths()
    library = ctypes.CDLL(library_path)
    try:
        options = INITIALIZE_PHONEME_EVENTS | INITIALIZE_DONT_EXIT
        rate_hz = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, voices_path, options)
        if rate_hz <= 0:
            raise CorpusError(
                f"eSpeak NG: its voices at {voices_path.decode()} cannot be used; reinstall espeakng-loader"
            )
        library.espeak_ng_SetRandSeed(SEED)
        ctypes.CDLL(None).srand(SEED)
        yield library, rate_hz
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)


def synthesise(text: str, voice: Voice, sampling_rate_hz: int) -> Synthesis:
    """Speak a text in American English, with a pause of `PAUSE_S` before and after it.

    The same text and voice give the same samples, whatever was spoken before. Not for
    several threads at once.

    Raises:
        CorpusError: eSpeak NG cannot be loaded, or has no such voice.
    """
    with _fresh_library() as (library, rate_hz):
        pcm, events = _speak(library, text, voice)
    speech = soxr.resample(pcm.astype(np.float32) / 32768, rate_hz, sampling_rate_hz)
    samples = np.pad(speech.clip(-1, 1), round(PAUSE_S * sampling_rate_hz))
    events.append(("_", len(pcm)))
    times = [(phone, PAUSE_S + sample / rate_hz) for phone, sample in events]
    phone_times = [
        PhoneTime(phone, start_s, end_s)
        for (phone, start_s), (_, end_s) in pairwise(times)
        if phone not in PAUSES
    ]
    return Synthesis(samples, phone_times)


def _speak(library: ctypes.CDLL, text: str, voice: Voice) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Samples int16 (samples,) at eSpeak NG's rate, and each phone with the sample at which it begins."""
    blocks: list[bytes] = []
    events: list[tuple[str, int]] = []

    @_Callback
    def collect(
        samples: "ctypes._Pointer[ctypes.c_short]", num_samples: int, event: "ctypes._Pointer[_Event]"
    ) -> int:
        if samples and num_samples > 0:
            blocks.append(ctypes.string_at(samples, 2 * num_samples))
        index = 0
        while event[index].type != EVENT_LIST_TERMINATED:
            if event[index].type == EVENT_PHONEME:
                events.append((event[index].id.string.decode(), event[index].sample))
            index += 1
        return 0

    library.espeak_SetSynthCallback(collect)
    # eSpeak NG passes over a variant that it does not know.
    is_known = Path(_paths()[1].decode(), "voices", "!v", voice.variant).is_file()
    if not is_known or library.espeak_SetVoiceByName(f"en-us+{voice.variant}".encode()):
        raise CorpusError(f"eSpeak NG: no voice variant {voice.variant!r}; reinstall espeakng-loader")
    for parameter, value in (
        (PARAMETER_RATE, voice.rate_wpm),
        (PARAMETER_VOLUME, VOLUME_PERCENT),
        (PARAMETER_PITCH, voice.pitch),
    ):
        library.espeak_SetParameter(parameter, value, 0)
    encoded = text.lower().encode()  # capitals might be spelled out
    size = ctypes.c_size_t(len(encoded) + 1)
    if library.espeak_Synth(encoded, size, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None):
        raise CorpusError(f"eSpeak NG: could not speak {text!r}; reinstall espeakng-loader")
    return np.frombuffer(b"".join(blocks), np.int16), events
