"""Integers come back, in about as many bits as their entropy says, and damage is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrdistill.targets.entropy_coding import (
    MAX_MAGNITUDE,
    NUM_CLASSES,
    TOTAL,
    choose_classes,
    decode,
    encode,
    make_tables,
    quantize,
)

TABLES = make_tables()


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(
        st.tuples(st.integers(-MAX_MAGNITUDE, MAX_MAGNITUDE), st.integers(0, NUM_CLASSES - 1)), max_size=60
    )
)
def test_any_integer_of_any_class_comes_back(pairs: list[tuple[int, int]]) -> None:
    values = np.array([value for value, _ in pairs], np.int32)
    classes = np.array([number for _, number in pairs], np.uint8)
    np.testing.assert_array_equal(decode(encode(values, classes, TABLES), classes, TABLES), values)


@pytest.mark.parametrize("scale", [0.15, 0.4, 1.0, 3.0, 12.0, 100.0, 3000.0])
def test_bits_are_near_the_entropy(scale: float) -> None:
    values = quantize(np.random.default_rng(1).laplace(0, scale, 100_000), 1.0)
    _, counts = np.unique(values, return_counts=True)
    shares = counts / counts.sum()
    entropy = float(-(shares * np.log2(shares)).sum())
    classes = choose_classes(np.full(len(values), scale))
    bits = 8 * len(encode(values, classes, TABLES)) / len(values)
    # The table of a class is up to 2^(1/4) off; of the largest integers the sample's own entropy is too low.
    assert entropy - 0.1 < bits < 1.03 * entropy + 0.02


def test_classes_follow_the_scale() -> None:
    classes = choose_classes(np.array([0.0, 0.1, 0.1 * 2**0.5, 0.2, 0.4, 1e9]))
    assert classes.tolist() == [0, 0, 1, 2, 4, NUM_CLASSES - 1]


def test_every_class_shares_out_all_slots_and_can_escape() -> None:
    frequencies = np.diff(TABLES.starts, axis=1)
    assert (frequencies >= 0).all() and (frequencies[:, -1] > 0).all()
    assert (frequencies.sum(1) == TOTAL).all()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0), (0.59, 0), (0.61, 1), (1.59, 1), (-0.61, -1), (-2.7, -3), (1e9, MAX_MAGNITUDE)],
)
def test_rounding_leans_to_zero(value: float, expected: int) -> None:
    assert quantize(np.array([0.5 * value]), 0.5).tolist() == [expected]


def test_damage_is_seen_most_of_the_time_and_never_worse_than_a_wrong_integer() -> None:
    """The coder's state comes back to where it began only along the way it went, but for bits written raw."""
    rng = np.random.default_rng(2)
    scales = 0.1 * 2 ** rng.uniform(0, 8, 5000)
    values, classes = quantize(rng.laplace(0, scales), 1.0), choose_classes(scales)
    content = encode(values, classes, TABLES)
    num_seen = 0
    for position in rng.integers(0, len(content), 100):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        try:
            found = decode(bytes(damaged), classes, TABLES)
        except ValueError:
            num_seen += 1
        else:
            assert np.abs(found).max() <= MAX_MAGNITUDE + 1
            assert (found != values).sum() == 1
    assert num_seen > 90


@pytest.mark.parametrize("change", [lambda c: c[:-2], lambda c: c + b"\0\0", lambda c: c[:-1], lambda c: b""])
def test_another_length_is_seen(change) -> None:  # noqa: ANN001
    values = np.arange(-50, 50, dtype=np.int32)
    classes = np.full(100, 12, np.uint8)
    with pytest.raises(ValueError, match="damaged"):
        decode(change(encode(values, classes, TABLES)), classes, TABLES)
