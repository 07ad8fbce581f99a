"""Hidden layers of the student are to be like those of its guide, of which a linear map is learnt.

Sources: Romero et al. (2015), arXiv:1412.6550 (FitNets), for the squared error; Sanh et al. (2019),
arXiv:1910.01108 (DistilBERT), for the cosine; Kornblith et al. (2019), arXiv:1905.00414, for the similarity
of layers (CKA), by which they may be paired.
Differs: the term is added to the loss all through training, where FitNets trains the lower half of the
student with it first; the map is linear without a bias, where FitNets' ends in the guide's non-linearity; the
squared error is divided by the guide's mean square, so that the weight means the same whatever the scale of
its units; with the cosine too there is a map, where DistilBERT, whose student starts as part of the
teacher, has none: units of networks that were drawn apart stand in no order. Between layers of one size the
map starts as the identity, which is the right one for a student that starts from the guide.
Shapes: M members, B frames, H units of the student, G units of the guide.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch.nn.functional import cosine_similarity

from asrdistill.config import Config
from asrdistill.nn.extra_terms import ExtraTerm, Seen
from asrdistill.nn.frames import Batch
from asrdistill.nn.loss import average

# Frames on which layers are compared at most: the cost grows with their square.
COMPARED_FRAMES = 1024
# The map of each pair is drawn by seeds this far apart, so that no two are alike.
SEED_STEP = 1_000_003
# Under which lengths and mean squares do not fall, for the quotient's sake.
LEAST_LENGTH = 1e-6


class HiddenStatesConfig(Config):
    """A term of the student's loss: how far its hidden layers are from the guide's."""

    kind: Literal["hidden_states"] = Field("hidden_states", description="hidden layers like the guide's")
    distance: Literal["mse", "cosine"] = Field(
        "mse",
        description="mse: squared error over the guide's mean square (FitNets); "
        "cosine: one minus the cosine (DistilBERT)",
    )
    layers: Literal["last", "even", "similar"] = Field(
        "last",
        description="which are compared; last: the last ones; even: every one of the student, with one as "
        "far up in the guide; similar: every one of the student, with the one most like it at first (CKA)",
    )
    weight: float = Field(1.0, gt=0, description="of the term in the loss")


class HiddenStatesTerm(ExtraTerm):
    """Mean distance of the pairs of layers, of each after a map of its own."""

    needs_hidden = True
    pairs: torch.Tensor

    def __init__(
        self,
        config: HiddenStatesConfig,
        pairs: Sequence[tuple[int, int]],
        seeds: Sequence[int],
        student_size: int,
        guide_size: int,
    ) -> None:
        """Args:
        config: of the term.
        pairs: layers that are compared, (the student's, the guide's), from 0.
        seeds: one for each member.
        student_size: H.
        guide_size: G.
        """
        super().__init__()
        self.config = config
        # A buffer, so that it is in checkpoints: another machine might see a near tie otherwise.
        self.register_buffer("pairs", torch.tensor(pairs))
        self.maps = torch.nn.ParameterList(
            self._start_map(SEED_STEP * number, seeds, student_size, guide_size)
            for number in range(1, len(pairs) + 1)
        )

    def _start_map(self, step: int, seeds: Sequence[int], size: int, guide_size: int) -> torch.nn.Parameter:
        """(M, H, G): the identity, or drawn so that the scale stays."""
        if size == guide_size:
            return torch.nn.Parameter(torch.eye(size).repeat(len(seeds), 1, 1))
        return self.draw_parameter([seed + step for seed in seeds], size, guide_size, spread=size**-0.5)

    def forward(self, seen: Seen) -> torch.Tensor:
        distances = []
        for (own, other), to_guide in zip(self.pairs.tolist(), self.maps, strict=True):
            mapped = torch.bmm(seen.hidden[own].float(), to_guide)
            distances.append(self._measure(mapped, seen.guide_hidden[other].float(), seen.batch))
        return self.config.weight * torch.stack(distances).mean(0)

    def _measure(self, mapped: torch.Tensor, guide: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Distance of what the student makes of the guide's layer, float32 (M, B, G), from it: (M,)."""
        if self.config.distance == "cosine":
            return average(1 - cosine_similarity(mapped, guide, dim=2, eps=LEAST_LENGTH), batch)
        # Over as many frames as the error, in whatever way these are counted.
        count = average(torch.ones(mapped.shape[:2]), batch)
        mean_square = average(guide.square().mean(2), batch) / count
        return average((mapped - guide).square().mean(2), batch) / mean_square.clamp(min=LEAST_LENGTH)


def pair_layers(
    how: Literal["last", "even", "similar"],
    hidden: Sequence[torch.Tensor],
    guide_hidden: Sequence[torch.Tensor],
    weights: torch.Tensor | None,
) -> list[tuple[int, int]]:
    """Which of the guide's layers each of the student's is compared with, from 0.

    By similarity, the sum of the pairs' is the greatest that there is where no layer of the student has one
    further down in the guide than the layer below it has.

    Args:
        how: as in `HiddenStatesConfig.layers`.
        hidden: of the student, (M, B, H) each.
        guide_hidden: of the guide, (1, B, G) each.
        weights: (M or 1, B), 0 for frames that do not count; None: all count once.

    Returns:
        (the student's layer, the guide's), the student's rising and the guide's never falling.
    """
    num_own, num_guide = len(hidden), len(guide_hidden)
    if how == "last":
        return [(num_own - 1, num_guide - 1)]
    if how == "even":
        return [(own, -(-(own + 1) * num_guide // num_own) - 1) for own in range(num_own)]
    return list(enumerate(_find_rising_path(_compare_layers(hidden, guide_hidden, weights))))


def linear_cka(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None) -> float:
    """How alike two layers are, from 0 to 1, whatever their scale and whatever way they are turned.

    Centred kernel alignment with a linear kernel (Kornblith et al. 2019, section 3), by Gram matrices in
    float64; a layer that is 0 for all frames is like none: 0.

    Args:
        x: (B, H).
        y: (B, G).
        weights: (B,), how often each frame counts; None: once.
    """
    return _align(_make_gram(x, weights), _make_gram(y, weights))


def _make_gram(layer: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Products of frames with each other, about their mean: float64 (B, B), w-fold of one that weighs w."""
    rows = layer.double()
    shares = torch.ones(len(rows), 1).double() if weights is None else weights.double()[:, None]
    centred = shares.sqrt() * (rows - (shares * rows).sum(0) / shares.sum())
    return centred @ centred.T


def _align(gram: torch.Tensor, other: torch.Tensor) -> float:
    length = gram.norm() * other.norm()
    return float((gram * other).sum() / length) if length > 0 else 0.0


def _compare_layers(
    hidden: Sequence[torch.Tensor], guide_hidden: Sequence[torch.Tensor], weights: torch.Tensor | None
) -> torch.Tensor:
    """CKA of every layer of the student with every one of the guide, the members' mean, float64."""
    num_members, num_frames = hidden[0].shape[:2]
    total = torch.zeros(len(hidden), len(guide_hidden), dtype=torch.float64)
    for member in range(num_members):
        counts = torch.ones(num_frames) if weights is None else weights[member % len(weights)]
        frames = counts.nonzero()[:, 0]
        frames = frames[:: -(-len(frames) // COMPARED_FRAMES) or 1]
        grams = [_make_gram(layer[member, frames], counts[frames]) for layer in hidden]
        guide_grams = [_make_gram(layer[0, frames], counts[frames]) for layer in guide_hidden]
        total += torch.tensor([[_align(one, other) for other in guide_grams] for one in grams]).double()
    return total / num_members


def _find_rising_path(values: torch.Tensor) -> list[int]:
    """A column for each row, none left of the row's before, of which the values' sum is the greatest."""
    # For each column the best path up to a row that ends in it, or left of it: its sum, and its columns.
    best: list[tuple[float, list[int]]] = [(0.0, [])] * values.shape[1]
    for row in values.tolist():
        reached: list[tuple[float, list[int]]] = []
        for column, value in enumerate(row):
            here = (best[column][0] + value, [*best[column][1], column])
            reached.append(max(reached[-1], here, key=lambda path: path[0]) if reached else here)
        best = reached
    return best[-1][1]
