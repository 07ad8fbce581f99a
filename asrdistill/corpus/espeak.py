"""The synthetic corpus: spoken commands by many eSpeak NG voices, in noise and reverberation.

Every recording is a function of the settings and of its id: made again, or in another order, or after an
interruption, it has the same bytes. No voice variant speaks in two splits.
"""

import hashlib
import json
import wave
from dataclasses import replace
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from asrdistill.config import Config
from asrdistill.corpus.acoustics import AcousticsConfig, mix_babble, record
from asrdistill.corpus.audio import probe_duration
from asrdistill.corpus.grammar import draw_sentence
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.source import SPLITS, SourceConfig, normalise_text
from asrdistill.corpus.synthesis import Voice, synthesise
from asrdistill.experiment import atomic_path, write_json
from asrdistill.progress import track

# Variants that sound like a person. Splits take theirs in this order, so that those of one family (klatt,
# iven, steph, ...) stay together in the training split of the default sizes.
# fmt: off
VARIANTS = (
    "m3", "f1", "m2", "f3", "adam", "benjamin", "edward2", "edward", "Gene", "Gene2", "iven", "iven2",
    "iven3", "iven4", "klatt3", "klatt4", "klatt5", "klatt6", "steph", "steph2", "steph3", "linda", "f5",
    "Alicia", "Andrea", "grandma", "shelby", "Alex", "Diogo", "Henrique", "Hugo", "Jacky", "Lee", "Mario",
    "Mike", "mike2", "antonio", "boris", "ed", "gustave", "ian", "john", "m4", "m6", "m7", "max", "michel",
    "miguel", "f4", "Nguyen", "m8", "Denis", "paul", "Reed", "travis", "pedro", "f2", "Annie", "belinda",
    "aunty", "m1", "m5", "Michael", "david", "rob", "marcelo", "victor", "norbert", "anika", "Andy",
    "pablo", "quincy", "robert", "sandro",
)
# fmt: on
BABBLE_VARIANTS = ("Storm", "announcer", "AnxiousAndy", "kaukovalta", "Tweaky", "grandpa")
BABBLE_SENTENCES = 12
PITCH_RANGE = (30, 70)
MIN_RATE_WPM, MAX_RATE_WPM = 80, 450  # what eSpeak NG can do
MANIFEST_NAME = "synthesis.json"


class SplitMinutes(Config):
    """How much is synthesised, in minutes."""

    train: float = Field(45.0, gt=0, description="speech to train on (minutes)")
    dev: float = Field(6.0, gt=0, description="speech to tune on (minutes)")
    test: float = Field(10.0, gt=0, description="speech to report on (minutes)")


class SplitSpeakers(Config):
    """How many voices each split has."""

    train: int = Field(48, gt=0, description="voices to train on (number)")
    dev: int = Field(8, gt=0, description="voices to tune on (number)")
    test: int = Field(12, gt=0, description="voices to report on (number)")


class EspeakConfig(SourceConfig):
    """Settings of the synthetic corpus."""

    kind: Literal["espeak"] = Field("espeak", description="form of the corpus")
    seed: int = Field(0, ge=0, description="seed of sentences, voices, rooms and noise")
    minutes: SplitMinutes = Field(SplitMinutes(), description="size of each split (minutes)")
    num_speakers: SplitSpeakers = Field(SplitSpeakers(), description="voices of each split (number)")
    rate_range_wpm: tuple[int, int] = Field(
        (140, 200), description="slowest and fastest voice (words per minute)"
    )
    acoustics: AcousticsConfig = Field(AcousticsConfig(), description="rooms and noise")

    @model_validator(mode="after")
    def _check_voices(self) -> Self:
        total = sum(getattr(self.num_speakers, split) for split in SPLITS)
        if total > len(VARIANTS):
            raise ValueError(f"num_speakers: {total} voices in all, expected at most {len(VARIANTS)}")
        slowest, fastest = self.rate_range_wpm
        if not MIN_RATE_WPM <= slowest <= fastest <= MAX_RATE_WPM:
            raise ValueError(
                f"rate_range_wpm: {slowest} to {fastest}, "
                f"expected a range within {MIN_RATE_WPM} to {MAX_RATE_WPM}"
            )
        return self


def make_voices(config: EspeakConfig) -> dict[str, dict[str, Voice]]:
    """The voices of each split, by the speaker's name, which is that of the voice variant."""
    names = iter(VARIANTS)
    return {
        split: {
            name: _make_voice(config, name) for name in islice(names, getattr(config.num_speakers, split))
        }
        for split in SPLITS
    }


def _make_voice(config: EspeakConfig, variant: str) -> Voice:
    rng = _make_rng(config, variant)
    return Voice(
        variant, int(rng.integers(*PITCH_RANGE)), int(rng.integers(*config.rate_range_wpm, endpoint=True))
    )


def _make_rng(config: EspeakConfig, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{config.seed} {name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def synthesise_splits(config: EspeakConfig, audio_dir: Path) -> dict[str, list[Utterance]]:
    """Make the recordings that `audio_dir` does not hold yet; those of other settings are removed from it."""
    _claim_dir(config, audio_dir)
    babble = _make_babble(config)
    splits: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    voices = [(split, voice) for split, many in make_voices(config).items() for voice in many.values()]
    for split, voice in track(voices, "synthesise speech", unit="voice"):
        duration_s = 60 * getattr(config.minutes, split) / getattr(config.num_speakers, split)
        splits[split] += _make_speaker(config, voice, duration_s, babble, audio_dir)
    return splits


def _claim_dir(config: EspeakConfig, audio_dir: Path) -> None:
    """Note what the recordings are made from; recordings of another note are removed."""
    made_from = {"config": config.model_dump(mode="json"), "espeakng-loader": version("espeakng-loader")}
    path = audio_dir / MANIFEST_NAME
    if path.is_file() and json.loads(path.read_text()) == made_from:
        return
    path.unlink(missing_ok=True)
    for wav_path in audio_dir.glob("*.wav"):
        wav_path.unlink()
    write_json(path, made_from)


def _make_babble(config: EspeakConfig) -> np.ndarray:
    """Several people talking at once, float (samples,)."""
    return mix_babble([_make_talker(config, variant) for variant in BABBLE_VARIANTS])


def _make_talker(config: EspeakConfig, variant: str) -> np.ndarray:
    voice, rng = _make_voice(config, variant), _make_rng(config, f"sentences of {variant}")
    sentences = (draw_sentence(rng) for _ in range(BABBLE_SENTENCES))
    return np.concatenate([synthesise(text, voice, config.sampling_rate_hz).samples for text in sentences])


def _make_speaker(
    config: EspeakConfig, voice: Voice, duration_s: float, babble: np.ndarray, audio_dir: Path
) -> list[Utterance]:
    """Let a voice speak until it has spoken for `duration_s`."""
    rng = _make_rng(config, f"sentences of {voice.variant}")
    utterances: list[Utterance] = []
    spoken_s = 0.0
    for number in count():
        if spoken_s >= duration_s:
            break
        utterance_id = f"{voice.variant}-{number:04d}"
        wav_path = (audio_dir / f"{utterance_id}.wav").absolute()
        text = normalise_text(draw_sentence(rng))
        utterance = Utterance(utterance_id, str(wav_path), 0.0, 0.0, text, voice.variant)
        if not wav_path.is_file():
            _make_recording(config, voice, utterance, babble)
        utterances.append(replace(utterance, duration=probe_duration(str(wav_path))))
        spoken_s += utterances[-1].duration
    return utterances


def _make_recording(config: EspeakConfig, voice: Voice, utterance: Utterance, babble: np.ndarray) -> None:
    speech = synthesise(utterance.text, voice, config.sampling_rate_hz).samples
    rng = _make_rng(config, f"acoustics of {utterance.id}")
    samples = record(config.acoustics, speech, babble, rng, config.sampling_rate_hz)
    _write_wav(Path(utterance.audio_filepath), samples, config.sampling_rate_hz)


def _write_wav(path: Path, samples: np.ndarray, sampling_rate_hz: int) -> None:
    """Publish 16-bit mono samples with a plain header of 44 bytes."""
    with atomic_path(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sampling_rate_hz)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
