"""What a system understood, as files: hypotheses, words with times and confidences, n-best lists."""

import time
from pathlib import Path

from asrdistill.decoding.decoder import decode
from asrdistill.decoding.lattice import Lattice
from asrdistill.decoding.nbest import find_n_best, write_n_best
from asrdistill.decoding.word_times import find_timed_words
from asrdistill.errors import ContractError
from asrdistill.experiment import Experiment
from asrdistill.hmm.segments import Segment
from asrdistill.parallel import single_torch_thread
from asrdistill.progress import say
from asrdistill.scoring.nist_files import write_nist_ctm, write_stm, write_trn
from asrdistill.scoring.scorer import Scorer, write_hypotheses
from asrdistill.scoring.systems import System, list_systems
from asrdistill.scoring.tuning import tune
from asrdistill.scoring.word_errors import count_word_errors

TIMED_UTTERANCES = 50


def transcribe(
    scorer: Scorer, system: System, split: str, out_dir: Path, num_best: int, frame_shift_s: float
) -> None:
    """Decode a split with weights tuned on dev, and publish what was understood.

    Args:
        scorer: graph, references and settings.
        system: the acoustic model.
        split: "dev" or "test".
        out_dir: gets `hypotheses.txt` (Kaldi's `text`), `nbest.jsonl`, and for NIST's sclite `words.ctm`
            (with confidences), `words.trn`, `reference.stm` and `reference.trn`.
        num_best: hypotheses of an utterance in `nbest.jsonl`, at most.
        frame_shift_s: seconds from a frame to the next.

    Raises:
        ContractError: no hypothesis is asked for.
    """
    if num_best < 1:
        raise ContractError(f"decode: --num-best is {num_best}, expected 1 or more")
    (dev_lattices,), _ = scorer.decode(system, "dev", [scorer.words])
    best = tune(dev_lattices, scorer.references["dev"], scorer.graph.words, scorer.config.tuning).best
    lattices = dev_lattices if split == "dev" else scorer.decode(system, split, [scorer.words])[0][0]
    weights = (best.acoustic_scale, best.insertion_penalty)
    timed = {name: _time_words(scorer, lattice, weights) for name, lattice in lattices.items()}
    hypotheses = {name: [word.name for word in words] for name, words in timed.items()}
    write_hypotheses(out_dir / "hypotheses.txt", hypotheses)
    write_nist_ctm(out_dir / "words.ctm", timed, frame_shift_s)
    write_trn(out_dir / "words.trn", hypotheses)
    write_trn(out_dir / "reference.trn", scorer.references[split])
    write_stm(out_dir / "reference.stm", scorer.utterances[split])
    n_best = {name: find_n_best(lattice, *weights, num_best) for name, lattice in lattices.items()}
    write_n_best(out_dir / "nbest.jsonl", n_best, scorer.graph.words)
    errors = count_word_errors(scorer.references[split], hypotheses)
    tuned = f"acoustic scale {weights[0]:g}, insertion penalty {weights[1]:g}, tuned on dev"
    say(f"  {system.name}, {split}: {errors} ({tuned})")
    acoustic, search = measure_real_time_factors(scorer, system, split, frame_shift_s)
    say(f"  real-time factor on one core: acoustic model {acoustic:.4f}, search {search:.4f}")


def measure_real_time_factors(
    scorer: Scorer, system: System, split: str, frame_shift_s: float
) -> tuple[float, float]:
    """Processor seconds a second of speech, of the acoustic model and of the search, on one thread.

    Both on up to 50 utterances, evenly taken.
    """
    store = scorer.store_of(system, split)
    sample = range(0, len(store), max(len(store) // TIMED_UTTERANCES, 1))
    with single_torch_thread():
        start = time.process_time()
        scores = [system.score(store.frames_of(index)) for index in sample]
        middle = time.process_time()
        for one in scores:
            decode(scorer.graph, one, scorer.decoder_config_of(system))
        end = time.process_time()
    speech_s = sum(map(len, scores)) * frame_shift_s
    return (middle - start) / speech_s, (end - middle) / speech_s


def _time_words(scorer: Scorer, lattice: Lattice, weights: tuple[float, float]) -> list[Segment]:
    return find_timed_words(lattice, scorer.graph.words, scorer.lexicon, scorer.tied_states, *weights)


def find_system(experiment: Experiment, scorer: Scorer, name: str) -> System:
    """The system of that name.

    Raises:
        ContractError: the experiment has none.
    """
    names = []
    for system in list_systems(experiment, scorer.log_priors):
        if system.name == name:
            return system
        names.append(system.name)
    known = ", ".join(names) or "none yet: run the align or the teachers stage first"
    raise ContractError(
        f"system {name}: the experiment {experiment.dir} has none of that name; known: {known}"
    )
