"""Figures: deterministic, free of markup from names, robust to what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from strop.report import Bar, Bars, Curve, Document, Estimate, HeatMap, Line, Selection
from strop.report.plots import figure_svg

SAMPLE = """
from strop.report import Bar, Bars, Estimate
from strop.report.plots import figure_svg
import sys
sys.stdout.write(figure_svg(Bars("t", "c", "v", (Bar("a", Estimate(0.5, 0.4, 0.6)),)), index=0))
"""


def test_same_bytes_in_another_process() -> None:
    """Ids and dates would differ between processes if they were random."""
    here = figure_svg(Bars("t", "c", "v", (Bar("a", Estimate(0.5, 0.4, 0.6)),)), index=0)
    there = subprocess.run([sys.executable, "-c", SAMPLE], capture_output=True, text=True, check=True).stdout
    assert there == here


def test_style_of_the_caller_is_left_alone(document: Document) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figure_svg(document.figures[0], index=0)
    assert dict(mpl.rcParams) == before


def test_names_are_text(document: Document) -> None:
    hostile = "<b>$x_1$ & co"
    svg = figure_svg(Bars(hostile, hostile, hostile, (Bar(hostile, Estimate(0.5)),)), index=0)
    assert "<b>" not in svg
    assert "&lt;b&gt;$x_1$ &amp; co" in svg, "a dollar sign starts no formula"


def test_figures_without_data() -> None:
    assert "<svg" in figure_svg(Curve("t", "c", (), "v", (), ()), index=0)
    assert "<svg" in figure_svg(Bars("t", "c", "v", ()), index=0)
    assert "<svg" in figure_svg(Selection("t", "c", ()), index=0)
    assert "<svg" in figure_svg(HeatMap("t", "c", (), (), (), "v"), index=0)


def test_a_missing_point_is_a_gap() -> None:
    curve = Curve(
        "t", "c", ("a", "b", "c"), "v", (Line("s", (0.1, None, 0.3)),), (Estimate(0.1), Estimate(None), Estimate(0.3))
    )
    svg = figure_svg(curve, index=0)
    assert "nan" not in svg.lower()
    assert "b \N{EN DASH}" in svg, "the description says that it is missing"


def test_a_heat_map_is_as_strong_as_its_values() -> None:
    """0.2 is the palest (0.06), 0.7 the darkest (0.96), 0.45 half way (0.51); what is missing has no cell."""
    figure = HeatMap("t", "c", ("layer 1", "layer 2"), ("a", "b"), ((0.2, 0.7), (0.45, None)), "use")
    svg = figure_svg(figure, index=0)
    assert [svg.count(f"opacity: {strength}") for strength in ("0.06", "0.96", "0.51")] == [1, 1, 1]
    assert "use: 2 rows, 2 columns, 20.0 % to 70.0 %" in svg


def test_a_heat_map_with_a_value_too_many_is_refused() -> None:
    with pytest.raises(ValueError, match="rows and columns"):
        HeatMap("t", "c", ("a",), ("b",), ((0.1, 0.2),), "v")
