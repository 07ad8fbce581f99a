"""Loss and gradients of a whole stack in one sweep, in buffers that are allocated once.

Written out by hand because under autograd masks, casts and fresh memory took more of a step's time than the
matrix products did (torch.profiler, 10 x (4 x 256), bf16); autograd through `StackedAcousticModel.forward` is
its test's oracle.
Shapes: M members, B frames, H hidden units, P pdf-ids.
"""

import torch

from asrdistill.nn.acoustic_model import StackedAcousticModel
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.frames import Batch
from asrdistill.nn.loss import loss_and_gradient


class StackedGradient:
    """Computes a batch's loss and leaves every parameter's gradient in its `.grad`."""

    def __init__(self, model: StackedAcousticModel, batch_size: int, dropout: Dropout) -> None:
        self.model = model
        self.dropout = dropout
        dtype, members = model.compute_dtype, model.num_members
        sizes = [weight.shape[2] for weight in model.weights]
        self.outputs = [torch.empty(members, batch_size, size, dtype=dtype) for size in sizes]
        self.output_gradients = [torch.empty_like(output) for output in self.outputs]
        self.weights = [torch.empty(weight.shape, dtype=dtype) for weight in model.weights]
        self.weight_gradients = [torch.empty_like(weight) for weight in self.weights]
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)

    @torch.no_grad()
    def compute(
        self, batch: Batch, hard_weights: torch.Tensor, temperature: float, step: int
    ) -> torch.Tensor:
        """Fill all gradients.

        Args:
            batch: of exactly `batch_size` frames.
            hard_weights: float32 (M,).
            temperature: T of the soft targets.
            step: counts optimiser steps; part of the dropout's seed.

        Returns:
            The loss of each member, float32 (M,), mean over the batch.
        """
        inputs = batch.windows.to(self.model.compute_dtype).expand(self.model.num_members, -1, -1)
        self._forward(inputs, step)
        loss, gradient = loss_and_gradient(
            self.outputs[-1].float(), batch.pdf_ids, hard_weights, batch.soft_targets, temperature
        )
        self.output_gradients[-1].copy_(gradient)
        self._backward(inputs)
        return loss

    def _forward(self, inputs: torch.Tensor, step: int) -> None:
        last = len(self.outputs) - 1
        hidden = inputs
        for layer, output in enumerate(self.outputs):
            # The dropout's scale rides on the next layer's weights: one pass less over the activations.
            scale = self.dropout.scale if layer else 1.0
            torch.mul(self.model.weights[layer], scale, out=self.weights[layer])
            torch.bmm(hidden, self.weights[layer], out=output)
            output += self.model.biases[layer].to(output.dtype)
            if layer < last:
                self.dropout.apply_relu(output, step, layer)
            hidden = output

    def _backward(self, inputs: torch.Tensor) -> None:
        for layer in range(len(self.outputs) - 1, -1, -1):
            gradient = self.output_gradients[layer]
            below = self.outputs[layer - 1] if layer else inputs
            torch.bmm(below.transpose(1, 2), gradient, out=self.weight_gradients[layer])
            scale = self.dropout.scale if layer else 1.0
            torch.mul(self.weight_gradients[layer], scale, out=_gradient_of(self.model.weights[layer]))
            torch.sum(
                gradient, 1, keepdim=True, dtype=torch.float32, out=_gradient_of(self.model.biases[layer])
            )
            if layer:
                passed_down = self.output_gradients[layer - 1]
                torch.bmm(gradient, self.weights[layer].transpose(1, 2), out=passed_down)
                # Zero where the unit was off, be it by ReLU or by dropout.
                torch.ops.aten.threshold_backward.grad_input(passed_down, below, 0, grad_input=passed_down)


def _gradient_of(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad
