"""Linear transforms that suit features to diagonal Gaussians: LDA and MLLT.

Linear discriminant analysis (LDA) keeps, of frames spliced with their neighbours, the directions in which
tied states are furthest apart. The maximum-likelihood linear transform (MLLT), also called a global
semi-tied covariance, then turns and scales these so that what is left of correlation within components is as
small as one matrix can make it.
Sources: Haeb-Umbach & Ney (1992); Gales (1999), "Semi-tied covariance matrices for hidden Markov models";
Kaldi's `est-lda` and `est-mllt`.
Differs: every component's posterior counts, unpruned; a little is added to diagonals (REGULARIZATION).
Shapes: N frames of S spliced or D transformed coefficients, C classes, G components in all.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy.linalg
import scipy.sparse

from asrdistill.hmm.gmm import DiagonalGmm
from asrdistill.hmm.gmm_loops import share_out, sort_by_pdf, sum_scatters

# Share of a covariance's mean variance that is added to its diagonal: one that never varies can be inverted.
REGULARIZATION = 1e-8
FRAMES_A_CHUNK = 1 << 16
MLLT_FRAMES = 300_000
# Full covariances that are in memory at a time.
SCATTERS_A_BLOCK = 2048
MAX_SWEEPS = 200
# Log-likelihood a frame; a sweep over all rows that gains less is the last.
MIN_GAIN = 1e-7


def estimate_lda(frames: np.ndarray, classes: np.ndarray, dimension: int) -> np.ndarray:
    """Directions in which classes differ most for what they vary within, the best first.

    The covariance within classes of what is transformed is the identity. Of D directions, at most C - 1 can
    tell classes apart; any others are arbitrary.

    Args:
        frames: float32 (N, S).
        classes: int (N,), pdf-ids; frames of class -1 count nowhere.
        dimension: D, number of directions wanted, at most S.

    Returns:
        float32 (D, S).
    """
    assert dimension <= frames.shape[1], (dimension, frames.shape)
    counts, sums, squares = _sum_classes(frames, classes)
    num_frames = counts.sum()
    assert num_frames > 0, "no frame has a class"
    mean = sums.sum(0) / num_frames
    offsets = sums / np.maximum(counts, 1)[:, None] - mean
    between = (offsets * counts[:, None]).T @ offsets / num_frames
    within = _regularize(squares / num_frames - np.outer(mean, mean) - between)
    _, directions = scipy.linalg.eigh(between, within)
    rows = directions.T[::-1][:dimension]
    largest = rows[np.arange(dimension), np.abs(rows).argmax(1)]
    lda: np.ndarray = (rows * np.sign(largest)[:, None]).astype(np.float32)
    return lda


def _sum_classes(frames: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames of each class (C,), their sums (C, S), and the sum of all outer products (S, S), in float64."""
    num_classes, size = int(classes.max(initial=-1)) + 1, frames.shape[1]
    sums, squares = np.zeros((num_classes, size)), np.zeros((size, size))
    for first in range(0, len(frames), FRAMES_A_CHUNK):
        chunk = slice(first, first + FRAMES_A_CHUNK)
        own = classes[chunk]
        part, own = frames[chunk][own >= 0].astype(np.float64), own[own >= 0]
        belongs = scipy.sparse.csr_array(
            (np.ones(len(own)), (own, np.arange(len(own)))), (num_classes, len(own))
        )
        sums += belongs @ part
        squares += part.T @ part
    return np.bincount(classes[classes >= 0], minlength=num_classes), sums, squares


def _regularize(covariances: np.ndarray) -> np.ndarray:
    """Covariances (..., size, size) with a little more variance."""
    size = covariances.shape[-1]
    variance = np.trace(covariances, axis1=-2, axis2=-1) / size
    regular: np.ndarray = covariances + REGULARIZATION * variance[..., None, None] * np.eye(size)
    return regular


@dataclass(frozen=True)
class MlltStatistics:
    """What MLLT is estimated from.

    Attributes:
        covariances: float64 (D, D, D); [i] is the mean, over frames, of the outer product of a frame less its
            component's mean, divided by the component's variance of coefficient i.
    """

    covariances: np.ndarray

    def objective(self, matrix: np.ndarray) -> float:
        """Log-likelihood a frame under the transformed mixtures, but for what no transform changes."""
        return float(np.linalg.slogdet(matrix)[1] - 0.5 * np.sum(self._variances(matrix)))

    def _variances(self, matrix: np.ndarray) -> np.ndarray:
        """Of each transformed coefficient, in units of its components' variances, float64 (D,)."""
        variances: np.ndarray = np.einsum("ij,ijk,ik->i", matrix, self.covariances, matrix)
        return variances

    def estimate(self) -> np.ndarray:
        """The transform, float32 (D, D): each row in turn set to what is best beside the others, many times.

        Source: Gales (1999), as in `MlltAccs::Update` of Kaldi.
        """
        size = len(self.covariances)
        matrix, inverses = np.eye(size), np.linalg.inv(self.covariances)
        objective = self.objective(matrix)
        for _ in range(MAX_SWEEPS):
            for number in range(size):
                cofactors = np.linalg.inv(matrix)[:, number]
                row = inverses[number] @ cofactors
                matrix[number] = row / np.sqrt(cofactors @ row)
            previous, objective = objective, self.objective(matrix)
            if objective - previous < MIN_GAIN:
                break
        return matrix.astype(np.float32)


def accumulate_mllt(frames: np.ndarray, gmm: DiagonalGmm, pdf_ids: np.ndarray) -> MlltStatistics:
    """Sum what `estimate_mllt` needs, over at most 300,000 frames, evenly taken.

    Args:
        frames: float32 (N, D).
        gmm: mixtures over the same features.
        pdf_ids: int (N,); frames of pdf-id -1 count nowhere.
    """
    aligned = np.flatnonzero(pdf_ids >= 0)
    assert len(aligned), "no frame has a pdf-id"
    taken = aligned[np.linspace(0, len(aligned) - 1, min(len(aligned), MLLT_FRAMES)).astype(np.int64)]
    frames = np.ascontiguousarray(frames[taken], np.float32)
    size, coefficients = frames.shape[1], gmm.coefficients()
    order, bounds = sort_by_pdf(pdf_ids[taken], gmm.num_pdfs)
    work = np.diff(bounds) * np.diff(gmm.starts)
    covariances = np.zeros((size, size * size))
    edges = np.append(np.arange(0, gmm.num_components, SCATTERS_A_BLOCK), gmm.num_components)
    for first, last in pairwise(np.unique(np.searchsorted(gmm.starts, edges)).tolist()):
        block = slice(gmm.starts[first], gmm.starts[last])
        scatters = np.zeros((block.stop - block.start, size, size))
        turns = first + share_out(work[first:last])
        sum_scatters(frames, order, bounds, turns, gmm.starts, coefficients, gmm.means, scatters)
        covariances += (1 / gmm.variances[block]).T @ scatters.reshape(-1, size * size)
    return MlltStatistics(_regularize(covariances.reshape(size, size, size) / len(taken)))


def estimate_mllt(frames: np.ndarray, gmm: DiagonalGmm, pdf_ids: np.ndarray) -> np.ndarray:
    """The transform under which frames are most likely, float32 (D, D), to be applied to frames and mixtures.

    Args as for `accumulate_mllt`, whose result's `objective` tells what was gained.
    """
    return accumulate_mllt(frames, gmm, pdf_ids).estimate()


def transform_gmm(gmm: DiagonalGmm, matrix: np.ndarray) -> DiagonalGmm:
    """Mixtures over transformed features: means (G, D) go along, as with Kaldi's `gmm-transform-means`.

    Variances stay: MLLT scales its rows so that they suit what is transformed, and covariances that it
    has removed would be counted in if they were computed from the old ones.
    """
    means = (gmm.means.astype(np.float64) @ matrix.T.astype(np.float64)).astype(np.float32)
    return replace(gmm, means=np.ascontiguousarray(means))
