"""Bins of the reliability diagram lie where their confidence and accuracy say."""

import re
from typing import Any

import numpy as np
import pytest

from asrdistill.reporting.reliability import (
    COLUMNS,
    FEW_FRAMES,
    draw_reliability,
    list_reliability_rows,
)


def make_system(points: list[tuple[int, float, float]], **more: Any) -> dict[str, Any]:
    """A system of bins of frames, confidence and accuracy, after one that is empty."""
    bins = [{"low": 0, "high": 0.1, "frames": 0, "confidence": None, "accuracy": None}]
    bins += [{"low": 0, "high": 1, "frames": n, "confidence": c, "accuracy": a} for n, c, a in points]
    return {"ece": 0.0625, "overconfidence": -0.0125, "nll": 1.5, "bins": bins, **more}


def read_marks(svg: str, ink: str) -> tuple[np.ndarray, np.ndarray]:
    """Places, float (N, 2), and opacities of the marks of a colour, that of the legend included."""
    uses = re.findall(
        r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)" style="fill: var\(--' + ink + r'\)([^"]*)"', svg
    )
    opacities = (re.search(r"opacity: ([\d.]+)", style) for _, _, style in uses)
    alphas = [float(opacity[1]) if opacity else 1 for opacity in opacities]
    return np.array([use[:2] for use in uses], float), np.array(alphas)


def read_diagonal(svg: str) -> np.ndarray:
    """Its two ends, float (2, 2): of 0 and of 100 percent."""
    path = re.search(
        r'<path d="M ([\d.]+) ([\d.]+) \nL ([\d.]+) ([\d.]+) \n"[^>]*stroke: var\(--muted\)', svg
    )
    assert path
    return np.array(path.groups(), float).reshape(2, 2)


def test_bins_are_drawn_at_their_confidence_and_accuracy() -> None:
    points = [(1000, 0.25, 0.5), (FEW_FRAMES - 1, 0.5, 0.125), (FEW_FRAMES, 1.0, 0.75)]
    svg = draw_reliability({"ensemble": make_system(points), "distilled": make_system(points[:1])})
    start, end = read_diagonal(svg)
    places, alphas = read_marks(svg, "ensemble")
    shares = (places - start) / (end - start)
    np.testing.assert_allclose(shares[:3], [[0.25, 0.5], [0.5, 0.125], [1.0, 0.75]], atol=1e-4)
    assert alphas.tolist() == [1, 0.3, 1, 1]
    assert len(places) == len(points) + 1
    assert len(read_marks(svg, "distilled")[0]) == 2


def test_systems_are_named_with_their_errors() -> None:
    points = [(1000, 0.5, 0.5)]
    systems = {"baseline": make_system(points, ece=0.123), "ensemble": make_system(points, ece=0.045)}
    svg = draw_reliability({**systems, "aligner": make_system(points, ece=0.4)})
    assert ">one teacher, ECE 12.3%</text>" in svg and ">ensemble, ECE 4.5%</text>" in svg
    assert "aligner" not in svg and "distilled" not in svg


def test_shapes_differ_as_well_as_colours() -> None:
    names = ("baseline", "ensemble", "distilled")
    shapes = set()
    for name in names:
        svg = draw_reliability({name: make_system([(1000, 0.5, 0.5)])})
        mark = re.search(rf'<use xlink:href="#(\w+)"[^>]*var\(--{name}\)', svg)
        assert mark
        shape = re.search(rf'<path id="{mark[1]}" d="([^"]*)"', svg)
        assert shape
        shapes.add(shape[1])
    assert len(shapes) == len(names)


@pytest.mark.parametrize("points", [[], [(3, 1.0, 1.0)]], ids=["none", "one"])
def test_a_system_of_one_bin_or_none_can_be_drawn(points: list[tuple[int, float, float]]) -> None:
    svg = draw_reliability({"baseline": make_system(points)})
    assert len(read_marks(svg, "baseline")[0]) == len(points) + 1


def test_rows_say_the_sign_of_overconfidence() -> None:
    rows = list_reliability_rows({"baseline": make_system([]), "x": make_system([], overconfidence=0.5)})
    assert rows == [("one teacher", "6.25", "-1.25", "1.500"), ("x", "6.25", "+50.00", "1.500")]
    assert all(len(row) == len(COLUMNS) for row in rows)
