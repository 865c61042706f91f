r"""Read a number as people and models write it: exactly, or not at all.

``1,234.50``, ``$18``, ``-\frac{3}{4}``, ``2\frac{1}{4}`` and ``2 1/4`` (mixed numbers), ``3 \times 10^{8}``,
``0.\overline{3}``, each with a sign, a currency mark, a percent sign, degrees or a unit in words. The value is a
`fractions.Fraction`: equality of numbers is exact, with no tolerance. Units and percent signs are not compared.
"""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST_NUMBER = 1_000
LARGEST_EXPONENT = 400

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_SIMPLE = re.compile(rf"([-+]?){_DECIMAL}")
_SIGN = r"(?P<sign>[-+]?)\s*(?:\$\s*(?P<inner_sign>[-+]?)\s*)?"
_VALUES = (
    rf"(?P<decimal>{_DECIMAL})",
    r"(?P<repeating_whole>\d*)\.(?P<repeating_start>\d*)\\overline\{(?P<repeated>\d+)\}",
    rf"(?P<significand>{_DECIMAL})\s*(?:\\times|\\cdot|[x*])\s*10\s*\^\s*(?:\{{\s*(?P<braced>[-+]?\d+)\s*\}}|(?P<power>\d))",
    rf"(?P<e_significand>{_DECIMAL})[eE](?P<e_power>[-+]?\d+)",
    rf"(?:(?P<whole>{_DIGITS})\s*)?\\frac\s*\{{\s*(?P<over>-?{_DECIMAL})\s*\}}\s*\{{\s*(?P<under>{_DECIMAL})\s*\}}",
    rf"(?:(?P<slash_whole>{_DIGITS})\s+)?(?P<slash_over>{_DECIMAL})\s*/\s*(?P<slash_under>{_DECIMAL})",
)
_KNOWN_UNITS = "cm|mm|km|kg|mg|ml|mL|mph|ft|in|lb|lbs|oz|min|hr|hrs|sec|mi|am|pm"
_POWER = r"(?:\s*\^\s*(?:\{\s*[23]\s*\}|[23]))?"
_MARK = r"(?:\s*(?:%|\^\s*(?:\{\s*\\circ\s*\}|\\circ)))?"
_UNIT = (
    rf"(?P<unit>(?:\s*\\text\s*\{{[^{{}}\d\\]*\}})+{_POWER}"
    rf"|\s*(?:{_KNOWN_UNITS})(?![A-Za-z]){_POWER}"
    rf"|[\s\-][A-Za-z]{{3,}}(?:[\s\-/]+[A-Za-z']+)*{_POWER})?"
)
_NUMBER = re.compile(rf"{_SIGN}(?:{'|'.join(_VALUES)}){_MARK}{_UNIT}\s*\$?\.?")

_CHANGES_THE_VALUE = re.compile(
    r"(?i)\b(?:pi|sqrt|sin|cos|tan|log|ln|exp|infinity|and|or|to|over|minus|plus|times|mod|dozens?|half|halves"
    r"|thirds?|quarters?|hundreds?|thousands?|millions?|billions?|trillions?|squared|cubed|choose"
    r"|factorial|is|not|than|more|less|least|most)\b"
)
"""Words after a number that make it another number, or no number: they are not units."""


def read_number(text: str) -> Fraction | None:
    """Return the exact value of a text that states one number, or None when it does not.

    Args:
        text: A tidied answer (`strop.evaluation.answers.canonical.tidy`).
    """
    if len(text) > LONGEST_NUMBER:
        return None
    if _SIMPLE.fullmatch(text):
        return Fraction(text.replace(",", ""))
    match = _NUMBER.fullmatch(text)
    if match is None or _CHANGES_THE_VALUE.search(match["unit"] or ""):
        return None
    signs = (match["sign"] or "") + (match["inner_sign"] or "")
    value = _magnitude(match)
    return None if value is None else (-value if signs.count("-") == 1 else value)


def _magnitude(match: re.Match[str]) -> Fraction | None:
    if match["decimal"]:
        return _decimal(match["decimal"])
    if match["repeated"]:
        return _repeating(match["repeating_whole"], match["repeating_start"], match["repeated"])
    if match["significand"] or match["e_significand"]:
        exponent = int(match["braced"] or match["power"] or match["e_power"])
        if abs(exponent) > LARGEST_EXPONENT:
            return None
        return _decimal(match["significand"] or match["e_significand"]) * Fraction(10) ** exponent
    whole, over, under = (match[name] or match[f"slash_{name}"] for name in ("whole", "over", "under"))
    numerator, denominator = _decimal(over), _decimal(under)
    if denominator == 0:
        return None
    return (_decimal(whole) if whole else 0) + numerator / denominator


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _repeating(whole: str, start: str, repeated: str) -> Fraction:
    """Return whole.start(repeated): 0.1(6) is 1/10 + 6/90."""
    scale = 10 ** len(start)
    return Fraction(int(whole + start or 0), scale) + Fraction(int(repeated), scale * (10 ** len(repeated) - 1))
