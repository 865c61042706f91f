"""One report per run: `report.json`, which machines and `strop trace` read, and a self-contained `report.html`.

A method describes what it found as a `Document`; nothing in this package knows any method.
"""

from __future__ import annotations

from strop.records.document import (
    Answer,
    Bar,
    Bars,
    Curve,
    Document,
    Estimate,
    Fact,
    Figure,
    HeatMap,
    Line,
    Number,
    Product,
    Reference,
    Sample,
    SampleGroup,
    Selection,
    SelectionRound,
    StageFact,
    Table,
    Unit,
    Verdict,
)
from strop.report.files import HTML_NAME, JSON_NAME, read_report, rebuild_html, write_report

__all__ = [
    "HTML_NAME",
    "JSON_NAME",
    "Answer",
    "Bar",
    "Bars",
    "Curve",
    "Document",
    "Estimate",
    "Fact",
    "Figure",
    "HeatMap",
    "Line",
    "Number",
    "Product",
    "Reference",
    "Sample",
    "SampleGroup",
    "Selection",
    "SelectionRound",
    "StageFact",
    "Table",
    "Unit",
    "Verdict",
    "read_report",
    "rebuild_html",
    "write_report",
]
