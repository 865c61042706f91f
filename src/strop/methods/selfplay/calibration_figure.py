"""How similarities of matching and other texts lie: bars of text for a terminal, and one SVG file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from strop.methods.selfplay.calibration import ScoredPair
from strop.records.tables import atomic_path

BIN = 0.05
BAR = 36
"""Characters of the longest bar."""
SIZE_INCHES = (8.4, 5.2)
COLUMNS = 3
MATCHING, OTHER, LINE = "#0b6e99", "#9ca3af", "#b45309"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "calibration", "font.size": 9, "text.parse_math": False}


def histogram_lines(pairs: Sequence[ScoredPair]) -> list[str]:
    """Return a histogram as lines: each kind's bars show shares of its own pairs, on one scale.

    Args:
        pairs: Matching and other pairs, of all fields; at least one.
    """
    matching = [pair.similarity for pair in pairs if pair.matches]
    others = [pair.similarity for pair in pairs if not pair.matches]
    edges = _edges(pairs)
    shares = [np.histogram(values, edges)[0] / max(1, len(values)) for values in (matching, others)]
    longest = max(float(share.max()) for share in shares)
    lines = [f"{'similarity':<14}{f'matching ({len(matching):,})':<{BAR + 9}}others ({len(others):,})"]
    for low, high, hit, miss in zip(edges[:-1], edges[1:], *shares, strict=True):
        cells = [f"{'#' * round(BAR * value / longest):<{BAR}} {value:>6.1%}  " for value in (float(hit), float(miss))]
        lines.append(f"{low:5.2f} {high:5.2f}   {''.join(cells)}".rstrip())
    return lines


def draw_histograms(pairs: Sequence[ScoredPair], thresholds: Mapping[str, float], path: Path) -> None:
    """Draw the similarities of each field with its threshold; the same bytes every time.

    Args:
        pairs: Matching and other pairs.
        thresholds: By field.
        path: The file, replaced whole.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    edges = _edges(pairs)
    with mpl.rc_context(STYLE), atomic_path(path) as part:
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(math.ceil(len(thresholds) / COLUMNS), COLUMNS, sharex=True, squeeze=False).flat
        for field, threshold in thresholds.items():
            axes = next(panels)
            for matches, colour, label in ((False, OTHER, "other texts"), (True, MATCHING, "matching texts")):
                values = [pair.similarity for pair in pairs if pair.field == field and pair.matches is matches]
                weights = [1 / len(values)] * len(values)
                axes.hist(values, edges, weights=weights, color=colour, alpha=0.65, label=label)
            axes.axvline(threshold, color=LINE, linewidth=1.4, label="threshold")
            axes.set(title=f"{field.replace('_', ' ')}, {threshold:.3f}", yticks=[])
            axes.spines[["top", "right", "left"]].set_visible(False)
        for axes in panels:
            axes.set_axis_off()
        figure.supxlabel("cosine similarity; bars are shares of their own kind")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
        figure.savefig(part, format="svg", metadata={"Date": None, "Creator": None})


def _edges(pairs: Sequence[ScoredPair]) -> list[float]:
    low = math.floor(min(pair.similarity for pair in pairs) / BIN)
    high = math.floor(max(pair.similarity for pair in pairs) / BIN) + 1
    return [round(step * BIN, 2) for step in range(low, high + 1)]
