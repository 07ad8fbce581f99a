"""Two systems scored and compared on very many utterances, against a minute."""

import time

import numpy as np
from measure import Benchmark, Measurement, Setting

from asrdistill.scoring.comparison import Outcome, RecognisedSpeech, ScoredSpeech, compare_pairs
from asrdistill.scoring.outcomes import MOST_BLOCKS
from asrdistill.scoring.word_alignment import align_words
from asrdistill.scoring.word_errors import count_word_errors

NUM_UTTERANCES, WORDS_AN_UTTERANCE, NUM_WORDS, FRAMES_AN_UTTERANCE = 100_000, 10, 5000, 400
ERROR_RATES = (0.2, 0.21)
BUDGET_S = 60.0

Transcripts = dict[str, list[str]]


def draw_transcripts(num_utterances: int) -> tuple[Transcripts, list[Transcripts]]:
    """References, and what two systems understood: a share of the words replaced, lost or doubled."""
    rng = np.random.default_rng(0)
    words = [f"W{number}" for number in range(NUM_WORDS)]
    references, hypotheses = {}, [{} for _ in ERROR_RATES]
    for number in range(num_utterances):
        name = f"utterance-{number:06d}"
        said = [words[place] for place in rng.integers(NUM_WORDS, size=WORDS_AN_UTTERANCE)]
        references[name] = said
        for understood, rate in zip(hypotheses, ERROR_RATES, strict=True):
            draws = rng.random(WORDS_AN_UTTERANCE) / rate
            kinds = np.where(draws < 1, (3 * draws).astype(int), 3).tolist()
            heard = (
                ([word], [], [word, word], [words[0]])[(kind + 1) % 4]
                for word, kind in zip(said, kinds, strict=True)
            )
            understood[name] = [word for some in heard for word in some]
    return references, hypotheses


def score(references: Transcripts, hypotheses: list[Transcripts], correct: np.ndarray) -> float:
    """Seconds of all that the score and the report stage do with two systems' words and frames."""
    start = time.perf_counter()
    outcomes = []
    for number, understood in enumerate(hypotheses):
        errors = count_word_errors(references, understood).errors_by_utterance
        aligned = [align_words(said, understood[name]) for name, said in references.items()]
        wrong = FRAMES_AN_UTTERANCE - correct[number].reshape(len(references), -1).sum(1)
        recognised = {"wer": RecognisedSpeech(errors, aligned)}
        outcomes.append(Outcome(str(number), correct[number], wrong, recognised))
    blocks = [str(place * MOST_BLOCKS // len(references)) for place in range(len(references))]
    sizes = {"wer": np.full(len(references), WORDS_AN_UTTERANCE)}
    speech = ScoredSpeech(np.full(len(references), FRAMES_AN_UTTERANCE), sizes, blocks)
    compare_pairs([(outcomes[0], outcomes[1])], speech)
    return time.perf_counter() - start


def measure(setting: Setting) -> Measurement:
    num_utterances = NUM_UTTERANCES // setting.shrink
    references, hypotheses = draw_transcripts(num_utterances)
    correct = np.random.default_rng(1).random((2, num_utterances * FRAMES_AN_UTTERANCE)) < 0.5
    seconds = score(references, hypotheses, correct)
    return Measurement([(seconds, BUDGET_S)], f"{num_utterances:,} utterances in {seconds:.1f} s")


BENCHMARKS = [
    Benchmark(
        "scoring_over_a_minute",
        "time of scoring and comparing two systems on 100,000 utterances",
        "60 s",
        measure,
        at_most=1,
    )
]
