"""Shallow output layers, against torch.nn.functional, one member and frame at a time."""

import pytest
import torch
from torch.nn import functional

from asrdistill.errors import RecipeError
from asrdistill.nn.extra_terms import Seen
from asrdistill.nn.frames import Batch
from asrdistill.nn.shallow_terms import ShallowHeadsConfig, ShallowHeadsTerm

NUM_FRAMES, NUM_LAYERS, SIZE, NUM_PDFS, SEEDS = 9, 5, 6, 4, (1, 2, 3)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_seen(weight_sets: int = 0) -> Seen:
    """Two frames weigh nothing, others up to 2; two have no hard target."""
    generator = torch.Generator().manual_seed(5)
    pdf_ids = torch.randint(NUM_PDFS, (1, NUM_FRAMES), generator=generator)
    pdf_ids[:, 4:6] = -1
    weights = torch.randint(1, 3, (weight_sets, NUM_FRAMES), generator=generator).float()
    weights[:, 3:5] = 0
    num_frames = NUM_FRAMES - 2 if weight_sets else NUM_FRAMES
    batch = Batch(torch.empty(0), None, pdf_ids, num_frames, weights if weight_sets else None)
    hidden = [draw(10 + layer, len(SEEDS), NUM_FRAMES, SIZE).relu() for layer in range(NUM_LAYERS)]
    return Seen(batch, 3 * draw(7, len(SEEDS), NUM_FRAMES, NUM_PDFS), hidden)


def make_term(every: int = 2, temperature: float = 3.0, seeds: tuple[int, ...] = SEEDS) -> ShallowHeadsTerm:
    """With biases and weights of some size."""
    config = ShallowHeadsConfig(every=every, weight=0.7, temperature=temperature)
    term = ShallowHeadsTerm(config, NUM_LAYERS, SIZE, NUM_PDFS, seeds)
    with torch.no_grad():
        for weight, bias in zip(term.weights, term.biases, strict=True):
            weight *= 20
            for member, seed in enumerate(seeds):
                bias[member] = draw(seed, 1, NUM_PDFS)
    return term


def measure_plainly(term: ShallowHeadsTerm, seen: Seen, member: int) -> torch.Tensor:
    """One member's term; differentiable."""
    temperature, losses = term.config.temperature, []
    for number, layer in enumerate(term.layers):
        total = torch.zeros((), dtype=torch.float64)
        for frame in range(NUM_FRAMES):
            weights = seen.batch.weights
            weight = 1.0 if weights is None else float(weights[member % len(weights), frame])
            logits = seen.hidden[layer][member, frame].double() @ term.weights[number][member].double()
            logits = logits + term.biases[number][member, 0].double()
            deepest = functional.softmax(seen.logits[member, frame].detach().double() / temperature, 0)
            soft = functional.cross_entropy(logits / temperature, deepest)
            hard = functional.cross_entropy(
                logits, seen.batch.pdf_ids[0, frame], ignore_index=-1, reduction="sum"
            )
            total = total + weight * (hard / 2 + temperature**2 * soft / 2)
        losses.append(total / seen.batch.num_frames)
    return term.config.weight * torch.stack(losses).mean()


@pytest.mark.parametrize("weight_sets", [0, 1, 3])
@pytest.mark.parametrize(("every", "layers"), [(1, [0, 1, 2, 3]), (2, [1, 3]), (3, [2]), (4, [3])])
def test_value_and_gradient_are_those_of_both_cross_entropies(
    every: int, layers: list[int], weight_sets: int
) -> None:
    seen, term = draw_seen(weight_sets), make_term(every)
    assert list(term.layers) == layers
    for layer in layers:
        seen.hidden[layer].requires_grad_()
    leaves = [*term.parameters(), *(seen.hidden[layer] for layer in layers)]
    found = term(seen)
    assert (found.shape, found.dtype) == ((3,), torch.float32)
    expected = torch.stack([measure_plainly(term, seen, member) for member in range(3)])
    torch.testing.assert_close(found, expected.float())
    gradients, wanted = (torch.autograd.grad(loss.sum(), leaves) for loss in (found, expected))
    for one, other in zip(gradients, wanted, strict=True):
        assert other.any()
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_deepest_layer_does_not_learn_from_the_others() -> None:
    seen, term = draw_seen(), make_term()
    seen.logits.requires_grad_()
    seen.hidden[4].requires_grad_()
    gradients = torch.autograd.grad(term(seen).sum(), [seen.logits, seen.hidden[4]], allow_unused=True)
    assert gradients == (None, None)


def test_frames_that_weigh_nothing_have_no_say() -> None:
    seen, term = draw_seen(1), make_term()
    before = term(seen)
    for rows in [*seen.hidden, seen.logits]:
        rows[:, 3:5] = 1e4
    torch.testing.assert_close(term(seen), before)


def test_members_in_a_stack_equal_those_alone() -> None:
    seen, term = draw_seen(3), make_term()
    stacked = term(seen)
    for member, seed in enumerate(SEEDS):
        batch = seen.batch
        own = Seen(
            Batch(batch.inputs, None, batch.pdf_ids, batch.num_frames, batch.weights[member : member + 1]),
            seen.logits[member : member + 1],
            [rows[member : member + 1] for rows in seen.hidden],
        )
        kept = make_term()
        kept.retain([member])
        for one in (make_term(seeds=(seed,)), kept):
            torch.testing.assert_close(one(own), stacked[member : member + 1])


def test_output_layers_are_drawn_by_member_and_layer() -> None:
    term, again = make_term(), make_term()
    drawn, repeated = (
        [weight[member] for weight in one.weights for member in range(3)] for one in (term, again)
    )
    for number, one in enumerate(drawn):
        assert [torch.equal(one, other) for other in repeated] == [n == number for n in range(6)]


def test_bfloat16_layers_are_read_in_float32() -> None:
    seen, term = draw_seen(), make_term()
    rounded = [rows.bfloat16() for rows in seen.hidden]
    rough, exact = (
        Seen(seen.batch, seen.logits, rows) for rows in (rounded, [rows.float() for rows in rounded])
    )
    assert torch.equal(term(rough), term(exact))


@pytest.mark.parametrize(("num_layers", "every"), [(1, 1), (2, 2), (4, 7)])
def test_a_student_without_shallower_layers_is_refused(num_layers: int, every: int) -> None:
    config = ShallowHeadsConfig(every=every)
    with pytest.raises(RecipeError, match=f"every is {every}, and the student has {num_layers} hidden"):
        ShallowHeadsTerm(config, num_layers, SIZE, NUM_PDFS, SEEDS)
