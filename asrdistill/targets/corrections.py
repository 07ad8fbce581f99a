"""What a coarse code leaves out, made good on average: a few pdf-ids a frame, each with a unit more or less.

The error of a code, soft targets less what it tells, is passed pdf-id by pdf-id; whenever the sum of its
magnitudes has grown by one unit, the pdf-id where that happens is noted, with the error's sign, and a reader
adds or takes a unit there. Where the counting begins is drawn at random for each frame, so on average the
soft targets themselves are told, however coarse the code; what it tells well costs few bytes.
Noted is how far each is from the one before: 1 for the same pdf-id of the same frame, P + 1 for that of the
next frame; below zero where a unit is taken; 0 means that nothing follows for the longest distance.
Source: systematic sampling, Madow & Madow (1944); that a student needs targets without bias rather than
exact ones: Anshumann et al. (2025), arXiv:2503.16870.
Shapes: N frames, P pdf-ids.
"""

import numba
import numpy as np

from asrdistill.nn.soft_targets import Corrections
from asrdistill.targets.entropy_coding import MAX_MAGNITUDE

# Pdf-ids whose error is summed up at once: as many as a vector of 256 bits has.
_CHUNK = 8
_LONGEST = MAX_MAGNITUDE - 1


def draw_corrections(soft: np.ndarray, told: np.ndarray, unit: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the corrections of an utterance.

    Args:
        soft: float32 (N, P), the soft targets.
        told: float32 (N, P), what the code tells.
        unit: probability that a correction adds or takes.
        rng: says where the counting begins.

    Returns:
        Distances with signs, int32.

    Raises:
        ValueError: the soft targets are no probabilities.
    """
    num_frames, num_pdfs = soft.shape
    distances = np.empty(count_most(num_frames, num_pdfs, unit), np.int32)
    count = _draw(soft, told, 1 / unit, rng.random(len(soft)), _LONGEST, distances)
    if count < 0:
        raise ValueError("soft targets: not all of them are probabilities that sum to 1")
    return distances[:count]


def count_most(num_frames: int, num_pdfs: int, unit: float) -> int:
    """Distances of an utterance, at most."""
    return (_count_most_of_frame(unit) + num_pdfs // _LONGEST + 1) * num_frames


def _count_most_of_frame(unit: float) -> int:
    """Corrections: the error of a frame is 2, and as much again where soft targets are corrected ones."""
    return int(4 / unit) + 1


def read_corrections(distances: np.ndarray, num_frames: int, num_pdfs: int, unit: float) -> Corrections:
    """What `draw_corrections` drew.

    Raises:
        ValueError: it is not that.
    """
    steps = np.where(distances == 0, _LONGEST, np.abs(distances, dtype=np.int64) - 1)
    places = np.cumsum(steps)[distances != 0]
    if places.max(initial=0) >= max(num_frames * num_pdfs, 1):
        raise ValueError("damaged")
    counts = np.bincount(places // num_pdfs, minlength=num_frames)
    if counts.max(initial=0) > _count_most_of_frame(unit):
        raise ValueError("damaged")
    starts = np.concatenate([[0], np.cumsum(counts)])
    signs = np.sign(distances[distances != 0]).astype(np.int8)
    return Corrections(starts, (places % num_pdfs).astype(np.int32), signs, unit)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _sum_errors(soft: np.ndarray, told: np.ndarray, sums: np.ndarray) -> None:
    """Fill the sums of the magnitudes of a frame's errors, chunk by chunk."""
    num_whole = len(soft) // _CHUNK
    sums[num_whole:] = 0
    for chunk in range(num_whole):
        total = np.float32(0)
        for place in range(chunk * _CHUNK, (chunk + 1) * _CHUNK):
            total += abs(soft[place] - told[place])
        sums[chunk] = total
    for place in range(num_whole * _CHUNK, len(soft)):
        sums[num_whole] += abs(soft[place] - told[place])


@numba.njit(cache=True, nogil=True)
def _skip(sums: np.ndarray, units: float, chunk: int, passed: float) -> tuple[int, float]:
    """The next chunk in which the counting comes to a unit, or their number; what has passed before it."""
    while chunk < len(sums):
        after = passed + units * sums[chunk]
        if not after < 1:
            break
        passed = after
        chunk += 1
    return chunk, passed


@numba.njit(cache=True, nogil=True)
def _draw(
    soft: np.ndarray,
    told: np.ndarray,
    units: float,
    begins: np.ndarray,
    longest: int,
    distances: np.ndarray,
) -> int:
    """Fill the distances; their number, or -1 where there is no room for them.

    Args:
        soft: float32 (N, P).
        told: float32 (N, P).
        units: of one probability.
        begins: float64 (N,), share of a unit at which the counting begins.
        longest: distance.
        distances: int32.
    """
    num_pdfs, count, last = soft.shape[1], 0, 0
    sums = np.empty((num_pdfs + _CHUNK - 1) // _CHUNK, np.float32)
    for frame in range(len(soft)):
        _sum_errors(soft[frame], told[frame], sums)
        chunk, passed = _skip(sums, units, 0, begins[frame])
        while chunk < len(sums):
            for pdf_id in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, num_pdfs)):
                error = soft[frame, pdf_id] - told[frame, pdf_id]
                passed += units * abs(error)
                while passed >= 1:
                    passed -= 1
                    place = frame * num_pdfs + pdf_id
                    skipped = (place - last) // longest
                    if count + skipped >= len(distances):
                        return -1
                    distances[count : count + skipped] = 0
                    last += skipped * longest
                    count += skipped
                    distances[count] = place - last + 1 if error > 0 else last - place - 1
                    last = place
                    count += 1
            chunk, passed = _skip(sums, units, chunk + 1, passed)
    return count
