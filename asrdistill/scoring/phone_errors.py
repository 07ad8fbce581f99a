"""Phone errors: phones recognised without words, scored in classes.

Task: recognise phones, with no words to lean on, and count the substitutions, deletions and insertions that
turn each reference's phones into the hypothesis's with as few errors as possible; PER = errors / reference
phones. Counting and tuning are those of word errors, with classes of phones as the words.
References: the phones of the forced alignment. An utterance that was not aligned has none: it is not scored,
and is listed.
Hypotheses: from a graph in which every phone is a word, under a bigram of the training alignment's phones.
Classes: a phone is scored without Kaldi's word position (AH0_B), ARPAbet's stress (AH0) and eSpeak's ('aI).
Names of other phone sets stay as they are. CMUdict's ARPAbet then has 39 classes.
Silence, and the noises of `SILENCE_NAMES`, are no phones: neither recognised nor scored.
Source: Lee & Hon (1989), IEEE Trans. ASSP 37(11): 39 classes of TIMIT's phones and a phone bigram.
Known differences: theirs fold AO into AA and ZH into SH, and have a flap, DX, and silence, which counts as a
phone; our 39 are all speech, so the two rates do not compare. TIMIT's references are what phoneticians heard;
ours are the lexicon's pronunciations, of which the aligner chose one: a speaker who departs from them is
counted as an error of the system. Systems trained on the same alignment are favoured alike.
The bigram is over phones as they are aligned, with stress and position if they have them; scoring is not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrdistill.corpus.lexicon import STRESSED_VOWEL, Lexicon
from asrdistill.decoding.graph import DecodingGraph, GraphConfig, load_or_build_graph
from asrdistill.decoding.ngram import NgramConfig, NgramModel, estimate_ngrams
from asrdistill.errors import ContractError
from asrdistill.hmm.ctm import read_ctm
from asrdistill.hmm.segments import SILENCE_NAMES, WORD_POSITION
from asrdistill.hmm.topology import TiedStates

# At the beginning of a phone's name: IPA's, and those of eSpeak's own notation.
STRESS_MARKS = "ˈˌ',"
# Of a silence before the first phone and after each phone. It costs 3.0 nats, a phone of the bigram 2.8
# (perplexity 16 on speechocean762): where frames tell nothing, silence does not take a phone's place. There
# 8% of the phones inside utterances have a silence after them, in fluent speech fewer.
SILENCE_PROBABILITY = 0.05
# Nearly every pair of phones was seen often: Kneser-Ney's discounts, from what was seen once to four times,
# would rest on next to nothing.
BIGRAM = NgramConfig(order=2, smoothing="witten_bell")

Transcripts = dict[str, list[str]]


@dataclass(frozen=True)
class PhoneRecognition:
    """What phones are recognised with, and scored against.

    Attributes:
        graph: its words are phones, as the tied states name them.
        classes: what each word id of the graph is scored as; several may share a class.
        ngrams: the phone bigram.
        references: split -> utterance id -> classes, of the utterances that were aligned.
        not_aligned: split -> ids of the other utterances.
    """

    graph: DecodingGraph
    classes: tuple[str, ...]
    ngrams: NgramModel
    references: dict[str, Transcripts]
    not_aligned: dict[str, list[str]]


def reduce_phone(name: str) -> str:
    """The class that a phone is scored as."""
    plain = WORD_POSITION.sub("", name)
    return STRESSED_VOWEL.sub(r"\1", plain.lstrip(STRESS_MARKS) or plain)


def is_speech(name: str) -> bool:
    """Whether a phone is scored: it is neither silence nor noise."""
    return WORD_POSITION.sub("", name).lower() not in SILENCE_NAMES


def to_classes(phones: Iterable[str]) -> list[str]:
    """Reduce the phones of a hypothesis, or of a reference, to what is scored."""
    return [reduce_phone(phone) for phone in phones if is_speech(phone)]


def load_phone_recognition(
    align_dir: Path,
    graphs_dir: Path,
    tied_states: TiedStates,
    utterance_ids: Mapping[str, Sequence[str]],
    config: GraphConfig,
) -> PhoneRecognition:
    """Make what phones are recognised with from the files of the align stage.

    Args:
        align_dir: with `<split>.phones.ctm` of train and of the splits that are scored.
        graphs_dir: cache of decoding graphs.
        tied_states: the inventory.
        utterance_ids: ids of all utterances of each split that is scored.
        config: of words; of it the self-loops are used, silence has a probability of its own.

    Raises:
        ContractError: the phones are not known, or a CTM file is missing, empty of phones, or of other
            phones or utterances.
        CorpusError: a CTM file is damaged.
    """
    lexicon = make_phone_lexicon(tied_states)
    ngrams = estimate_phone_bigram(_read_phones(align_dir, "train", tied_states).values(), lexicon)
    references, not_aligned = {}, {}
    for split, ids in utterance_ids.items():
        aligned = _read_phones(align_dir, split, tied_states)
        _check_ids(aligned, ids, align_dir, split)
        references[split] = {name: to_classes(aligned[name]) for name in ids if name in aligned}
        not_aligned[split] = [name for name in ids if name not in aligned]
    config = config.model_copy(update={"silence_probability": SILENCE_PROBABILITY})
    graph = load_or_build_graph(graphs_dir, lexicon, ngrams, tied_states, config)
    classes = tuple(reduce_phone(phone) for phone in graph.words)
    return PhoneRecognition(graph, classes, ngrams, references, not_aligned)


def make_phone_lexicon(tied_states: TiedStates) -> Lexicon:
    """A lexicon whose words are the phones of speech, each pronounced as itself.

    Raises:
        ContractError: the tied states are another system's, or have no phones of speech.
    """
    phones = [phone for phone in tied_states.phones if is_speech(phone)]
    if not phones:
        raise ContractError(
            f"phone errors: none of the {tied_states.num_pdfs:,} tied states belongs to a known phone of "
            "speech, expected at least one; use an alignment of our own, or alignment.imported.kind ctm or "
            "textgrid"
        )
    return Lexicon({phone: [(phone,)] for phone in phones})


def estimate_phone_bigram(sequences: Iterable[Sequence[str]], lexicon: Lexicon) -> NgramModel:
    """Estimate a bigram over a lexicon's phones; silence and noise in the sequences are passed over."""
    spoken = ([phone for phone in phones if is_speech(phone)] for phones in sequences)
    return estimate_ngrams(spoken, lexicon.pronunciations, BIGRAM)


def _read_phones(align_dir: Path, split: str, tied_states: TiedStates) -> Transcripts:
    """The phones of each aligned utterance, silence included."""
    path = align_dir / f"{split}.phones.ctm"
    if not path.is_file():
        raise ContractError(f"phones {path}: not found; the align stage writes them: run that stage first")
    sequences = {name: [segment.name for segment in many] for name, many in read_ctm(path).items()}
    found = {phone for phones in sequences.values() for phone in phones}
    unknown = found - set(tied_states.phones)
    if unknown or not any(map(is_speech, found)):
        what = f"phone {min(unknown)!r}, which the tied states have not" if unknown else "no phone of speech"
        raise ContractError(
            f"phones {path}: {what}; expected those of the inventory beside it: run again with --force align"
        )
    return sequences


def _check_ids(aligned: Transcripts, ids: Sequence[str], align_dir: Path, split: str) -> None:
    odd = aligned.keys() - set(ids)
    if odd:
        raise ContractError(
            f"phones {align_dir / split}.phones.ctm: utterance {min(odd)} is not in split {split} "
            f"({len(odd)} such in all), expected its utterances alone; run again with --force align"
        )
