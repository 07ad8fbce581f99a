"""The soft-target store: a dump beside its teachers, reading beside copying, soft targets beside hard ones.

Teachers and student are TDNNs of 6 x 256 over 1,000 tied states, ten and one; soft targets are written by
codec `transform`. Weights are as they are drawn, but for the teachers' output layer, made so that the
average's perplexity at T = 2 is about 100, and that log-posteriors lie near 40 components, as on real speech.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import torch
from corpus import NUM_BINS, draw_frames
from engine import NUM_MEMBERS, describe_model
from measure import Benchmark, Measurement, Setting

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.batches import Batches, Diversity
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.frames import FrameSource, LabelledFrames
from asrdistill.nn.gradient import make_gradient
from asrdistill.nn.memory import keep_freed_memory
from asrdistill.nn.models import build_model
from asrdistill.nn.precision import choose_dtype
from asrdistill.parallel import map_in_order
from asrdistill.stages.soft_targets import FRAMES_AT_ONCE
from asrdistill.targets.averaging import Opinion, ask_teachers
from asrdistill.targets.codecs import Codec, open_codec
from asrdistill.targets.shards import (
    FRAME_RECORD,
    ShardReader,
    SoftTargetSample,
    codebook_path,
    write_index,
    write_shard,
)
from asrdistill.targets.streaming import open_training_frames
from asrdistill.targets.transform import TransformConfig, learn_codebook

NUM_PDFS, WIDTH, TEMPERATURE = 1000, 256, 2.0
NUM_FRAMES, REPEATS = 60_000, 3
NUM_COMPONENTS, LOGIT_SPREAD = 40, 4.3


class Dump:
    """Utterances, teachers, and a folder for their shards."""

    def __init__(self, setting: Setting, folder: Path, width: int = WIDTH) -> None:
        self.folder = folder
        num_frames = NUM_FRAMES * WIDTH**2 // width**2
        self.frames = draw_frames(max(num_frames // setting.shrink, 2_000), 1)
        self.model = _build(setting, NUM_MEMBERS, width)
        self._give_opinions()
        self.model = self.model.in_compute_dtype()
        config = TransformConfig(sample_frames=5_000)
        sample = [self._ask(number) for number in range(0, self.frames.num_utterances, 4)]
        learn_codebook(sample, config).write(codebook_path(folder, TEMPERATURE))
        self.codec: Codec = open_codec(config, codebook_path(folder, TEMPERATURE))
        self.config = config

    @torch.no_grad()
    def _give_opinions(self) -> None:
        weight = next(iter(self.model.output))  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(0)
        own = torch.randn(*weight.shape[:2], NUM_COMPONENTS, generator=generator)
        weight.copy_(own @ torch.randn(NUM_COMPONENTS, weight.shape[2], generator=generator))
        spread = self.model.compute_logits(self._frames_of(0)).std(2).mean(1)[:, None, None]
        weight.mul_(LOGIT_SPREAD / spread)

    def _frames_of(self, number: int) -> np.ndarray:
        return self.frames.frames[self.frames.starts[number] : self.frames.starts[number + 1]]

    def _ask(self, number: int) -> np.ndarray:
        return ask_teachers(self.model, self._frames_of(number), (TEMPERATURE,)).averages[0]

    def forward(self) -> float:
        """Seconds of nothing but the teachers."""
        start = time.perf_counter()
        with torch.inference_mode():
            for number in range(self.frames.num_utterances):
                self.model.compute_logits(self._frames_of(number))
        return time.perf_counter() - start

    def write(self) -> float:
        """Seconds of a whole dump, one shard."""
        start = time.perf_counter()
        numbers, ends = range(self.frames.num_utterances), self.frames.starts[1:]
        groups = np.split(numbers, np.flatnonzero(np.diff(ends // FRAMES_AT_ONCE)) + 1)
        computed = map_in_order(self._compute, groups, torch.get_num_threads())
        write_shard(self.path, chain.from_iterable(computed), self.codec.extension)
        return time.perf_counter() - start

    def _compute(self, numbers: np.ndarray) -> list[SoftTargetSample]:
        parts = [self._frames_of(number) for number in numbers]
        opinion, ends = ask_teachers(self.model, parts, (TEMPERATURE,)), np.cumsum([0, *map(len, parts)])
        return [
            self._write(number, frames, opinion.slice(slice(*span)))
            for number, frames, span in zip(numbers, parts, pairwise(ends), strict=True)
        ]

    def _write(self, number: int, frames: np.ndarray, opinion: Opinion) -> SoftTargetSample:
        records = np.zeros(len(frames), FRAME_RECORD)
        records["pdf_id"] = opinion.averages[0].argmax(1)
        records["votes"], records["distance"] = opinion.votes, opinion.distance
        content = self.codec.encode(opinion.averages[0], np.random.default_rng(number))
        return SoftTargetSample(str(number), frames, records, {TEMPERATURE: content})

    @property
    def path(self) -> Path:
        return self.folder / "train-000000.tar"

    def open(self) -> ShardReader:
        """A reader of what was written."""
        lengths = self.frames.lengths.tolist()
        identity = {
            "codec": self.config.model_dump(),
            "average": "arithmetic",
            "temperatures": [TEMPERATURE],
            "num_pdfs": NUM_PDFS,
            "features": {"num_mel_bins": NUM_BINS},
        }
        shard = {"file": self.path.name, "lengths": lengths, "num_aligned": lengths}
        write_index(self.folder, {"train": [shard]}, identity)
        return ShardReader(self.folder)


def _build(setting: Setting, num_members: int, width: int = WIDTH) -> AcousticModel:
    width = setting.shrink_width(width)
    model = build_model(describe_model(width, "tdnn"), NUM_BINS, NUM_PDFS, num_members)
    model.initialize(range(num_members))
    model.compute_dtype = choose_dtype("auto", num_members, setting.batch_size, width)
    return model


@contextmanager
def _dump(setting: Setting, width: int = WIDTH) -> Iterator[Dump]:
    """A dump that was made, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory(dir=setting.scratch_dir) as folder:
        dump = Dump(setting, Path(folder), width)
        dump.write()
        yield dump


def measure_dump(setting: Setting, width: int = WIDTH) -> Measurement:
    """Speed of the dump over that of the teachers alone: their seconds over its."""
    measured = Measurement()
    with _dump(setting, width) as dump:
        for _ in range(setting.limit_repeats(REPEATS)):
            measured.pairs.append((dump.forward(), dump.write()))
        size = dump.open().count_bytes()["bytes_per_frame"]
    forward_s, write_s = measured.pairs[-1]
    measured.remark = (
        f"{len(dump.frames) / write_s:,.0f} frames/s; teachers alone {len(dump.frames) / forward_s:,.0f}; "
        f"{size:g} bytes a frame"
    )
    return measured


def measure_reading(setting: Setting) -> Measurement:
    """Speed of reading a shard over that of copying it: seconds of the copy over those of reading."""
    measured = Measurement()
    with _dump(setting) as dump:
        dump.open().load("train", TEMPERATURE)
        for _ in range(setting.limit_repeats(REPEATS)):
            start = time.perf_counter()
            shutil.copyfile(dump.path, dump.path.with_name("copy"))
            copied = time.perf_counter()
            ShardReader(dump.folder).load("train", TEMPERATURE)
            measured.pairs.append((copied - start, time.perf_counter() - copied))
        megabytes = dump.path.stat().st_size / 1e6
    measured.remark = f"{len(dump.frames) / measured.pairs[-1][1]:,.0f} frames/s, {megabytes:.0f} MB"
    return measured


def measure_student(setting: Setting, is_large: bool = False) -> Measurement:
    """Speed of a student's epoch over that of the same on hard targets: seconds of that over its own."""
    measured = Measurement()
    with _dump(setting) as dump:
        reader = dump.open()
        soft = reader.load("train", TEMPERATURE) if is_large else open_training_frames(reader, TEMPERATURE)[0]
    assert isinstance(soft, LabelledFrames)
    hard = LabelledFrames(soft.frames, soft.starts, soft.pdf_ids)
    for frames in (hard, soft):
        _train(setting, frames)
    for _ in range(setting.limit_repeats(REPEATS)):
        measured.pairs.append((_train(setting, hard), _train(setting, soft)))
    hard_s, soft_s = measured.pairs[-1]
    measured.remark = f"{len(soft) / soft_s:,.0f} frames/s; hard targets {len(soft) / hard_s:,.0f}"
    return measured


def _train(setting: Setting, frames: FrameSource) -> float:
    """Seconds of one epoch's batches, gradients and steps; memory is kept as `Trainer` keeps it."""
    keep_freed_memory()
    model = _build(setting, 1)
    batches = Batches(frames, model, setting.batch_size, Diversity(1)).of_epoch(0)
    gradient = make_gradient(model, setting.batch_size, Dropout(0, [0]))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    start = time.perf_counter()
    for batch in batches.start_at(0):
        gradient.compute(batch, torch.full((1,), 0.5), TEMPERATURE)
        optimizer.step()
    return time.perf_counter() - start


BENCHMARKS = [
    Benchmark(name, what, against, run, at_least=at_least)
    for name, what, against, run, at_least in (
        (
            "dump_over_forward",
            "frames a second of a dump: ten teachers, average, disagreement, codec transform, shard written",
            "frames a second of the ten teachers alone",
            measure_dump,
            0.9,
        ),
        (
            "dump_over_forward[10x512]",
            "the same with ten teachers of width 512",
            "frames a second of these teachers alone",
            partial(measure_dump, width=512),
            0.9,
        ),
        (
            "shards_over_hard_labels",
            "frames a second of a student trained on soft and hard targets read from shards",
            "frames a second of the same student trained on hard targets alone",
            measure_student,
            0.95,
        ),
        (
            "shards_over_hard_labels[large]",
            "the same of a dump too large to be made dense once: each batch's soft targets are made anew",
            "the same",
            partial(measure_student, is_large=True),
            0.95,
        ),
        (
            "shard_read_over_copy",
            "bytes a second of a shard that is read, checked and decoded",
            "bytes a second of a copy of it",
            measure_reading,
            0.2,
        ),
    )
]
