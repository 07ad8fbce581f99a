"""A small conformer: self-attention and convolution over the whole utterance.

Source: Gulati et al. (2020), arXiv:2005.08100; rotary positions: Su et al. (2021), arXiv:2104.09864;
layer normalisation: Ba, Kiros & Hinton (2016), arXiv:1607.06450.
Differs, to be smaller: one feed-forward module of 4 H after the convolution in place of two at half weight;
rotary in place of relative positions; layer norm in place of batch norm and ReLU in place of SiLU in the
convolution module; gain and bias of a norm only where no linear layer follows, which could do the same; no
bias where a module's output is added to its input; dropout after ReLU only; no sub-sampling, as every frame
is classified.
Shapes: M members, S utterances padded to L frames, B = S * L, H units, A heads, K taps, P pdf-ids.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dropout import Dropout, relu_dropout

FEED_FORWARD_FACTOR = 4
# The slowest rotation has about this wavelength / 2 pi, in frames (Su et al. 2021).
ROTARY_BASE = 10_000.0
# In bfloat16 utterances are padded to multiples of so many frames: oneDNN compiles its products anew for
# every shape that it has not met lately.
LENGTH_STEP = 64


@dataclass(frozen=True)
class _Utterances:
    """What the blocks are told of a batch.

    Attributes:
        num_utterances: S.
        phases: complex64 (L, H / A / 2), rotations of queries and keys.
        valid: bool (S, L), False for padding; None where there is none.
    """

    num_utterances: int
    phases: torch.Tensor
    valid: torch.Tensor | None


class Conformer(AcousticModel):
    """Blocks of self-attention, convolution and feed-forward layer, each added to its own input."""

    reads_utterances = True
    past = future = 0

    def __init__(self, config: AcousticModelConfig, num_bins: int, num_pdfs: int, num_members: int) -> None:
        super().__init__(config, num_bins, num_pdfs, num_members)
        size = config.hidden_size
        # Parameters of its own come before those of the blocks, as in `parameters()`.
        self.input_weight = self.new_parameter(num_bins, size, spread=num_bins**-0.5)
        self.input_bias = self.new_parameter(1, size)
        # Small logits at first.
        self.output_weight = self.new_parameter(size, num_pdfs, spread=0.1 * size**-0.5)
        self.output_bias = self.new_parameter(1, num_pdfs)
        self.blocks = torch.nn.ModuleList(
            _Block(config, self.new_parameter, number) for number in range(config.num_hidden_layers)
        )

    def forward(
        self,
        inputs: torch.Tensor,
        lengths: torch.Tensor | None = None,
        dropout: Dropout | None = None,
        hidden: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Logits, float32 (M, B, P), of padded utterances (S, L, F); without lengths, none is padded."""
        num_utterances, num_given = inputs.shape[:2]
        if self.compute_dtype == torch.bfloat16 and num_given % LENGTH_STEP:
            lengths = torch.full((num_utterances,), num_given) if lengths is None else lengths
            inputs = F.pad(inputs, (0, 0, 0, -num_given % LENGTH_STEP))
        num_frames = inputs.shape[1]
        head_size = self.config.hidden_size // self.config.conformer.num_heads
        is_padded = lengths is not None and int(lengths.min()) < num_frames
        valid = torch.arange(num_frames) < lengths[:, None] if lengths is not None and is_padded else None
        utterances = _Utterances(num_utterances, _make_phases(num_frames, head_size), valid)
        frames = inputs.to(self.compute_dtype).flatten(0, 1).expand(self.num_members, -1, -1)
        rows = _linear(frames, self.input_weight, self.input_bias)
        for block in self.blocks:
            rows = block(rows, utterances, dropout)
            if hidden is not None:
                hidden.append(_take_first(rows, num_utterances, num_given))
        logits = _linear(_normalize(rows), self.output_weight, self.output_bias)
        return _take_first(logits, num_utterances, num_given).float()


class _Block(torch.nn.Module):
    def __init__(
        self, config: AcousticModelConfig, new: Callable[..., torch.nn.Parameter], number: int
    ) -> None:
        super().__init__()
        self.num_heads, self.number = config.conformer.num_heads, number
        size = config.hidden_size
        wide = FEED_FORWARD_FACTOR * size
        # The sum of all modules' outputs starts at the scale of their input (Radford et al. 2019).
        share = (3 * config.num_hidden_layers) ** -0.5
        self.attention_weight = new(size, 3 * size, spread=size**-0.5)
        self.attention_bias = new(1, 3 * size)
        self.attention_output = new(size, size, spread=share * size**-0.5)
        self.gate_weight = new(size, 2 * size, spread=size**-0.5)
        self.gate_bias = new(1, 2 * size)
        self.taps = new(config.conformer.kernel_size, size, spread=config.conformer.kernel_size**-0.5)
        self.norm_gain = new(1, size, value=1.0)
        self.norm_bias = new(1, size)
        self.convolution_output = new(size, size, spread=share * (2 / size) ** 0.5)
        self.wide_weight = new(size, wide, spread=size**-0.5)
        self.wide_bias = new(1, wide)
        self.narrow_weight = new(wide, size, spread=share * (2 / wide) ** 0.5)

    def forward(self, hidden: torch.Tensor, utterances: _Utterances, dropout: Dropout | None) -> torch.Tensor:
        hidden = _add_linear(hidden, self._attend(_normalize(hidden), utterances), self.attention_output)
        convolved = self._convolve(_normalize(hidden), utterances)
        convolved = relu_dropout(convolved, dropout, 2 * self.number)
        hidden = _add_linear(hidden, convolved, self.convolution_output)
        wide = _linear(_normalize(hidden), self.wide_weight, self.wide_bias)
        return _add_linear(hidden, relu_dropout(wide, dropout, 2 * self.number + 1), self.narrow_weight)

    def _attend(self, hidden: torch.Tensor, utterances: _Utterances) -> torch.Tensor:
        """What all heads see from every frame, (M, B, H)."""
        projected = _linear(hidden, self.attention_weight, self.attention_bias)
        num_sequences = len(hidden) * utterances.num_utterances
        heads = projected.view(num_sequences, len(utterances.phases), 3, self.num_heads, -1)
        turned, values = heads.split([2, 1], 2)
        queries, keys = _rotate(turned, utterances.phases).unbind(2)
        mask = None
        if utterances.valid is not None:
            mask = utterances.valid.repeat(len(hidden), 1)[:, None, None]
        seen = F.scaled_dot_product_attention(
            queries.transpose(1, 2), keys.transpose(1, 2), values[:, :, 0].transpose(1, 2), mask
        )
        return seen.transpose(1, 2).reshape(hidden.shape)

    def _convolve(self, hidden: torch.Tensor, utterances: _Utterances) -> torch.Tensor:
        """Gated, convolved over time and normalised, (M, B, H)."""
        gated = F.glu(_linear(hidden, self.gate_weight, self.gate_bias), dim=2)
        if utterances.valid is not None:
            gated = gated * utterances.valid.view(-1, 1)
        # In float32: on some processors oneDNN never returns from a depthwise convolution of bfloat16.
        taps = self.taps.to(gated.dtype).float()
        convolved = _convolve_depthwise(gated.float(), taps, utterances.num_utterances).to(gated.dtype)
        normalized = _normalize(convolved)
        return torch.addcmul(self.norm_bias.to(gated.dtype), normalized, self.norm_gain.to(gated.dtype))


def _take_first(rows: torch.Tensor, num_utterances: int, num_frames: int) -> torch.Tensor:
    """Of rows (M, S * T, D) the first L of each utterance, (M, S * L, D)."""
    return rows.unflatten(1, (num_utterances, -1))[:, :, :num_frames].flatten(1, 2)


def _linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.baddbmm(bias.to(inputs.dtype), inputs, weight.to(inputs.dtype))


def _add_linear(hidden: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.baddbmm(hidden, inputs, weight.to(inputs.dtype))


def _normalize(hidden: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 over a frame's units; torch's kernel sums in float32 whatever it reads."""
    return F.layer_norm(hidden, hidden.shape[-1:])


def _make_phases(num_frames: int, head_size: int) -> torch.Tensor:
    """exp(i t / base^(2 j / head size)) for frame t and pair of units j, complex64 (L, head size / 2)."""
    rates = ROTARY_BASE ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angles = torch.arange(num_frames)[:, None] * rates
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def _rotate(heads: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    """Turn each pair of neighbouring units of (sequences, L, 2, A, H / A) by its frame's phase."""
    pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phases[:, None, None]).flatten(-2).to(heads.dtype)


def _convolve_depthwise(values: torch.Tensor, taps: torch.Tensor, num_utterances: int) -> torch.Tensor:
    """Each unit's own convolution over its utterance's frames, zeros around them.

    Members and units side by side are the channels of one convolution, in the order in memory ("channels
    last") that torch computes fastest.

    Args:
        values: (M, B, H).
        taps: (M, K, H).
        num_utterances: S.

    Returns:
        (M, B, H).
    """
    num_members, num_taps, size = taps.shape
    channels = num_members * size
    rows = values.unflatten(1, (num_utterances, -1)).permute(1, 2, 0, 3).flatten(2)
    kernels = taps.transpose(1, 2).reshape(channels, 1, 1, num_taps)
    image = rows.transpose(1, 2)[:, :, None]
    convolved = F.conv2d(image, kernels, padding=(0, num_taps // 2), groups=channels)
    rows = convolved[:, :, 0].transpose(1, 2).unflatten(2, (num_members, size))
    return rows.permute(2, 0, 1, 3).reshape(values.shape)
