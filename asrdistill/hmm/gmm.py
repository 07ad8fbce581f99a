"""Diagonal Gaussian mixtures, one per pdf-id, with mixtures that grow as they earn it.

Shapes: N frames of D coefficients, P pdf-ids, K components (the same number of places for every pdf-id,
the unused ones with weight 0).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from asrdistill.experiment import atomic_path

LOG_TWO_PI = float(np.log(2 * np.pi))
FRAMES_A_CHUNK = 16384
VARIANCE_FLOOR = 0.01
MIN_OCCUPANCY = 20.0
SPLIT_PERTURBATION = 0.2


@dataclass
class DiagonalGmm:
    """Mixtures of Gaussians with diagonal covariance.

    Attributes:
        log_weights: float32 (P, K); -inf for places not in use.
        means: float32 (P, K, D).
        variances: float32 (P, K, D).
        occupancies: float32 (P, K), frames that each component was estimated on.
    """

    log_weights: torch.Tensor
    means: torch.Tensor
    variances: torch.Tensor
    occupancies: torch.Tensor

    @classmethod
    def flat(cls, num_pdfs: int, mean: torch.Tensor, variance: torch.Tensor) -> "DiagonalGmm":
        """One and the same Gaussian for every pdf-id."""
        shape = (num_pdfs, 1, len(mean))
        zeros = torch.zeros(num_pdfs, 1)
        return cls(zeros, mean.expand(shape).clone(), variance.expand(shape).clone(), zeros.clone())

    def write(self, path: Path) -> None:
        """Publish the mixtures as safetensors."""
        with atomic_path(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in vars(self).items()}, temporary)

    @property
    def num_components(self) -> int:
        return int(torch.isfinite(self.log_weights).sum())

    def component_log_likelihoods(self, frames: torch.Tensor) -> torch.Tensor:
        """Log weight times density of every component, float32 (N, P, K), as one matrix product."""
        num_pdfs, num_places, dimension = self.means.shape
        precisions = (1 / self.variances).reshape(-1, dimension)
        means = self.means.reshape(-1, dimension)
        constant = self.log_weights.reshape(-1) - 0.5 * (
            dimension * LOG_TWO_PI - precisions.log().sum(1) + (means**2 * precisions).sum(1)
        )
        coefficients = torch.cat([-0.5 * precisions, means * precisions], dim=1)
        powers = torch.cat([frames**2, frames], dim=1)
        return torch.addmm(constant, powers, coefficients.T).reshape(len(frames), num_pdfs, num_places)

    def log_likelihoods(self, frames: torch.Tensor) -> torch.Tensor:
        """Log density of frames (N, D) under every pdf-id's mixture, float32 (N, P)."""
        chunks = [
            torch.logsumexp(self.component_log_likelihoods(part), 2) for part in frames.split(FRAMES_A_CHUNK)
        ]
        return torch.cat(chunks) if chunks else torch.zeros(0, len(self.means))


@dataclass
class GmmStatistics:
    """Zeroth, first and second moments of the frames that each component answers for, in float64."""

    occupancies: torch.Tensor
    totals: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def zeros_for(cls, gmm: DiagonalGmm) -> "GmmStatistics":
        shape = gmm.means.shape
        zeros = torch.zeros(shape, dtype=torch.float64)
        return cls(torch.zeros(shape[:2], dtype=torch.float64), zeros, zeros.clone())

    def accumulate(self, gmm: DiagonalGmm, frames: torch.Tensor, pdf_ids: torch.Tensor) -> None:
        """Add frames (N, D), each to the components of its own pdf-id (N,), by their posteriors."""
        order = torch.argsort(pdf_ids, stable=True)
        counts = torch.bincount(pdf_ids, minlength=len(gmm.means)).tolist()
        for pdf_id, part in enumerate(frames[order].split(counts)):
            if not len(part):
                continue
            one = DiagonalGmm(
                *(
                    t[pdf_id : pdf_id + 1]
                    for t in (gmm.log_weights, gmm.means, gmm.variances, gmm.occupancies)
                )
            )
            posteriors = torch.softmax(one.component_log_likelihoods(part)[:, 0], dim=1)
            self.occupancies[pdf_id] += posteriors.sum(0)
            self.totals[pdf_id] += posteriors.T @ part
            self.squares[pdf_id] += posteriors.T @ part**2

    def estimate(self, previous: DiagonalGmm) -> DiagonalGmm:
        """Maximum-likelihood mixtures; a component with too few frames goes, unless it is its pdf-id's last.

        A pdf-id that no frame was aligned to keeps its previous Gaussian.
        """
        best = torch.zeros_like(self.occupancies, dtype=torch.bool)
        best[torch.arange(len(best)), self.occupancies.argmax(1)] = True
        keep = (self.occupancies >= MIN_OCCUPANCY) | (best & (self.occupancies > 0))
        counts = self.occupancies.clamp_min(1e-10)[..., None]
        means = self.totals / counts
        variances = (self.squares / counts - means**2).clamp_min(VARIANCE_FLOOR)
        kept = torch.where(keep, self.occupancies, 0.0)
        log_weights = (kept / kept.sum(1, keepdim=True)).log()
        unseen = self.occupancies.sum(1) == 0
        log_weights[unseen] = previous.log_weights[unseen].double()
        means = torch.where(keep[..., None], means, previous.means.double())
        variances = torch.where(keep[..., None], variances, previous.variances.double())
        return DiagonalGmm(log_weights.float(), means.float(), variances.float(), kept.float())


def grow_mixtures(gmm: DiagonalGmm, num_components: int, power: float = 0.25) -> DiagonalGmm:
    """Split the heaviest components until there are `num_components` in all.

    A pdf-id's share grows with its occupancy to the power 0.25, as in Kaldi's `gmm-mixup`; a component is
    split into two that lie 0.2 standard deviations to either side of it (0.1 if it comes of a split itself).
    """
    wanted = _share_components(gmm.occupancies.sum(1).numpy(), num_components, power)
    num_places = max(int(wanted.max()), gmm.means.shape[1])
    extra = num_places - gmm.means.shape[1]
    log_weights = torch.nn.functional.pad(gmm.log_weights, (0, extra), value=-torch.inf)
    occupancies = torch.nn.functional.pad(gmm.occupancies, (0, extra))
    means = torch.nn.functional.pad(gmm.means, (0, 0, 0, extra))
    variances = torch.nn.functional.pad(gmm.variances, (0, 0, 0, extra), value=1.0)
    shifts = SPLIT_PERTURBATION * variances.sqrt()
    for pdf_id, target in enumerate(wanted.tolist()):
        while True:
            free = torch.nonzero(log_weights[pdf_id] == -torch.inf)
            if num_places - len(free) >= target or occupancies[pdf_id].max() < 2 * MIN_OCCUPANCY:
                break
            heaviest, place = int(occupancies[pdf_id].argmax()), int(free[0])
            # Halved each time: a second split by the same shift would make two Gaussians meet for good.
            shift = shifts[pdf_id, heaviest].clone()
            shifts[pdf_id, heaviest] /= 2
            log_weights[pdf_id, heaviest] -= float(np.log(2))
            occupancies[pdf_id, heaviest] /= 2
            for tensor in (log_weights, occupancies, means, variances, shifts):
                tensor[pdf_id, place] = tensor[pdf_id, heaviest]
            means[pdf_id, heaviest] += shift
            means[pdf_id, place] -= shift
    return DiagonalGmm(log_weights, means, variances, occupancies)


def _share_components(occupancies: np.ndarray, num_components: int, power: float) -> np.ndarray:
    weights = np.maximum(occupancies, 1e-3) ** power
    return np.maximum(1, np.round(num_components * weights / weights.sum())).astype(int)
