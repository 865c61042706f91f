"""A qualification for people: the certificate, the figures as Markdown and JSON, and accuracy by slice as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from strop.evaluation.statistics import Interval
from strop.judging.qualifying.baselines import BASELINES
from strop.judging.qualifying.certificate import Certificate
from strop.judging.qualifying.measures import SliceFigures
from strop.judging.qualifying.qualification import Qualification
from strop.records.tables import atomic_path

CERTIFICATE_NAME = "certificate.json"
JSON_NAME = "qualification.json"
MARKDOWN_NAME = "qualification.md"
PICTURE_NAME = "accuracy.svg"

ACCENT, MUTED, INK = "#0b6e99", "#6b7280", "#1f2933"
MARKERS = ("s", "D", "^")
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "qualification", "font.size": 10, "text.parse_math": False}


def write_qualification(qualification: Qualification, certificate: Certificate, folder: Path) -> None:
    """Write ``certificate.json``, ``qualification.json``, ``qualification.md`` and ``accuracy.svg``."""
    with atomic_path(folder / JSON_NAME) as part:
        text = json.dumps(qualification.to_row(), indent=2, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")
    with atomic_path(folder / MARKDOWN_NAME) as part:
        part.write_text("\n".join(markdown(qualification, certificate)) + "\n", encoding="utf-8")
    draw_slices(qualification.measured.slices, folder / PICTURE_NAME)
    certificate.save(folder / CERTIFICATE_NAME)


def shown(figure: Interval | None) -> str:
    """Return a figure with its interval as ``0.655 (0.590 to 0.731)``, or "not available"."""
    if figure is None:
        return "not available"
    return f"{figure.estimate:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def markdown(qualification: Qualification, certificate: Certificate) -> Iterator[str]:
    """Yield the report line by line."""
    verdict = qualification.verdict
    rubric, data = certificate.rubric, certificate.data
    yield f"# Judge {qualification.judge}: {verdict.decision}"
    yield ""
    yield f"**{verdict.text}**"
    yield ""
    yield f"* judge revision `{qualification.revision}`"
    yield f"* rubric {rubric.name} version {rubric.version}, `{rubric.hash}`" if rubric.hash else "* no rubric"
    left_out = "".join(f", {count:,} rows left out ({reason})" for reason, count in data.left_out.items())
    yield f"* data {data.name}: {data.rows:,} pairs in {data.groups:,} groups{left_out}, `{data.hash}`"
    if certificate.ratings is not None:
        rated = certificate.ratings
        yield f"* rated responses {rated.name}: {rated.rows:,} in {rated.groups:,} groups, `{rated.hash}`"
    yield f"* thresholds {certificate.thresholds.name}, `{certificate.thresholds.hash}`"
    yield f"* {certificate.date}, strop {certificate.strop_version}: `{certificate.command}`"
    yield ""
    yield f"Intervals: {qualification.thresholds.level:.0%}, by group."
    yield ""
    yield "## Thresholds"
    yield ""
    rules = [
        (ruling.rule.text, shown(ruling.figure), ruling.outcome, _needed(ruling.pairs_needed), ruling.rule.reason)
        for ruling in verdict.rulings
    ]
    yield from _table(("rule", "measured", "outcome", "would need", "why"), rules)
    yield ""
    yield "## Agreement by slice"
    yield ""
    yield from _table(
        ("slice", "pairs", "groups", "judged", "judge", *BASELINES, "parse failures"),
        [_slice_row(each) for each in qualification.measured.slices],
    )
    yield ""
    yield "## All figures"
    yield ""
    rows = [
        (name, shown(figure), "" if figure is None else f"{figure.n:,}")
        for name, figure in qualification.measured.figures.items()
    ]
    yield from _table(("figure", "value", "pairs"), rows)
    yield ""
    if qualification.judgements.failure_kinds:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in qualification.judgements.failure_kinds.items())
        yield f"Failures, single orders: {kinds}."
        yield ""
    yield from (f"* {remark}" for remark in qualification.remarks)


def _needed(pairs: int | None) -> str:
    return "" if pairs is None else f"about {pairs:,} pairs"


def _slice_row(each: SliceFigures) -> tuple[str, ...]:
    baselines = (shown(each.baselines[name]) for name in BASELINES)
    counts = (f"{each.n:,}", f"{each.groups:,}", f"{each.judged:,}")
    return (each.name, *counts, shown(each.accuracy), *baselines, shown(each.failures))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def draw_slices(slices: Sequence[SliceFigures], path: Path) -> None:
    """Draw the judge and the baselines on every slice that has figures, with intervals, as one SVG file.

    Args:
        slices: The slices, drawn from top to bottom.
        path: The file, replaced whole; the same figures give the same bytes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    drawn = [each for each in slices if each.accuracy is not None]
    columns: list[tuple[str, str, str, Sequence[Interval | None]]] = [
        ("judge", "o", ACCENT, [each.accuracy for each in drawn])
    ]
    for name, marker in zip(BASELINES, MARKERS, strict=True):
        columns.append((name, marker, MUTED, [each.baselines[name] for each in drawn]))
    with mpl.rc_context(STYLE), atomic_path(path) as part:
        figure = Figure(figsize=(8.4, 1.5 + 0.62 * max(len(drawn), 1)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for place, (name, marker, color, figures) in enumerate(columns):
            for row, value in enumerate(figures):
                if value is not None:
                    height = row + 0.17 * (place - 1.5)
                    axes.plot([value.low, value.high], [height, height], color=color, linewidth=1.4, alpha=0.7)
                    label = name if row == 0 else None
                    axes.plot(value.estimate, height, marker, color=color, markersize=6, linestyle="", label=label)
        axes.axvline(0.5, color=INK, linewidth=1, linestyle=(0, (4, 4)))
        axes.set_yticks(range(len(drawn)), [f"{each.name}\nn={each.judged:,}" for each in drawn])
        axes.set_ylim(max(len(drawn), 1) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlabel="agreement with people (ties half), with intervals by group", title="Agreement by slice")
        axes.spines[["top", "right"]].set_visible(False)
        if drawn:
            figure.legend(loc="outside lower center", ncols=len(columns), frameon=False)
        figure.savefig(part, format="svg", metadata={"Date": None, "Creator": None})


def table_rows(slices: Sequence[SliceFigures]) -> list[Mapping[str, str | int]]:
    """Return the slices as rows of a terminal's table: shares and intervals short."""
    return [
        {
            "slice": each.name,
            "n": each.n,
            "judge": _short(each.accuracy) if each.accuracy else f"- ({each.unavailable or 'no verdict'})",
            **{name: "-" if figure is None else f"{figure.estimate:.1%}" for name, figure in each.baselines.items()},
        }
        for each in slices
    ]


def _short(figure: Interval) -> str:
    return f"{figure.estimate:.1%} ({figure.low:.1%} to {figure.high:.1%})"
