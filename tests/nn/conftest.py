"""Frames of a toy problem: two features that tell the pdf-id, in utterances of uneven length."""

from collections.abc import Callable

import numpy as np
import pytest

from asrdistill.nn.frames import LabelledFrames

NUM_PDFS, NUM_BINS = 4, 3
LENGTHS = (30, 1, 57, 12, 200, 44, 160)


def draw_frames(seed: int, with_soft_targets: bool = False) -> LabelledFrames:
    """The pdf-id is the quadrant of the first two coefficients; utterance 3 is not aligned."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *LENGTHS])
    frames = rng.normal(size=(starts[-1], NUM_BINS)).astype(np.float16)
    pdf_ids = (2 * (frames[:, 0] > 0) + (frames[:, 1] > 0)).astype(np.int32)
    pdf_ids[starts[3] : starts[4]] = -1
    soft = rng.dirichlet(np.ones(NUM_PDFS), len(frames)).astype(np.float16) if with_soft_targets else None
    return LabelledFrames(frames, starts, pdf_ids, soft)


@pytest.fixture
def make_frames() -> Callable[..., LabelledFrames]:
    return draw_frames
