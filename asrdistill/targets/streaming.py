"""Training frames straight from shards, a pool of whole shards at a time, whatever the size of the dump.

Shapes: U utterances, and perturbed views of them.
"""

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.nn.batches import POOL_FRAMES
from asrdistill.nn.frames import FrameSource, LabelledFrames
from asrdistill.nn.soft_targets import LowRankTargets
from asrdistill.progress import say
from asrdistill.targets.shards import ShardReader, Weighting

# Of one pool, but at least one shard; the next one is read meanwhile.
POOL_BYTES = 2_000_000_000


class ShardFrames:
    """The frames of a split, or one worker's part of them, read again whenever they are asked for.

    Workers have whole shards, each its own, and together all of them, whatever their number; where they are
    more than the shards, several read one and each has some of its utterances. Each draws its pools and
    batches for itself, and goes on at any step (`asrdistill.nn.batches`). Their shards differ in size, and so
    do their numbers of steps.

    Attributes:
        lengths: frames of every utterance: int64 (U,).
        num_usable: int64 (U,), the same, for where there is no hard target, there is a soft one; of hard
            targets alone those that there are.
    """

    def __init__(
        self,
        reader: ShardReader,
        split: str,
        temperature: float | None,
        weighting: Weighting = "none",
        worker: int = 0,
        num_workers: int = 1,
    ) -> None:
        """Args:
        reader: of the shards.
        split: of these.
        temperature: of the soft targets; None: without any.
        weighting: how much frames count.
        worker: which one this is, from 0: of all processes on all machines, such as rank * workers + worker.
        num_workers: how many there are.

        Raises:
            ContractError: there is no such worker, or no utterance for it.
        """
        self.reader, self.split, self.temperature, self.weighting = reader, split, temperature, weighting
        total = len(reader.index["splits"][split])
        if not 0 <= worker < num_workers:
            raise ContractError(f"worker {worker} of {num_workers}: workers are counted from 0")
        self._numbers = np.arange(worker % total, total, num_workers)
        self._part = slice(worker // total, None, len(range(worker % total, num_workers, total)))
        shards = [reader.index["splits"][split][number] for number in self._numbers]
        lengths = [shard["lengths"][self._part] for shard in shards]
        self.lengths = np.array([length for of_shard in lengths for length in of_shard], np.int64)
        aligned = [count for shard in shards for count in shard["num_aligned"][self._part]]
        self.num_usable = np.array(aligned, np.int64) if temperature is None else self.lengths
        self._starts = np.cumsum([0, *map(len, lengths)])
        if not len(self.lengths):
            raise ContractError(
                f"soft targets {reader.shards_dir}: {num_workers} workers share {total} shards of {split}, "
                f"and worker {worker} is left without an utterance; start fewer"
            )

    def __len__(self) -> int:
        return int(self.num_usable.sum())

    @property
    def num_utterances(self) -> int:
        return len(self.lengths)

    def draw_pools(self, pool_frames: int, seed: tuple[int, ...]) -> list[np.ndarray]:
        """Pools of whole shards, in random order, each of at most `pool_frames` frames or of one shard."""
        pools: list[list[int]] = []
        size = 0
        for shard in np.random.default_rng(seed).permutation(len(self._starts) - 1):
            frames = int(self.lengths[self._starts[shard] : self._starts[shard + 1]].sum())
            if not pools or size + frames > pool_frames:
                pools.append([])
                size = 0
            pools[-1].append(int(shard))
            size += frames
        return [np.concatenate([self._utterances_of(shard) for shard in pool]) for pool in pools]

    def _utterances_of(self, shard: int) -> np.ndarray:
        return np.arange(self._starts[shard], self._starts[shard + 1])

    def select(self, utterances: np.ndarray) -> LabelledFrames:
        """Some utterances, in memory; quickest where they are those of whole shards, shard after shard."""
        shards = np.searchsorted(self._starts, utterances, side="right") - 1
        _, first = np.unique(shards, return_index=True)
        needed = shards[np.sort(first)]
        numbers = self._numbers[needed].tolist()
        loaded = self.reader.load_shards(self.split, numbers, self.temperature, self.weighting)
        if self._part.step > 1:  # of one shard
            loaded = loaded.select(np.arange(loaded.num_utterances)[self._part])
        there = np.concatenate([self._utterances_of(shard) for shard in needed])
        if np.array_equal(there, utterances):
            return loaded
        place = np.argsort(there)
        return loaded.select(place[np.searchsorted(there, utterances, sorter=place)])


def open_training_frames(
    reader: ShardReader, temperature: float | None, weighting: Weighting = "none"
) -> tuple[FrameSource, int]:
    """The training split of a dump, in memory where it fits there, and the frames of one pool.

    Without temperature it has its hard targets alone. Where dense soft targets of low rank fit into memory
    too, they are made once, and not anew for every batch.
    """
    frames = ShardFrames(reader, "train", temperature, weighting)
    pool_frames = min(POOL_FRAMES, int(POOL_BYTES / reader.measure_memory_a_frame("train", temperature)))
    num_frames = int(frames.lengths.sum())
    if num_frames <= pool_frames:
        loaded = reader.load("train", temperature, weighting)
        soft = loaded.soft_targets
        if isinstance(soft, LowRankTargets) and 2 * num_frames * reader.num_pdfs <= POOL_BYTES:
            loaded.soft_targets = soft.expand()
        return loaded, pool_frames
    say(f"  {num_frames:,} frames of shards stay on disk; {pool_frames:,} at a time are read")
    return frames, pool_frames
