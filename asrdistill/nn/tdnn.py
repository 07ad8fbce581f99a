"""A time-delay network: ReLU convolutions over time, each on the one before, then a linear output layer.

Source: Peddinti, Povey & Khudanpur (2015), "A time delay neural network architecture for efficient modeling
of long temporal contexts".
Differs: no sub-sampling of layers' outputs, as every frame is classified; ReLU without normalisation.
Shapes: M members, S utterances of T = past + L + future frames, N = S * T, K taps, H units, P pdf-ids.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dropout import Dropout

# Batches of utterances differ in length, and for every number of rows that it has not met lately oneDNN
# compiles its bfloat16 products anew: that took more time than the products themselves.
ROW_STEP = 64


class Tdnn(AcousticModel):
    """Convolves all utterances of a batch as one sequence; windows across two of them are not looked at."""

    reads_utterances = True

    def __init__(self, config: AcousticModelConfig, num_bins: int, num_pdfs: int, num_members: int) -> None:
        super().__init__(config, num_bins, num_pdfs, num_members)
        taps = config.tdnn.kernel_size
        self.dilations = config.tdnn.dilations_of(config.num_hidden_layers)
        reach = (taps - 1) * sum(self.dilations)
        self.past, self.future = _divide(reach)
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
        self,
        inputs: torch.Tensor,
        lengths: torch.Tensor | None = None,
        dropout: Dropout | None = None,
        hidden: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Logits, float32 (M, S * L, P), of padded utterances (S, T, F)."""
        rows = self._convolve(inputs, dropout, hidden)
        return self._classify(self._take_classified(rows, inputs.shape[:2], len(self.weights) - 1))

    @torch.inference_mode()
    def compute_logits_of_several(self, utterances: Sequence[np.ndarray]) -> torch.Tensor:
        """As one sequence, like a batch; windows across two utterances are not looked at."""
        padded = [self._pad(torch.as_tensor(frames)) for frames in utterances]
        starts = np.cumsum([0, *map(len, padded)])
        spans = [np.arange(start, start + len(u)) for start, u in zip(starts[:-1], utterances, strict=True)]
        rows = self._convolve(torch.cat(padded)[None], None, None)
        return self._classify(rows[:, torch.from_numpy(np.concatenate(spans))])

    def _convolve(
        self, inputs: torch.Tensor, dropout: Dropout | None, hidden: list[torch.Tensor] | None
    ) -> torch.Tensor:
        """The last hidden layer, (M, S * T - reach, H), with rows that fill up in bfloat16."""
        dtype = self.compute_dtype
        rows = _fill_up(inputs.to(dtype).flatten(0, 1)).expand(self.num_members, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            dilation = self.dilations[layer]
            if dropout is None:
                rows = convolve(rows, weight.to(dtype), bias.to(dtype), dilation).relu_()
            else:
                rows = _TrainedLayer.apply(rows, weight.to(dtype), bias, dilation, dropout, layer)
            if hidden is not None:
                hidden.append(self._take_classified(rows, inputs.shape[:2], layer))
        return rows

    def _classify(self, classified: torch.Tensor) -> torch.Tensor:
        """Logits, float32 (M, N, P), of rows of the last hidden layer, (M, N, H)."""
        dtype = self.compute_dtype
        weight, bias = self.output
        logits = torch.baddbmm(bias.to(dtype), _fill_up(classified), weight.to(dtype))
        return logits[:, : classified.shape[1]].float()

    def _take_classified(self, rows: torch.Tensor, shape: torch.Size, layer: int) -> torch.Tensor:
        """Of a layer's rows those of the classified frames: windows with the frame in their middle.

        Args:
            rows: (M, N - those that the layers up to this one reach, H), with rows that fill up in bfloat16.
            shape: (S, T).
            layer: its number, from 0.

        Returns:
            (M, S * L, H).
        """
        taps = self.weights[0].shape[1]
        past, _ = _divide((taps - 1) * sum(self.dilations[: layer + 1]))
        first, num_classified = self.past - past, shape[1] - self.past - self.future
        of_utterances = pad(rows, (0, 0, 0, shape.numel() - rows.shape[1])).unflatten(1, shape)
        return of_utterances[:, :, first : first + num_classified].flatten(1, 2)


def _divide(reach: int) -> tuple[int, int]:
    """Frames of a window besides its middle: those before, and those after."""
    return reach - reach // 2, reach // 2


def _fill_up(rows: torch.Tensor) -> torch.Tensor:
    """Rows (..., N, H), in bfloat16 with as many of zeros as make their number a multiple of ROW_STEP."""
    missing = -rows.shape[-2] % ROW_STEP
    return pad(rows, (0, 0, 0, missing)) if missing and rows.dtype == torch.bfloat16 else rows


class _TrainedLayer(torch.autograd.Function):
    """Convolution, bias, ReLU and dropout of one layer, and the way back.

    Written out, because automatic differentiation fills a whole array with zeros for the gradient of each
    tap's frames, and passes over the activations once for each of bias, ReLU and dropout.
    """

    @staticmethod
    def forward(
        ctx: Any,
        frames: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        dilation: int,
        dropout: Dropout,
        layer: int,
    ) -> torch.Tensor:
        windows = _gather_windows(frames, weight.shape[1], dilation)
        outputs = torch.bmm(windows, weight.flatten(1, 2))
        dropout.bias_relu(outputs, bias, layer)
        ctx.save_for_backward(windows, weight, outputs)
        ctx.dilation, ctx.dropout, ctx.num_frames = dilation, dropout, frames.shape[1]
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        windows, weight, outputs = ctx.saved_tensors
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        bias_gradient = torch.empty(len(weight), 1, weight.shape[3])
        ctx.dropout.bias_relu_backward(gradient, outputs, bias_gradient)
        weight_gradient = torch.bmm(windows.transpose(1, 2), gradient).view(weight.shape)
        if not ctx.needs_input_grad[0]:
            return None, weight_gradient, bias_gradient, None, None, None
        num_taps, num_inputs = weight.shape[1:3]
        of_windows = torch.bmm(gradient, weight.flatten(1, 2).transpose(1, 2))
        passed_down = gradient.new_zeros(len(weight), ctx.num_frames, num_inputs)
        for tap, of_tap in enumerate(of_windows.split([num_inputs] * num_taps, 2)):
            passed_down[:, tap * ctx.dilation :][:, : of_tap.shape[1]] += of_tap
        return passed_down, weight_gradient, bias_gradient, None, None, None


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
    return torch.baddbmm(bias, _gather_windows(frames, weight.shape[1], dilation), weight.flatten(1, 2))


def _gather_windows(frames: torch.Tensor, num_taps: int, dilation: int) -> torch.Tensor:
    """What each convolution sees, (M, N - (K - 1) * dilation, K * D)."""
    num_windows = frames.shape[1] - (num_taps - 1) * dilation
    return torch.cat([frames[:, tap * dilation :][:, :num_windows] for tap in range(num_taps)], 2)
