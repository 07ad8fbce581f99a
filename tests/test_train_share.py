"""A share of the training data: whole utterances with all their views, the same for a seed."""

import numpy as np
import pytest

from asrdistill.nn.frames import FrameSubset, LabelledFrames
from asrdistill.targets.training_share import draw_share

NUM_UTTERANCES, NUM_VIEWS = 40, 2
SOME = np.isin(np.arange(NUM_UTTERANCES), [3, 5, 8, 21, 34])


@pytest.fixture
def frames() -> LabelledFrames:
    """View after view of all utterances; a frame's pdf-id is its utterance."""
    lengths = np.random.default_rng(0).integers(5, 50, NUM_UTTERANCES)
    utterances = np.tile(np.repeat(np.arange(NUM_UTTERANCES), lengths), NUM_VIEWS + 1)
    starts = np.cumsum([0, *np.tile(lengths, NUM_VIEWS + 1)])
    return LabelledFrames(np.zeros((len(utterances), 1), np.float16), starts, utterances.astype(np.int32))


def draw(
    frames: LabelledFrames, share: float, seed: int = 7, among: np.ndarray | None = None
) -> LabelledFrames:
    return frames.select(draw_share(frames.lengths, share, seed, NUM_VIEWS, among))


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5, 1.0])
def test_utterances_come_with_all_their_views(frames: LabelledFrames, share: float) -> None:
    drawn = draw(frames, share)
    found = drawn.pdf_ids[drawn.starts[:-1]]
    assert np.array_equal(np.unique(found, return_counts=True)[1], np.full(len(set(found)), NUM_VIEWS + 1))
    assert len(drawn) <= max(share * len(frames), 3 * 50)
    assert len(drawn) >= share * len(frames) - 3 * 50
    assert np.array_equal(draw(frames, share).pdf_ids, drawn.pdf_ids)


def test_a_share_of_some(frames: LabelledFrames) -> None:
    among = np.tile(SOME, NUM_VIEWS + 1)
    every, part = draw(frames, 1.0, among=among), draw(frames, 0.5, among=among)
    assert np.array_equal(every.pdf_ids, frames.pdf_ids[np.isin(frames.pdf_ids, np.flatnonzero(SOME))])
    assert set(part.pdf_ids.tolist()) < set(np.flatnonzero(SOME).tolist())
    assert 0 < len(part) <= len(every) / 2


def test_another_seed_draws_others(frames: LabelledFrames) -> None:
    drawn = [set(draw(frames, 0.2, seed).pdf_ids.tolist()) for seed in (1, 2)]
    assert drawn[0] != drawn[1]


def test_a_subset_is_read_as_its_copy_would_be(frames: LabelledFrames) -> None:
    """Pool by pool, each of what the source's pool has of it."""
    chosen = draw_share(frames.lengths, 0.3, 7, NUM_VIEWS)
    subset, copy = FrameSubset(frames, chosen), frames.select(chosen)
    assert (len(subset), subset.num_utterances) == (len(copy), copy.num_utterances)
    assert np.array_equal(subset.lengths, copy.lengths)
    assert np.array_equal(subset.num_usable, copy.num_usable)
    pools = subset.draw_pools(200, (1, 2))
    assert len(pools) > 2
    assert sorted(np.concatenate(pools).tolist()) == list(range(len(chosen)))
    of_source = [set(pool.tolist()) for pool in frames.draw_pools(200, (1, 2))]
    for pool in pools:
        assert any(set(chosen[pool].tolist()) <= one for one in of_source)
        assert np.array_equal(subset.select(pool).pdf_ids, copy.select(pool).pdf_ids)
