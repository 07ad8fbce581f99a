"""Learning from a guide's hidden layers, against loops in float64 and brute force."""

from itertools import product

import numpy as np
import pytest
import torch

from asrdistill.nn.extra_terms import Seen
from asrdistill.nn.frames import Batch
from asrdistill.nn.hidden_terms import HiddenStatesConfig, HiddenStatesTerm, linear_cka, pair_layers

NUM_FRAMES, SIZE, GUIDE_SIZE, SEEDS = 11, 6, 4, (1, 2, 3)
PAIRS = [(0, 1), (2, 2)]
DISTANCES = ["mse", "cosine"]


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_seen(weight_sets: int = 0, guide_size: int = GUIDE_SIZE) -> Seen:
    """Three layers of each; two frames weigh nothing, others up to 2."""
    weights = torch.randint(1, 3, (weight_sets, NUM_FRAMES), generator=torch.Generator().manual_seed(5))
    weights[:, 3:5] = 0
    num_frames = NUM_FRAMES - 2 if weight_sets else NUM_FRAMES
    batch = Batch(
        torch.empty(0),
        None,
        torch.zeros(1, NUM_FRAMES, dtype=torch.int64),
        num_frames,
        weights.float() if weight_sets else None,
    )
    hidden = [draw(10 + layer, len(SEEDS), NUM_FRAMES, SIZE).relu() for layer in range(3)]
    guide_hidden = [3 * draw(20 + layer, 1, NUM_FRAMES, guide_size).relu() for layer in range(3)]
    return Seen(batch, torch.empty(0), hidden, guide_hidden)


def take_member(seen: Seen, member: int) -> Seen:
    weights = seen.batch.weights
    if weights is not None and len(weights) > 1:
        weights = weights[member : member + 1]
    batch = Batch(torch.empty(0), None, seen.batch.pdf_ids, seen.batch.num_frames, weights)
    return Seen(batch, seen.logits, [rows[member : member + 1] for rows in seen.hidden], seen.guide_hidden)


def make_term(distance: str = "mse", guide_size: int = GUIDE_SIZE, weight: float = 1.0) -> HiddenStatesTerm:
    config = HiddenStatesConfig(distance=distance, weight=weight)
    return HiddenStatesTerm(config, PAIRS, SEEDS, SIZE, guide_size)


def measure_plainly(term: HiddenStatesTerm, seen: Seen, member: int) -> float:
    """One member's term, frame by frame."""
    total = 0.0
    for number, (own, other) in enumerate(PAIRS):
        to_guide = term.maps[number][member].detach().double().numpy()
        distance = square = count = 0.0
        for frame in range(NUM_FRAMES):
            weights = seen.batch.weights
            weight = 1.0 if weights is None else float(weights[member % len(weights), frame])
            mapped = seen.hidden[own][member, frame].double().numpy() @ to_guide
            wanted = seen.guide_hidden[other][0, frame].double().numpy()
            if term.config.distance == "mse":
                distance += weight * np.mean((mapped - wanted) ** 2)
                square += weight * np.mean(wanted**2)
            else:
                lengths = np.linalg.norm(mapped) * np.linalg.norm(wanted)
                distance += weight * (1 - (mapped @ wanted / lengths if lengths else 0))
                square += weight
            count += weight
        scale = square / count
        total += distance / seen.batch.num_frames / scale / len(PAIRS)
    return term.config.weight * total


@pytest.mark.parametrize("weight_sets", [0, 1, 3])
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_term_is_the_mean_over_frames_and_pairs(distance: str, weight_sets: int) -> None:
    seen, term = draw_seen(weight_sets), make_term(distance, weight=0.7)
    found = term(seen)
    assert (found.shape, found.dtype) == ((3,), torch.float32)
    expected = torch.tensor([measure_plainly(term, seen, member) for member in range(3)])
    torch.testing.assert_close(found, expected.float())


@pytest.mark.parametrize("distance", DISTANCES)
def test_frames_that_weigh_nothing_have_no_say(distance: str) -> None:
    seen, term = draw_seen(1), make_term(distance)
    before = term(seen)
    for rows in [*seen.hidden, *seen.guide_hidden]:
        rows[:, 3:5] = 1e4
    torch.testing.assert_close(term(seen), before)


@pytest.mark.parametrize("weight_sets", [1, 3])
@pytest.mark.parametrize("distance", DISTANCES)
def test_members_in_a_stack_equal_those_alone(distance: str, weight_sets: int) -> None:
    """In value, and in the gradients of their maps and hidden layers."""
    seen, term = draw_seen(weight_sets), make_term(distance)
    for rows in seen.hidden:
        rows.requires_grad_()
    leaves = [*term.maps, seen.hidden[0], seen.hidden[2]]
    stacked = term(seen)
    gradients = torch.autograd.grad(stacked.sum(), leaves)
    for member, seed in enumerate(SEEDS):
        alone = HiddenStatesTerm(term.config, PAIRS, [seed], SIZE, GUIDE_SIZE)
        kept = make_term(distance)
        kept.retain([member])
        own = take_member(seen, member)
        for one in (alone, kept):
            found = one(own)
            torch.testing.assert_close(found, stacked[member : member + 1])
            wanted = torch.autograd.grad(found.sum(), [*one.maps, own.hidden[0], own.hidden[2]])
            for gradient, of_one in zip(gradients, wanted, strict=True):
                torch.testing.assert_close(gradient[member : member + 1], of_one)


def test_the_pairs_are_kept_with_the_maps() -> None:
    """A run that goes on compares the layers that it compared before, whatever it would choose now."""
    other = HiddenStatesTerm(make_term().config, [(0, 0) for _ in PAIRS], SEEDS, SIZE, GUIDE_SIZE)
    other.load_state_dict(make_term().state_dict())
    seen = draw_seen(0)
    torch.testing.assert_close(other(seen), make_term()(seen), rtol=0, atol=0)


def test_every_map_is_drawn_by_its_member_and_pair() -> None:
    maps, again = make_term().maps, make_term().maps
    drawn = [to_guide[member] for to_guide in maps for member in range(3)]
    repeated = [to_guide[member] for to_guide in again for member in range(3)]
    equal = [[torch.equal(one, other) for other in repeated] for one in drawn]
    assert equal == np.eye(6, dtype=bool).tolist()


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_student_that_is_its_guide_is_at_no_distance(distance: str) -> None:
    """Where layers are of one size, the map starts as the identity."""
    seen = draw_seen(guide_size=SIZE)
    hidden = [rows + 0.1 for rows in seen.hidden]
    own = Seen(seen.batch, seen.logits, hidden, [rows[:1] for rows in hidden])
    term = HiddenStatesTerm(HiddenStatesConfig(distance=distance), [(0, 0), (2, 2)], SEEDS, SIZE, SIZE)
    found = term(own).detach()
    assert float(found[0]) == pytest.approx(0, abs=1e-6)
    assert float(found[1:].min()) > 0.1


def test_the_scale_of_a_guide_is_of_no_account() -> None:
    """Of the squared error where the map follows it; of the cosine anyway."""
    seen = draw_seen(1)
    larger = Seen(seen.batch, seen.logits, seen.hidden, [1000 * rows for rows in seen.guide_hidden])
    cosine, squared = make_term("cosine"), make_term("mse")
    torch.testing.assert_close(cosine(larger), cosine(seen))
    before = squared(seen)
    with torch.no_grad():
        for to_guide in squared.maps:
            to_guide *= 1000
    torch.testing.assert_close(squared(larger), before)


@pytest.mark.parametrize("distance", DISTANCES)
def test_frames_without_any_activity_have_finite_gradients(distance: str) -> None:
    seen, term = draw_seen(), make_term(distance)
    for rows in [*seen.hidden, *seen.guide_hidden]:
        rows[:, 2:6] = 0
    seen.hidden[0].requires_grad_()
    gradients = torch.autograd.grad(term(seen).sum(), [*term.maps, seen.hidden[0]])
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_bfloat16_layers_are_compared_in_float32() -> None:
    seen, term = draw_seen(), make_term()
    rounded = [rows.bfloat16() for rows in seen.hidden]
    rough = Seen(seen.batch, seen.logits, rounded, [rows.bfloat16() for rows in seen.guide_hidden])
    exact = Seen(
        seen.batch,
        seen.logits,
        [rows.float() for rows in rough.hidden],
        [rows.float() for rows in rough.guide_hidden],
    )
    assert torch.equal(term(rough), term(exact))


def find_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, equation 3: tr(K H L H) / (n - 1)^2."""
    count = len(x)
    centring = np.eye(count) - np.ones((count, count)) / count
    return float(np.trace(x @ x.T @ centring @ y @ y.T @ centring)) / (count - 1) ** 2


def find_cka(x: np.ndarray, y: np.ndarray) -> float:
    return find_hsic(x, y) / (find_hsic(x, x) * find_hsic(y, y)) ** 0.5


def test_cka_is_that_of_its_definition() -> None:
    x = 2 + draw(0, 30, 5)
    y = x[:, :3] ** 2 + 0.5 * draw(1, 30, 3)
    expected = find_cka(x.double().numpy(), y.double().numpy())
    assert 0.1 < expected < 0.9
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-10)
    # By features in place of frames: |Y'X|^2 / (|X'X| |Y'Y|) of centred ones.
    one, other = (layer.double().numpy() - layer.double().numpy().mean(0) for layer in (x, y))
    norms = [np.linalg.norm(a.T @ b) for a, b in ((other, one), (one, one), (other, other))]
    assert linear_cka(x, y) == pytest.approx(norms[0] ** 2 / norms[1] / norms[2], rel=1e-10)


def test_frames_that_count_twice_are_as_if_they_came_twice() -> None:
    x, y = 1 + draw(0, 20, 5), draw(1, 20, 3)
    weights = torch.randint(3, (20,), generator=torch.Generator().manual_seed(2))
    one, other = (layer.repeat_interleave(weights, 0).double().numpy() for layer in (x, y))
    assert linear_cka(x, y, weights.float()) == pytest.approx(find_cka(one, other), rel=1e-10)


def test_cka_does_not_see_turns_shifts_and_scale() -> None:
    x, y = draw(0, 25, 6), draw(1, 25, 6)
    turn = torch.linalg.qr(draw(2, 6, 6).double()).Q
    turned = 7 * x.double() @ turn + 3
    assert linear_cka(x, turned) == pytest.approx(1, rel=1e-10)
    assert linear_cka(turned, y) == pytest.approx(linear_cka(x, y), rel=1e-10)
    skewed = x * torch.tensor([10.0, 1, 1, 1, 1, 1])
    assert linear_cka(x, skewed) < 0.95
    assert linear_cka(x, torch.zeros(25, 2)) == 0


@pytest.mark.parametrize(
    ("num_own", "num_guide", "expected"),
    [(1, 4, [3]), (2, 4, [1, 3]), (3, 4, [1, 2, 3]), (4, 4, [0, 1, 2, 3]), (4, 2, [0, 0, 1, 1])],
)
def test_layers_that_are_as_far_up_are_paired(num_own: int, num_guide: int, expected: list[int]) -> None:
    hidden, guide_hidden = [draw(0, 1, 3, 2)] * num_own, [draw(0, 1, 3, 2)] * num_guide
    assert pair_layers("even", hidden, guide_hidden, None) == list(enumerate(expected))
    assert pair_layers("last", hidden, guide_hidden, None) == [(num_own - 1, num_guide - 1)]


@pytest.mark.parametrize("weight_sets", [0, 1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_the_most_similar_layers_are_paired_in_their_order(seed: int, weight_sets: int) -> None:
    """Of all ways to pair them that do not fall, by brute force, with each member's CKA by definition."""
    guide_hidden = [draw(100 * seed + layer, 1, 12, 5) for layer in range(4)]
    hidden = [
        draw(100 * seed + 10 + layer, 2, 12, 3) + guide_hidden[(seed + layer) % 4][..., :3]
        for layer in range(3)
    ]
    counts = torch.randint(3, (weight_sets, 12), generator=torch.Generator().manual_seed(seed))
    weights = counts.float() if weight_sets else None
    similarity = np.zeros((3, 4))
    for own, other, member in product(range(3), range(4), range(2)):
        repeats = counts[member % weight_sets] if weight_sets else torch.ones(12, dtype=torch.int64)
        rows = hidden[own][member].repeat_interleave(repeats, 0).double().numpy()
        guide = guide_hidden[other][0].repeat_interleave(repeats, 0).double().numpy()
        similarity[own, other] += find_cka(rows, guide) / 2
    paths = [path for path in product(range(4), repeat=3) if list(path) == sorted(path)]
    best = max(paths, key=lambda path: sum(similarity[own, other] for own, other in enumerate(path)))
    assert pair_layers("similar", hidden, guide_hidden, weights) == list(enumerate(best))


def test_layers_of_many_frames_are_compared_on_some_that_count() -> None:
    """Padding, much larger than all else, would make all layers alike."""
    hidden, count = [draw(layer, 1, 5000, 3) for layer in range(3)], torch.ones(1, 5000)
    count[:, ::5] = 0
    for rows in hidden:
        rows[:, ::5] = 1e6
    guide_hidden = [rows.flip(2) for rows in hidden]
    assert pair_layers("similar", hidden, guide_hidden, count) == [(0, 0), (1, 1), (2, 2)]
