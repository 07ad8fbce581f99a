"""The aligner from a flat start against eSpeak NG, which knows when it began each phone.

The oracle's times are those of the synthesiser's phoneme events. eSpeak's phones are not CMUdict's, so an
utterance takes part in the comparison of words where it has as many phones as the lexicon gives its words,
all pronunciations of each word being equally long: then a word lasts from the start of its first phone to
the end of its last one. Start and end of the speech are compared in every utterance.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from asrdistill.corpus.grammar import draw_sentence, list_vocabulary
from asrdistill.corpus.lexicon import LexiconConfig, Pronunciations, load_lexicon
from asrdistill.corpus.synthesis import PhoneTime, Voice, synthesise
from asrdistill.features.cepstra import compute_cepstra
from asrdistill.features.filterbank import FilterbankConfig, compute_filterbank
from asrdistill.features.normalization import Moments
from asrdistill.hmm.alignment import find_words
from asrdistill.hmm.gmm import DiagonalGmm
from asrdistill.hmm.graph import build_utterance_graph
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.training import (
    AlignmentConfig,
    GmmTrainer,
    TrainingUtterance,
    align_utterance,
)

RATE_HZ = 16000
FRAME_SHIFT_S = 0.01
# Frame t looks at 25 ms from t * 10 ms on: half of the window before a boundary, half behind it.
WINDOW_CENTRE_S = 0.0125
TOLERANCE_S = 0.05
VOICES = (Voice("m3", 50, 160), Voice("f1", 50, 170), Voice("adam", 45, 150), Voice("iven", 50, 165))
SENTENCES_A_VOICE = 9
CONFIG = AlignmentConfig(num_iterations=14, num_gaussians=400, last_growing_iteration=10)


@dataclass(frozen=True)
class Aligned:
    """What the aligner found: the trained mixtures, and the spoken words with the oracle's phones."""

    gmm: DiagonalGmm
    utterances: list[TrainingUtterance]
    phone_times: list[list[PhoneTime]]
    pronunciations: Pronunciations
    tied_states: TiedStates

    def find_word_times(self, index: int) -> list[tuple[float, float]]:
        """Start and end of each word in seconds."""
        utterance = self.utterances[index]
        graph = build_utterance_graph(utterance.words, self.pronunciations, self.tied_states)
        alignment = align_utterance(self.gmm, utterance.cepstra, graph)
        assert alignment is not None
        shift = WINDOW_CENTRE_S - FRAME_SHIFT_S / 2
        return [
            (word.start * FRAME_SHIFT_S + shift, word.end * FRAME_SHIFT_S + shift)
            for word in find_words(alignment.words, utterance.words)
        ]

    def spoken_word_times(self, index: int) -> list[tuple[float, float]] | None:
        """The same by eSpeak; None where its phones are not one to one with the lexicon's."""
        counts = [set(map(len, self.pronunciations[word])) for word in self.utterances[index].words]
        times = self.phone_times[index]
        if any(len(many) > 1 for many in counts) or sum(map(sum, counts)) != len(times):
            return None
        ends = list(itertools.accumulate(map(sum, counts), initial=0))
        return [(times[a].start_s, times[b - 1].end_s) for a, b in itertools.pairwise(ends)]


@pytest.fixture(scope="module")
def aligned() -> Aligned:
    rng = np.random.default_rng(0)
    pronunciations = load_lexicon(LexiconConfig(), {w.upper() for w in list_vocabulary()}).pronunciations
    utterances, phone_times = [], []
    for voice in VOICES:
        moments, log_mels = Moments.zeros(40), []
        for number in range(SENTENCES_A_VOICE):
            text = draw_sentence(rng)
            speech = synthesise(text, voice, RATE_HZ)
            log_mel = compute_filterbank(speech.samples, RATE_HZ, FilterbankConfig()).numpy()
            moments.add(log_mel)
            log_mels.append((f"{voice.variant}-{number}", text.upper().split(), log_mel))
            phone_times.append(speech.phone_times)
        utterances += [
            TrainingUtterance(name, words, compute_cepstra(moments.normalize(log_mel)))
            for name, words, log_mel in log_mels
        ]
    phones = {phone for many in pronunciations.values() for one in many for phone in one}
    tied_states = TiedStates.of_monophones(phones)
    gmm = GmmTrainer(utterances, pronunciations, tied_states, CONFIG).train()
    return Aligned(gmm, utterances, phone_times, pronunciations, tied_states)


def share_within_tolerance(errors_s: Sequence[float]) -> float:
    return float(np.mean(np.abs(errors_s) <= TOLERANCE_S))


def test_speech_starts_and_ends_when_it_was_spoken(aligned: Aligned) -> None:
    errors = []
    for index, times in enumerate(aligned.phone_times):
        words = aligned.find_word_times(index)
        errors += [words[0][0] - times[0].start_s, words[-1][1] - times[-1].end_s]
    assert share_within_tolerance(errors) >= 0.8


def test_words_begin_and_end_when_they_were_spoken(aligned: Aligned) -> None:
    errors = []
    for index in range(len(aligned.utterances)):
        spoken = aligned.spoken_word_times(index)
        if spoken is not None:
            errors += list((np.array(aligned.find_word_times(index)) - spoken).ravel())
    assert len(errors) >= 60
    assert share_within_tolerance(errors) >= 0.8
    assert np.median(np.abs(errors)) <= 0.03


def test_every_word_has_its_time(aligned: Aligned) -> None:
    for index, utterance in enumerate(aligned.utterances):
        assert len(aligned.find_word_times(index)) == len(utterance.words)


def test_training_twice_gives_the_same_mixtures(aligned: Aligned) -> None:
    few = aligned.utterances[:6]
    config = AlignmentConfig(num_iterations=4, num_gaussians=150, last_growing_iteration=3)
    first, second = (
        GmmTrainer(few, aligned.pronunciations, aligned.tied_states, config).train() for _ in range(2)
    )
    for name, tensor in vars(first).items():
        assert torch.equal(tensor, getattr(second, name)), name


def test_an_utterance_with_too_few_frames_is_none(aligned: Aligned) -> None:
    graph = build_utterance_graph(["SIX"], {"SIX": [("S", "IH", "K", "S")]}, aligned.tied_states)
    cepstra = aligned.utterances[0].cepstra
    assert [align_utterance(aligned.gmm, cepstra[:n], graph) is None for n in (0, 11, 12)] == [
        True,
        True,
        False,
    ]


def test_an_utterance_with_too_few_frames_is_left_out_of_training(aligned: Aligned) -> None:
    short = TrainingUtterance("short", ["SEVENTY"], np.full((9, 39), 1e6, np.float32))
    config = AlignmentConfig(num_iterations=2, num_gaussians=1)
    with_it, without = (
        GmmTrainer(many, aligned.pronunciations, aligned.tied_states, config).train()
        for many in ([*aligned.utterances[:4], short], aligned.utterances[:4])
    )
    assert torch.equal(with_it.means, without.means)
