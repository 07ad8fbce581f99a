"""The inner loops of the Gaussian mixtures, over frames and components.

A frame counts for the components of its own pdf-id alone, by their posteriors. Sums over frames are in
float64, each pdf-id's by one thread and in the order of the frames: the number of threads changes nothing.
Shapes: N frames of D coefficients, P pdf-ids, G components in all.
"""

import numba
import numpy as np

# A component answers for no share of a frame below this; what is left out is less than float32 resolves.
MIN_POSTERIOR = 1e-7
# Lets the compiler vectorise a sum; one thread computes it, so the order is always the same.
SUMMING = {"contract", "reassoc", "nsz"}

Coefficients = tuple[np.ndarray, np.ndarray, np.ndarray]


def sort_by_pdf(pdf_ids: np.ndarray, num_pdfs: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames by pdf-id and then by time, int64 (N,), and where in them each pdf-id begins, int64 (P + 1,).

    Those of pdf-id -1 come first, before where pdf-id 0 begins.
    """
    assert not len(pdf_ids) or pdf_ids.max() < num_pdfs, (pdf_ids.max(), num_pdfs)
    order = np.argsort(pdf_ids, kind="stable")
    return order, np.searchsorted(pdf_ids[order], np.arange(num_pdfs + 1))


def share_out(work: np.ndarray) -> np.ndarray:
    """An order of pdf-ids, int64 (P,), whose equal parts, one for each thread, have about equal work (P,)."""
    heaviest_first = np.argsort(-work, kind="stable")
    num_threads = numba.get_num_threads()
    return np.concatenate([heaviest_first[thread::num_threads] for thread in range(num_threads)])


@numba.njit(cache=True, parallel=True, nogil=True, fastmath=SUMMING)
def sum_components(scores: np.ndarray, starts: np.ndarray, log_likelihoods: np.ndarray) -> None:
    """Fill the logs of sums over each pdf-id's components, float32 (N, P), whose logs are `scores` (N, G)."""
    for row in numba.prange(len(scores)):
        for pdf_id in range(len(starts) - 1):
            first, last = starts[pdf_id], starts[pdf_id + 1]
            highest = scores[row, first]
            for component in range(first + 1, last):
                highest = max(highest, scores[row, component])
            total = np.float32(0)
            for component in range(first, last):
                total += np.exp(scores[row, component] - highest)
            log_likelihoods[row, pdf_id] = highest + np.log(total)


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def _find_posteriors(
    frames: np.ndarray, row: int, coefficients: Coefficients, first: int, posteriors: np.ndarray
) -> None:
    """Fill what share of a frame each component of the mixture that begins at `first` answers for."""
    constants, linear, quadratic = coefficients
    highest = np.float32(-np.inf)
    for place in range(len(posteriors)):
        component = first + place
        score = constants[component]
        for number in range(frames.shape[1]):
            value = frames[row, number]
            score += value * (linear[component, number] + value * quadratic[component, number])
        posteriors[place] = score
        highest = max(highest, score)
    total = np.float32(0)
    for place in range(len(posteriors)):
        posteriors[place] = np.exp(posteriors[place] - highest)
        total += posteriors[place]
    for place in range(len(posteriors)):
        posteriors[place] /= total


@numba.njit(cache=True, parallel=True, nogil=True, fastmath=SUMMING)
def sum_moments(
    frames: np.ndarray,
    order: np.ndarray,
    bounds: np.ndarray,
    turns: np.ndarray,
    starts: np.ndarray,
    coefficients: Coefficients,
    moments: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Add frames to each component's occupancy (G,), total (G, D) and squares (G, D), float64.

    Args:
        frames: float32 (N, D).
        order: of the frames, from `sort_by_pdf`.
        bounds: likewise.
        turns: the pdf-ids wanted, from `share_out`.
        starts: as in `DiagonalGmm`.
        coefficients: from `DiagonalGmm.coefficients`.
        moments: what is added to.
    """
    occupancies, totals, squares = moments
    for turn in numba.prange(len(turns)):
        pdf_id = turns[turn]
        first = starts[pdf_id]
        posteriors = np.empty(starts[pdf_id + 1] - first, np.float32)
        for row in order[bounds[pdf_id] : bounds[pdf_id + 1]]:
            _find_posteriors(frames, row, coefficients, first, posteriors)
            for place in range(len(posteriors)):
                component, posterior = first + place, np.float64(posteriors[place])
                if posterior < MIN_POSTERIOR:
                    continue
                occupancies[component] += posterior
                for number in range(frames.shape[1]):
                    value = np.float64(frames[row, number])
                    totals[component, number] += posterior * value
                    squares[component, number] += posterior * value * value


@numba.njit(cache=True, parallel=True, nogil=True, fastmath=SUMMING)
def sum_scatters(
    frames: np.ndarray,
    order: np.ndarray,
    bounds: np.ndarray,
    turns: np.ndarray,
    starts: np.ndarray,
    coefficients: Coefficients,
    means: np.ndarray,
    scatters: np.ndarray,
) -> None:
    """Add the outer products of frames less the mean to those of each component, float64 (components, D, D).

    Args as for `sum_moments`; `scatters` begins with the first component of the lowest pdf-id in `turns`.
    """
    dimension = frames.shape[1]
    before = starts[turns.min()]
    for turn in numba.prange(len(turns)):
        pdf_id = turns[turn]
        first = starts[pdf_id]
        posteriors = np.empty(starts[pdf_id + 1] - first, np.float32)
        offset = np.empty(dimension)
        for row in order[bounds[pdf_id] : bounds[pdf_id + 1]]:
            _find_posteriors(frames, row, coefficients, first, posteriors)
            for place in range(len(posteriors)):
                component, posterior = first + place, np.float64(posteriors[place])
                if posterior < MIN_POSTERIOR:
                    continue
                for number in range(dimension):
                    offset[number] = frames[row, number] - means[component, number]
                for number in range(dimension):
                    weighted = posterior * offset[number]
                    for other in range(dimension):
                        scatters[component - before, number, other] += weighted * offset[other]
