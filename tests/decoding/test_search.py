"""The search against kaldi-decoder's, and against itself under other bounds."""

from collections.abc import Callable

import kaldi_decoder
import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.corpus.lexicon import Lexicon
from asrdistill.decoding.compaction import sort_topologically
from asrdistill.decoding.graph import DecodingGraph, GraphConfig, build_graph
from asrdistill.decoding.lattice import Lattice, of_raw_lattice
from asrdistill.decoding.nbest import find_n_best
from asrdistill.decoding.ngram import NgramModel
from asrdistill.decoding.search import RawLattice, SearchGraph, prepare_graph, search
from asrdistill.decoding.search_loops import find_nth_smallest
from asrdistill.decoding.transducer import Arcs, of_fst, to_fst
from asrdistill.hmm.topology import TiedStates

SCALE = 0.7
WIDE = 1e4
NO_BOUND = 10**9
NEVER = 10**9


@pytest.fixture(scope="module", params=["monophones", 1, 2])
def any_graph(
    request: pytest.FixtureRequest,
    lexicon: Lexicon,
    ngrams: NgramModel,
    graph: DecodingGraph,
    grow_random_trees: Callable[[int], TiedStates],
) -> DecodingGraph:
    """Of monophones, or of triphones with random trees."""
    if request.param == "monophones":
        return graph
    return build_graph(lexicon, ngrams, grow_random_trees(request.param), GraphConfig())


def make_scores(seed: int, num_pdfs: int, num_frames: int = 40, spread: float = 2.0) -> np.ndarray:
    scores = np.random.default_rng(seed).standard_normal((num_frames, num_pdfs))
    return (spread * scores).astype(np.float32)


def run(
    graph: DecodingGraph,
    scores: np.ndarray,
    beam: float = WIDE,
    lattice_beam: float = 8.0,
    max_active: int = NO_BOUND,
    prune_interval: int = 25,
) -> RawLattice:
    return search(prepare_graph(graph.fst), scores, SCALE, beam, lattice_beam, max_active, prune_interval)


def compact(raw: RawLattice) -> Lattice:
    return of_raw_lattice(raw.arcs, raw.is_complete)


def run_oracle(fst: kaldifst.StdVectorFst, scores: np.ndarray, lattice_beam: float) -> tuple[bool, Lattice]:
    beams = kaldi_decoder.LatticeSimpleDecoderConfig(beam=WIDE, lattice_beam=lattice_beam)
    oracle = kaldi_decoder.LatticeSimpleDecoder(fst, beams)
    is_complete = oracle.decode(kaldi_decoder.DecodableCtc(scores * np.float32(SCALE)))
    raw = of_fst(oracle.get_raw_lattice()[1])
    unscaled = Arcs(
        raw.start,
        raw.source,
        raw.destination,
        raw.input_label,
        raw.output_label,
        raw.weight / np.array([1, SCALE], np.float32),
        raw.final,
    )
    return is_complete, of_raw_lattice(unscaled, is_complete)


def measure(lattice: Arcs) -> tuple[np.ndarray, np.ndarray]:
    """Of each state of a raw lattice its frame, and the cost of the best path to it."""
    frame, cost = np.zeros(lattice.num_states, int), np.full(lattice.num_states, np.inf)
    cost[lattice.start] = 0
    rank = sort_topologically(lattice.source, lattice.destination, lattice.start, lattice.num_states)
    arc_costs = lattice.weight.astype(float) @ [1, SCALE]
    for arc in np.argsort(rank[lattice.source]).tolist():
        source, destination = lattice.source[arc], lattice.destination[arc]
        frame[destination] = frame[source] + (lattice.input_label[arc] > 0)
        cost[destination] = min(cost[destination], cost[source] + arc_costs[arc])
    return frame, cost


def cost_through_arcs(lattice: Arcs) -> np.ndarray:
    """For each arc of a raw lattice the cost of the best path that takes it."""
    arc_costs = lattice.weight.astype(float) @ [1, SCALE]
    _, cost = measure(lattice)
    to_end = lattice.final[:, 0].astype(float)
    rank = sort_topologically(lattice.source, lattice.destination, lattice.start, lattice.num_states)
    for arc in np.argsort(-rank[lattice.source]).tolist():
        source, destination = lattice.source[arc], lattice.destination[arc]
        to_end[source] = min(to_end[source], arc_costs[arc] + to_end[destination])
    through: np.ndarray = cost[lattice.source] + arc_costs + to_end[lattice.destination]
    return through


def make_random_graph(seed: int, num_states: int = 700, num_pdfs: int = 12) -> Arcs:
    """Every state has a self-loop and four ways on, some of them empty and those to higher states alone."""
    rng = np.random.default_rng(seed)
    states = np.arange(num_states)
    loops = (states, states, rng.integers(1, num_pdfs + 1, num_states), 0 * states)
    source, destination = rng.integers(0, num_states, (2, 4 * num_states))
    label = rng.integers(1, num_pdfs + 1, len(source))
    label[(rng.random(len(source)) < 0.2) & (source < destination)] = 0
    ways_on = (source, destination, label, rng.integers(0, 5, len(source)))
    source, destination, input_label, output_label = (
        np.concatenate(pair).astype(np.int32) for pair in zip(loops, ways_on, strict=True)
    )
    weight = rng.exponential(1.0, len(source)).astype(np.float32)
    final = np.where(rng.random(num_states) < 0.3, rng.exponential(1.0, num_states), np.inf)
    arcs = Arcs(0, source, destination, input_label, output_label, weight, final.astype(np.float32))
    return arcs.sorted_by_source()


def best_cost(lattice: Lattice) -> float:
    return find_n_best(lattice, SCALE, 0.0, 1)[0].cost


def assert_same_hypotheses(one: Lattice, other: Lattice, within: float) -> None:
    """The same word sequences at the same costs, up to so much more than the best one's."""
    found = [find_n_best(lattice, SCALE, 0.0, 300) for lattice in (one, other)]
    costs = [{hypothesis.words: hypothesis.cost for hypothesis in n_best} for n_best in found]
    for here, there in (costs, costs[::-1]):
        least = min(here.values())
        limit = min(least + within, max(there.values()) if len(there) == 300 else np.inf) - 0.01
        assert least < limit
        for words, cost in here.items():
            assert cost > limit or there[words] == pytest.approx(cost, abs=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_frames=st.integers(1, 45),
    spread=st.sampled_from([0.5, 2.0, 5.0]),
    prune_interval=st.integers(1, 50),
)
def test_hypotheses_are_those_of_kaldi(
    seed: int, num_frames: int, spread: float, prune_interval: int, any_graph: DecodingGraph
) -> None:
    scores = make_scores(seed, any_graph.num_pdfs, num_frames, spread)
    is_complete, oracle = run_oracle(any_graph.fst, scores, lattice_beam=5.0)
    raw = run(any_graph, scores, lattice_beam=5.0, prune_interval=prune_interval)
    assert raw.is_complete == is_complete
    assert_same_hypotheses(compact(raw), oracle, within=5.0)


@pytest.mark.parametrize("seed", range(3))
def test_random_graphs_are_searched_as_by_kaldi(seed: int) -> None:
    graph = make_random_graph(seed)
    scores = make_scores(seed, 12, 12)
    is_complete, oracle = run_oracle(to_fst(graph), scores, lattice_beam=3.0)
    raw = search(SearchGraph.of_arcs(graph), scores, SCALE, WIDE, 3.0, NO_BOUND, 4)
    assert raw.is_complete == is_complete
    assert_same_hypotheses(compact(raw), oracle, within=3.0)


def test_lattice_holds_exactly_the_links_within_its_beam(any_graph: DecodingGraph) -> None:
    """Against all links, each with the cost of the best path through it."""
    scores = make_scores(5, any_graph.num_pdfs)
    through = cost_through_arcs(run(any_graph, scores, lattice_beam=WIDE).arcs)
    kept = cost_through_arcs(run(any_graph, scores, lattice_beam=3.0).arcs)
    within = through[through <= through.min() + 3.0]
    assert 0 < len(within) < len(through) / 4
    np.testing.assert_allclose(np.sort(kept), np.sort(within), atol=1e-3)


@pytest.mark.parametrize("prune_interval", [1, 3, 39, NEVER])
@pytest.mark.parametrize("num_frames", [1, 40])
def test_when_it_is_pruned_changes_nothing(
    prune_interval: int, num_frames: int, any_graph: DecodingGraph
) -> None:
    scores = make_scores(2, any_graph.num_pdfs, num_frames)
    usual = run(any_graph, scores, prune_interval=25)
    other = run(any_graph, scores, prune_interval=prune_interval)
    for name, value in vars(usual.arcs).items():
        assert np.array_equal(getattr(other.arcs, name), value), name


def test_links_held_are_bounded_however_long_the_utterance(graph: DecodingGraph) -> None:
    """What is held beyond about the lattice itself stems from the frames since the last pruning."""
    scores = make_scores(3, graph.num_pdfs, 2000)
    for num_frames in (200, 2000):
        raw = run(graph, scores[:num_frames], lattice_beam=2.0)
        assert raw.most_links - 2 * len(raw.arcs.source) < 30 * graph.num_arcs
    unpruned = run(graph, scores, lattice_beam=2.0, prune_interval=NEVER)
    assert raw.most_links < unpruned.most_links / 5
    assert np.array_equal(raw.arcs.source, unpruned.arcs.source)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), max_active=st.integers(1, 12), num_frames=st.integers(1, 40))
def test_few_active_tokens_still_give_a_path(
    seed: int, max_active: int, num_frames: int, any_graph: DecodingGraph
) -> None:
    scores = make_scores(seed, any_graph.num_pdfs, num_frames)
    raw = run(any_graph, scores, max_active=max_active)
    lattice = compact(raw)
    (best,) = find_n_best(lattice, SCALE, 0.0, 1)
    alignment = lattice.path_alignment(best.arcs)
    assert len(alignment) == num_frames
    assert best.acoustic_cost == pytest.approx(-scores[np.arange(num_frames), alignment].sum(), abs=1e-3)
    wide = run(any_graph, scores)
    if raw.is_complete:
        assert best.cost >= best_cost(compact(wide)) - 1e-3
    # No other alignment comes near the path's own once its scores are raised: is it one of the graph's?
    raised = scores.copy()
    raised[np.arange(num_frames), alignment] += 1000
    is_complete, oracle = run_oracle(any_graph.fst, raised, lattice_beam=60.0)
    if raw.is_complete:
        cost = find_n_best(oracle, SCALE, 0.0, 1)[0].cost
        assert is_complete and cost <= best.cost - 1000 * SCALE * num_frames + 0.1


@pytest.mark.parametrize(("beam", "max_active"), [(2.0, NO_BOUND), (4.0, 300), (4.0, 50), (WIDE, 250)])
def test_tokens_are_within_their_bounds(beam: float, max_active: int) -> None:
    graph, scores = make_random_graph(7), make_scores(7, 12, 30)
    prepared = SearchGraph.of_arcs(graph)
    raw = search(prepared, scores, SCALE, beam, WIDE, max_active)
    frame, cost = measure(raw.arcs)
    passed_on = np.unique(raw.arcs.source[raw.arcs.input_label > 0])
    for number in range(30):
        costs = cost[passed_on[frame[passed_on] == number]]
        assert 1 <= len(costs) <= max_active
        assert np.ptp(costs) <= beam + 1e-6
    wide = search(prepared, scores, SCALE, WIDE, WIDE, NO_BOUND)
    assert len(raw.arcs.source) < len(wide.arcs.source)
    assert best_cost(compact(raw)) >= best_cost(compact(wide)) - 1e-3


@given(
    values=st.lists(st.floats(0, 20) | st.sampled_from([0.0, 1.0, 8.0]), min_size=1, max_size=300),
    beam=st.sampled_from([0.5, 8.0, 1000.0]),
    rank=st.integers(1, 300),
)
def test_nth_smallest_is_that_of_sorting(values: list[float], beam: float, rank: int) -> None:
    below = sorted(value for value in values if value < beam)
    expected = below[rank - 1] if rank <= len(below) else beam
    assert find_nth_smallest(np.array(values), beam, rank) == expected


def test_the_same_search_gives_the_same_lattice(graph: DecodingGraph) -> None:
    scores = make_scores(11, graph.num_pdfs)
    first, second = (run(graph, scores, beam=6.0, max_active=20) for _ in range(2))
    for name, value in vars(first.arcs).items():
        assert np.array_equal(getattr(second.arcs, name), value), name


def test_an_utterance_too_short_may_end_anywhere(graph: DecodingGraph) -> None:
    scores = make_scores(0, graph.num_pdfs, 2)
    raw = run(graph, scores, lattice_beam=WIDE)
    frame, _ = measure(raw.arcs)
    assert not raw.is_complete
    assert np.array_equal(np.isfinite(raw.arcs.final[:, 0]), frame == 2)
    assert not raw.arcs.final[frame == 2].any()
