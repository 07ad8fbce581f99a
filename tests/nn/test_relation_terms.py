"""Relations among frames, against loops over pairs and triples in float64 from the paper's equations."""

from itertools import permutations

import numpy as np
import pytest
import torch

from asrdistill.nn.extra_terms import Seen
from asrdistill.nn.frames import Batch
from asrdistill.nn.relation_terms import RelationsConfig, RelationsTerm, take_evenly

NUM_FRAMES, NUM_MEMBERS, SIZE, GUIDE_SIZE = 9, 2, 6, 4


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_seen(hidden: torch.Tensor, guide: torch.Tensor, weights: torch.Tensor | None = None) -> Seen:
    """Layers but the last are not to be looked at."""
    pdf_ids = torch.full((1, hidden.shape[1]), -1)
    num_frames = hidden.shape[1] if weights is None else int((weights[0] > 0).sum())
    batch = Batch(torch.empty(0), None, pdf_ids, num_frames, weights)
    return Seen(batch, torch.empty(0), [torch.full_like(hidden, torch.nan), hidden], [guide + 1, guide])


def draw_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """The student's, (M, B, H), and the guide's, (1, B, G), at another scale."""
    return draw(0, NUM_MEMBERS, NUM_FRAMES, SIZE).relu(), 5 * draw(1, 1, NUM_FRAMES, GUIDE_SIZE)


def draw_weights(weight_sets: int) -> torch.Tensor | None:
    if not weight_sets:
        return None
    weights = torch.randint(
        1, 3, (weight_sets, NUM_FRAMES), generator=torch.Generator().manual_seed(3)
    ).float()
    weights[0, 2:4] = 0
    weights[-1, 3:6] = 0
    return weights


def find_huber(x: float, y: float) -> float:
    """With delta 1."""
    return (x - y) ** 2 / 2 if abs(x - y) <= 1 else abs(x - y) - 1 / 2


def find_distances(rows: np.ndarray) -> list[float]:
    """Of all pairs, over their mean."""
    pairs = permutations(range(len(rows)), 2)
    distances = [float(np.sqrt(((rows[i] - rows[j]) ** 2).sum())) for i, j in pairs]
    return [distance / np.mean(distances) for distance in distances]


def find_cosines(rows: np.ndarray) -> list[float]:
    """Of the angles of all triples, at the second of them; 0 where another one is at the same place."""
    cosines = []
    for i, j, k in permutations(range(len(rows)), 3):
        one, other = rows[i] - rows[j], rows[k] - rows[j]
        lengths = np.linalg.norm(one) * np.linalg.norm(other)
        cosines.append(float(one @ other / lengths) if lengths else 0.0)
    return cosines


def measure_plainly(student: np.ndarray, guide: np.ndarray, config: RelationsConfig) -> float:
    losses = []
    for find in (find_distances, find_cosines):
        pairs = zip(find(student), find(guide), strict=True)
        losses.append(np.mean([find_huber(x, y) for x, y in pairs]))
    return float(config.distance_weight * losses[0] + config.angle_weight * losses[1])


@pytest.mark.parametrize("weight_sets", [0, 1, 2])
@pytest.mark.parametrize(("distance_weight", "angle_weight"), [(1.0, 0.0), (0.0, 1.0), (25.0, 50.0)])
def test_the_term_is_that_of_all_pairs_and_triples_of_frames_that_count(
    distance_weight: float, angle_weight: float, weight_sets: int
) -> None:
    config = RelationsConfig(distance_weight=distance_weight, angle_weight=angle_weight)
    (hidden, guide), weights = draw_rows(), draw_weights(weight_sets)
    # One frame far from all others, so that Huber's loss is linear there.
    hidden[:, 0] *= 40
    found = RelationsTerm(config)(make_seen(hidden, guide, weights))
    assert found.dtype == torch.float32
    expected = []
    for member in range(NUM_MEMBERS):
        counts = torch.ones(NUM_FRAMES) if weights is None else weights[member % weight_sets]
        rows, guide_rows = (one[counts > 0].double().numpy() for one in (hidden[member], guide[0]))
        expected.append(measure_plainly(rows, guide_rows, config))
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_the_gradient_is_the_slope_of_the_plain_loss() -> None:
    hidden, guide = draw_rows()
    config = RelationsConfig()
    hidden.requires_grad_()
    (gradient,) = torch.autograd.grad(RelationsTerm(config)(make_seen(hidden, guide)).sum(), hidden)
    rows, guide_rows = hidden.detach().double().numpy(), guide[0].double().numpy()
    for member in range(NUM_MEMBERS):
        direction = draw(9, NUM_FRAMES, SIZE).double().numpy()
        ends = [
            measure_plainly(rows[member] + step * direction, guide_rows, config) for step in (1e-6, -1e-6)
        ]
        slope = (ends[0] - ends[1]) / 2e-6
        along = float((gradient[member].double().numpy() * direction).sum())
        assert along == pytest.approx(slope, rel=1e-3)


def test_only_relations_matter() -> None:
    """What is turned, shifted and scaled has the same ones."""
    _, guide = draw_rows()
    turn = torch.linalg.qr(draw(2, GUIDE_SIZE, GUIDE_SIZE)).Q
    student = 0.1 * guide @ turn + 3
    assert float(RelationsTerm(RelationsConfig())(make_seen(student, guide))) == pytest.approx(0, abs=1e-6)
    student[:, 0] += 1
    assert float(RelationsTerm(RelationsConfig())(make_seen(student, guide))) > 0.1


def test_frames_near_to_each_other_and_far_from_zero_are_told_apart() -> None:
    hidden, guide = draw_rows()
    hidden = 1000 + 0.1 * hidden
    hidden[:, 1] = hidden[:, 0] + 0.001
    found = RelationsTerm(RelationsConfig())(make_seen(hidden, guide))
    for member in range(NUM_MEMBERS):
        rows, guide_rows = hidden[member].double().numpy(), guide[0].double().numpy()
        expected = measure_plainly(rows, guide_rows, RelationsConfig())
        assert float(found[member]) == pytest.approx(expected, rel=1e-5)


def test_few_frames_are_taken_of_many_evenly() -> None:
    assert take_evenly(torch.arange(10, 20), 5).tolist() == [10, 12, 14, 16, 18]
    assert take_evenly(torch.arange(10, 20), 4).tolist() == [10, 12, 15, 17]
    assert take_evenly(torch.tensor([3, 7]), 4).tolist() == [3, 7]
    assert take_evenly(torch.empty(0, dtype=torch.int64), 4).tolist() == []
    hidden, guide = draw_rows()
    config = RelationsConfig(num_frames=4)
    found = RelationsTerm(config)(make_seen(hidden, guide))
    taken = [0, 2, 4, 6]
    expected = RelationsTerm(RelationsConfig())(make_seen(hidden[:, taken], guide[:, taken]))
    torch.testing.assert_close(found, expected)


def test_members_in_a_stack_equal_those_alone() -> None:
    (hidden, guide), weights = draw_rows(), draw_weights(2)
    term = RelationsTerm(RelationsConfig())
    stacked = term(make_seen(hidden, guide, weights))
    term.retain([1])
    for member in range(NUM_MEMBERS):
        alone = slice(member, member + 1)
        found = term(make_seen(hidden[alone], guide, weights[alone]))
        torch.testing.assert_close(found, stacked[alone])


def test_frames_at_one_place_have_finite_gradients() -> None:
    """As silence makes them, in student and guide."""
    hidden, guide = draw_rows()
    hidden[:, 2:6], guide[:, 3:7] = hidden[:, 2:3].clone(), 0.0
    hidden.requires_grad_()
    loss = RelationsTerm(RelationsConfig())(make_seen(hidden, guide))
    (gradient,) = torch.autograd.grad(loss.sum(), hidden)
    guide_rows = guide[0].double().numpy()
    expected = [
        measure_plainly(rows.double().numpy(), guide_rows, RelationsConfig()) for rows in hidden.detach()
    ]
    torch.testing.assert_close(loss.detach(), torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert 0 < gradient.abs().max() < 1e4


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_frames_for_an_angle_have_no_relations(count: int) -> None:
    hidden, guide = draw_rows()
    weights = torch.zeros(1, NUM_FRAMES)
    weights[:, :count] = 1
    hidden.requires_grad_()
    loss = RelationsTerm(RelationsConfig())(make_seen(hidden, guide, weights))
    (gradient,) = torch.autograd.grad(loss.sum(), hidden)
    assert loss.tolist() == [0, 0]
    assert not gradient.any()


def test_bfloat16_layers_are_compared_in_float32() -> None:
    hidden, guide = (rows.bfloat16() for rows in draw_rows())
    term = RelationsTerm(RelationsConfig())
    assert torch.equal(term(make_seen(hidden, guide)), term(make_seen(hidden.float(), guide.float())))
