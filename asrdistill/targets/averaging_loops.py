"""The inner loop over frames of the teachers' average.

Each frame's logits are read once, while they are in the cache; as torch operations every softmax, product and
sum was a pass over memory that took as long as the teachers' matrix products.
Shapes: M teachers, L frames, P pdf-ids.
"""

import numba
import numpy as np

from asrdistill.nn.softmax_loops import exponentiate, find_highest, sum_deviations, sum_row


@numba.njit(cache=True, nogil=True)
def _find_place(row: np.ndarray, value: np.float32) -> int:
    for place in range(len(row)):
        if row[place] == value:
            return place
    return -1


@numba.njit(cache=True, nogil=True)
def _add(row: np.ndarray, scale: np.float32, total: np.ndarray) -> None:
    for place in range(len(row)):
        total[place] += scale * row[place]


@numba.njit(cache=True, nogil=True)
def count_votes(winners: np.ndarray) -> np.ndarray:
    """How many teachers, of those who voted (M, L), voted for the pdf-id with most votes, int64 (L,)."""
    num_teachers, num_frames = winners.shape
    most = np.zeros(num_frames, np.int64)
    for frame in range(num_frames):
        for candidate in range(num_teachers):
            votes = 0
            for teacher in range(num_teachers):
                votes += winners[teacher, frame] == winners[candidate, frame]
            most[frame] = max(most[frame], votes)
    return most


@numba.njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def average_posteriors(
    logits: np.ndarray,
    temperature: np.float32,
    average: np.ndarray,
    winners: np.ndarray,
    entropies: np.ndarray,
) -> None:
    """The mean over teachers of softmax(logits / T), and what each of them says.

    Args:
        logits: float32 (M, L, P).
        temperature: T.
        average: float32 (L, P), filled.
        winners: int64 (M, L), filled with each teacher's likeliest pdf-id; of several, the first.
        entropies: float32 (L,), filled with the mean of those of the teachers' posteriors at T.
    """
    num_teachers, num_frames, num_pdfs = logits.shape
    coldness, one, teachers = np.float32(1) / temperature, np.float32(1), np.float32(num_teachers)
    for frame in numba.prange(num_frames):
        powers, mean, entropy = np.empty(num_pdfs, np.float32), average[frame], np.float32(0)
        mean[:] = 0
        for teacher in range(num_teachers):
            row = logits[teacher, frame]
            highest = find_highest(row)
            winners[teacher, frame] = _find_place(row, highest)
            exponentiate(row, highest, coldness, powers)
            total = sum_row(powers)
            _add(powers, one / (total * teachers), mean)
            entropy += np.log(total) - coldness * sum_deviations(powers, row, highest) / total
        entropies[frame] = entropy / teachers
