"""Figures: deterministic, free of markup from names, robust to what is missing."""

from __future__ import annotations

import subprocess
import sys

from strop.report import Bar, Bars, Curve, Document, Estimate, Line, Selection
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


def test_a_missing_point_is_a_gap() -> None:
    curve = Curve(
        "t", "c", ("a", "b", "c"), "v", (Line("s", (0.1, None, 0.3)),), (Estimate(0.1), Estimate(None), Estimate(0.3))
    )
    svg = figure_svg(curve, index=0)
    assert "nan" not in svg.lower()
    assert "b \N{EN DASH}" in svg, "the description says that it is missing"
