"""A time-delay network: ReLU convolutions over time, each on the one before, then a linear output layer.

Source: Peddinti, Povey & Khudanpur (2015), "A time delay neural network architecture for efficient modeling
of long temporal contexts".
Differs: no sub-sampling of layers' outputs, as every frame is classified; ReLU without normalisation.
Shapes: M members, S utterances of T = past + L + future frames, N = S * T, K taps, H units, P pdf-ids.
"""

from itertools import pairwise

import torch
from torch.nn.functional import pad

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dropout import Dropout, relu_dropout


class Tdnn(AcousticModel):
    """Convolves all utterances of a batch as one sequence; windows across two of them are not looked at."""

    reads_utterances = True

    def __init__(self, config: AcousticModelConfig, num_bins: int, num_pdfs: int, num_members: int) -> None:
        super().__init__(config, num_bins, num_pdfs, num_members)
        taps = config.tdnn.kernel_size
        self.dilations = config.tdnn.dilations_of(config.num_hidden_layers)
        reach = (taps - 1) * sum(self.dilations)
        self.past, self.future = reach - reach // 2, reach // 2
        shapes = [
            (taps, *pair) for pair in pairwise([num_bins, *[config.hidden_size] * config.num_hidden_layers])
        ]
        # He et al. (2015), for ReLU; small logits at first.
        self.weights = torch.nn.ParameterList(
            self.new_parameter(*shape, spread=(2 / (shape[0] * shape[1])) ** 0.5) for shape in shapes
        )
        self.biases = torch.nn.ParameterList(self.new_parameter(1, shape[2]) for shape in shapes)
        size = config.hidden_size
        self.output = torch.nn.ParameterList(
            [
                self.new_parameter(size, num_pdfs, spread=0.1 * (2 / size) ** 0.5),
                self.new_parameter(1, num_pdfs),
            ]
        )

    def forward(
        self, inputs: torch.Tensor, lengths: torch.Tensor | None = None, dropout: Dropout | None = None
    ) -> torch.Tensor:
        """Logits, float32 (M, S * L, P), of padded utterances (S, T, F)."""
        dtype = self.compute_dtype
        num_utterances, num_frames = inputs.shape[:2]
        hidden = inputs.to(dtype).flatten(0, 1).expand(self.num_members, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = convolve(hidden, weight.to(dtype), bias.to(dtype), self.dilations[layer])
            hidden = relu_dropout(hidden, dropout, layer)
        reach = self.past + self.future
        rows = pad(hidden, (0, 0, 0, reach)).unflatten(1, (num_utterances, num_frames))
        classified = rows[:, :, : num_frames - reach].flatten(1, 2)
        weight, bias = self.output
        return torch.baddbmm(bias.to(dtype), classified, weight.to(dtype)).float()


def convolve(frames: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, dilation: int) -> torch.Tensor:
    """Convolution over time: row n of the result is that of the window that begins at frame n.

    Args:
        frames: (M, N, D).
        weight: (M, K, D, H).
        bias: (M, 1, H).
        dilation: frames from one tap to the next.

    Returns:
        (M, N - (K - 1) * dilation, H).
    """
    num_taps = weight.shape[1]
    num_windows = frames.shape[1] - (num_taps - 1) * dilation
    shifted = [frames[:, tap * dilation :][:, :num_windows] for tap in range(num_taps)]
    return torch.baddbmm(bias, torch.cat(shifted, 2), weight.flatten(1, 2))
