"""The learning curve as a picture: one SVG file, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from strop.judging.fitting.learning_curve import LearningCurve
from strop.records.tables import atomic_path

SIZE_INCHES = (8.4, 4.4)
ACCENT, MUTED = "#0b6e99", "#6b7280"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "learning-curve", "font.size": 10, "text.parse_math": False}


def draw_curve(curve: LearningCurve, baselines: Mapping[str, float], path: Path) -> None:
    """Draw accuracies over the number of labels, their intervals and draws, and the baselines as lines.

    Args:
        curve: At least one point.
        baselines: Accuracy of each baseline on the same pairs.
        path: The file, replaced whole.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator, NullLocator, PercentFormatter

    labels = [point.labels for point in curve.points]
    with mpl.rc_context(STYLE), atomic_path(path) as part:
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.vlines(labels, *_ends(curve, draws=True), color=ACCENT, alpha=0.2, linewidth=7, label="range of draws")
        middle = [point.accuracy.estimate for point in curve.points]
        axes.fill_between(labels, *_ends(curve), color=ACCENT, alpha=0.14, linewidth=0, label="95 % interval")
        axes.plot(labels, middle, color=ACCENT, marker="o", linewidth=2, label="fitted judge")
        for number, (name, accuracy) in enumerate(baselines.items()):
            style = (0, ((5, 3), (1, 2), (8, 2, 1, 2))[number % 3])
            axes.axhline(accuracy, color=MUTED, linewidth=1.1, linestyle=style, label=f"{name} {accuracy:.1%}")
        axes.set_xscale("log", base=2)
        axes.set_xticks(labels, [f"{count:,}" for count in labels])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MultipleLocator(0.05))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlabel="labels", ylabel="agreement with people, held-out pairs", title="What labels buy")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
        figure.savefig(part, format="svg", metadata={"Date": None, "Creator": None})


def _ends(curve: LearningCurve, *, draws: bool = False) -> tuple[list[float], list[float]]:
    if draws:
        return [point.lowest for point in curve.points], [point.highest for point in curve.points]
    return [point.accuracy.low for point in curve.points], [point.accuracy.high for point in curve.points]
