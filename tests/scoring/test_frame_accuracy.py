"""Frame accuracy against hand-worked cases."""

import numpy as np
import pytest

from asrdistill.errors import ContractError
from asrdistill.scoring.frame_accuracy import FrameAccuracy, count_frames

LOG_POSTERIORS = np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.4, 0.4, 0.2]])


def test_hand_worked_frames_add_up() -> None:
    counted = count_frames(LOG_POSTERIORS, np.array([0, 1, 0]))
    assert counted == FrameAccuracy(correct=2, frames=3)
    total = counted + FrameAccuracy(correct=0, frames=1)
    assert total.accuracy == 0.5


@pytest.mark.parametrize(
    ("pdf_ids", "message"),
    [([0, 1], r"shape \(3, 3\), targets \(2,\)"), ([0, 1, 3], "0 to 3.*3 pdf-ids"), ([0, -1, 2], "from -1")],
)
def test_mismatched_targets_are_refused(pdf_ids: list[int], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        count_frames(LOG_POSTERIORS, np.array(pdf_ids))


def test_diverged_model_is_refused() -> None:
    with pytest.raises(ContractError, match="not a number"):
        count_frames(np.full((3, 3), np.nan), np.array([0, 1, 2]))
