"""The decoding graph: HMM states in, words out.

    L   lexicon: phones to words, optional silence between words and at both ends, disambiguation symbols
    G   grammar: the n-gram model, with #0 on its back-off arcs
    LG  min(det(L o G))
    C   context: phones to triphones, across words; left out where the tied states depend on no neighbour
    H   HMMs: triphones to pdf-ids
    graph  min(det(H o C o LG)), its disambiguation symbols then removed, with self-loops

A word stands where it is determined, which may be before or after it begins: times of words come from an
alignment of the words found, not from where their labels are.

Source: Mohri, Pereira & Riley (2002), Computer Speech & Language 16(1); Kaldi's mkgraph.sh.
Differs: no trained transition probabilities (every self-loop has the same one), and determinisation in the
tropical semiring, so that the cost of the best path is that of H o C o L o G, but for the quantisation of
weights to 1/1024 in determinisation and minimisation.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.context import spell_phones
from asrdistill.decoding.lexicon_transducer import build_lexicon_transducer
from asrdistill.decoding.ngram import NgramModel
from asrdistill.decoding.state_chains import expand_states
from asrdistill.decoding.transducer import of_fst, to_fst
from asrdistill.errors import ContractError, CorpusError
from asrdistill.experiment import atomic_path, hash_file, write_json
from asrdistill.hmm.topology import TiedStates
from asrdistill.progress import say

EMPTY = "<eps>"
FILES = ("words.txt", "graph.fst")
SCHEMA = 2  # of the files, and of the way in which a graph is built


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

    @property
    def num_states(self) -> int:
        num_states: int = self.fst.num_states
        return num_states

    @cached_property
    def num_arcs(self) -> int:
        return len(of_fst(self.fst).source)

    def write(self, graph_dir: Path, key: str | None = None) -> None:
        """Publish `graph.fst`, `words.txt` (word and id a line, as in Kaldi) and, last, `graph.json`.

        Args:
            graph_dir: folder.
            key: of what the graph was built from, see `load_or_build_graph`.
        """
        with atomic_path(graph_dir / "graph.fst") as temporary:
            self.fst.write(str(temporary))
        with atomic_path(graph_dir / "words.txt") as temporary:
            lines = (f"{word} {word_id}\n" for word_id, word in enumerate(self.words))
            temporary.write_text("".join(lines), encoding="utf-8")
        contract = {
            "schema": SCHEMA,
            "key": key,
            "num_pdfs": self.num_pdfs,
            "num_states": self.num_states,
            "num_arcs": self.num_arcs,
            "files": {name: hash_file(graph_dir / name) for name in FILES},
        }
        write_json(graph_dir / "graph.json", contract | {"sha256": _seal(contract)})

    @classmethod
    def read(cls, graph_dir: Path, key: str | None = None) -> "DecodingGraph":
        """Read what `write` wrote.

        Args:
            graph_dir: folder.
            key: what the graph must have been written with, if given.

        Raises:
            ContractError: a file is missing, damaged or of another schema, or the key is another one.
        """
        contract = _read_contract(graph_dir)
        if key is not None and contract["key"] != key:
            raise ContractError(
                f"decoding graph {graph_dir}: built from other inputs (key {contract['key']}), expected "
                f"{key}; delete the folder to have it built again"
            )
        lines = (graph_dir / "words.txt").read_text(encoding="utf-8").split("\n")[:-1]
        words = tuple(line.rsplit(" ", 1)[0] for line in lines)
        return cls(kaldifst.StdVectorFst.read(str(graph_dir / "graph.fst")), words, contract["num_pdfs"])


def _read_contract(graph_dir: Path) -> dict[str, Any]:
    """Read `graph.json`, and hold it and the other files against their hashes: damage might crash OpenFst."""
    remedy = f"delete {graph_dir} to have it built again"
    path = graph_dir / "graph.json"
    for needed in (path, *(graph_dir / name for name in FILES)):
        if not needed.is_file():
            raise ContractError(f"decoding graph {needed}: not found; {remedy}")
    try:
        contract = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ContractError(f"decoding graph {path}: not JSON ({error}); {remedy}") from error
    found = contract.get("schema") if isinstance(contract, dict) else None
    if found != SCHEMA:
        raise ContractError(f"decoding graph {path}: schema {found!r}, expected {SCHEMA}; {remedy}")
    if contract.pop("sha256", None) != _seal(contract):
        raise ContractError(f"decoding graph {path}: its SHA-256 is not the one that it states; {remedy}")
    for name in FILES:
        if hash_file(graph_dir / name) != contract["files"][name]:
            raise ContractError(
                f"decoding graph {graph_dir / name}: its SHA-256 is not the one in {path.name}; {remedy}"
            )
    return contract


def _seal(contract: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()


def load_or_build_graph(
    cache_dir: Path, lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates, config: GraphConfig
) -> DecodingGraph:
    """Read the graph of these inputs from a cache; build it and put it there where it is missing or damaged.

    Args:
        cache_dir: a graph lies in a folder of its own, named by the first 16 digits of its key: the SHA-256
            of all that determines it.
        lexicon: as for `build_graph`, and so on.

    Raises:
        CorpusError: as `build_graph`.
    """
    key = _hash_inputs(lexicon, ngrams, tied_states, config)
    graph_dir = cache_dir / key[:16]
    if graph_dir.is_dir():
        try:
            return DecodingGraph.read(graph_dir, key)
        except ContractError as error:
            say(f"  {error} (which is done now)")
    graph = build_graph(lexicon, ngrams, tied_states, config)
    graph.write(graph_dir, key)
    return graph


def _hash_inputs(lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates, config: GraphConfig) -> str:
    """SHA-256 of all that determines a graph; the trees count by the pdf-ids that they give."""
    known = _select_words(lexicon, ngrams)
    words = _list_words(known)
    grammar = ngrams.to_acceptor({word: word_id for word_id, word in enumerate(words)}, len(words))
    described = {
        "schema": SCHEMA,
        "config": config.model_dump(),
        "phones": tied_states.phones,
        "num_pdfs": tied_states.num_pdfs,
        "pronunciations": [(word, known.pronunciations[word]) for word in words[1:]],
        "grammar": (grammar.start, grammar.num_states, len(grammar.source)),
    }
    digest = hashlib.sha256(json.dumps(described).encode())
    labels = (grammar.source, grammar.destination, grammar.input_label, grammar.output_label)
    for column in (tied_states.table, *labels):
        digest.update(column.astype(np.int32).tobytes())
    for column in (grammar.weight, grammar.final):
        digest.update(column.astype(np.float32).tobytes())
    return digest.hexdigest()


def build_graph(
    lexicon: Lexicon, ngrams: NgramModel, tied_states: TiedStates, config: GraphConfig
) -> DecodingGraph:
    """Build the graph over all words of the language model.

    Args:
        lexicon: pronunciations; words that the language model does not have are not recognised.
        ngrams: the language model.
        tied_states: the inventory of tied states.
        config: silence and self-loop probabilities.

    Raises:
        CorpusError: the language model has no words or one without pronunciation, a pronunciation
            is empty, or one of its phones has no HMM states.
    """
    known = _select_words(lexicon, ngrams)
    words = _list_words(known)
    word_ids = {word: word_id for word_id, word in enumerate(words)}
    backoff_id = len(words)
    lexicon_arcs = build_lexicon_transducer(
        known, word_ids, backoff_id, tied_states, config.silence_probability
    )
    lexicon_fst = to_fst(lexicon_arcs)
    grammar_fst = to_fst(ngrams.to_acceptor(word_ids, backoff_id))
    kaldifst.arcsort(lexicon_fst, sort_type="olabel")
    kaldifst.arcsort(grammar_fst, sort_type="ilabel")
    lg = kaldifst.compose(lexicon_fst, grammar_fst)
    kaldifst.determinize_star(lg)
    kaldifst.minimize_encoded(lg)
    phones, spelling = spell_phones(lg, int(lexicon_arcs.input_label.max()), tied_states)
    graph = expand_states(phones, spelling, tied_states, config.self_loop_probability)
    return DecodingGraph(to_fst(graph), words, tied_states.num_pdfs)


def _select_words(lexicon: Lexicon, ngrams: NgramModel) -> Lexicon:
    """The pronunciations of the language model's words."""
    if not ngrams.vocabulary:
        raise CorpusError(
            "decoding graph: the language model has no words, expected at least one; "
            "give a model whose words are in the lexicon"
        )
    missing = [word for word in ngrams.vocabulary if not lexicon.pronunciations.get(word)]
    if missing:
        raise CorpusError(
            f"decoding graph: word {min(missing)!r} of the language model has no pronunciation in the lexicon"
            f" (nor have {len(missing) - 1} others), expected one for each; add them to the lexicon, or "
            "limit the language model to the lexicon's words"
        )
    return Lexicon({word: lexicon.pronunciations[word] for word in sorted(ngrams.vocabulary)})


def _list_words(lexicon: Lexicon) -> tuple[str, ...]:
    return (EMPTY, *lexicon.pronunciations)
