"""Figures as inline SVG: one restrained palette that follows the page's light or dark theme, the same bytes every time.

matplotlib draws with stand-in colours which become CSS variables of the page, so that one drawing serves both themes
and print. Text stays text: it is selectable and set in the page's own font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from strop.records.document import Bars, Curve, Estimate, Figure, HeatMap, Reference, Selection, Unit
from strop.report.numbers import amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches that come out at about the same text size in one column of the page and across both.
COLUMN_INCHES, PAGE_INCHES = 5.6, 11.4
MANY_ROWS = 16
"""Rows of a heat map above which only every fifth is named."""
# Stand-in colours, each replaced by the page's CSS variable of that name.
INK, MUTED, RULE, ACCENT, WARM = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", ACCENT: "accent", WARM: "warm"}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
}


def figure_svg(figure: Figure, *, index: int, wide: bool = False) -> str:
    """Return `figure` as one ``<svg>`` element.

    Args:
        figure: What to draw.
        index: Its position on the page; makes the ids of this drawing unique there.
        wide: Whether it spans the page instead of one of its two columns.
    """
    width, height = (PAGE_INCHES, 4.3) if wide else (COLUMN_INCHES, 3.7)
    match figure:
        case Curve():
            svg = _drawn(figure.title, (width, height), lambda axes: _curve(axes, figure))
        case Bars():
            svg = _drawn(figure.title, (width, 0.9 + 0.34 * len(figure.bars)), lambda axes: _bars(axes, figure))
        case Selection():
            svg = _drawn(figure.title, (width, height), lambda axes: _selection(axes, figure))
        case HeatMap():
            svg = _drawn(figure.title, (width, 1.2 + 0.16 * len(figure.rows)), lambda axes: _heat_map(axes, figure))
    return _inline(svg, figure, index)


@contextmanager
def _house_style(salt: str) -> Iterator[None]:
    import matplotlib as mpl

    # The salt makes the ids of clip paths a function of the figure instead of a random number.
    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE, "svg.hashsalt": salt, "backend": "agg"}):
        yield


def _drawn(title: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    # A Figure made by hand, not by pyplot: no global state, no window system.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    with _house_style(title):
        canvas = Canvas(figsize=size, facecolor="none", layout="constrained")
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot()
        axes.set_facecolor("none")
        draw(axes)
        written = io.StringIO()
        canvas.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return written.getvalue()


def _inline(svg: str, figure: Figure, index: int) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: 'DejaVu Sans'; ", "").replace(" 'DejaVu Sans'", " inherit")
    prefix = f"f{index}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    opening = re.match(r"<svg[^>]*>", svg)
    assert opening is not None
    box = re.search(r'viewBox="[^"]*"', opening.group())
    assert box is not None
    title = f'<title id="{prefix}title">{escape(figure.title)}</title>'
    description = f'<desc id="{prefix}desc">{escape(_described(figure))}</desc>'
    names = f'role="img" aria-labelledby="{prefix}title {prefix}desc"'
    return f"<svg {box.group()} {names}>{title}{description}{svg[opening.end() :]}"


def _described(figure: Figure) -> str:
    """Return the figure's numbers as a sentence, for readers who do not see it."""
    match figure:
        case Curve():
            return _listed(list(zip(figure.points, figure.mean, strict=True)), figure.references)
        case Bars():
            return _listed([(bar.name, bar.estimate) for bar in figure.bars], figure.references)
        case Selection():
            return "; ".join(
                f"{each.name}: {each.kept:,} of {each.total:,} kept, {amount(each.precision.value, 'share')} of them "
                f"correct, {amount(each.before.value, 'share')} of all"
                for each in figure.rounds
            )
        case HeatMap():
            least, most = _ends(figure)
            size = f"{len(figure.rows)} rows, {len(figure.columns)} columns"
            return f"{figure.value_label}: {size}, {amount(least, figure.unit)} to {amount(most, figure.unit)}"


def _ends(figure: HeatMap) -> tuple[float | None, float | None]:
    known = [value for row in figure.values for value in row if value is not None]
    return min(known, default=None), max(known, default=None)


def _listed(named: Sequence[tuple[str, Estimate]], references: Sequence[Reference]) -> str:
    unit = named[0][1].unit if named else "share"
    values = [(name, estimate.value) for name, estimate in named]
    values += [(reference.name, reference.value) for reference in references]
    return "; ".join(f"{name} {amount(value, unit)}" for name, value in values)


def _number_axis(axis: Any, unit: Unit) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    short = {"share": lambda value, _: f"{100 * value:.0f} %"}.get(unit, lambda value, _: amount(value, unit))
    axis.set_major_formatter(FuncFormatter(short))


def _curve(axes: Axes, figure: Curve) -> None:
    places = range(len(figure.points))
    gap = float("nan")
    for line in figure.lines:
        values = [gap if value is None else value for value in line.values]
        axes.plot(places, values, color=MUTED, alpha=0.55, linewidth=1, marker="o", markersize=2.6, zorder=2)
    means = [gap if mean.value is None else mean.value for mean in figure.mean]
    lows = [gap if mean.low is None else mean.low for mean in figure.mean]
    highs = [gap if mean.high is None else mean.high for mean in figure.mean]
    axes.fill_between(places, lows, highs, color=ACCENT, alpha=0.16, linewidth=0, zorder=1)
    axes.plot(places, means, color=ACCENT, linewidth=2.4, marker="o", markersize=5.5, zorder=3)
    unit = figure.mean[0].unit if figure.mean else "share"
    for place, mean in zip(places, figure.mean, strict=True):
        if mean.value is not None:
            _label(axes, amount(mean.value, unit), (place, mean.value), offset=(0, 9), color=ACCENT, halign="center")
    right = max(len(figure.points) - 1, 1)
    for number, reference in enumerate(figure.references):
        # The first level is the floor: what everything else must rise above.
        color = WARM if number == 0 else INK
        axes.axhline(reference.value, color=color, linewidth=1.1, linestyle=(0, (5, 4)), zorder=1)
        text = f"{reference.name}  {amount(reference.value, unit)}"
        _label(axes, text, (right + 0.3, reference.value), offset=(0, 4), color=color, halign="right")
    axes.set_xlim(-0.3, right + 0.3)
    axes.set_xticks(list(places), figure.points)
    axes.margins(y=0.12)
    axes.set_ylabel(figure.value_label)
    axes.grid(axis="y")
    _number_axis(axes.yaxis, unit)


def _bars(axes: Axes, figure: Bars) -> None:
    unit = figure.bars[0].estimate.unit if figure.bars else "share"
    known = [bar.estimate.value for bar in figure.bars if bar.estimate.value is not None]
    for place, bar in enumerate(figure.bars):
        estimate, color = bar.estimate, ACCENT if bar.emphasis else MUTED
        if estimate.value is None:
            _label(axes, "not measured", (0, place), offset=(6, 0), color=MUTED)
            continue
        axes.barh(place, estimate.value, height=0.58, color=color, alpha=0.9 if bar.emphasis else 0.38, zorder=2)
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color=INK, linewidth=1.3, zorder=3)
        # The values stand in a column of their own, clear of bars and reference lines.
        axes.annotate(
            amount(estimate.value, unit),
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            fontweight="bold" if bar.emphasis else "normal",
        )
    for number, reference in enumerate(figure.references):
        color = WARM if number == 0 else INK
        axes.axvline(reference.value, color=color, linewidth=1.1, linestyle=(0, (5, 4)), zorder=4)
        # Below the weak level and above the strong one there is no bar to collide with.
        axes.annotate(
            f"{reference.name}  {amount(reference.value, unit)}",
            (reference.value, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if number == 0 else 4, 4),
            textcoords="offset points",
            ha="right" if number == 0 else "left",
            va="bottom",
            color=color,
            fontsize=9.5,
        )
    axes.set_yticks(range(len(figure.bars)), [bar.name for bar in figure.bars])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(max(len(figure.bars), 1) - 0.5, -0.5)
    ends = [bar.estimate.high for bar in figure.bars if bar.estimate.high is not None]
    axes.set_xlim(min(0.0, *known, 0.0), 1.04 * max([*known, *ends, *(each.value for each in figure.references), 1e-9]))
    axes.set_xlabel(figure.value_label)
    axes.grid(axis="x")
    _number_axis(axes.xaxis, unit)


def _selection(axes: Axes, figure: Selection) -> None:
    places = range(len(figure.rounds))
    series = (
        ("offered", MUTED, "s", 1.2, [each.before for each in figure.rounds]),
        ("selected", ACCENT, "o", 2.2, [each.precision for each in figure.rounds]),
    )
    for name, color, marker, width, estimates in series:
        values = [float("nan") if estimate.value is None else estimate.value for estimate in estimates]
        axes.plot(places, values, color=color, linewidth=width, marker=marker, markersize=6)
        for place, estimate in zip(places, estimates, strict=True):
            _point(axes, (place, estimate), color)
        if estimates and estimates[0].value is not None:
            _label(axes, name, (0, estimates[0].value), offset=(-10, 0), color=color, halign="right")
    axes.set_xlim(-0.5, max(len(figure.rounds) - 1, 1) + 0.5)
    axes.set_xticks(list(places), [f"{each.name}\nkept {each.kept:,} of {each.total:,}" for each in figure.rounds])
    axes.margins(y=0.18)
    axes.set_ylabel("labels that are correct")
    axes.grid(axis="y")
    _number_axis(axes.yaxis, "share")


def _heat_map(axes: Axes, figure: HeatMap) -> None:
    from matplotlib.patches import Rectangle

    least, most = _ends(figure)
    for place, row in enumerate(figure.values):
        for column, value in enumerate(row):
            if value is None or least is None or most is None:
                continue
            strength = 1.0 if most == least else (value - least) / (most - least)
            # The palest cell is still a cell: nothing at all is a missing value.
            cell = Rectangle((column - 0.5, place - 0.5), 0.96, 0.94, color=ACCENT, alpha=0.06 + 0.9 * strength)
            axes.add_patch(cell)
    axes.set_xlim(-0.55, len(figure.columns) - 0.45)
    axes.set_ylim(len(figure.rows) - 0.45, -0.55)
    axes.set_xticks(range(len(figure.columns)), figure.columns)
    every = 1 if len(figure.rows) <= MANY_ROWS else 5
    axes.set_yticks(range(0, len(figure.rows), every), figure.rows[::every])
    told = f"{figure.value_label}: {amount(least, figure.unit)} (pale) to {amount(most, figure.unit)} (dark)"
    axes.set_xlabel(told)


def _point(axes: Axes, point: tuple[int, Estimate], color: str) -> None:
    place, estimate = point
    if estimate.low is not None and estimate.high is not None:
        axes.plot([place, place], [estimate.low, estimate.high], color=color, linewidth=1.6, alpha=0.7)
    if estimate.value is not None:
        text = amount(estimate.value, estimate.unit)
        _label(axes, text, (place, estimate.value), offset=(0, 9), color=color, halign="center")


def _label(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    *,
    offset: tuple[float, float],
    color: str = INK,
    halign: str = "left",
) -> None:
    axes.annotate(
        text,
        place,
        xytext=offset,
        textcoords="offset points",
        ha=halign,
        va="center" if offset[1] == 0 else "bottom",
        color=color,
        fontsize=9.5,
        zorder=5,
    )
