"""Agreement and KL are drawn over the ensemble's entropy; the phones that matter stand in the table."""

import re
from typing import Any

import numpy as np
import pytest

from asrdistill.reporting.mimicry import (
    CASE_COLUMNS,
    COLUMNS,
    draw_mimicry,
    list_case_rows,
    list_mimicry_rows,
)


def make_row(frames: int = 1000, **more: Any) -> dict[str, Any]:
    """A row of the contract; without frames its means are None."""
    means = {
        "agreement": 0.875, "kl": 0.25, "entropy": 1.0, "ensemble_accuracy": 0.625, "student_accuracy": 0.5,
    }  # fmt: skip
    counts = {"frames": frames, "share": frames / 4000, "kl_share": 0.125}
    return {**counts, **{key: value if frames else None for key, value in means.items()}, **more}


def make_bins(values: list[tuple[int, float, float]], width: float = 0.5) -> list[dict[str, Any]]:
    """Bins of frames, agreement and KL; the mean entropy is a quarter or, of odd ones, half of the way up."""
    bins = []
    for number, (frames, agreement, kl) in enumerate(values):
        means = (
            {"agreement": agreement, "kl": kl, "entropy": width * (number + 0.25 + 0.25 * (number % 2))}
            if frames
            else {}
        )
        bins.append({"low": width * number, "high": width * (number + 1), **make_row(frames, **means)})
    return bins


def make_mimicry(bins: list[dict[str, Any]], kl_shares: dict[str, float]) -> dict[str, Any]:
    cases = [(True, True), (True, False), (False, True), (False, False)]
    return {
        "overall": make_row(4000, kl_share=1.0),
        "phones": [{"phone": phone, **make_row(kl_share=share)} for phone, share in kl_shares.items()],
        "entropy": bins,
        "cases": [
            {"ensemble_right": ensemble, "student_right": student, **make_row(1000 * (ensemble or student))}
            for ensemble, student in cases
        ],
    }


def read_marks(svg: str) -> np.ndarray:
    """Places of the triangles, float (N, 2): of agreement, in the legend, of KL; y grows downwards."""
    uses = re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)" style="fill: var\(--distilled', svg)
    return np.array(uses, float)


def read_bars(svg: str) -> np.ndarray:
    """Widths and heights of the bars and of the legend's patch, float (N, 2)."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*style="fill: var\(--ensemble\); opacity', svg)
    corners = [np.array(re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path), float) for path in paths]
    return np.array([np.ptp(corner, axis=0) for corner in corners])


def test_bins_are_drawn_at_their_entropy() -> None:
    values = [(2000, 1.0, 0.0), (0, 0.0, 0.0), (1000, 0.5, 0.25), (1000, 0.25, 0.5)]
    svg = draw_mimicry(make_mimicry(make_bins(values), {}))
    marks = read_marks(svg)
    # In the order of drawing: above, its legend, below.
    agreement, kl = marks[:3], marks[-3:]
    assert len(marks) == 7
    np.testing.assert_allclose(agreement[:, 0], kl[:, 0], atol=1e-3)
    bin_width = (agreement[2, 0] - agreement[1, 0]) / 1.25
    np.testing.assert_allclose(agreement[1, 0] - agreement[0, 0], 2 * bin_width, rtol=1e-4)
    np.testing.assert_allclose(
        agreement[1, 1] - agreement[0, 1], 2 * (agreement[2, 1] - agreement[1, 1]), rtol=1e-4
    )
    np.testing.assert_allclose(kl[0, 1] - kl[1, 1], kl[1, 1] - kl[2, 1], rtol=1e-4)
    assert kl[0, 1] > kl[1, 1] and agreement[0, 1] < agreement[1, 1]
    bars = read_bars(svg)[:4]
    full = (agreement[2, 1] - agreement[0, 1]) / 0.75
    np.testing.assert_allclose(bars[:, 1], [0.5 * full, 0, 0.25 * full, 0.25 * full], atol=1e-3)
    np.testing.assert_allclose(bars[:, 0], 0.9 * bin_width, rtol=1e-4)
    assert all(f">{text}</text>" in svg for text in ("frames (%)", "agreement (%)", "KL (nats)"))


@pytest.mark.parametrize("num_frames", [[1000], [0, 0, 10], [0, 0]])
def test_few_bins_and_empty_ones_can_be_drawn(num_frames: list[int]) -> None:
    svg = draw_mimicry(make_mimicry(make_bins([(frames, 0.5, 0.1) for frames in num_frames]), {}))
    assert len(read_marks(svg)) == 2 * np.count_nonzero(num_frames) + 1
    assert len(read_bars(svg)) == len(num_frames) + 1


def test_phones_stand_by_their_share_of_the_divergence() -> None:
    mimicry = make_mimicry(make_bins([(10, 0.5, 0.1)]), {"AA": 0.125, "SIL": 0.5, "B": 0.25})
    rows = list_mimicry_rows(mimicry, num_phones=2)
    assert [row[0] for row in rows] == ["SIL", "B", "all"]
    assert rows[0] == ("SIL", "25.0", "50.0", "0.250", "87.5", "62.5", "50.0")
    assert rows[2][1:3] == ("100.0", "100.0")
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert len(list_mimicry_rows(mimicry)) == 4


def test_cases_say_who_is_right() -> None:
    rows = list_case_rows(make_mimicry(make_bins([(10, 0.5, 0.1)]), {}))
    assert [row[0] for row in rows] == ["both", "the ensemble alone", "the student alone", "neither"]
    assert rows[1] == ("the ensemble alone", "25.0", "12.5", "0.250", "87.5")
    assert rows[3] == ("neither", "0.0", "12.5", "–", "–")
    assert all(len(row) == len(CASE_COLUMNS) for row in rows)
