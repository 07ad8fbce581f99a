"""Batches in seeded random order, from corpora of any size.

Frames are shuffled in pools. A split of at most `pool_frames` frames is one pool: every order of its frames
is as likely as any other. Of a larger one, an epoch draws pools at random and without replacement, of whole
utterances, or of whole shards where they are read from shards; frames mix freely within a pool, and the next
pool is read from disk while the present one is trained on. Memory is that of two pools, and of a third while
shards are put together, whatever the size of the corpus.

Frames may be perturbed, every epoch anew; targets stay, or follow where the speed changes. Each utterance
keeps its length and its number of usable frames, so an epoch is planned before its frames are perturbed.

Order and perturbation follow from (seed, epoch) alone, so that training can go on at any step.
Shapes: M members, N frames, U utterances, B frames of a batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from asrdistill.features.perturbation import PerturbationConfig
from asrdistill.nn.frames import Batch, FrameSource, LabelledFrames
from asrdistill.nn.guide import Reach
from asrdistill.nn.soft_targets import join_rows

POOL_FRAMES = 4_000_000
# Utterances of like length share a batch; so many batches are sorted by length together.
SORTED_BATCHES = 50
# More at a time is slower: activations of ten members leave the cache (4 x 512, bf16: by 1.6 at 4096).
EVALUATION_FRAMES = 1024


@dataclass(frozen=True)
class Diversity:
    """What distinguishes the members' data.

    Attributes:
        seed: of what is common to all members: the data order, and what is in which pool.
        order_seeds: one for each member, which then sees a pool's frames in an order of its own; or None.
        bag_seeds: one for each member, to which each utterance then counts as often as a Poisson variable of
            mean 1 says, the bootstrap of online bagging (Oza & Russell 2001); or None: all count once.
    """

    seed: int
    order_seeds: tuple[int, ...] | None = None
    bag_seeds: tuple[int, ...] | None = None

    def of_members(self, members: Sequence[int]) -> "Diversity":
        """That of some of the members."""

        def some(seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
            return None if seeds is None else tuple(seeds[member] for member in members)

        return Diversity(self.seed, some(self.order_seeds), some(self.bag_seeds))


@dataclass
class Batches:
    """The batches of every epoch.

    Attributes:
        frames: of the training split.
        model: decides between single frames and whole utterances.
        batch_size: frames of a batch: exactly so many; or, where utterances are read, at most so many,
            padding included, but at least one utterance.
        diversity: of the active members.
        pool_frames: frames that are shuffled together.
        perturbation: how far the frames of an epoch may be from those given; None: they are those.
    """

    frames: FrameSource
    model: Reach
    batch_size: int
    diversity: Diversity
    pool_frames: int = POOL_FRAMES
    perturbation: PerturbationConfig | None = None
    _bags: torch.Tensor | None = field(init=False)

    def __post_init__(self) -> None:
        bag_seeds = self.diversity.bag_seeds
        self.batch_size = min(self.batch_size, len(self.frames))
        self._bags = None if bag_seeds is None else draw_bags(bag_seeds, self.frames.num_utterances)

    def of_epoch(self, epoch: int) -> "EpochBatches":
        """The batches of one epoch, counted from 0."""
        pools = self._plan_pools(epoch)
        if self.model.reads_utterances:
            return _UtteranceBatches(self, epoch, pools)
        return _FrameBatches(self, epoch, pools)

    def describe_shuffle(self) -> str:
        """How well frames mix, in words."""
        total = int(self.frames.lengths.sum())
        if total <= self.pool_frames:
            return f"{total:,} frames, shuffled as a whole"
        share = 100 * self.pool_frames / total
        return f"{total:,} frames, shuffled in pools of {self.pool_frames:,} ({share:.1f}%), new every epoch"

    def _plan_pools(self, epoch: int) -> list[np.ndarray]:
        lengths = self.frames.lengths
        if lengths.sum() <= self.pool_frames:
            return [np.arange(len(lengths))]
        return self.frames.draw_pools(self.pool_frames, (self.diversity.seed, epoch))

    def load_pools(self, epoch: int, pools: list[np.ndarray]) -> Iterator[LabelledFrames]:
        """The frames of each pool in an epoch; the next one is read, and perturbed, meanwhile."""
        is_whole = len(pools) == 1 and len(pools[0]) == self.frames.num_utterances
        if is_whole and self.perturbation is None and isinstance(self.frames, LabelledFrames):
            yield self.frames
            return
        with ThreadPoolExecutor(1) as executor:
            following = executor.submit(self._load, epoch, pools[0]) if pools else None
            for number in range(len(pools)):
                assert following is not None
                loaded = following.result()
                if number + 1 < len(pools):
                    following = executor.submit(self._load, epoch, pools[number + 1])
                yield loaded

    def _load(self, epoch: int, pool: np.ndarray) -> LabelledFrames:
        if self.perturbation is None:
            return self.frames.select(pool)
        return self._find(pool).perturb(self.perturbation, (self.diversity.seed, epoch), pool)

    def _find(self, pool: np.ndarray) -> LabelledFrames:
        """Some utterances, to be read only: a whole split that is there already is not copied."""
        everything = np.arange(self.frames.num_utterances)
        if isinstance(self.frames, LabelledFrames) and np.array_equal(pool, everything):
            return self.frames
        return self.frames.select(pool)

    def weigh(self, batch: Batch, utterances: torch.Tensor) -> Batch:
        """Give each member its bag's weights, by the utterances (M or 1, B) of a batch's frames."""
        if self._bags is None:
            return batch
        weights = self._bags.gather(1, utterances.expand(len(self._bags), -1))
        return replace(batch, weights=weights if batch.weights is None else weights * batch.weights)


class EpochBatches(ABC):
    """One epoch.

    Attributes:
        num_steps: batches of the epoch.
    """

    num_steps: int

    @abstractmethod
    def start_at(self, step: int) -> Iterator[Batch]:
        """The batches from `step` on, counted from 0."""


class _FrameBatches(EpochBatches):
    """Batches of single frames; a pool's last frames share a batch with the next pool's first ones.

    The epoch's last frames, fewer than a batch, are left out; they are others each time.
    """

    def __init__(self, batches: Batches, epoch: int, pools: list[np.ndarray]) -> None:
        self.batches, self.epoch, self.pools = batches, epoch, pools
        self.num_usable = [int(batches.frames.num_usable[pool].sum()) for pool in pools]
        self.num_steps = sum(self.num_usable) // max(batches.batch_size, 1)

    def start_at(self, step: int) -> Iterator[Batch]:
        size = self.batches.batch_size
        first_pool, skip = _find_pool(self.num_usable, step * size)
        pieces: list[Batch] = []
        missing = size
        loaded = self.batches.load_pools(self.epoch, self.pools[first_pool:])
        for number, frames in enumerate(loaded, first_pool):
            order = self._draw_order(number, frames)
            while skip < order.shape[1]:
                piece = self._take(self.pools[number], frames, order[:, skip : skip + missing])
                skip += piece.num_frames
                missing -= piece.num_frames
                pieces.append(piece)
                if not missing:
                    yield _join(pieces)
                    pieces, missing = [], size
            skip = 0

    def _draw_order(self, pool: int, frames: LabelledFrames) -> torch.Tensor:
        """The order in which the members see a pool's frames, int64 (M or 1, usable frames)."""
        orders = []
        for seed in self.batches.diversity.order_seeds or (self.batches.diversity.seed,):
            entropy = np.random.SeedSequence((seed, self.epoch, pool)).generate_state(1, np.uint64)[0] >> 1
            generator = torch.Generator().manual_seed(int(entropy))
            orders.append(frames.usable[torch.randperm(len(frames), generator=generator)])
        return torch.stack(orders)

    def _take(self, pool: np.ndarray, frames: LabelledFrames, centres: torch.Tensor) -> Batch:
        batch = frames.take_windows(centres, self.batches.model)
        return self.batches.weigh(batch, torch.from_numpy(pool)[frames.find_utterances(centres)])


class _UtteranceBatches(EpochBatches):
    """Batches of whole utterances of like length, in random order."""

    def __init__(self, batches: Batches, epoch: int, pools: list[np.ndarray]) -> None:
        assert batches.diversity.order_seeds is None, "members share batches of utterances of like length"
        self.batches, self.epoch, self.pools = batches, epoch, pools
        self.plan = [self._pack(pool, epoch, number) for number, pool in enumerate(pools)]
        self.num_steps = sum(map(len, self.plan))

    def _pack(self, pool: np.ndarray, epoch: int, number: int) -> list[np.ndarray]:
        """Divide a pool into batches: arrays of positions in the pool."""
        rng = np.random.default_rng((self.batches.diversity.seed, epoch, number))
        usable = np.flatnonzero(self.batches.frames.num_usable[pool])
        order = rng.permutation(usable)
        lengths = self.batches.frames.lengths[pool]
        group = np.cumsum(lengths[order]) // (SORTED_BATCHES * self.batches.batch_size)
        order = order[np.lexsort((lengths[order], group))]
        packed = pack_utterances(order, lengths, self.batches.batch_size)
        return [packed[position] for position in rng.permutation(len(packed))]

    def start_at(self, step: int) -> Iterator[Batch]:
        first_pool, step = _find_pool([len(packed) for packed in self.plan], step)
        loaded = self.batches.load_pools(self.epoch, self.pools[first_pool:])
        for number, frames in enumerate(loaded, first_pool):
            for positions in self.plan[number][step:]:
                batch = frames.take_utterances(positions, self.batches.model)
                utterances = torch.from_numpy(self.pools[number][positions])
                yield self.batches.weigh(
                    batch, utterances.repeat_interleave(batch.pdf_ids.shape[1] // len(positions))[None]
                )
            step = 0


def _find_pool(sizes: Sequence[int], position: int) -> tuple[int, int]:
    """The pool that a position in the epoch lies in, and the position in that pool."""
    ends = np.cumsum(sizes)
    pool = int(np.searchsorted(ends, position, side="right"))
    return pool, position - int(ends[pool - 1] if pool else 0)


def pack_utterances(order: np.ndarray, lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut a sequence of utterances into batches of at most `batch_size` frames, padding included."""
    packed: list[np.ndarray] = []
    start, longest = 0, 0
    for position, utterance in enumerate(order):
        longest = max(longest, int(lengths[utterance]))
        if position > start and longest * (position + 1 - start) > batch_size:
            packed.append(order[start:position])
            start, longest = position, int(lengths[utterance])
    return [*packed, order[start:]] if len(order) else []


def batches_in_order(frames: LabelledFrames, model: Reach) -> Iterator[Batch]:
    """Every usable frame once, for evaluation."""
    if model.reads_utterances:
        order = np.argsort(frames.lengths, kind="stable")
        order = order[frames.num_usable[order] > 0]
        for utterances in pack_utterances(order, frames.lengths, EVALUATION_FRAMES):
            yield frames.take_utterances(utterances, model)
        return
    for start in range(0, len(frames), EVALUATION_FRAMES):
        yield frames.take_windows(frames.usable[None, start : start + EVALUATION_FRAMES], model)


def draw_bags(seeds: Sequence[int], num_utterances: int) -> torch.Tensor:
    """How often each member sees each utterance: float32 (M, U)."""
    draws = [np.random.default_rng((seed, num_utterances)).poisson(1, num_utterances) for seed in seeds]
    return torch.from_numpy(np.stack(draws).astype(np.float32))


def _join(pieces: list[Batch]) -> Batch:
    """Windows of several pools as one batch."""
    if len(pieces) == 1:
        return pieces[0]
    soft = [piece.soft_targets for piece in pieces if piece.soft_targets is not None]
    weights = [piece.weights for piece in pieces if piece.weights is not None]
    return Batch(
        torch.cat([piece.inputs for piece in pieces], 1),
        None,
        torch.cat([piece.pdf_ids for piece in pieces], 1),
        sum(piece.num_frames for piece in pieces),
        torch.cat(weights, 1) if weights else None,
        join_rows(soft) if soft else None,
    )
