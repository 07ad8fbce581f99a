"""Loss and gradients of a whole stack for one batch.

Of the DNN both are written out, in buffers that are allocated once, because under autograd masks, casts and
fresh memory took more of a step's time than the matrix products did (torch.profiler, 10 x (4 x 256), bf16);
autograd through `Dnn.forward` is its test's oracle. Other architectures go through autograd up to the loss.
Shapes: M members, B frames, H hidden units, P pdf-ids.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import torch

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.dropout import Dropout
from asrdistill.nn.extra_terms import ExtraTerm, Seen
from asrdistill.nn.frames import Batch
from asrdistill.nn.guide import JointReach, find_hidden
from asrdistill.nn.loss import LossGradient, hard_cross_entropy
from asrdistill.nn.soft_terms import SoftTermConfig, soft_term


class Gradient(Protocol):
    """Computes a batch's loss and leaves every parameter's gradient in its `.grad`.

    Attributes:
        dropout: its step is to be set before each batch.
    """

    dropout: Dropout

    @property
    def model(self) -> AcousticModel:
        """What the gradient is of."""

    def compute(self, batch: Batch, hard_weights: torch.Tensor, temperature: float) -> torch.Tensor:
        """Fill all gradients.

        Args:
            batch: as the model reads it.
            hard_weights: float32 (M,).
            temperature: T of the soft targets.

        Returns:
            The loss of each member, float32 (M,).
        """


def make_gradient(model: AcousticModel, batch_size: int, dropout: Dropout) -> Gradient:
    """The fastest way that there is for a model.

    Args:
        model: its parameters' `.grad` are filled.
        batch_size: frames of a batch of windows.
        dropout: of hidden units.
    """
    if isinstance(model, Dnn):
        return DnnGradient(model, batch_size, dropout)
    return AutogradGradient(model, dropout)


class AutogradGradient:
    """By torch's automatic differentiation: for any architecture."""

    def __init__(self, model: AcousticModel, dropout: Dropout) -> None:
        self.model, self.dropout = model, dropout
        self.loss = LossGradient()

    def compute(self, batch: Batch, hard_weights: torch.Tensor, temperature: float) -> torch.Tensor:
        for parameter in self.model.parameters():
            parameter.grad = None
        logits = self.model(batch.inputs, batch.lengths, self.dropout)
        loss = self.loss.compute(logits.detach(), batch, hard_weights, temperature)
        logits.backward(self.loss.gradient)
        return loss


class TermsGradient:
    """By automatic differentiation, of other losses than `distillation_loss`.

    The loss is w * CE(hard) + (1 - w) * soft term + extra terms; these see the hidden layers of the guide, if
    there is one, on the same batch, whose inputs are for both.
    """

    def __init__(
        self,
        model: AcousticModel,
        dropout: Dropout,
        term: SoftTermConfig,
        extra_terms: Sequence[ExtraTerm],
        guide: AcousticModel | None,
    ) -> None:
        self.model, self.dropout = model, dropout
        self.term, self.extra_terms = term, extra_terms
        self.needs_hidden = any(extra.needs_hidden for extra in extra_terms)
        self.guide = guide
        self.reach = JointReach(model, guide or model)

    def compute(self, batch: Batch, hard_weights: torch.Tensor, temperature: float) -> torch.Tensor:
        of_terms = (extra.parameters() for extra in self.extra_terms)
        for parameter in chain(self.model.parameters(), *of_terms):
            parameter.grad = None
        hidden: list[torch.Tensor] | None = [] if self.needs_hidden else None
        inputs = self.reach.narrow(batch.inputs, self.model)
        logits = self.model(inputs, batch.lengths, self.dropout, hidden)
        guide_hidden: Sequence[torch.Tensor] = ()
        if self.guide is not None:
            heard = self.reach.narrow(batch.inputs, self.guide)
            guide_hidden = find_hidden(self.guide, heard, batch.lengths)
        loss = hard_cross_entropy(logits, batch)
        if batch.soft_targets is not None:
            soft = soft_term(self.term, logits, batch, temperature)
            loss = hard_weights * loss + (1 - hard_weights) * soft
        seen = Seen(batch, logits, hidden or (), guide_hidden)
        for extra in self.extra_terms:
            loss = loss + extra(seen)
        loss.sum().backward()
        return loss.detach()


class DnnGradient:
    """By hand, for the DNN, on batches of one size.

    In float32 the products read and write the weights and gradients themselves; otherwise they work on copies
    in the compute type.
    """

    def __init__(self, model: Dnn, batch_size: int, dropout: Dropout) -> None:
        self.model, self.dropout = model, dropout
        dtype, members = model.compute_dtype, model.num_members
        sizes = [weight.shape[2] for weight in model.weights]
        self.outputs = [torch.empty(members, batch_size, size, dtype=dtype) for size in sizes]
        self.output_gradients = [torch.empty_like(output) for output in self.outputs]
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        self.inputs = torch.empty(0, dtype=dtype)
        self.logits = torch.empty(members, batch_size, model.num_pdfs)
        self.loss = LossGradient()
        self.is_cast = dtype != torch.float32
        self.weights = [self._copy_of(weight.detach()) for weight in model.weights]
        self.weight_gradients = [self._copy_of(_gradient_of(weight)) for weight in model.weights]
        self.shared = _SharedLayer(model, batch_size) if self.is_cast else None

    def _copy_of(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.model.compute_dtype)

    @torch.no_grad()
    def compute(self, batch: Batch, hard_weights: torch.Tensor, temperature: float) -> torch.Tensor:
        if batch.inputs.shape != self.inputs.shape:
            self.inputs = torch.empty(batch.inputs.shape, dtype=self.model.compute_dtype)
        self.inputs.copy_(batch.inputs)
        self._forward()
        loss = self.loss.compute(self.logits, batch, hard_weights, temperature)
        self.output_gradients[-1].copy_(self.loss.gradient)
        self._backward()
        return loss

    def _forward(self) -> None:
        last = len(self.outputs) - 1
        for layer, output in enumerate(self.outputs):
            self._multiply(layer)
            if layer < last:
                self.dropout.bias_relu(output, self.model.biases[layer].detach(), layer)
        self.logits.copy_(self.outputs[-1]).add_(self.model.biases[-1])

    def _multiply(self, layer: int) -> None:
        weight, output = self.model.weights[layer].detach(), self.outputs[layer]
        if not layer and self.shared and len(self.inputs) == 1:
            self.shared.multiply(self.inputs[0], weight, output)
            return
        if self.is_cast:
            self.weights[layer].copy_(weight)
        below = self.outputs[layer - 1] if layer else self.inputs.expand(len(weight), -1, -1)
        torch.bmm(below, self.weights[layer], out=output)

    def _backward(self) -> None:
        torch.sum(self.loss.gradient, 1, keepdim=True, out=_gradient_of(self.model.biases[-1]))
        for layer in range(len(self.outputs) - 1, -1, -1):
            self._fill_weight_gradient(layer)
            if layer:
                gradient, weight = self.output_gradients[layer], self.weights[layer]
                passed_down = self.output_gradients[layer - 1]
                torch.bmm(gradient, weight.transpose(1, 2), out=passed_down)
                bias_gradient = _gradient_of(self.model.biases[layer - 1])
                self.dropout.bias_relu_backward(passed_down, self.outputs[layer - 1], bias_gradient)

    def _fill_weight_gradient(self, layer: int) -> None:
        gradient, wanted = self.output_gradients[layer], _gradient_of(self.model.weights[layer])
        if not layer and self.shared and len(self.inputs) == 1:
            self.shared.fill_gradient(self.inputs[0], gradient, wanted)
            return
        below = self.outputs[layer - 1] if layer else self.inputs.expand(len(wanted), -1, -1)
        torch.bmm(below.transpose(1, 2), gradient, out=self.weight_gradients[layer])
        if self.is_cast:
            wanted.copy_(self.weight_gradients[layer])


class _SharedLayer:
    """The first layer of all members as one product, where they read the same windows.

    A batched product would copy the windows for each member, transposed ones slowly: at 10 x (4 x 128) in
    bfloat16 that was half of a step. In float32 no copy is made, and the batched product is as fast.
    """

    def __init__(self, model: Dnn, batch_size: int) -> None:
        members, num_inputs, width = model.weights[0].shape
        self.weight = torch.empty(num_inputs, members, width, dtype=model.compute_dtype)
        self.weight_gradient = torch.empty_like(self.weight)
        self.output = torch.empty(batch_size, members, width, dtype=model.compute_dtype)

    def multiply(self, windows: torch.Tensor, weight: torch.Tensor, output: torch.Tensor) -> None:
        """Fill the output (M, B, H) of windows (B, D) and weights (M, D, H)."""
        self.weight.copy_(weight.transpose(0, 1))
        torch.mm(windows, self.weight.flatten(1), out=self.output.flatten(1))
        output.copy_(self.output.transpose(0, 1))

    def fill_gradient(self, windows: torch.Tensor, gradient: torch.Tensor, wanted: torch.Tensor) -> None:
        """Fill the weights' gradient (M, D, H) from that of the output (M, B, H)."""
        self.output.copy_(gradient.transpose(0, 1))
        torch.mm(windows.t(), self.output.flatten(1), out=self.weight_gradient.flatten(1))
        wanted.copy_(self.weight_gradient.transpose(0, 1))


def _gradient_of(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad
