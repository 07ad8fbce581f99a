"""Batches: each frame once an epoch, in an order that follows from seeds and position, in bounded memory."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.features.context import ContextConfig
from asrdistill.features.perturbation import PerturbationConfig, perturb
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Batches, Diversity, batches_in_order, draw_bags, pack_utterances
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.frames import Batch, LabelledFrames
from asrdistill.nn.soft_targets import DenseTargets

NUM_UTTERANCES, NUM_PDFS = 40, 7
PAST, FUTURE = 2, 1
SEEDS = (3, 1, 4)


@pytest.fixture
def frames() -> LabelledFrames:
    """Utterances of 1 to 59 frames; a frame's only coefficient is its number.

    Every third frame and two whole utterances are not aligned.
    """
    lengths = np.random.default_rng(0).integers(1, 60, NUM_UTTERANCES)
    starts = np.cumsum([0, *lengths])
    numbers = np.arange(starts[-1])
    pdf_ids = np.where(numbers % 3 == 0, -1, numbers % NUM_PDFS).astype(np.int32)
    pdf_ids[starts[5] : starts[6]] = pdf_ids[starts[20] : starts[21]] = -1
    soft_targets = DenseTargets(np.stack([numbers, -numbers], 1).astype(np.float16))
    return LabelledFrames(numbers.astype(np.float16)[:, None], starts, pdf_ids, soft_targets)


CONFIG = AcousticModelConfig(
    num_hidden_layers=1, hidden_size=4, context=ContextConfig(past=PAST, future=FUTURE)
)
OF_FRAMES = Dnn(CONFIG, 1, NUM_PDFS, 1)


@pytest.fixture
def of_utterances(utterance_model_type: type[AcousticModel]) -> AcousticModel:
    return utterance_model_type(CONFIG, 1, NUM_PDFS, 1)


def list_numbers(batches: Iterator[Batch], member: int = 0) -> list[int]:
    """The frames that a member sees, in its order, from batches of single frames."""
    return [int(n) for batch in batches for n in batch.inputs[member % len(batch.inputs), :, PAST]]


def list_counting(batch: Batch) -> list[int]:
    """The frames that count in a batch of whole utterances."""
    assert batch.weights is not None
    return batch.inputs[:, PAST:-FUTURE, 0].reshape(-1)[batch.weights[0] > 0].long().tolist()


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for field in fields(Batch):
            first, second = getattr(a, field.name), getattr(b, field.name)
            assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


every_pool_size = pytest.mark.parametrize("pool_frames", [10_000, 300, 100])
every_diversity = pytest.mark.parametrize(
    "diversity",
    [Diversity(0), Diversity(0, order_seeds=SEEDS), Diversity(0, None, SEEDS), Diversity(0, SEEDS, SEEDS)],
)


@every_pool_size
@every_diversity
@pytest.mark.parametrize("batch_size", [1, 37, 250])
def test_each_usable_frame_comes_once(
    frames: LabelledFrames, pool_frames: int, diversity: Diversity, batch_size: int
) -> None:
    """Batches of 250 frames span several pools of 100."""
    epoch = Batches(frames, OF_FRAMES, batch_size, diversity, pool_frames).of_epoch(3)
    batches = list(epoch.start_at(0))
    assert len(batches) == epoch.num_steps == len(frames) // batch_size
    assert all(batch.inputs.shape[1] == batch.num_frames == batch_size for batch in batches)
    for member in range(3):
        numbers = list_numbers(iter(batches), member)
        assert len(set(numbers)) == len(numbers) == epoch.num_steps * batch_size
        assert set(numbers) <= set(frames.usable.tolist())


@every_pool_size
@every_diversity
def test_all_that_a_batch_holds_belongs_together(
    frames: LabelledFrames, pool_frames: int, diversity: Diversity
) -> None:
    bags = draw_bags(SEEDS, NUM_UTTERANCES)
    for batch in Batches(frames, OF_FRAMES, 37, diversity, pool_frames).of_epoch(0).start_at(0):
        numbers = batch.inputs[..., PAST].long()
        assert isinstance(batch.soft_targets, torch.Tensor)
        assert torch.equal(batch.pdf_ids, numbers % NUM_PDFS)
        assert torch.equal(batch.soft_targets[..., 0].long(), numbers)
        assert len(numbers) == (3 if diversity.order_seeds else 1)
        if diversity.bag_seeds is None:
            assert batch.weights is None
        else:
            assert batch.weights is not None
            utterances = frames.find_utterances(numbers).expand(3, -1)
            for member in range(3):
                assert torch.equal(batch.weights[member], bags[member][utterances[member]])


def test_windows_do_not_depend_on_the_pool(frames: LabelledFrames) -> None:
    for batch in Batches(frames, OF_FRAMES, 37, Diversity(0), 100).of_epoch(0).start_at(0):
        centres = batch.inputs[..., PAST].long()
        assert torch.equal(batch.inputs, frames.take_windows(centres, OF_FRAMES).inputs)


def test_fewer_frames_than_a_batch_are_one_batch(frames: LabelledFrames) -> None:
    epoch = Batches(frames, OF_FRAMES, 10_000, Diversity(0)).of_epoch(0)
    assert epoch.num_steps == 1
    assert sorted(list_numbers(epoch.start_at(0))) == frames.usable.tolist()


def test_frames_that_are_left_out_change(frames: LabelledFrames) -> None:
    batches = Batches(frames, OF_FRAMES, 250, Diversity(0))
    seen = [set(list_numbers(batches.of_epoch(epoch).start_at(0))) for epoch in range(2)]
    assert len(seen[0]) < len(frames)
    assert seen[0] != seen[1]


def test_no_frames_are_no_batches(of_utterances: AcousticModel) -> None:
    nothing = LabelledFrames(np.ones((5, 1), np.float16), np.array([0, 5]), np.full(5, -1, np.int32))
    for model in (OF_FRAMES, of_utterances):
        epoch = Batches(nothing, model, 10, Diversity(0)).of_epoch(0)
        assert epoch.num_steps == 0
        assert list(epoch.start_at(0)) == []
        assert list(batches_in_order(nothing, model)) == []


@every_pool_size
@every_diversity
def test_going_on_at_a_step_gives_the_remaining_batches(
    frames: LabelledFrames, pool_frames: int, diversity: Diversity
) -> None:
    for batch_size in (37, 250):
        batches = Batches(frames, OF_FRAMES, batch_size, diversity, pool_frames)
        whole = list(batches.of_epoch(2).start_at(0))
        for step in range(len(whole) + 1):
            assert_equal(list(batches.of_epoch(2).start_at(step)), whole[step:])


@every_pool_size
@pytest.mark.parametrize("bag_seeds", [None, SEEDS])
def test_going_on_at_a_step_gives_the_remaining_utterances(
    frames: LabelledFrames, of_utterances: AcousticModel, pool_frames: int, bag_seeds: tuple[int, ...] | None
) -> None:
    batches = Batches(frames, of_utterances, 90, Diversity(0, None, bag_seeds), pool_frames)
    whole = list(batches.of_epoch(2).start_at(0))
    assert len(whole) == batches.of_epoch(2).num_steps > 5
    for step in range(len(whole) + 1):
        assert_equal(list(batches.of_epoch(2).start_at(step)), whole[step:])


@every_pool_size
def test_the_order_depends_on_seed_and_epoch_alone(frames: LabelledFrames, pool_frames: int) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return list_numbers(
            Batches(frames, OF_FRAMES, 5, Diversity(seed), pool_frames).of_epoch(epoch).start_at(0)
        )

    first = order(1, 2)
    torch.manual_seed(99)
    torch.rand(7)
    np.random.seed(3)
    assert order(1, 2) == first
    assert first != sorted(first)
    assert first not in [order(1, 3), order(2, 2), order(2, 1)]


def test_one_pool_is_shuffled_as_a_whole(frames: LabelledFrames) -> None:
    """A frame's place says nothing of its number, nor of its place in another epoch."""
    batches = Batches(frames, OF_FRAMES, 1, Diversity(0))
    orders = np.array([list_numbers(batches.of_epoch(epoch).start_at(0)) for epoch in range(20)])
    off_diagonal = np.corrcoef([*np.argsort(orders, axis=1), *orders]) - np.eye(40)
    # Five standard deviations, 1 / sqrt(number of frames).
    assert np.abs(off_diagonal).max() < 5 / len(frames) ** 0.5


def test_pools_are_whole_utterances_mixed_freely_and_others_each_epoch(frames: LabelledFrames) -> None:
    pool_frames = 300
    batches = Batches(frames, OF_FRAMES, 1, Diversity(0), pool_frames)
    firsts = []
    for epoch in range(3):
        numbers = torch.tensor(list_numbers(batches.of_epoch(epoch).start_at(0)))
        utterances = frames.find_utterances(numbers).numpy()
        places = [np.flatnonzero(utterances == u) for u in range(NUM_UTTERANCES) if u in utterances]
        spans = np.array([place[-1] - place[0] for place in places])
        longest = int(frames.lengths.max())
        assert spans.max() < 2 / 3 * (pool_frames + longest), "two thirds of the frames are aligned"
        assert np.median(spans) > 100, "frames of an utterance do not stay together"
        firsts.append(set(utterances[:150].tolist()))
    # The first pool, a fifth of all utterances: the same ones would come again if pools stayed.
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert len(firsts[one] & firsts[other]) < 0.6 * len(firsts[one])


def test_members_orders_are_their_own(frames: LabelledFrames) -> None:
    """And within each pool permutations of the same frames."""
    for pool_frames in (10_000, 300):
        batches = Batches(frames, OF_FRAMES, 37, Diversity(0, (1, 2, 1)), pool_frames).of_epoch(0)
        one, other, same = (list_numbers(batches.start_at(0), member) for member in range(3))
        assert one == same
        assert one != other
        overlap = len(set(one[:130]) & set(other[:130])) / 130
        # A pool of 300 frames has about 200 usable ones: 130 of them, drawn twice, share two thirds.
        assert overlap == pytest.approx(0.65 if pool_frames == 300 else 130 / len(frames), abs=0.15)


@every_pool_size
@pytest.mark.parametrize(
    "diversity", [Diversity(0, SEEDS), Diversity(0, None, SEEDS), Diversity(0, SEEDS, SEEDS)]
)
def test_a_member_alone_sees_what_it_sees_in_the_stack(
    frames: LabelledFrames, pool_frames: int, diversity: Diversity
) -> None:
    stack = list(Batches(frames, OF_FRAMES, 37, diversity, pool_frames).of_epoch(1).start_at(0))
    for member in range(3):
        own = diversity.of_members([member])
        alone = list(Batches(frames, OF_FRAMES, 37, own, pool_frames).of_epoch(1).start_at(0))
        for stacked, single in zip(stack, alone, strict=True):
            assert torch.equal(stacked.inputs[member % len(stacked.inputs)], single.inputs[0])
            assert torch.equal(stacked.pdf_ids[member % len(stacked.pdf_ids)], single.pdf_ids[0])
            assert (stacked.weights is None) == (single.weights is None)
            if stacked.weights is not None and single.weights is not None:
                assert torch.equal(stacked.weights[member], single.weights[0])


def test_diversity_of_some_members() -> None:
    assert Diversity(9, (1, 2, 3), (4, 5, 6)).of_members([2, 0]) == Diversity(9, (3, 1), (6, 4))
    assert Diversity(9).of_members([1]) == Diversity(9)


def test_bags_are_poisson_draws_of_mean_1() -> None:
    num_utterances = 20_000
    bags = draw_bags((1, 2, 1), num_utterances)
    assert bags.shape == (3, num_utterances) and bags.dtype == torch.float32
    assert torch.equal(bags[0], bags[2])
    assert torch.equal(draw_bags((2,), num_utterances)[0], bags[1])
    # Five standard deviations: of a mean, of each probability, of a correlation.
    assert float(bags[:2].mean(1).sub(1).abs().max()) < 5 / num_utterances**0.5
    probabilities = np.exp(-1) / np.array([1, 1, 2, 6, 24])
    for count, probability in enumerate(probabilities):
        share = float((bags[0] == count).float().mean())
        assert share == pytest.approx(probability, abs=5 * (probability / num_utterances) ** 0.5)
    assert abs(float(torch.corrcoef(bags[:2])[0, 1])) < 5 / num_utterances**0.5


@every_pool_size
@pytest.mark.parametrize("batch_size", [30, 90, 400])
def test_each_utterance_comes_once_in_small_enough_batches(
    frames: LabelledFrames, of_utterances: AcousticModel, pool_frames: int, batch_size: int
) -> None:
    epoch = Batches(frames, of_utterances, batch_size, Diversity(0), pool_frames).of_epoch(1)
    batches = list(epoch.start_at(0))
    assert len(batches) == epoch.num_steps
    counting = [list_counting(batch) for batch in batches]
    assert sorted(n for numbers in counting for n in numbers) == frames.usable.tolist()
    seen: Counter[int] = Counter()
    for batch, numbers in zip(batches, counting, strict=True):
        assert batch.lengths is not None and isinstance(batch.soft_targets, torch.Tensor)
        longest = int(batch.lengths.max())
        assert len(batch.lengths) * longest <= batch_size or len(batch.lengths) == 1
        assert batch.num_frames == len(numbers) > 0
        centres = batch.inputs[:, PAST : PAST + longest, 0].long().reshape(1, -1)
        assert torch.equal(batch.soft_targets[..., 0].long(), centres)
        counts = batch.weights == 1
        assert torch.equal(batch.pdf_ids[counts], centres[counts] % NUM_PDFS)
        seen.update(frames.find_utterances(batch.inputs[:, PAST, 0].long()).tolist())
    assert set(seen.values()) == {1}
    assert set(seen) == set(range(NUM_UTTERANCES)) - {5, 20}, "none of utterances without hard targets"


def test_utterances_of_like_length_share_a_batch_in_random_order(
    frames: LabelledFrames, of_utterances: AcousticModel
) -> None:
    batches = list(Batches(frames, of_utterances, 120, Diversity(0)).of_epoch(0).start_at(0))
    padded = sum(batch.pdf_ids.shape[1] for batch in batches)
    used = sum(int(batch.lengths.sum()) for batch in batches if batch.lengths is not None)
    assert padded < 1.1 * used
    longest = [int(batch.lengths.max()) for batch in batches if batch.lengths is not None]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))
    other = list(Batches(frames, of_utterances, 120, Diversity(0)).of_epoch(1).start_at(0))
    assert list(map(list_counting, batches)) != list(map(list_counting, other))


@every_pool_size
def test_frames_of_an_utterance_share_their_members_weight(
    frames: LabelledFrames, of_utterances: AcousticModel, pool_frames: int
) -> None:
    bags = draw_bags(SEEDS, NUM_UTTERANCES)
    diversity = Diversity(0, None, SEEDS)
    plain = Batches(frames, of_utterances, 90, Diversity(0), pool_frames).of_epoch(0).start_at(0)
    weighted = Batches(frames, of_utterances, 90, diversity, pool_frames).of_epoch(0).start_at(0)
    for without, batch in zip(plain, weighted, strict=True):
        assert batch.weights is not None and without.weights is not None
        utterances = frames.find_utterances(batch.inputs[:, PAST:-FUTURE, 0].long()).view(-1)
        assert torch.equal(batch.weights, bags[:, utterances] * without.weights)
        assert batch.num_frames == without.num_frames


@given(
    lengths=st.lists(st.integers(1, 20), max_size=20), batch_size=st.integers(1, 60), seed=st.integers(0, 9)
)
def test_packing_fills_batches_one_after_the_other(lengths: list[int], batch_size: int, seed: int) -> None:
    sizes = np.array(lengths, np.int64)
    order = np.random.default_rng(seed).permutation(len(lengths))
    packed = [batch.tolist() for batch in pack_utterances(order, sizes, batch_size)]
    assert [u for batch in packed for u in batch] == order.tolist()
    for number, batch in enumerate(packed):
        assert len(batch) == 1 or len(batch) * sizes[batch].max() <= batch_size
        if number + 1 < len(packed):
            longer = [*batch, packed[number + 1][0]]
            assert len(longer) * sizes[longer].max() > batch_size, "the next one would have fitted"


def test_in_order_gives_every_usable_frame(frames: LabelledFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrdistill.nn.batches.EVALUATION_FRAMES", 100)
    batches = list(batches_in_order(frames, OF_FRAMES))
    assert {batch.num_frames for batch in batches[:-1]} == {100}
    assert sum(batch.num_frames for batch in batches) == len(frames)
    assert list_numbers(iter(batches)) == frames.usable.tolist()


def test_in_order_gives_every_utterance_with_a_hard_target(
    frames: LabelledFrames, of_utterances: AcousticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asrdistill.nn.batches.EVALUATION_FRAMES", 100)
    batches = list(batches_in_order(frames, of_utterances))
    assert all(batch.pdf_ids.shape[1] <= 100 for batch in batches)
    assert sorted(n for batch in batches for n in list_counting(batch)) == frames.usable.tolist()
    assert sum(len(batch.lengths) for batch in batches if batch.lengths is not None) == NUM_UTTERANCES - 2


@pytest.mark.parametrize("reads_utterances", [False, True])
def test_timing_of_the_reading_thread_does_not_matter(
    frames: LabelledFrames,
    of_utterances: AcousticModel,
    monkeypatch: pytest.MonkeyPatch,
    reads_utterances: bool,
) -> None:
    batches = Batches(frames, of_utterances if reads_utterances else OF_FRAMES, 90, Diversity(0), 150)
    expected = list(batches.of_epoch(0).start_at(0))
    rng, select = np.random.default_rng(0), LabelledFrames.select

    def select_slowly(self: LabelledFrames, utterances: np.ndarray) -> LabelledFrames:
        time.sleep(rng.choice([0, 0.01]))
        return select(self, utterances)

    monkeypatch.setattr(LabelledFrames, "select", select_slowly)
    found = []
    for batch in batches.of_epoch(0).start_at(0):
        time.sleep(rng.choice([0, 0.01]))
        found.append(batch)
    assert_equal(found, expected)


def test_the_next_pool_is_read_while_the_present_one_is_used(
    frames: LabelledFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ahead, no more: memory is that of two pools."""
    num_read, select = 0, LabelledFrames.select

    def count(self: LabelledFrames, utterances: np.ndarray) -> LabelledFrames:
        nonlocal num_read
        num_read += 1
        return select(self, utterances)

    monkeypatch.setattr(LabelledFrames, "select", count)
    batches = Batches(frames, OF_FRAMES, 1, Diversity(0), 150).of_epoch(0).start_at(0)
    next(batches)
    time.sleep(0.2)
    assert num_read == 2


def test_a_reading_error_surfaces(frames: LabelledFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> LabelledFrames:
        raise OSError("disk gone")

    monkeypatch.setattr(LabelledFrames, "select", fail)
    with pytest.raises(OSError, match="disk gone"):
        next(Batches(frames, OF_FRAMES, 5, Diversity(0), 150).of_epoch(0).start_at(0))


def test_the_shuffle_is_described(frames: LabelledFrames) -> None:
    total = int(frames.lengths.sum())
    describe: Callable[[int], str] = lambda pool: Batches(  # noqa: E731
        frames, OF_FRAMES, 5, Diversity(0), pool
    ).describe_shuffle()
    assert describe(10_000) == f"{total:,} frames, shuffled as a whole"
    assert f"{total:,} frames, shuffled in pools of 300 ({100 * 300 / total:.1f}%)" in describe(300)


ITERATE = """
import re, sys
from pathlib import Path
import numpy as np
from asrdistill.features.context import ContextConfig
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.batches import Batches, Diversity
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.frames import LabelledFrames

def measure():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s*(\\d+) kB", status)[1]) / 1000

num_bins, length, num_utterances = 40, 500, 7600
frames = np.memmap(sys.argv[1], np.float16, "c", shape=(length * num_utterances, num_bins))
pdf_ids = np.memmap(sys.argv[2], np.int32, "c", shape=length * num_utterances)
model = Dnn(AcousticModelConfig(context=ContextConfig(past=0, future=0)), num_bins, 1, 1)
few = LabelledFrames(frames[:9000], length * np.arange(19), pdf_ids[:9000])
next(Batches(few, model, 4096, Diversity(0), 5000).of_epoch(0).start_at(0))  # compiled before measuring
before = measure()
split = LabelledFrames(frames, length * np.arange(num_utterances + 1), pdf_ids)
epoch = Batches(split, model, 4096, Diversity(0), 10_000_000 // (2 * num_bins)).of_epoch(0)
growth, steps = 0, 0
for batch in epoch.start_at(0):
    steps += 1
    if not steps % 10:
        growth = max(growth, measure() - before)
assert steps == length * num_utterances // 4096
print(growth, frames.nbytes / 1e6)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file() or "RssAnon" not in Path("/proc/self/status").read_text(),
    reason="the system does not tell a process's anonymous memory",
)
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """An epoch over 304 MB on disk in pools of 10 MB."""
    for name, size_bytes in (("frames", 2 * 40 * 500 * 7600), ("pdf_ids", 4 * 500 * 7600)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size_bytes)
    command = [sys.executable, "-c", ITERATE, str(tmp_path / "frames"), str(tmp_path / "pdf_ids")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    growth_mb, corpus_mb = map(float, printed.split())
    assert corpus_mb > 300
    assert growth_mb < 80


NUM_BINS = 8
PERTURBATION = PerturbationConfig()


@pytest.fixture
def spectra() -> LabelledFrames:
    """Thirty utterances of 1 to 39 frames of eight bins."""
    rng = np.random.default_rng(1)
    starts = np.cumsum([0, *rng.integers(1, 40, 30)])
    frames = rng.normal(size=(starts[-1], NUM_BINS)).astype(np.float16)
    return LabelledFrames(frames, starts, rng.integers(0, NUM_PDFS, starts[-1]).astype(np.int32))


def label_rows(rows: np.ndarray, pdf_ids: np.ndarray) -> Counter[tuple[float, ...]]:
    return Counter((*row, target) for row, target in zip(rows.tolist(), pdf_ids.tolist(), strict=True))


def list_perturbed(spectra: LabelledFrames, epoch: int, pool_frames: int, first: int = 0) -> list[Batch]:
    model = Dnn(CONFIG, NUM_BINS, NUM_PDFS, 1)
    batches = Batches(spectra, model, 16, Diversity(5), pool_frames, PERTURBATION)
    return list(batches.of_epoch(epoch).start_at(first))


@pytest.mark.parametrize("pool_frames", [10_000, 200])
def test_perturbed_frames_are_views_and_keep_their_targets(spectra: LabelledFrames, pool_frames: int) -> None:
    """Each centre is found among the views that `perturb` draws by seed, epoch and utterance."""
    views = [
        perturb(spectra.frames[start:end], np.random.default_rng((5, 2, number, 1)), PERTURBATION)
        for number, (start, end) in enumerate(pairwise(spectra.starts))
    ]
    expected = label_rows(np.concatenate(views).astype(np.float16), spectra.pdf_ids)
    batches = list_perturbed(spectra, 2, pool_frames)
    centre = slice(PAST * NUM_BINS, (PAST + 1) * NUM_BINS)
    found = label_rows(
        np.concatenate([batch.inputs[0, :, centre].numpy() for batch in batches]),
        np.concatenate([batch.pdf_ids[0].numpy() for batch in batches]),
    )
    assert found.total() == len(spectra) // 16 * 16
    assert not found - expected


@pytest.mark.parametrize("pool_frames", [10_000, 200])
def test_perturbed_batches_are_the_same_from_any_step(spectra: LabelledFrames, pool_frames: int) -> None:
    whole = list_perturbed(spectra, 2, pool_frames)
    assert_equal(list_perturbed(spectra, 2, pool_frames, first=7), whole[7:])


def test_each_epoch_is_perturbed_anew_and_the_split_stays(spectra: LabelledFrames) -> None:
    before = spectra.frames.copy()
    first, second = (list_perturbed(spectra, epoch, 10_000) for epoch in (0, 1))
    rows = [
        {tuple(row) for batch in batches for row in batch.inputs[0].tolist()} for batches in (first, second)
    ]
    assert not rows[0] & rows[1]
    np.testing.assert_array_equal(spectra.frames, before)


def test_views_in_training_are_not_those_that_teachers_are_asked_about(spectra: LabelledFrames) -> None:
    """Soft targets draw theirs by (seed, view, number): with a seed and a view like an epoch, others."""
    number = 3
    start, end = spectra.starts[number : number + 2]
    asked = perturb(spectra.frames[start:end], np.random.default_rng((5, 2, number)), PERTURBATION)
    trained = spectra.select(np.array([number])).perturb(PERTURBATION, (5, 2), np.array([number]))
    assert not np.isclose(trained.frames, asked, atol=1e-3).all(1).any()


PLAYED = PerturbationConfig(max_warp=0, channel=0, max_gain=0, max_speed=0.3)


@pytest.fixture
def spoken() -> LabelledFrames:
    """Twelve utterances of 30 to 59 frames; a frame's only coefficient is its number.

    One is not aligned, of another one a stretch is not.
    """
    starts = np.cumsum([0, *np.random.default_rng(4).integers(30, 60, 12)])
    numbers = np.arange(starts[-1])
    pdf_ids = (numbers % NUM_PDFS).astype(np.int32)
    pdf_ids[starts[2] : starts[3]] = pdf_ids[starts[7] + 5 : starts[7] + 15] = -1
    soft_targets = DenseTargets(np.stack([numbers, -numbers], 1).astype(np.float16))
    weights = (1 + numbers).astype(np.float32)
    return LabelledFrames(numbers.astype(np.float16)[:, None], starts, pdf_ids, soft_targets, weights)


@pytest.mark.parametrize("pool_frames", [10_000, 150])
@pytest.mark.parametrize("reads_utterances", [False, True])
def test_batches_of_another_speed_are_as_planned_with_targets_that_follow(
    spoken: LabelledFrames, of_utterances: AcousticModel, pool_frames: int, reads_utterances: bool
) -> None:
    model = of_utterances if reads_utterances else OF_FRAMES
    epoch = Batches(spoken, model, 70, Diversity(0), pool_frames, PLAYED).of_epoch(1)
    still = Batches(spoken, model, 70, Diversity(0), pool_frames).of_epoch(1)
    batches = list(epoch.start_at(0))
    assert len(batches) == epoch.num_steps == still.num_steps > 3
    moved = 0
    for batch, before in zip(batches, still.start_at(0), strict=True):
        assert batch.num_frames == before.num_frames
        assert isinstance(batch.soft_targets, torch.Tensor) and batch.weights is not None
        if reads_utterances:
            heard = batch.inputs[:, PAST:-FUTURE, 0].reshape(1, -1)
            counts = batch.weights > 0
        else:
            heard = batch.inputs[..., PAST]
            counts = torch.ones_like(heard, dtype=torch.bool)
        origins = batch.soft_targets[..., 0].long()
        # What is heard lies between two frames; float16 tells quarters there.
        assert (heard.float() - origins)[counts].abs().max() < 0.75
        assert torch.equal(batch.pdf_ids[counts], (origins % NUM_PDFS)[counts])
        assert torch.equal(batch.weights[counts], (1 + origins)[counts].float())
        moved += int((heard.float() != origins)[counts].sum())
    assert moved > 100


@pytest.mark.parametrize("pool_frames", [10_000, 150])
@pytest.mark.parametrize("reads_utterances", [False, True])
def test_batches_of_another_speed_are_the_same_from_any_step(
    spoken: LabelledFrames, of_utterances: AcousticModel, pool_frames: int, reads_utterances: bool
) -> None:
    model = of_utterances if reads_utterances else OF_FRAMES
    batches = Batches(spoken, model, 70, Diversity(0), pool_frames, PLAYED)
    whole = list(batches.of_epoch(1).start_at(0))
    for step in range(len(whole) + 1):
        assert_equal(list(batches.of_epoch(1).start_at(step)), whole[step:])


def test_a_whole_split_in_memory_is_perturbed_without_a_copy_of_its_targets(
    spoken: LabelledFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives what a copy would give: soft targets may take gigabytes."""
    batches = Batches(spoken, OF_FRAMES, 70, Diversity(0), perturbation=PERTURBATION)
    everything = np.arange(spoken.num_utterances)
    expected = spoken.select(everything).perturb(PERTURBATION, (0, 2), everything)
    monkeypatch.setattr(LabelledFrames, "select", None)
    (loaded,) = batches.load_pools(2, [everything])
    assert loaded.soft_targets is spoken.soft_targets
    np.testing.assert_array_equal(loaded.frames, expected.frames)
