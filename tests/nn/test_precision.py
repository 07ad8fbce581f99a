"""The number format of the matrix products."""

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


def test_auto_measures() -> None:
    assert choose_dtype("auto", 2, 64, 32) in (torch.float32, torch.bfloat16)
