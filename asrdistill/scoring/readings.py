"""What a system makes of the frames of a split, read on the way to the search, utterance by utterance.

Shapes: T frames, P pdf-ids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from asrdistill.features.frame_store import FrameStore
from asrdistill.scoring.calibration import Calibration, measure_calibration, sum_calibrations
from asrdistill.scoring.frame_accuracy import FrameAccuracy, find_correct
from asrdistill.scoring.systems import System


@dataclass(frozen=True, eq=False)
class FrameReading:
    """Of an utterance's frames that have a hard target.

    Attributes:
        correct: bool (T,), whether the likeliest pdf-id is the hard target.
        calibration: of the posteriors.
    """

    correct: np.ndarray
    calibration: Calibration


NOTHING_READ = FrameReading(np.empty(0, bool), sum_calibrations([]))


class Readings:
    """Scores the utterances of a split, on any thread, and reads their frames on the way.

    Attributes:
        of_utterances: that of each, once it was scored.
    """

    def __init__(
        self,
        system: System,
        store: FrameStore,
        log_priors: np.ndarray,
        targets_of: Callable[[int], np.ndarray | None],
    ) -> None:
        """Args:
        system: whose.
        store: frames that it hears.
        log_priors: float32 (P,).
        targets_of: hard targets of an utterance, by its number; None where there are none.
        """
        self._system, self._store, self._log_priors = system, store, log_priors
        self._targets_of = targets_of
        self.of_utterances = [NOTHING_READ] * len(store)

    def list(self) -> list[tuple[str, Callable[[], np.ndarray]]]:
        """Id of each utterance, and what computes its scaled log likelihoods, float32 (frames, P)."""
        return [(name, partial(self._score, index)) for index, name in enumerate(self._store.utterance_ids)]

    def _score(self, index: int) -> np.ndarray:
        scaled_log_likelihoods = self._system.score(self._store.frames_of(index))
        targets = self._targets_of(index)
        if targets is not None:
            log_posteriors = scaled_log_likelihoods + self._log_priors
            correct = find_correct(log_posteriors, targets)
            self.of_utterances[index] = FrameReading(correct, measure_calibration(log_posteriors, targets))
        return scaled_log_likelihoods


def measure_accuracy(readings: Sequence[FrameReading]) -> float:
    """Frame accuracy over all utterances, a fraction."""
    correct = np.concatenate([reading.correct for reading in readings])
    return FrameAccuracy(int(correct.sum()), len(correct)).accuracy


def describe_calibration(readings: Sequence[FrameReading]) -> dict[str, Any]:
    """That over all utterances, as `Calibration.describe` gives it."""
    return sum_calibrations(reading.calibration for reading in readings).describe()
