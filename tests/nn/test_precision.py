"""The number format of the matrix products."""

import itertools

import pytest
import torch

from asrdistill.nn import precision
from asrdistill.nn.precision import choose_dtype


def test_what_is_asked_for_is_given() -> None:
    assert choose_dtype("fp32", 1, 8, 8) == torch.float32
    assert choose_dtype("bf16", 1, 8, 8) == torch.bfloat16


@pytest.mark.parametrize(("speedup", "expected"), [(1.1, torch.float32), (1.3, torch.bfloat16)])
def test_auto_wants_bf16_to_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, speedup: float, expected: torch.dtype
) -> None:
    seconds = {torch.float32: speedup, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "_time_product", lambda shape, dtype: seconds[dtype])
    assert choose_dtype("auto", 2, 8, 8) == expected


def test_a_burst_of_other_work_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All products but two are slow, the fast ones in other rounds."""
    number = itertools.count()

    def time_product(shape: tuple[int, int, int], dtype: torch.dtype) -> float:
        is_fast = next(number) % (2 * precision.NUM_ROUNDS) in (2, 7)
        return (2.0 if dtype == torch.float32 else 1.0) * (1 if is_fast else 10)

    monkeypatch.setattr(precision, "_time_product", time_product)
    assert choose_dtype("auto", 2, 8, 8) == torch.bfloat16


def test_large_products_are_spared_a_processor_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[int, int, int]] = []

    def time_product(shape: tuple[int, int, int], dtype: torch.dtype) -> float:
        timed.append(shape)
        return 1.0 if dtype == torch.float32 else 100.0

    monkeypatch.setattr(precision, "_time_product", time_product)
    assert choose_dtype("auto", 10, 1024, 2560) == torch.float32
    assert set(timed) == {precision.SMALL_SHAPE}


def test_auto_measures() -> None:
    assert choose_dtype("auto", 2, 64, 32) in (torch.float32, torch.bfloat16)
