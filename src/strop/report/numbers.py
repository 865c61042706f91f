"""How numbers are written for people: units, signs, thousands, and a dash for what is missing."""

from __future__ import annotations

from strop.records.document import Cell, Estimate, Unit

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_MINUTE, _HOUR = 60, 3600


def amount(value: float | None, unit: Unit) -> str:
    """Return `value` in its unit: ``66.0 %``, ``0.78``, ``+3.1``, ``1,200``, ``2 min 5 s``; a dash where it is None."""
    if value is None:
        return MISSING
    match unit:
        case "share":
            return f"{100 * value:.1f} %"
        case "ratio":
            return f"{value:.2f}".replace("-", MINUS)
        case "points":
            return f"{100 * value:+.1f}".replace("-", MINUS)
        case "seconds":
            return duration(value)
        case "count" | "tokens":
            return f"{value:,.0f}"


def interval(estimate: Estimate) -> str:
    """Return the interval as ``62.1 to 69.8``, without the unit; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (amount(end, estimate.unit).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units."""
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def cell(value: Cell) -> str:
    """Return a table cell's text without its interval."""
    if isinstance(value, Estimate):
        return amount(value.value, value.unit)
    if value is None:
        return MISSING
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else value
