"""The stacked conformer against layers of torch.nn and attention written out, one utterance at a time."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from asrdistill.nn.architecture import AcousticModelConfig, ConformerConfig
from asrdistill.nn.conformer import Conformer, _make_phases, _rotate

NUM_BINS, NUM_PDFS, SIZE, HEADS, TAPS = 5, 7, 16, 2, 5
SEEDS = (1, 2, 3)
CONFIG = AcousticModelConfig(
    architecture="conformer",
    num_hidden_layers=2,
    hidden_size=SIZE,
    conformer=ConformerConfig(num_heads=HEADS, kernel_size=TAPS),
)
LENGTHS = torch.tensor([9, 4, 1])


def make_model() -> Conformer:
    model = Conformer(CONFIG, NUM_BINS, NUM_PDFS, len(SEEDS)).initialize(SEEDS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "gain" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def draw_inputs() -> torch.Tensor:
    return torch.randn(3, 9, NUM_BINS, generator=torch.Generator().manual_seed(1)).half()


def turn(vectors: torch.Tensor) -> torch.Tensor:
    """Rotary positions of (L, D) by rotation matrices (Su et al. 2021, equation 15)."""
    num_frames, size = vectors.shape
    turned = []
    for frame in range(num_frames):
        matrix = torch.zeros(size, size)
        for pair in range(size // 2):
            angle = torch.tensor(frame * 10_000 ** (-2 * pair / size))
            block = [[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]
            matrix[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = torch.tensor(block)
        turned.append(matrix @ vectors[frame])
    return torch.stack(turned)


def attend(projected: torch.Tensor) -> torch.Tensor:
    queries, keys, values = (part.chunk(HEADS, 1) for part in projected.chunk(3, 1))
    seen = []
    for query, key, value in zip(queries, keys, values, strict=True):
        scores = turn(query) @ turn(key).T / (SIZE / HEADS) ** 0.5
        seen.append(torch.softmax(scores, 1) @ value)
    return torch.cat(seen, 1)


def run_plain(model: Conformer, member: int, frames: torch.Tensor) -> torch.Tensor:
    """Logits (L, P) of one member for one utterance (L, F)."""
    weights = {name: parameter[member] for name, parameter in model.named_parameters()}

    def linear(inputs: torch.Tensor, name: str, bias: str | None = None) -> torch.Tensor:
        return F.linear(inputs, weights[name].T, None if bias is None else weights[bias][0])

    def normalize(inputs: torch.Tensor) -> torch.Tensor:
        variance = inputs.var(1, keepdim=True, correction=0)
        return (inputs - inputs.mean(1, keepdim=True)) / (variance + 1e-5).sqrt()

    hidden = linear(frames, "input_weight", "input_bias")
    for number in range(CONFIG.num_hidden_layers):
        b = f"blocks.{number}."
        projected = linear(normalize(hidden), b + "attention_weight", b + "attention_bias")
        hidden = hidden + linear(attend(projected), b + "attention_output")
        content, gate = linear(normalize(hidden), b + "gate_weight", b + "gate_bias").chunk(2, 1)
        gated = (content * torch.sigmoid(gate)).T[None]
        convolved = F.conv1d(gated, weights[b + "taps"].T[:, None], padding="same", groups=SIZE)[0].T
        scaled = F.layer_norm(convolved, (SIZE,), weights[b + "norm_gain"][0], weights[b + "norm_bias"][0])
        hidden = hidden + linear(torch.relu(scaled), b + "convolution_output")
        wide = torch.relu(linear(normalize(hidden), b + "wide_weight", b + "wide_bias"))
        hidden = hidden + linear(wide, b + "narrow_weight")
    return linear(normalize(hidden), "output_weight", "output_bias")


def test_members_and_gradients_in_a_padded_batch_equal_plain_ones_on_single_utterances() -> None:
    """Where all frames that are there count, padding must not leave a trace in a gradient either."""
    model, inputs = make_model(), draw_inputs()
    coefficients = torch.randn(9, NUM_PDFS, generator=torch.Generator().manual_seed(3))
    logits = model(inputs, LENGTHS).unflatten(1, (3, 9))
    total, expected_total = torch.zeros(()), torch.zeros(())
    for member in range(len(SEEDS)):
        for number, length in enumerate(LENGTHS):
            found = logits[member, number, :length]
            expected = run_plain(model, member, inputs[number, :length].float())
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
            total = total + (member + 1) * (found * coefficients[:length]).sum()
            expected_total = expected_total + (member + 1) * (expected * coefficients[:length]).sum()
    found_gradients = torch.autograd.grad(total, list(model.parameters()))
    gradients = torch.autograd.grad(expected_total, list(model.parameters()))
    for (name, _), one, other in zip(model.named_parameters(), found_gradients, gradients, strict=True):
        assert other.any(), name
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4, msg=name)


@torch.no_grad()
def test_without_padding_lengths_need_not_be_given() -> None:
    model, inputs = make_model(), draw_inputs()
    assert torch.equal(model(inputs), model(inputs, torch.tensor([9, 9, 9])))


@torch.no_grad()
def test_frames_added_in_bfloat16_leave_no_trace() -> None:
    """There utterances are padded to a length that is met more often; logits are about those of float32."""
    model, inputs = make_model(), draw_inputs()
    expected = model(inputs, LENGTHS).unflatten(1, (3, 9))
    whole = model(inputs)
    model.compute_dtype = torch.bfloat16
    found = model(inputs, LENGTHS).unflatten(1, (3, 9))
    for number, length in enumerate(LENGTHS):
        torch.testing.assert_close(
            found[:, number, :length], expected[:, number, :length], atol=0.03, rtol=0.03
        )
    torch.testing.assert_close(model(inputs), whole, atol=0.03, rtol=0.03)


@torch.no_grad()
def test_order_of_frames_matters_to_attention_by_distance_alone() -> None:
    """Rotary positions: scores depend on how far frames are apart, not on where they are."""
    vectors = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    turned = _rotate(vectors[None, None, :, None].expand(1, 20, 2, 1, 8), _make_phases(20, 8))[0, :, :, 0]
    scores = turned[:, 0] @ turned[:, 1].T
    for distance in range(-19, 20):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)
    assert float(scores[0].std()) > 0.1


def test_initial_values_are_those_meant_for_each_parameter() -> None:
    """The order in which parameters are made is the one in which they are drawn."""
    config = CONFIG.model_copy(update={"hidden_size": 64})
    model = Conformer(config, 40, 50, 1).initialize([0])
    for name, parameter in model.named_parameters():
        if "bias" in name:
            assert not parameter.any(), name
        elif "gain" in name:
            assert (parameter == 1).all(), name
    block = model.blocks[1]
    expected = {block.attention_weight: 1 / 8, block.taps: TAPS**-0.5, model.input_weight: 40**-0.5}
    expected |= {model.output_weight: 0.1 / 8, block.narrow_weight: (2 / 256 / 6) ** 0.5}
    for parameter, spread in expected.items():
        assert float(parameter.detach().std()) == pytest.approx(spread, rel=0.15)


def test_costs_are_counted() -> None:
    model = make_model()
    products = NUM_BINS * SIZE + SIZE * NUM_PDFS + 2 * (15 * SIZE**2 + TAPS * SIZE)
    assert model.num_parameters == products + SIZE + NUM_PDFS + 2 * (3 + 2 + 2 + 4) * SIZE
    attention = 2 * 2 * 500 * SIZE  # scores, and what they weigh, over 500 frames
    assert model.count_flops_a_frame() == 2 * (products + attention)


@pytest.mark.parametrize(("size", "heads"), [(10, 4), (12, 4)])
def test_heads_must_divide_the_units_into_pairs(size: int, heads: int) -> None:
    with pytest.raises(ValidationError, match="each head needs the same, even number of units"):
        AcousticModelConfig(
            architecture="conformer", hidden_size=size, conformer=ConformerConfig(num_heads=heads)
        )
