"""Frames of a toy problem: two features that tell the pdf-id, in utterances of uneven length."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dropout import Dropout, relu_dropout
from asrdistill.nn.frames import LabelledFrames
from asrdistill.nn.soft_targets import DenseTargets

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
    return LabelledFrames(frames, starts, pdf_ids, None if soft is None else DenseTargets(soft))


class UtteranceModel(AcousticModel):
    """A DNN of one hidden layer that cuts the windows out of whole utterances itself.

    Its parameters have the names and shapes of a `Dnn` of the same context.
    """

    reads_utterances = True

    def __init__(self, config: AcousticModelConfig, num_bins: int, num_pdfs: int, num_members: int) -> None:
        super().__init__(config, num_bins, num_pdfs, num_members)
        self.past, self.future = config.context.past, config.context.future
        sizes = [config.context.num_frames * num_bins, config.hidden_size, num_pdfs]
        self.weights = torch.nn.ParameterList(
            self.new_parameter(sizes[i], sizes[i + 1], spread=0.3) for i in (0, 1)
        )
        self.biases = torch.nn.ParameterList(self.new_parameter(1, size) for size in sizes[1:])

    def forward(
        self,
        inputs: torch.Tensor,
        lengths: torch.Tensor | None = None,
        dropout: Dropout | None = None,
        hidden: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        assert lengths is not None and hidden is None
        assert inputs.shape[1] == self.past + int(lengths.max()) + self.future
        dtype = self.compute_dtype
        windows = inputs.unfold(1, self.past + 1 + self.future, 1).transpose(2, 3)
        hidden = windows.reshape(1, -1, self.weights[0].shape[1]).to(dtype).expand(self.num_members, -1, -1)
        hidden = torch.bmm(hidden, self.weights[0].to(dtype)) + self.biases[0].to(dtype)
        hidden = relu_dropout(hidden, dropout, 0)
        return (torch.bmm(hidden, self.weights[1].to(dtype)) + self.biases[1].to(dtype)).float()


@pytest.fixture
def make_frames() -> Callable[..., LabelledFrames]:
    return draw_frames


@pytest.fixture
def utterance_model_type() -> type[AcousticModel]:
    return UtteranceModel
