"""The inner loops over rows of logits: softmaxes, the loss's gradient, averages; a row stays in the cache.

As torch operations each is a pass over memory of its own: seven to ten of them for one gradient. Here a row
is read once and written once. The exponential is written out, for numba's is not vectorised; it is reduced as
in Cephes (Moshier 1992), 2^n times a polynomial, with an error below 2e-7 of the value; the polynomial is of
degree 6, not 7. Sums are by one thread and in one order: the number of threads changes nothing. All of it is
in one file, because numba, which keeps what it compiled, does not notice a change in another one.
Shapes: M members or teachers, B or L frames, P pdf-ids.
"""

import numba
import numpy as np

# Lets the compiler vectorise a sum; not for the exponential, whose order of operations matters.
SUMMING = {"contract", "reassoc", "nsz"}
# Rows that a thread takes at a time.
CHUNK = 64
# Elements that are summed in float32; longer sums are put together in float64.
PART = 512
# Below it an exponential is no normal number.
LEAST_EXPONENT = np.float32(-87)
# Added to a small number, it leaves no room for a fraction.
_SHIFT = np.float32(1.5 * 2**23)
_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Of e^x = 1 + x + C2 x^2 + ... between -log(2) / 2 and log(2) / 2: of least largest relative error, 4e-9.
_C2, _C3, _C4 = np.float32(4.9999994040e-1), np.float32(1.6666521132e-1), np.float32(4.1668388993e-2)
_C5, _C6 = np.float32(8.3687454462e-3), np.float32(1.3814540580e-3)
_L0, _L1, _L2 = np.float32(7.0376836292e-2), np.float32(-1.1514610310e-1), np.float32(1.1676998740e-1)
_L3, _L4, _L5 = np.float32(-1.2420140846e-1), np.float32(1.4249322787e-1), np.float32(-1.6668057665e-1)
_L6, _L7, _L8 = np.float32(2.0000714765e-1), np.float32(-2.4999993993e-1), np.float32(3.3333331174e-1)
# The bits of the float next below the root of 1/2: a mantissa from there to the root of 2 is near 1.
_ROOT_OF_HALF = np.int32(0x3F3504F3)
# What is less likely adds nothing to an entropy.
LEAST_PROBABILITY = np.float32(1e-30)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _exponential(exponent: np.float32) -> np.float32:
    """e to this power, at most 0; a loop that sums it may be reordered, but not what is in here."""
    one = np.float32(1)
    exponent = LEAST_EXPONENT if exponent < LEAST_EXPONENT else exponent
    shifted = exponent * _LOG2_E + _SHIFT
    whole = shifted - _SHIFT
    rest = exponent - whole * _LN2_HIGH
    rest = rest - whole * _LN2_LOW
    power = (((((_C6 * rest + _C5) * rest + _C4) * rest + _C3) * rest + _C2) * rest + one) * rest + one
    # Times 2^whole: that stands in the lowest bits of `shifted`, a float's exponent from bit 23 on.
    doublings = np.int32(np.float32(shifted).view(np.int32) << np.int32(23))
    return np.int32(np.float32(power).view(np.int32) + doublings).view(np.float32)


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def exponentiate(
    row: np.ndarray, highest: np.float32, scale: np.float32, powers: np.ndarray
) -> tuple[np.float32, np.float32]:
    """Fill exp((row - highest) * scale), none of it above 1; what is no number stays none.

    Returns:
        The sum of these powers, and the sum of power * exponent: one pass for all three.
    """
    total, deviations = np.float32(0), np.float32(0)
    for place in range(len(row)):
        exponent = (row[place] - highest) * scale
        power = _exponential(exponent)
        powers[place] = power
        total += power
        deviations += power * exponent
    return total, deviations


@numba.njit(cache=True, nogil=True)
def find_highest(row: np.ndarray) -> np.float32:
    """The largest of a row, float32.

    Found among the integers whose bits the floats have, because a maximum of floats is not vectorised: the
    largest float is the largest of them, or, where all floats are negative, the least.
    """
    bits, most, least = row.view(np.int32), np.int32(-0x80000000), np.int32(0x7FFFFFFF)
    for place in range(len(bits)):
        most = bits[place] if bits[place] > most else most
        least = bits[place] if bits[place] < least else least
    return np.int32(most if most >= 0 else least).view(np.float32)


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def sum_row(row: np.ndarray) -> np.float32:
    """The sum of a row, float32."""
    total = np.float32(0)
    for place in range(len(row)):
        total += row[place]
    return total


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def sum_deviations(
    weights: np.ndarray, row: np.ndarray, highest: np.float32
) -> tuple[np.float32, np.float32]:
    """The sum of weights, and that of weights * (row - highest), float32."""
    total, deviations = np.float32(0), np.float32(0)
    for place in range(len(row)):
        total += weights[place]
        deviations += weights[place] * (row[place] - highest)
    return total, deviations


@numba.njit(cache=True, nogil=True, fastmath=SUMMING)
def _sum_information(row: np.ndarray) -> np.float32:
    """The sum of p log p of probabilities, float32, nats."""
    total, half = np.float32(0), np.float32(0.5)
    for place in range(len(row)):
        p = row[place] if row[place] > LEAST_PROBABILITY else LEAST_PROBABILITY
        bits = np.float32(p).view(np.int32)
        power = np.int32(np.int32(bits - _ROOT_OF_HALF) >> np.int32(23))
        x = np.int32(bits - np.int32(power << np.int32(23))).view(np.float32) - np.float32(1)
        y = (((((((_L0 * x + _L1) * x + _L2) * x + _L3) * x + _L4) * x + _L5) * x + _L6) * x + _L7) * x + _L8
        square = x * x
        of_power = np.float32(power) * (_LN2_LOW + _LN2_HIGH)
        total += row[place] * (of_power + (x + (y * x * square - half * square)))
    return total


@numba.njit(cache=True, parallel=True, nogil=True)
def find_entropies(posteriors: np.ndarray) -> np.ndarray:
    """Of rows that sum to 1, float32 (L, P): float32 (L,), nats; of rows with what is no number, none."""
    entropies = np.empty(len(posteriors), np.float32)
    for row in numba.prange(len(posteriors)):
        total = 0.0  # of parts: how many sums run side by side is the processor's, and so is their rounding
        for start in range(0, posteriors.shape[1], PART):
            total += _sum_information(posteriors[row, start : start + PART])
        entropies[row] = -total
    return entropies


@numba.njit(cache=True, parallel=True, nogil=True)
def softmax_in_place(rows: np.ndarray) -> None:
    """Turn logits, float32 (B, P), into probabilities."""
    for chunk in numba.prange((len(rows) + CHUNK - 1) // CHUNK):
        powers = np.empty(rows.shape[1], np.float32)  # in place, an exponential is not vectorised
        for number in range(chunk * CHUNK, min(len(rows), (chunk + 1) * CHUNK)):
            row = rows[number]
            total, _ = exponentiate(row, find_highest(row), np.float32(1), powers)
            scale = np.float32(1) / total
            for place in range(len(row)):
                row[place] = scale * powers[place]


@numba.njit(cache=True, parallel=True, nogil=True)
def add_units(
    rows: np.ndarray,
    frames: np.ndarray,
    starts: np.ndarray,
    pdf_ids: np.ndarray,
    signs: np.ndarray,
    unit: np.float32,
) -> None:
    """Add to rows, float32 (B, P), of some frames, int64 (B,), what `Corrections` of soft targets have."""
    for chunk in numba.prange((len(rows) + CHUNK - 1) // CHUNK):
        for number in range(chunk * CHUNK, min(len(rows), (chunk + 1) * CHUNK)):
            for place in range(starts[frames[number]], starts[frames[number] + 1]):
                rows[number, pdf_ids[place]] += signs[place] * unit


@numba.njit(cache=True, nogil=True)
def _blend(
    hard: np.ndarray,
    soft: np.ndarray,
    targets: np.ndarray,
    hard_scale: np.float32,
    soft_scale: np.float32,
    target_scale: np.float32,
) -> None:
    for place in range(len(hard)):
        hard[place] = hard_scale * hard[place] + soft_scale * soft[place] - target_scale * targets[place]


@numba.njit(cache=True, nogil=True)
def _square(row: np.ndarray, squares: np.ndarray) -> None:
    for place in range(len(row)):
        squares[place] = row[place] * row[place]


@numba.njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def fill_gradient(
    logits: np.ndarray,
    pdf_ids: np.ndarray,
    targets: np.ndarray,
    hard_weights: np.ndarray,
    frame_scales: np.ndarray,
    temperature: np.float32,
    gradient: np.ndarray,
    losses: np.ndarray,
) -> None:
    """The loss of every frame, and its gradient with respect to the logits: `asrdistill.nn.loss` says which.

    Args:
        logits: float32 (M, B, P).
        pdf_ids: int64 (M or 1, B), hard targets; below 0: none.
        targets: float32 (M or 1, B, P), soft targets; without any, of shape (0, 0, 0).
        hard_weights: float32 (M,).
        frame_scales: float32 (M or 1, B), what a frame's gradient is multiplied by.
        temperature: T of the soft targets.
        gradient: float32 (M, B, P), filled.
        losses: float32 (M, B), filled; they are not scaled.
    """
    num_members, num_frames, num_pdfs = logits.shape
    num_rows = num_members * num_frames
    coldness, one = np.float32(1) / temperature, np.float32(1)
    for chunk in numba.prange((num_rows + CHUNK - 1) // CHUNK):
        softened = np.empty(num_pdfs if len(targets) else 0, np.float32)
        for number in range(chunk * CHUNK, min(num_rows, (chunk + 1) * CHUNK)):
            member, frame = number // num_frames, number % num_frames
            row, filled = logits[member, frame], gradient[member, frame]
            pdf_id = pdf_ids[member % len(pdf_ids), frame]
            frame_scale = frame_scales[member % len(frame_scales), frame]
            weight = hard_weights[member] if len(targets) else one
            hard_scale = weight * frame_scale if pdf_id >= 0 else np.float32(0)
            highest = find_highest(row)
            soft_total = one
            if len(targets):
                soft_total, _ = exponentiate(row, highest, coldness, softened)
            if len(targets) and temperature == 2:  # exp(z) = exp(z / 2)^2, for less than an exponential
                _square(softened, filled)
                total = sum_row(filled)
            else:
                total, _ = exponentiate(row, highest, one, filled)
            loss = np.log(total) - (row[pdf_id] - highest) if pdf_id >= 0 else np.float32(0)
            if len(targets):
                soft = targets[member % len(targets), frame]
                told, agreement = sum_deviations(soft, row, highest)
                soft_loss = temperature * temperature * (told * np.log(soft_total) - coldness * agreement)
                loss = weight * loss + (one - weight) * soft_loss
                soft_scale = (one - weight) * temperature * frame_scale
                softened_scale = soft_scale * told / soft_total
                _blend(filled, softened, soft, hard_scale / total, softened_scale, soft_scale)
            else:
                scale = hard_scale / total
                for place in range(num_pdfs):
                    filled[place] *= scale
            if pdf_id >= 0:
                filled[pdf_id] -= hard_scale
            losses[member, frame] = loss


@numba.njit(cache=True, nogil=True)
def _find_place(row: np.ndarray, value: np.float32) -> int:
    """The first place of a value; -1: it is not there. Every place is looked at, which is vectorised."""
    nowhere = np.int32(len(row))
    first = nowhere
    for place in range(nowhere):
        found = np.int32(place) if row[place] == value else nowhere
        first = found if found < first else first
    return int(first) if first < nowhere else -1


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
def add_posteriors(
    logits: np.ndarray,
    temperature: np.float32,
    share: np.float32,
    average: np.ndarray,
    winners: np.ndarray,
    entropies: np.ndarray,
) -> None:
    """Add softmax(logits / T) of one teacher, times its share, to the average, and tell what it says.

    Args:
        logits: float32 (L, P).
        temperature: T.
        share: of the teacher in the average.
        average: float32 (L, P), added to.
        winners: int64 (L,), filled with the likeliest pdf-id; of several, the first.
        entropies: float32 (L,), the share of that of the posteriors at T is added to them.
    """
    num_frames, num_pdfs = logits.shape
    coldness = np.float32(1) / temperature
    for chunk in numba.prange((num_frames + CHUNK - 1) // CHUNK):
        powers = np.empty(num_pdfs, np.float32)
        for frame in range(chunk * CHUNK, min(num_frames, (chunk + 1) * CHUNK)):
            row = logits[frame]
            highest = find_highest(row)
            winners[frame] = _find_place(row, highest)
            total, deviations = exponentiate(row, highest, coldness, powers)
            _add(powers, share / total, average[frame])
            entropies[frame] += share * (np.log(total) - deviations / total)
