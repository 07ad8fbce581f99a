"""The decoding graph: HMM states in, words out.

    L   lexicon: phones to words, optional silence between words and at both ends, disambiguation symbols
    G   grammar: the n-gram model, with #0 on its back-off arcs
    LG  min(det(L o G)), its disambiguation symbols then removed
    graph  LG with each phone replaced by its chain of HMM states, their self-loops included

The word and the language model's cost stay on the first arc of a phone. A chain is shared by all arcs that
bear the same phone and lead to the same state, so the graph has three states (or two, see `_expand_phones`)
a chain rather than three an arc.

Source: Mohri, Pereira & Riley (2002), Computer Speech & Language 16(1); Kaldi's mkgraph.sh.
Differs: no context dependency, no trained transition probabilities (every self-loop has the same one), and
determinisation in the tropical semiring, so that the cost of the best path is that of L o G, but for the
quantisation of weights to 1/1024 in determinisation and minimisation.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from asrdistill.config import Config
from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.ngram import NgramModel
from asrdistill.decoding.transducer import Arcs, Columns, of_fst, to_fst
from asrdistill.errors import ContractError, CorpusError
from asrdistill.experiment import atomic_path, write_json
from asrdistill.hmm.topology import SILENCE_PHONE, TiedStates

EMPTY = "<eps>"


class GraphConfig(Config):
    """Settings of the decoding graph."""

    silence_probability: float = Field(
        0.5, gt=0, lt=1, description="probability of a silence before the first word and after each word"
    )
    self_loop_probability: float = Field(
        0.5, gt=0, lt=1, description="probability of staying in an HMM state for one more frame"
    )


@dataclass(frozen=True)
class DecodingGraph:
    """A decoding graph ready for search.

    Attributes:
        fst: input labels are pdf_id + 1, output labels are word ids.
        words: word of each word id; the first one is empty.
        num_pdfs: number of pdf-ids, the columns that a score matrix must have.
    """

    fst: kaldifst.StdVectorFst
    words: tuple[str, ...]
    num_pdfs: int

    def write(self, graph_dir: Path) -> None:
        """Publish `graph.fst`, `words.txt` (word and id a line, as in Kaldi) and, last, `graph.json`."""
        with atomic_path(graph_dir / "graph.fst") as temporary:
            self.fst.write(str(temporary))
        with atomic_path(graph_dir / "words.txt") as temporary:
            lines = (f"{word} {word_id}\n" for word_id, word in enumerate(self.words))
            temporary.write_text("".join(lines), encoding="utf-8")
        write_json(graph_dir / "graph.json", {"schema": 1, "num_pdfs": self.num_pdfs})

    @classmethod
    def read(cls, graph_dir: Path) -> "DecodingGraph":
        """Read what `write` wrote.

        Raises:
            ContractError: a file is missing or of another schema.
        """
        paths = [graph_dir / name for name in ("graph.json", "words.txt", "graph.fst")]
        for path in paths:
            if not path.is_file():
                raise ContractError(
                    f"decoding graph {path}: not found; delete {graph_dir} to have it built again"
                )
        contract = json.loads(paths[0].read_text())
        if contract.get("schema") != 1:
            raise ContractError(
                f"decoding graph {paths[0]}: schema {contract.get('schema')!r}, expected 1; "
                f"delete {graph_dir} and run again"
            )
        lines = paths[1].read_text(encoding="utf-8").split("\n")[:-1]
        words = tuple(line.rsplit(" ", 1)[0] for line in lines)
        return cls(kaldifst.StdVectorFst.read(str(paths[2])), words, contract["num_pdfs"])


def build_graph(
    lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates, config: GraphConfig
) -> DecodingGraph:
    """Build the graph over all words of the lexicon.

    Raises:
        CorpusError: the lexicon and the language model have different words, a pronunciation is empty, or
            one of its phones has no HMM states.
    """
    words = (EMPTY, *sorted(lexicon.pronunciations))
    if set(words[1:]) != set(ngrams.vocabulary):
        odd = min(set(words[1:]) ^ set(ngrams.vocabulary))
        raise CorpusError(
            f"decoding graph: word {odd!r} is in only one of the lexicon and the language model; "
            "estimate the language model over the lexicon's words"
        )
    word_ids = {word: word_id for word_id, word in enumerate(words)}
    backoff_id = len(words)
    lexicon_fst = to_fst(_lexicon_arcs(lexicon, word_ids, backoff_id, tied_states, config))
    grammar_fst = to_fst(ngrams.to_acceptor(word_ids, backoff_id))
    kaldifst.arcsort(lexicon_fst, sort_type="olabel")
    kaldifst.arcsort(grammar_fst, sort_type="ilabel")
    composed = kaldifst.compose(lexicon_fst, grammar_fst)
    kaldifst.determinize_star(composed)
    kaldifst.minimize_encoded(composed)
    graph = _expand_phones(of_fst(composed), tied_states, config)
    return DecodingGraph(to_fst(graph), words, tied_states.num_pdfs)


def _lexicon_arcs(
    lexicon: Lexicon, word_ids: dict[str, int], backoff_id: int, tied_states: TiedStates, config: GraphConfig
) -> Arcs:
    """L: phone ids from 1, then #0, then the disambiguation symbols; the last of these follows silence."""
    phone_ids = {phone: number for number, phone in enumerate(tied_states.phones, 1)}
    backoff_phone = len(phone_ids) + 1
    silence, speech = -np.log(config.silence_probability), -np.log1p(-config.silence_probability)
    start, between, before_silence, after_silence = range(4)
    num_states = 4
    num_marks = 0
    rows = [(start, between, 0, 0, speech), (start, before_silence, 0, 0, silence)]
    for word, pronunciation, mark in _mark_ambiguous(lexicon):
        try:
            symbols = [phone_ids[phone] for phone in pronunciation]
        except KeyError as error:
            raise CorpusError(
                f"lexicon, word {word!r}: phone {error.args[0]!r} has no HMM states; "
                "use the lexicon that the alignment was made with"
            ) from error
        symbols += [backoff_phone + mark] if mark else []
        num_marks = max(num_marks, mark)
        source, word_id = between, word_ids[word]
        for symbol in symbols[:-1]:
            rows.append((source, num_states, symbol, word_id, 0.0))
            source, word_id = num_states, 0
            num_states += 1
        rows.append((source, between, symbols[-1], word_id, speech))
        rows.append((source, before_silence, symbols[-1], word_id, silence))
    rows.append((before_silence, after_silence, phone_ids[SILENCE_PHONE], 0, 0.0))
    rows.append((after_silence, between, backoff_phone + num_marks + 1, 0, 0.0))
    rows.append((between, between, backoff_phone, backoff_id, 0.0))
    final = np.full(num_states, np.inf)
    final[between] = 0
    return Arcs.of_rows(start, rows, final)


def _mark_ambiguous(lexicon: Lexicon) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Yield each pronunciation with the number of its disambiguation symbol, 0 where it needs none.

    Homophones, and pronunciations that another one begins with, need one: the words of a string of phones
    would not be determined by a bounded look ahead otherwise.
    """
    entries = [
        (word, pronunciation)
        for word in sorted(lexicon.pronunciations)
        for pronunciation in dict.fromkeys(map(tuple, lexicon.pronunciations[word]))
    ]
    for word, pronunciation in entries:
        if not pronunciation:
            raise CorpusError(f"lexicon, word {word!r}: a pronunciation is empty; give it at least one phone")
    num_bearers = Counter(pronunciation for _, pronunciation in entries)
    prefixes = {pronunciation[:end] for pronunciation in num_bearers for end in range(1, len(pronunciation))}
    used: Counter[tuple[str, ...]] = Counter()
    for word, pronunciation in entries:
        ambiguous = num_bearers[pronunciation] > 1 or pronunciation in prefixes
        used[pronunciation] += ambiguous
        yield word, pronunciation, used[pronunciation]


def _expand_phones(lg: Arcs, tied_states: TiedStates, config: GraphConfig) -> Arcs:
    """Replace each phone by a chain of three emitting states with self-loops.

    The cost of leaving the last state is paid on entering it, so that the way from there to the state that
    the phone led to is free; where every way into that state is this one chain, the two are one state.
    """
    num_phones = len(tied_states.phones)
    symbol = np.where(lg.input_label > num_phones, 0, lg.input_label)
    emits = symbol > 0
    chains, chain_of_arc = np.unique(
        lg.destination[emits].astype(np.int64) * num_phones + symbol[emits] - 1, return_inverse=True
    )
    target, phone = np.divmod(chains, num_phones)
    pdfs = np.array([tied_states.pdf_ids(name) for name in tied_states.phones])[phone].T + 1
    ways_in = np.bincount(target, minlength=lg.num_states)
    ways_in += np.bincount(lg.destination[~emits], minlength=lg.num_states)
    ways_in[lg.start] += 1
    merged = ways_in[target] == 1
    first = lg.num_states + 2 * np.arange(len(chains))
    second = first + 1
    third = np.where(merged, target, lg.num_states + 2 * len(chains) + np.cumsum(~merged) - 1)
    num_new_states = 2 * len(chains) + np.count_nonzero(~merged)

    stay, leave = -np.log(config.self_loop_probability), -np.log1p(-config.self_loop_probability)
    silent = (lg.destination[~emits], 0, lg.output_label[~emits], lg.weight[~emits])
    enter = (first[chain_of_arc], pdfs[0][chain_of_arc], lg.output_label[emits], lg.weight[emits])
    columns = _stack_arcs(
        (lg.source[~emits], *silent),
        (lg.source[emits], *enter),
        (first, first, pdfs[0], 0, stay),
        (first, second, pdfs[1], 0, leave),
        (second, second, pdfs[1], 0, stay),
        (second, third, pdfs[2], 0, 2 * leave),
        (third, third, pdfs[2], 0, stay),
        (third[~merged], target[~merged], 0, 0, 0),
    )
    final = np.concatenate([lg.final, np.full(num_new_states, np.inf, np.float32)])
    return Arcs(lg.start, *columns, final).sorted_by_source()


def _stack_arcs(*pieces: tuple[ArrayLike, ...]) -> Columns:
    """One set of columns of several; what stands as a number holds for every arc of its piece."""
    rows = [np.broadcast_arrays(*piece) for piece in pieces]
    source, destination, input_label, output_label, weight = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    return source, destination, input_label, output_label, weight
