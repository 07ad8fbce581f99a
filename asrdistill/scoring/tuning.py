"""Tuning of the decoding weights on the dev split: a grid over lattices, no second decoding."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.decoding.lattice import Lattice, best_path
from asrdistill.parallel import map_in_order
from asrdistill.scoring.word_errors import WordErrors, check_same_utterances, count_utterance_errors


class TuningConfig(Config):
    """The grid of decoding weights."""

    acoustic_scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.045, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4),
        min_length=1,
        description="factors on scaled log likelihoods, ascending",
    )
    insertion_penalties: tuple[float, ...] = Field(
        (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
        min_length=1,
        description="costs of each word, natural log units, ascending",
    )


@dataclass(frozen=True)
class GridPoint:
    """Word errors under one setting of the weights."""

    acoustic_scale: float
    insertion_penalty: float
    word_errors: WordErrors


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes:
        best: the grid point with the fewest word errors.
        grid: all points, scales in the outer loop.
        notes: where the best point lies on the edge of the grid, so that the optimum may lie outside it.
    """

    best: GridPoint
    grid: tuple[GridPoint, ...]
    notes: tuple[str, ...]


def tune(
    lattices: Mapping[str, Lattice],
    references: Mapping[str, Sequence[str]],
    words: Sequence[str],
    config: TuningConfig,
) -> Tuning:
    """Find the weights with the fewest word errors.

    Ties go to the smaller penalty in size, then to the scale nearer the middle of the grid.

    Args:
        lattices: utterance id -> lattice.
        references: utterance id -> words, of the same utterances.
        words: word of each word id.
        config: the grid.

    Raises:
        ContractError: lattices and references are of different utterances.
    """
    check_same_utterances(references, lattices)
    ids = tuple(sorted(references))
    weights = [(scale, penalty) for scale in config.acoustic_scales for penalty in config.insertion_penalties]

    def count(utterance_id: str) -> list[tuple[int, int, int, int]]:
        """Errors of an utterance under each pair of weights."""
        seen: dict[tuple[int, ...], tuple[int, int, int, int]] = {}
        counted = []
        for scale, penalty in weights:
            path = tuple(best_path(lattices[utterance_id], scale, penalty))
            if path not in seen:
                hypothesis = [words[word_id] for word_id in path]
                seen[path] = count_utterance_errors(references[utterance_id], hypothesis)
            counted.append(seen[path])
        return counted

    by_utterance = list(map_in_order(count, ids, os.cpu_count() or 1))
    counts = np.array(by_utterance, np.int64).reshape(len(ids), len(weights), 4).swapaxes(0, 1)
    grid = tuple(
        GridPoint(*pair, WordErrors(ids, count)) for pair, count in zip(weights, counts, strict=True)
    )
    middle = (len(config.acoustic_scales) - 1) / 2

    def preference(point: GridPoint) -> tuple[int, float, float, float]:
        off_middle = abs(config.acoustic_scales.index(point.acoustic_scale) - middle)
        return point.word_errors.errors, abs(point.insertion_penalty), off_middle, point.acoustic_scale

    best = min(grid, key=preference)
    return Tuning(best, grid, tuple(_note_edges(best, config)))


def _note_edges(best: GridPoint, config: TuningConfig) -> list[str]:
    notes = []
    for name, value, values in (
        ("acoustic scale", best.acoustic_scale, config.acoustic_scales),
        ("insertion penalty", best.insertion_penalty, config.insertion_penalties),
    ):
        if len(values) > 1 and value in (min(values), max(values)):
            side = "smallest" if value == min(values) else "largest"
            notes.append(f"the best {name}, {value:g}, is the {side} of the grid; widen the grid")
    return notes
