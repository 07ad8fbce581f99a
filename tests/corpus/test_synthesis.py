"""eSpeak NG: the same bytes whatever came before, and phone times that fit the sound."""

import time
from itertools import pairwise

import numpy as np
import pytest

from asrdistill.corpus.espeak import BABBLE_VARIANTS, VARIANTS
from asrdistill.corpus.synthesis import PAUSE_S, Voice, synthesise
from asrdistill.errors import CorpusError

VOICE = Voice("m3", 50, 160)
RATE_HZ = 16000


def test_samples_do_not_depend_on_what_was_spoken_before() -> None:
    first = synthesise("six seven", VOICE, RATE_HZ)
    other = synthesise("turn on the light", Voice("f2", 40, 180), RATE_HZ)
    again = synthesise("six seven", VOICE, RATE_HZ)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.phone_times == again.phone_times
    assert not np.array_equal(first.samples, other.samples[: len(first.samples)])


def test_no_voice_depends_on_order_or_clock() -> None:
    voices = [Voice(variant, 50, 180) for variant in (*VARIANTS, *BABBLE_VARIANTS)]
    before = {voice: synthesise("six", voice, RATE_HZ).samples for voice in voices}
    time.sleep(1.1)  # eSpeak NG would seed its noise from the time in whole seconds
    for voice in reversed(voices):
        np.testing.assert_array_equal(synthesise("six", voice, RATE_HZ).samples, before[voice], str(voice))


def test_capitals_are_not_spelled_out() -> None:
    np.testing.assert_array_equal(
        synthesise("TURN IT ON", VOICE, RATE_HZ).samples, synthesise("turn it on", VOICE, RATE_HZ).samples
    )


def test_phone_times_are_in_order_within_the_speech() -> None:
    synthesis = synthesise("set a timer for seven minutes", VOICE, RATE_HZ)
    times = synthesis.phone_times
    assert [spoken.phone.strip("',") for spoken in times][:3] == ["s", "E", "t"]
    assert all(spoken.start_s < spoken.end_s for spoken in times)
    assert all(before.end_s <= after.start_s for before, after in pairwise(times))
    assert times[0].start_s >= PAUSE_S
    assert times[-1].end_s <= len(synthesis.samples) / RATE_HZ - PAUSE_S
    assert not synthesis.samples[: round(PAUSE_S * RATE_HZ)].any()


def test_fricatives_hiss_where_the_events_say() -> None:
    """Most of the energy of s and z is high, that of vowels low: an oracle apart from eSpeak's own events."""
    synthesis = synthesise("six seven sunday saucer", VOICE, RATE_HZ)
    for phone_time in synthesis.phone_times:
        start, end = round(phone_time.start_s * RATE_HZ), round(phone_time.end_s * RATE_HZ)
        power = np.abs(np.fft.rfft(synthesis.samples[start:end])) ** 2
        high_share = power[len(power) // 2 :].sum() / power.sum()
        if phone_time.phone == "s":
            assert high_share > 0.5
        elif phone_time.phone[0] == "'":  # a stressed vowel
            assert high_share < 0.2


def test_unknown_voice_is_refused() -> None:
    with pytest.raises(CorpusError, match="nobody"):
        synthesise("six", Voice("nobody", 50, 160), RATE_HZ)


@pytest.mark.parametrize("variant", [*VARIANTS, *BABBLE_VARIANTS])
def test_every_voice_speaks(variant: str) -> None:
    synthesis = synthesise("six", Voice(variant, 50, 160), RATE_HZ)
    assert [spoken.phone for spoken in synthesis.phone_times] == ["s", "'I", "k", "s"]
    assert 0.01 < np.abs(synthesis.samples).max() < 1
