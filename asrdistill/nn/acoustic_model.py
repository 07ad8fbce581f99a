"""The acoustic model: feed-forward ReLU networks of one architecture, stacked along a leading member axis.

A single model is a stack of one. Shapes: M members, B frames, D inputs (context window), H hidden units,
P pdf-ids.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field

from asrdistill.config import Config
from asrdistill.features.context import ContextConfig


class AcousticModelConfig(Config):
    """Architecture of an acoustic model, teacher or student."""

    num_hidden_layers: int = Field(4, ge=1, description="hidden layers (Hinton et al. 2015: 8)")
    hidden_size: int = Field(512, ge=1, description="ReLU units a hidden layer (Hinton et al. 2015: 2560)")
    context: ContextConfig = Field(ContextConfig(), description="frames that the model sees")

    def layer_sizes(self, num_bins: int, num_pdfs: int) -> list[int]:
        """Units of every layer, input and output included."""
        return [self.context.num_frames * num_bins, *[self.hidden_size] * self.num_hidden_layers, num_pdfs]

    def count_parameters(self, num_bins: int, num_pdfs: int) -> int:
        """Weights and biases of one member."""
        sizes = self.layer_sizes(num_bins, num_pdfs)
        return sum((a + 1) * b for a, b in pairwise(sizes))


class StackedAcousticModel(torch.nn.Module):
    """M networks computed as one: every layer is a batched matrix product.

    Weights are kept in float32; products run in `compute_dtype`, logits come back in float32.
    """

    def __init__(self, sizes: Sequence[int], num_members: int) -> None:
        super().__init__()
        pairs = list(pairwise(sizes))
        self.weights = torch.nn.ParameterList(torch.zeros(num_members, a, b) for a, b in pairs)
        self.biases = torch.nn.ParameterList(torch.zeros(num_members, 1, b) for _, b in pairs)
        self.compute_dtype = torch.float32

    @property
    def num_members(self) -> int:
        return self.weights[0].shape[0]

    @property
    def num_pdfs(self) -> int:
        return self.weights[-1].shape[-1]

    def initialize(self, seeds: Sequence[int]) -> "StackedAcousticModel":
        """Draw initial weights, He et al. (2015) for ReLU; a member's depend on its own seed alone."""
        with torch.no_grad():
            for member, seed in enumerate(seeds):
                generator = torch.Generator().manual_seed(seed)
                for weight in self.weights:
                    scale = (2 / weight.shape[1]) ** 0.5
                    weight[member] = scale * torch.randn(weight.shape[1:], generator=generator)
                self.weights[-1][member] *= 0.1
        return self

    def select_members(self, members: Sequence[int]) -> "StackedAcousticModel":
        """A new stack of some of the members."""
        sizes = [self.weights[0].shape[1], *(weight.shape[2] for weight in self.weights)]
        selected = StackedAcousticModel(sizes, len(members))
        selected.compute_dtype = self.compute_dtype
        rows = list(members)
        selected.load_state_dict({name: tensor[rows] for name, tensor in self.state_dict().items()})
        return selected

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits, float32 (M, B, P), of the same context windows (B, D) for every member."""
        hidden = windows.to(self.compute_dtype).expand(self.num_members, -1, -1)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias.to(self.compute_dtype), hidden, weight.to(self.compute_dtype))
            if layer < last:
                hidden = torch.relu(hidden)
        return hidden.float()
