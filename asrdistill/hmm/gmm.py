"""Diagonal Gaussian mixtures, one per pdf-id, with mixtures that grow as they earn it.

The components of all mixtures lie side by side, those of one pdf-id together, so that a mixture may have any
number of them.
Shapes: N frames of D coefficients, P pdf-ids, G components in all.
"""

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path
from asrdistill.hmm.gmm_loops import Coefficients, share_out, sort_by_pdf, sum_components, sum_moments

LOG_TWO_PI = float(np.log(2 * np.pi))
VARIANCE_FLOOR = 0.001
MIN_OCCUPANCY = 20.0
SPLIT_PERTURBATION = 0.2
# Keeps what has no frames from being divided by zero.
SMALLEST = 1e-10
# Scores of single components that are in memory at a time.
SCORES_A_CHUNK = 1 << 22


@dataclass(frozen=True)
class DiagonalGmm:
    """Mixtures of Gaussians with diagonal covariance.

    Attributes:
        starts: int64 (P + 1,); pdf-id p has components [starts[p], starts[p + 1]), at least one.
        log_weights: float32 (G,).
        means: float32 (G, D).
        variances: float32 (G, D).
        occupancies: float32 (G,), frames that each component was estimated on.
    """

    starts: np.ndarray
    log_weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    occupancies: np.ndarray

    @classmethod
    def flat(cls, num_pdfs: int, mean: np.ndarray, variance: np.ndarray) -> "DiagonalGmm":
        """One and the same Gaussian for every pdf-id."""
        means, variances = (np.tile(np.asarray(row, np.float32), (num_pdfs, 1)) for row in (mean, variance))
        log_weights, occupancies = (np.zeros(num_pdfs, np.float32) for _ in range(2))
        return cls(np.arange(num_pdfs + 1), log_weights, means, variances, occupancies)

    @classmethod
    def of_frames(cls, frames: np.ndarray, pdf_ids: np.ndarray, num_pdfs: int) -> "DiagonalGmm":
        """One Gaussian for every pdf-id, of its frames; that of all frames where it has fewer than 20.

        Args:
            frames: float32 (N, D).
            pdf_ids: int (N,); frames of pdf-id -1 count nowhere.
            num_pdfs: P.
        """
        dimension = frames.shape[1]
        statistics = accumulate(cls.flat(num_pdfs, np.zeros(dimension), np.ones(dimension)), frames, pdf_ids)
        num_frames = statistics.occupancies.sum()
        assert num_frames > 0, "no frame has a pdf-id"
        mean = statistics.totals.sum(0) / num_frames
        variance = np.maximum(statistics.squares.sum(0) / num_frames - mean**2, VARIANCE_FLOOR)
        statistics.occupancies[statistics.occupancies < MIN_OCCUPANCY] = 0
        return statistics.estimate(cls.flat(num_pdfs, mean, variance))

    def write(self, path: Path) -> None:
        """Publish the mixtures as safetensors."""
        with atomic_path(path) as temporary:
            save_file({name: np.ascontiguousarray(array) for name, array in vars(self).items()}, temporary)

    @classmethod
    def read(cls, path: Path) -> "DiagonalGmm":
        """Read what `write` wrote.

        Raises:
            ContractError: the file is missing or holds something else.
        """
        if not path.is_file():
            raise ContractError(
                f"mixtures {path}: not found; the align stage writes them: run that stage first"
            )
        try:
            return cls(**load_file(path))
        except (SafetensorError, TypeError) as error:
            raise ContractError(
                f"mixtures {path}: {error}; expected the arrays {', '.join(cls.__dataclass_fields__)}: the "
                "file is damaged or another version wrote it; run again with --force align"
            ) from error

    @property
    def num_pdfs(self) -> int:
        return len(self.starts) - 1

    @property
    def num_components(self) -> int:
        return len(self.log_weights)

    @property
    def owners(self) -> np.ndarray:
        """The pdf-id that each component belongs to, int64 (G,)."""
        return np.repeat(np.arange(self.num_pdfs), np.diff(self.starts))

    def coefficients(self) -> Coefficients:
        """Log weight times density of a frame x is constants + linear . x + quadratic . x ** 2.

        Returns:
            Constants float32 (G,), linear and quadratic coefficients float32 (G, D).
        """
        means, variances = self.means.astype(np.float64), self.variances.astype(np.float64)
        constants = self.log_weights - 0.5 * (LOG_TWO_PI + np.log(variances) + means**2 / variances).sum(1)
        linear, quadratic = means / variances, -0.5 / variances
        return constants.astype(np.float32), linear.astype(np.float32), quadratic.astype(np.float32)

    def log_likelihoods(self, frames: np.ndarray) -> np.ndarray:
        """Log density of frames (N, D) under every pdf-id's mixture, float32 (N, P)."""
        constants, linear, quadratic = self.coefficients()
        coefficients = np.concatenate([linear, quadratic], axis=1).T
        log_likelihoods = np.empty((len(frames), self.num_pdfs), np.float32)
        chunk = max(SCORES_A_CHUNK // self.num_components, 1)
        for first in range(0, len(frames), chunk):
            part = np.asarray(frames[first : first + chunk], np.float32)
            scores = np.concatenate([part, part**2], axis=1) @ coefficients
            scores += constants
            sum_components(scores, self.starts, log_likelihoods[first : first + chunk])
        return log_likelihoods


@dataclass(frozen=True)
class GmmStatistics:
    """Zeroth, first and second moments of the frames that each component answers for.

    Attributes:
        occupancies: float64 (G,).
        totals: float64 (G, D).
        squares: float64 (G, D).
    """

    occupancies: np.ndarray
    totals: np.ndarray
    squares: np.ndarray

    def estimate(self, previous: DiagonalGmm) -> DiagonalGmm:
        """Maximum-likelihood mixtures; a component with too few frames goes, unless it is its pdf-id's last.

        A pdf-id that no frame was aligned to keeps its previous mixture.
        """
        owners, num_pdfs = previous.owners, previous.num_pdfs
        unseen = np.maximum.reduceat(self.occupancies, previous.starts[:-1]) == 0
        keep = (self.occupancies >= MIN_OCCUPANCY) | unseen[owners]
        keep[_find_heaviest(self.occupancies, previous.starts)] = True
        kept = np.flatnonzero(keep)
        owners, occupancies = owners[kept], self.occupancies[kept]
        counts = np.maximum(occupancies, SMALLEST)
        log_weights = np.log(counts / np.bincount(owners, counts, num_pdfs)[owners])
        means = self.totals[kept] / counts[:, None]
        variances = np.maximum(self.squares[kept] / counts[:, None] - means**2, VARIANCE_FLOOR)
        as_before = unseen[owners]
        log_weights[as_before] = previous.log_weights[kept[as_before]]
        means[as_before] = previous.means[kept[as_before]]
        variances[as_before] = previous.variances[kept[as_before]]
        return DiagonalGmm(
            np.searchsorted(owners, np.arange(num_pdfs + 1)),
            *(array.astype(np.float32) for array in (log_weights, means, variances, occupancies)),
        )


def _find_heaviest(occupancies: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The component of every pdf-id that has most frames, the first of them where several do."""
    highest = np.repeat(np.maximum.reduceat(occupancies, starts[:-1]), np.diff(starts))
    candidates = np.flatnonzero(occupancies == highest)
    return candidates[np.searchsorted(candidates, starts[:-1])]


def accumulate(gmm: DiagonalGmm, frames: np.ndarray, pdf_ids: np.ndarray) -> GmmStatistics:
    """Sum frames, each over the components of its own pdf-id, by their posteriors.

    Args:
        gmm: the mixtures that the posteriors are of.
        frames: float32 (N, D).
        pdf_ids: int (N,); frames of pdf-id -1 count nowhere.
    """
    shape = gmm.means.shape
    moments = np.zeros(len(gmm.means)), np.zeros(shape), np.zeros(shape)
    frames = np.ascontiguousarray(frames, np.float32)
    order, bounds = sort_by_pdf(pdf_ids, gmm.num_pdfs)
    turns = share_out(np.diff(bounds) * np.diff(gmm.starts))
    sum_moments(frames, order, bounds, turns, gmm.starts, gmm.coefficients(), moments)
    return GmmStatistics(*moments)


def grow_mixtures(gmm: DiagonalGmm, num_components: int, power: float = 0.25) -> DiagonalGmm:
    """Split the heaviest components until there are `num_components` in all.

    A pdf-id's share grows with its occupancy to the power 0.25, as in Kaldi's `gmm-mixup`; a component is
    split into two that lie 0.2 standard deviations to either side of it (0.1 if it comes of a split itself).
    One of fewer than 40 frames is not split.
    """
    counts = np.diff(gmm.starts)
    wanted = _share_components(np.bincount(gmm.owners, gmm.occupancies), num_components, power)
    starts = np.append(0, np.cumsum(np.maximum(wanted, counts)))
    places = np.arange(gmm.num_components) + np.repeat(starts[:-1] - gmm.starts[:-1], counts)
    grown = []
    for values in (gmm.log_weights, gmm.means, gmm.variances, gmm.occupancies):
        grown.append(np.zeros((starts[-1], *values.shape[1:]), np.float32))
        grown[-1][places] = values
    _split_heaviest(starts, counts, *grown)
    used = np.arange(starts[-1]) < np.repeat(starts[:-1] + counts, np.diff(starts))
    return DiagonalGmm(np.append(0, np.cumsum(counts)), *(values[used] for values in grown))


def _share_components(occupancies: np.ndarray, num_components: int, power: float) -> np.ndarray:
    weights = np.maximum(occupancies, 1e-3) ** power
    shares: np.ndarray = np.maximum(1, np.round(num_components * weights / weights.sum())).astype(np.int64)
    return shares


@numba.njit(cache=True, nogil=True)
def _split_heaviest(
    starts: np.ndarray,
    counts: np.ndarray,
    log_weights: np.ndarray,
    means: np.ndarray,
    variances: np.ndarray,
    occupancies: np.ndarray,
) -> None:
    """Fill each pdf-id's free places, and count them, with halves of its heaviest components."""
    shifts = np.full(len(log_weights), SPLIT_PERTURBATION, np.float32)
    for pdf_id in range(len(counts)):
        first = starts[pdf_id]
        for place in range(first + counts[pdf_id], starts[pdf_id + 1]):
            heaviest = first + np.argmax(occupancies[first:place])
            if occupancies[heaviest] < 2 * MIN_OCCUPANCY:
                break
            log_weights[heaviest] -= np.log(2.0)
            occupancies[heaviest] /= 2
            log_weights[place], occupancies[place] = log_weights[heaviest], occupancies[heaviest]
            variances[place] = variances[heaviest]
            shift = shifts[heaviest] * np.sqrt(variances[heaviest])
            means[place] = means[heaviest] - shift
            means[heaviest] = means[heaviest] + shift
            # Halved each time: a second split by the same shift would make two Gaussians meet for good.
            shifts[heaviest] /= 2
            shifts[place] = shifts[heaviest]
            counts[pdf_id] += 1
