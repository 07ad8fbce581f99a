"""Labelled frames for the benchmarks: drawn at random, but such that there is something to learn.

Pdf-ids last for some frames; each has a mean of its own, which noise and an offset of the utterance hide, so
that a frame's neighbours tell much about it.
"""

from pathlib import Path

import numpy as np

from asrdistill.nn.frames import LabelledFrames

NUM_PDFS, NUM_BINS = 120, 40
MEAN_UTTERANCE_FRAMES, MEAN_PDF_FRAMES = 300, 5
NOISE, OFFSET = 1.0, 0.5


def draw_frames(num_frames: int, seed: int) -> LabelledFrames:
    """So many frames, all with a hard target; the pdf-ids' means are those of every seed."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(0).normal(size=(NUM_PDFS, NUM_BINS))
    num_segments = num_frames  # more than enough, as each has at least one frame
    durations = rng.geometric(1 / MEAN_PDF_FRAMES, num_segments)
    pdf_ids = np.repeat(rng.integers(NUM_PDFS, size=num_segments), durations)[:num_frames].astype(np.int32)
    inner = rng.choice(np.arange(1, num_frames), num_frames // MEAN_UTTERANCE_FRAMES, replace=False)
    starts = np.array([0, *np.sort(inner), num_frames])
    offsets = np.repeat(rng.normal(0, OFFSET, (len(starts) - 1, NUM_BINS)), np.diff(starts), axis=0)
    frames = means[pdf_ids] + offsets + rng.normal(0, NOISE, (num_frames, NUM_BINS))
    return LabelledFrames(frames.astype(np.float16), starts, pdf_ids)


def draw_splits(num_frames: int) -> tuple[LabelledFrames, LabelledFrames]:
    """A training split, and a dev split of a tenth of it."""
    return draw_frames(num_frames, 1), draw_frames(num_frames // 10, 2)


def map_from_disk(frames: LabelledFrames, path: Path) -> LabelledFrames:
    """The same frames, memory-mapped as those of the frame store are."""
    frames.frames.tofile(path)
    mapped = np.memmap(path, np.float16, "c", shape=frames.frames.shape)
    return LabelledFrames(mapped, frames.starts, frames.pdf_ids)
