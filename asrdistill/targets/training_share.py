"""What a student is given of the training split: all, a share, or transcribed speech alone."""

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.nn.frames import FrameSource, FrameSubset, LabelledFrames
from asrdistill.targets.shards import ShardReader


def choose_utterances(
    frames: FrameSource, shards: ShardReader, share: float, seed: int, uses_untranscribed: bool
) -> FrameSource:
    """What a student is given of the training split.

    Args:
        frames: the split; what is in memory stays there, what is not is read a pool at a time.
        shards: that it comes from.
        share: see `draw_share`.
        seed: likewise.
        uses_untranscribed: whether it is given utterances without hard targets; the share is of them too.

    Raises:
        ContractError: none of it can be trained on.
    """
    among = None
    if not uses_untranscribed:
        aligned = [count for shard in shards.index["splits"]["train"] for count in shard["num_aligned"]]
        among = np.array(aligned) > 0
    if share == 1 and (among is None or among.all()):
        return frames
    chosen = draw_share(frames.lengths, share, seed, shards.index["num_views"], among)
    if not frames.num_usable[chosen].any():
        raise ContractError(
            f"soft targets {shards.shards_dir}: student.train_share is {share:g}, of which no "
            "frame can be trained on; give a larger one"
        )
    return frames.select(chosen) if isinstance(frames, LabelledFrames) else FrameSubset(frames, chosen)


def draw_share(
    lengths: np.ndarray, share: float, seed: int, num_views: int, among: np.ndarray | None = None
) -> np.ndarray:
    """Utterances, drawn by a seed, that have a share of a split's frames; at least one; int64, in order.

    Those that are drawn are there with all their views; in a dump view follows view, each of all utterances.

    Args:
        lengths: frames of every utterance, views included, int64 (U,).
        share: of the frames.
        seed: of the draw.
        num_views: of each utterance, itself not counted.
        among: bool (U,), those that may be drawn, and that the share is of; None: all.
    """
    num_utterances = len(lengths) // (num_views + 1)
    order = np.random.default_rng((seed, num_utterances)).permutation(num_utterances)
    if among is not None:
        order = order[among[order]]
    ends = np.cumsum(lengths[order])
    drawn = np.sort(order[: max(1, int(np.searchsorted(ends, share * ends[-1], side="right")))])
    return np.concatenate([drawn + view * num_utterances for view in range(num_views + 1)])
