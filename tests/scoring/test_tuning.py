"""The grid search over lattices whose every optimum is known."""

import numpy as np
import pytest

from asrdistill.decoding.lattice import Lattice
from asrdistill.errors import ContractError
from asrdistill.scoring.tuning import TuningConfig, tune

WORDS = ("<eps>", "right", "wrong", "more")


def choose(*arcs: tuple[int, float, float]) -> Lattice:
    """One step with a choice of (word, graph cost, acoustic cost)."""
    word, graph_cost, acoustic_cost = zip(*arcs, strict=True)
    zeros = np.zeros(len(arcs), np.int32)
    costs = np.array([graph_cost, acoustic_cost], np.float32)
    return Lattice(zeros, zeros + 1, np.array(word, np.int32), costs[0], costs[1], 2, True)


def test_finds_the_scale_and_the_penalty_that_work() -> None:
    lattices = {
        "acoustics-matter": choose((1, 5, 0), (2, 0, 10)),  # right where scale > 0.5
        "grammar-matters": choose((1, 0, 10), (2, 9, 0)),  # right where scale < 0.9
        "one-word-too-many": choose((0, 1.5, 0), (3, 0, 0)),  # right where penalty > 1.5
    }
    references = {"acoustics-matter": ["right"], "grammar-matters": ["right"], "one-word-too-many": []}
    config = TuningConfig(acoustic_scales=(0.1, 0.3, 0.7, 1.0), insertion_penalties=(0.0, 1.0, 2.0))
    tuning = tune(lattices, references, WORDS, config)
    assert (tuning.best.acoustic_scale, tuning.best.insertion_penalty) == (0.7, 2.0)
    assert tuning.best.word_errors.errors == 0
    assert tuning.notes == ("the best insertion penalty, 2, is the largest of the grid; widen the grid",)
    errors = {(p.acoustic_scale, p.insertion_penalty): p.word_errors.errors for p in tuning.grid}
    assert len(errors) == 12
    assert (errors[0.1, 0.0], errors[0.7, 0.0], errors[1.0, 2.0]) == (2, 1, 1)


def test_ties_go_to_the_small_penalty_and_the_middle_scale() -> None:
    config = TuningConfig(acoustic_scales=(0.1, 0.2, 0.3), insertion_penalties=(-1.0, 0.0, 1.0))
    tuning = tune({"u": choose((1, 0, 0))}, {"u": ["right"]}, WORDS, config)
    assert (tuning.best.acoustic_scale, tuning.best.insertion_penalty, tuning.notes) == (0.2, 0.0, ())


def test_other_utterances_are_refused() -> None:
    with pytest.raises(ContractError, match="utterance v: has a reference"):
        tune({"u": choose((1, 0, 0))}, {"u": ["right"], "v": ["right"]}, WORDS, TuningConfig())
