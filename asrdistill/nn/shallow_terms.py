"""Output layers on hidden ones further down: they learn from the alignment and from the deepest one.

Source: Zhang et al. (2019), arXiv:1905.08094 ("Be your own teacher"), section 3.
Differs: the two parts count alike, as with their alpha of 0.5; the soft one is a cross-entropy times T^2, as
in the loss of the model itself; a shallow output layer is one linear layer, without a bottleneck before it;
hidden layers are not pulled towards the deepest one's, which is what `hidden_terms` does of a guide.
Shapes: M members, B frames, H units, P pdf-ids.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch.nn.functional import softmax

from asrdistill.config import Config
from asrdistill.errors import RecipeError
from asrdistill.nn.extra_terms import ExtraTerm, Seen
from asrdistill.nn.loss import hard_cross_entropy, soft_cross_entropy

# Output layers are drawn by seeds this far apart, so that no two are alike, nor like the model's own weights.
SEED_STEP = 1_000_033


class ShallowHeadsConfig(Config):
    """A term of the student's loss: that of output layers on its shallower hidden layers."""

    kind: Literal["shallow_heads"] = Field("shallow_heads", description="output layers on hidden ones")
    every: int = Field(2, ge=1, description="hidden layers from one that has an output layer to the next")
    weight: float = Field(1.0, gt=0, description="of the term in the loss")
    temperature: float = Field(2.0, gt=0, description="T at which the deepest output layer is learnt from")


class ShallowHeadsTerm(ExtraTerm):
    """Mean loss of the shallow output layers.

    Attributes:
        layers: the hidden layers that have one, from 0.
    """

    needs_hidden = True

    def __init__(
        self,
        config: ShallowHeadsConfig,
        num_hidden_layers: int,
        hidden_size: int,
        num_pdfs: int,
        seeds: Sequence[int],
    ) -> None:
        """Args:
        config: of the term.
        num_hidden_layers: of the student.
        hidden_size: H.
        num_pdfs: P.
        seeds: one for each member.

        Raises:
            RecipeError: the student has no hidden layer that far below its last one.
        """
        super().__init__()
        self.config = config
        self.layers = range(config.every - 1, num_hidden_layers - 1, config.every)
        if not self.layers:
            raise RecipeError(
                f"shallow_heads.every is {config.every}, and the student has {num_hidden_layers} hidden "
                "layers: none below the last one is to have an output layer; take fewer, or a deeper student"
            )
        # Small logits at first, as of the model's own output layer.
        spread = 0.1 * (2 / hidden_size) ** 0.5
        drawn_by = [
            [seed + SEED_STEP * number for seed in seeds] for number in range(1, len(self.layers) + 1)
        ]
        self.weights = torch.nn.ParameterList(
            self.draw_parameter(own, hidden_size, num_pdfs, spread=spread) for own in drawn_by
        )
        self.biases = torch.nn.ParameterList(self.draw_parameter(own, 1, num_pdfs) for own in drawn_by)

    def forward(self, seen: Seen) -> torch.Tensor:
        temperature = self.config.temperature
        batch = replace(seen.batch, soft_targets=softmax(seen.logits.detach() / temperature, 2))
        losses = []
        for layer, weight, bias in zip(self.layers, self.weights, self.biases, strict=True):
            logits = torch.baddbmm(bias, seen.hidden[layer].float(), weight)
            hard, soft = hard_cross_entropy(logits, batch), soft_cross_entropy(logits, batch, temperature)
            losses.append((hard + soft) / 2)
        return self.config.weight * torch.stack(losses).mean(0)
