"""A share of the training data: whole utterances with all their views, the same for a seed."""

import numpy as np
import pytest

from asrdistill.nn.frames import LabelledFrames
from asrdistill.stages.student import draw_share

NUM_UTTERANCES, NUM_VIEWS = 40, 2


@pytest.fixture
def frames() -> LabelledFrames:
    """View after view of all utterances; a frame's pdf-id is its utterance."""
    lengths = np.random.default_rng(0).integers(5, 50, NUM_UTTERANCES)
    utterances = np.tile(np.repeat(np.arange(NUM_UTTERANCES), lengths), NUM_VIEWS + 1)
    starts = np.cumsum([0, *np.tile(lengths, NUM_VIEWS + 1)])
    return LabelledFrames(np.zeros((len(utterances), 1), np.float16), starts, utterances.astype(np.int32))


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5, 1.0])
def test_utterances_come_with_all_their_views(frames: LabelledFrames, share: float) -> None:
    drawn = draw_share(frames, share, 7, NUM_VIEWS)
    found = drawn.pdf_ids[drawn.starts[:-1]]
    assert np.array_equal(np.unique(found, return_counts=True)[1], np.full(len(set(found)), NUM_VIEWS + 1))
    assert len(drawn) <= max(share * len(frames), 3 * 50)
    assert len(drawn) >= share * len(frames) - 3 * 50
    again = draw_share(frames, share, 7, NUM_VIEWS)
    assert np.array_equal(again.pdf_ids, drawn.pdf_ids)


def test_a_share_of_some(frames: LabelledFrames) -> None:
    some = np.isin(np.arange(NUM_UTTERANCES), [3, 5, 8, 21, 34])
    every = draw_share(frames, 1.0, 7, NUM_VIEWS, np.tile(some, NUM_VIEWS + 1))
    assert np.array_equal(every.pdf_ids, frames.pdf_ids[np.isin(frames.pdf_ids, np.flatnonzero(some))])
    part = draw_share(frames, 0.5, 7, NUM_VIEWS, np.tile(some, NUM_VIEWS + 1))
    assert set(part.pdf_ids.tolist()) < set(np.flatnonzero(some).tolist())
    assert 0 < len(part) <= len(every) / 2


def test_another_seed_draws_others(frames: LabelledFrames) -> None:
    drawn = [set(draw_share(frames, 0.2, seed, NUM_VIEWS).pdf_ids.tolist()) for seed in (1, 2)]
    assert drawn[0] != drawn[1]
