"""The paper's acoustic model: a feed-forward ReLU network over a context window.

Source: Hinton, Vinyals & Dean (2015), arXiv:1503.02531, section 3.
Shapes: M members, B frames, D inputs (context window), P pdf-ids.
"""

from itertools import pairwise

import torch

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dropout import Dropout, relu_dropout


class Dnn(AcousticModel):
    """Every layer is one batched matrix product over the members."""

    reads_utterances = False

    def __init__(self, config: AcousticModelConfig, num_bins: int, num_pdfs: int, num_members: int) -> None:
        super().__init__(config, num_bins, num_pdfs, num_members)
        self.past, self.future = config.context.past, config.context.future
        hidden = [config.hidden_size] * config.num_hidden_layers
        pairs = list(pairwise([config.context.num_frames * num_bins, *hidden, num_pdfs]))
        # He et al. (2015), for ReLU; small logits at first.
        spreads = [(2 / size) ** 0.5 for size, _ in pairs]
        spreads[-1] *= 0.1
        self.weights = torch.nn.ParameterList(
            self.new_parameter(*pair, spread=spread) for pair, spread in zip(pairs, spreads, strict=True)
        )
        self.biases = torch.nn.ParameterList(self.new_parameter(1, size) for _, size in pairs)

    def forward(
        self,
        inputs: torch.Tensor,
        lengths: torch.Tensor | None = None,
        dropout: Dropout | None = None,
        hidden: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Logits, float32 (M, B, P), of context windows (M or 1, B, D)."""
        dtype = self.compute_dtype
        rows = inputs.to(dtype).expand(self.num_members, -1, -1)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = torch.bmm(rows, weight.to(dtype)).add_(bias.to(dtype))
            if layer < last:
                rows = relu_dropout(rows, dropout, layer)
                if hidden is not None:
                    hidden.append(rows)
        return rows.float()
