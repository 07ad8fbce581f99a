"""How frames lie to each other in the student's last hidden layer is to be as in the guide's.

Source: Park et al. (2019), arXiv:1904.05068 (relational knowledge distillation), section 3: the distances of
all pairs of a batch over their mean, and the cosines of the angles of all triples, by Huber's loss.
Differs: only some frames of a batch are taken, as triples grow with their cube; means are over pairs and
triples of different frames alone, where the authors' code also counts a frame's with itself, which are 0.
Shapes: M members, B frames, N of them that are taken, H units of the student or guide.
"""

from typing import Literal

import torch
from pydantic import Field
from torch.nn.functional import huber_loss

from asrdistill.config import Config
from asrdistill.nn.extra_terms import ExtraTerm, Seen

# Two frames are at one place if the square of their distance is less than this share of the mean: the rest of
# a sum that was rounded.
LEAST_SHARE = 1e-12
# Under which the mean distance does not fall, for the quotient's sake.
LEAST_MEAN = 1e-12


class RelationsConfig(Config):
    """A term of the student's loss: how unlike the guide's the relations among its frames are."""

    kind: Literal["relations"] = Field("relations", description="relations between frames like the guide's")
    distance_weight: float = Field(
        25.0,
        ge=0,
        description="of pairs' distances in the loss (Park et al. 2019 with hard targets; not tuned)",
    )
    angle_weight: float = Field(
        50.0,
        ge=0,
        description="of triples' angles in the loss (likewise); its cost is the cube of num_frames",
    )
    num_frames: int = Field(
        64, ge=3, description="frames of a batch that are compared, evenly among those that count"
    )


class RelationsTerm(ExtraTerm):
    """Both losses, of every member on frames that count for it; a frame that counts twice is taken once."""

    needs_hidden = True

    def __init__(self, config: RelationsConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, seen: Seen) -> torch.Tensor:
        guide, weights = seen.guide_hidden[-1][0], seen.batch.weights
        losses = []
        for member, rows in enumerate(seen.hidden[-1]):
            counts = torch.ones(len(rows)) if weights is None else weights[member % len(weights)]
            frames = take_evenly(counts.nonzero()[:, 0], self.config.num_frames)
            losses.append(self._compare(rows[frames], guide[frames]))
        return torch.stack(losses)

    def _compare(self, student: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """The loss on frames' rows (N, H) of each: float32 (); 0 where there are too few for an angle."""
        if len(student) < 3:
            return 0 * student.sum().float()
        squares, wanted = _square_distances(student), _square_distances(guide)
        loss = self.config.distance_weight * _compare_distances(squares, wanted)
        if self.config.angle_weight:
            loss = loss + self.config.angle_weight * _compare_angles(squares, wanted)
        return loss.float()


def take_evenly(frames: torch.Tensor, num_frames: int) -> torch.Tensor:
    """At most so many of the frames, from the first on, evenly."""
    count = min(num_frames, len(frames))
    return frames[torch.arange(count) * len(frames) // max(count, 1)]


def _square_distances(rows: torch.Tensor) -> torch.Tensor:
    """Of all pairs of rows (N, H), float64 (N, N); exactly 0 where there is no telling them apart.

    From products of rows, in float64: differences of all pairs, (N, N, H), took twice as long.
    """
    centred = rows.double() - rows.double().mean(0)
    products = centred @ centred.T
    squares = products.diagonal()[:, None] + products.diagonal() - 2 * products
    return torch.where(squares > LEAST_SHARE * squares.mean(), squares, 0)


def _compare_distances(squares: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean over pairs of Huber's loss of their distances over the mean distance."""
    pairs = _are_different(len(squares))
    found, expected = (_divide_by_mean(one[pairs]) for one in (squares, wanted))
    return huber_loss(found, expected)


def _divide_by_mean(squares: torch.Tensor) -> torch.Tensor:
    lengths = squares * _invert_roots(squares)
    return lengths / lengths.mean().clamp(min=LEAST_MEAN)


def _compare_angles(squares: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean over triples of Huber's loss of the cosines of the angles at each frame between two others."""
    pairs = _are_different(len(squares))
    triples = pairs[:, :, None] & pairs[:, None, :] & pairs
    losses = huber_loss(_find_cosines(squares), _find_cosines(wanted), reduction="none")
    return (losses * triples).sum() / triples.sum()


def _find_cosines(squares: torch.Tensor) -> torch.Tensor:
    """At each frame between each two, by the law of cosines: (N, N, N), 0 where one is at the same place."""
    inverse = _invert_roots(squares)
    opposite = squares[:, :, None] + squares[:, None, :] - squares
    return opposite * inverse[:, :, None] * inverse[:, None, :] / 2


def _invert_roots(squares: torch.Tensor) -> torch.Tensor:
    """1 / sqrt, and 0 of 0, without a gradient."""
    is_apart = squares > 0
    return torch.where(is_apart, torch.where(is_apart, squares, 1).rsqrt(), 0)


def _are_different(num_frames: int) -> torch.Tensor:
    return ~torch.eye(num_frames, dtype=torch.bool)
