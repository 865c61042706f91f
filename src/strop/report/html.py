"""Render a document as one self-contained page: no script, no network, no file beside it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from strop import __version__
from strop.records.document import Document, Estimate
from strop.report import numbers
from strop.report.plots import figure_svg


def render(document: Document) -> str:
    """Return `document` as the text of `report.html`; everything that it holds is escaped."""
    # An odd figure has no neighbour: the first one, which carries the main result, spans the page.
    alone = len(document.figures) % 2 == 1
    drawings = [
        Markup(figure_svg(figure, index=index, wide=alone and index == 0))
        for index, figure in enumerate(document.figures)
    ]
    return (
        _environment()
        .get_template("report.html")
        .render(
            document=document,
            figures=list(zip(document.figures, drawings, strict=True)),
            style=Markup(_text("report.css")),
            version=__version__,
            longest_stage=max((stage.seconds for stage in document.stages), default=0.0),
        )
    )


def _text(name: str) -> str:
    return files("strop.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_text),
    )
    environment.filters.update(
        amount=numbers.amount,
        interval=numbers.interval,
        duration=numbers.duration,
        cell=numbers.cell,
        whisker=_whisker,
    )
    environment.tests.update(estimate=lambda value: isinstance(value, Estimate))
    environment.tests.update(numeric=lambda value: value is None or isinstance(value, (int, float, Estimate)))
    return environment


def _whisker(estimate: Estimate) -> Markup:
    """Return a small drawing of a share and its interval on the scale from 0 to 1; empty for other numbers."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if estimate.unit not in ("share", "ratio") or value is None or low is None or high is None:
        return Markup("")
    start, middle, end = (100 * min(max(each, 0.0), 1.0) for each in (low, value, high))
    return Markup(
        '<svg class="whisker" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<line class="scale" x1="0" x2="100" y1="4" y2="4"/>'
        f'<line class="range" x1="{start:.1f}" x2="{end:.1f}" y1="4" y2="4"/>'
        f'<line class="point" x1="{middle:.1f}" x2="{middle:.1f}" y1="0" y2="8"/></svg>'
    )
