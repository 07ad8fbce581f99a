"""The cache of decoding graphs: found again, never taken for another, never trusted when damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding import graph as graph_module
from asrdistill.decoding.graph import DecodingGraph, GraphConfig, build_graph, load_or_build_graph
from asrdistill.decoding.ngram import NgramConfig, NgramModel, estimate_ngrams
from asrdistill.errors import ContractError
from asrdistill.hmm.topology import TiedStates

Inputs = tuple[Lexicon, NgramModel, TiedStates, GraphConfig]


@pytest.fixture
def inputs(lexicon: Lexicon, ngrams: NgramModel, grow_random_trees: Callable[[int], TiedStates]) -> Inputs:
    return lexicon, ngrams, grow_random_trees(0), GraphConfig()


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Inputs]:
    """What graphs were built from."""
    built: list[Inputs] = []

    def build(*inputs: object) -> DecodingGraph:
        built.append(inputs)
        return build_graph(*inputs)

    monkeypatch.setattr(graph_module, "build_graph", build)
    return built


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_inputs_find_the_graph_again(inputs: Inputs, builds: list[Inputs], tmp_path: Path) -> None:
    first, second = load_or_build_graph(tmp_path, *inputs), load_or_build_graph(tmp_path, *inputs)
    assert len(builds) == 1
    assert first.fst.to_str() == second.fst.to_str() == build_graph(*inputs).fst.to_str()
    assert (first.words, first.num_pdfs) == (second.words, second.num_pdfs)
    (folder,) = tmp_path.iterdir()
    contract = json.loads((folder / "graph.json").read_text())
    assert contract["key"].startswith(folder.name) and len(contract["key"]) == 64 and len(folder.name) == 16
    lines = [line.split() for line in first.fst.to_str().splitlines()]  # an arc, or the cost of ending
    assert contract["num_states"] == first.num_states == len({line[0] for line in lines})
    assert contract["num_arcs"] == first.num_arcs == sum(len(line) >= 4 for line in lines)


def test_every_input_counts(
    inputs: Inputs,
    builds: list[Inputs],
    ngrams: NgramModel,
    grow_random_trees: Callable[[int], TiedStates],
    tmp_path: Path,
) -> None:
    lexicon, _, _, config = inputs
    changed = [
        (0, Lexicon(lexicon.pronunciations | {"a": [("A",)]})),
        (0, Lexicon(lexicon.pronunciations | {"a": [("O",), ("A",)]})),
        (1, estimate_ngrams([["a", "no"]], lexicon.pronunciations, NgramConfig(order=2))),
        (1, estimate_ngrams([["no", "a"]], lexicon.pronunciations, NgramConfig(order=2))),
        (1, estimate_ngrams([["a", "no"]], lexicon.pronunciations, NgramConfig(order=1))),
        (2, grow_random_trees(1)),
        (2, TiedStates.of_monophones({"A", "N", "O"})),
        (2, TiedStates.of_monophones({"A", "N", "O", "X"})),
        (3, config.model_copy(update={"silence_probability": 0.4})),
        (3, config.model_copy(update={"self_loop_probability": 0.4})),
    ]
    variants = [inputs, *((*inputs[:place], value, *inputs[place + 1 :]) for place, value in changed)]
    for variant in variants:
        load_or_build_graph(tmp_path, *variant)
    assert len(builds) == len(list(tmp_path.iterdir())) == len(variants)


def test_words_that_are_not_recognised_do_not_count(
    inputs: Inputs, builds: list[Inputs], tmp_path: Path
) -> None:
    lexicon, *others = inputs
    load_or_build_graph(tmp_path, lexicon, *others)
    load_or_build_graph(tmp_path, Lexicon(lexicon.pronunciations | {"extra": [("N",)]}), *others)
    assert len(builds) == 1


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, Path.unlink], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["graph.fst", "words.txt", "graph.json"])
def test_a_damaged_graph_is_built_again(
    name: str, damage: Callable[[Path], None], inputs: Inputs, builds: list[Inputs], tmp_path: Path
) -> None:
    load_or_build_graph(tmp_path, *inputs)
    published = read_all(tmp_path)
    (folder,) = tmp_path.iterdir()
    damage(folder / name)
    with pytest.raises(ContractError, match=name.replace(".", r"\.")):
        DecodingGraph.read(folder)
    graph = load_or_build_graph(tmp_path, *inputs)
    assert len(builds) == 2
    assert graph.fst.to_str() == build_graph(*inputs).fst.to_str()
    assert read_all(tmp_path) == published


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 1, "num_pdfs": 12}'])
def test_a_graph_of_another_schema_is_built_again(
    content: str, inputs: Inputs, builds: list[Inputs], tmp_path: Path
) -> None:
    load_or_build_graph(tmp_path, *inputs)
    (folder,) = tmp_path.iterdir()
    (folder / "graph.json").write_text(content)
    with pytest.raises(ContractError, match="expected 2"):
        DecodingGraph.read(folder)
    load_or_build_graph(tmp_path, *inputs)
    assert len(builds) == 2


def test_a_graph_of_other_inputs_is_not_taken(inputs: Inputs, builds: list[Inputs], tmp_path: Path) -> None:
    graph = load_or_build_graph(tmp_path, *inputs)
    (folder,) = tmp_path.iterdir()
    key = json.loads((folder / "graph.json").read_text())["key"]
    graph.write(folder, key[:16] + 48 * "0")
    with pytest.raises(ContractError, match="other inputs"):
        DecodingGraph.read(folder, key)
    load_or_build_graph(tmp_path, *inputs)
    assert len(builds) == 2
    assert json.loads((folder / "graph.json").read_text())["key"] == key
