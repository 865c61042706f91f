"""Helplines by country from a dated, sourced table; any other telephone number in a text is found and can be removed.

No number that a model writes reaches anybody unless it is in the table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from strop.errors import UserError, nearest
from strop.runs.yaml_files import read_yaml
from strop.safety.patterns import SAFETY

TABLE = SAFETY / "helplines-v1.yaml"
UNVERIFIED = "unverified"
REMOVED = "[number removed; see findahelpline.com]"

_LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999", strict=True))
_DIGIT_WORDS = dict(
    zip(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), "0123456789", strict=True)
)
_DIGIT_WORDS |= {"oh": "0", "double": ""}
_DIGIT_WORD = "|".join(_DIGIT_WORDS)
_LONG = re.compile(r"(?<![\w$€£.,])(?P<number>\+?\(?\d(?:[\s().\-\u2013/·]{0,3}\d){6,})(?![\d%])")
_LETTERED = re.compile(
    r"(?<!\w)(?P<number>(?:\+?1[\s.\-]?)?8(?:00|33|44|55|66|77|88)[\s.\-]?(?=[A-Z\d\-]*[A-Z])[A-Z\d](?:-?[A-Z\d]){3,9})"
)
_CALL = (
    r"\b(?:call(?:ing|s)?|text(?:ing)?|dial(?:ling|ing)?|ring(?:ing)?|phone|telephone|tel|hotline|helpline|lifeline|line"
    r"|number|sms|whatsapp|samaritans|reach (?:them|us|me)|contact|emergency(?: services)?|llam[ae]\w*|marqu?e|rufen?"
    r"|anrufen|appel\w*|lig(?:ue|ar)|chiam\w*)\b"
)
_SHORT = re.compile(
    _CALL + r"[^\d.?!\n]{0,40}?(?P<number>(?<![\w$€£.,])(?!(?:19|20)\d\d\b)\d(?:[\s\-]?\d){2,5})(?![\d%]|[.,:]\d"
    r"|\s?(?:mg|ml|kg|km|am|pm|people|persons|friends|times|days|weeks|hours|minutes|seconds|years|words|steps|things"
    r"|percent|st|nd|rd|th)\b)",
    re.IGNORECASE,
)
_FURTHER = re.compile(
    r"\s?(?:,|/|\bor\b|\band\b)\s?(?:(?:call|text|dial|ring)\s)?"
    r"(?P<number>(?!(?:19|20)\d\d\b)\d(?:[\s\-]?\d){2,5})(?![\d%]|[.,:]\d|\s?\w)"
)
_SPELLED = re.compile(
    rf"{_CALL}[^\d.?!\n]{{0,20}}?(?P<number>\b(?:{_DIGIT_WORD})(?:[\s\-,]+(?:{_DIGIT_WORD})){{2,14}})\b", re.IGNORECASE
)
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", "(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_OTHER = re.compile(
    r"(?:https?://|www\.)\S+|\bISBN[\s:\-]*(?:1[03][\s:]+)?[\dXx\-]+"
    rf"|{_YEAR}[\-/.]{_MONTH}[\-/.]{_DAY}|{_DAY}[\-/. ]{_MONTH}[\-/. ]{_YEAR}|{_MONTH}[\-/.]{_DAY}[\-/.]{_YEAR}"
    rf"|{_YEAR}\s?[\-\u2013/]\s?{_YEAR}"
)
"""Digits that are no telephone number: addresses of pages, books, dates, spans of years."""


@dataclass(frozen=True, slots=True)
class Helpline:
    """One line of the table.

    Attributes:
        country: ISO 3166 code of two letters.
        name: Who answers.
        numbers: Its numbers as people write them.
        how: Call, text, and what to text.
        hours: When it is open.
        source: The page to check it against.
        checked: ISO date on which somebody did, or `UNVERIFIED`.
    """

    country: str
    name: str
    numbers: tuple[str, ...]
    how: str
    hours: str
    source: str
    checked: str


@dataclass(frozen=True, slots=True)
class Directory:
    """Where to look for a country that the table does not have."""

    name: str
    url: str
    covers: str


@dataclass(frozen=True)
class HelplineTable:
    """The table.

    Attributes:
        version: Of the file.
        written: ISO date of the file.
        lines: By country.
        emergency: Emergency numbers by country.
        directories: Fallbacks.
        digits: Every number in the table as digits only, with and without the country's dialling code.
    """

    version: str
    written: str
    lines: dict[str, tuple[Helpline, ...]]
    emergency: dict[str, tuple[str, ...]]
    directories: tuple[Directory, ...]
    digits: frozenset[str]


@lru_cache(maxsize=4)
def read_helplines(path: Path = TABLE) -> HelplineTable:
    """Read a table of helplines; the shipped one by default.

    Raises:
        UserError: It cannot be read, or a line lacks a source, a date or a number.
    """
    values = read_yaml(path).values
    lines: dict[str, tuple[Helpline, ...]] = {}
    emergency: dict[str, tuple[str, ...]] = {}
    digits: set[str] = set()
    for row in values["countries"]:
        country = row["country"]
        emergency[country] = tuple(row["emergency"])
        lines[country] = tuple(_helpline(country, line, path) for line in row["lines"])
        for number in (*emergency[country], *(number for line in lines[country] for number in line.numbers)):
            plain = digits_of(number)
            national = plain.removeprefix(row["dialling"]) if len(plain) > 9 else plain
            digits |= {plain, national, row["dialling"] + national.removeprefix("0")}
    directories = tuple(Directory(**row) for row in values["directories"])
    return HelplineTable(
        str(values["version"]), str(values["written"]), lines, emergency, directories, frozenset(digits)
    )


def _helpline(country: str, row: dict[str, object], path: Path) -> Helpline:
    missing = [key for key in ("name", "numbers", "how", "hours", "source", "checked") if not row.get(key)]
    if missing:
        raise UserError(f"{path.name}: a helpline of {country} lacks fields", value=missing)
    numbers = row["numbers"]
    assert isinstance(numbers, list)
    texts = {key: str(row[key]) for key in ("name", "how", "hours", "source", "checked")}
    return Helpline(country=country, numbers=tuple(map(str, numbers)), **texts)


def helplines(country: str | None = None, *, table: HelplineTable | None = None) -> tuple[Helpline, ...]:
    """Return the helplines of a country, or of all.

    Args:
        country: ISO 3166 code of two letters, in any case; UK is read as GB.
        table: The table; the shipped one by default.

    Raises:
        UserError: The table does not have the country; the message names the directories to use instead.
    """
    table = table or read_helplines()
    if country is None:
        return tuple(line for lines in table.lines.values() for line in lines)
    code = {"UK": "GB"}.get(country.upper(), country.upper())
    if code not in table.lines:
        close = nearest(code, list(table.lines))
        directories = ", ".join(directory.url for directory in table.directories)
        hint = f"look in {directories}" + (f"; did you mean {close}?" if close else "")
        raise UserError("no helplines for this country", value=country, fix=hint, alternatives=sorted(table.lines))
    return table.lines[code]


def digits_of(number: str) -> str:
    """Return the digits of a number; letters count as on a telephone's keys."""
    return "".join(_LETTERS.get(sign, sign) for sign in _ascii_digits(number).lower() if sign.isalnum())


def _ascii_digits(text: str) -> str:
    """Return `text`, of the same length, with the digits of any script as 0 to 9."""
    return "".join(
        str(unicodedata.digit(sign)) if not sign.isascii() and unicodedata.digit(sign, None) is not None else sign
        for sign in text
    )


def _numbers(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where telephone numbers stand in `text`, and their digits; years, dates, times and amounts are none."""
    plain = _ascii_digits(text)
    others = [match.span() for match in _OTHER.finditer(plain)]
    taken: list[tuple[int, int]] = []
    for match in _candidates(plain):
        start, end = match.span("number")
        if any(start < stop and begin < end for begin, stop in (*taken, *others)):
            continue
        taken.append((start, end))
        words = match["number"].lower()
        spelled = words[0] in "zontfsed"
        yield (
            start,
            end,
            "".join(_DIGIT_WORDS[word] for word in re.findall("[a-z]+", words)) if spelled else digits_of(words),
        )


def _candidates(text: str) -> Iterator[re.Match[str]]:
    yield from _LETTERED.finditer(text)
    yield from _LONG.finditer(text)
    for match in _SHORT.finditer(text):
        found: re.Match[str] | None = match
        while found is not None:
            yield found
            found = _FURTHER.match(text, found.end())
    yield from _SPELLED.finditer(text)


def numbers_not_in_table(text: str, *, table: HelplineTable | None = None) -> tuple[str, ...]:
    """Return the telephone numbers in `text` that the table does not have, as they are written there, in order.

    A number is seven or more digits in a row of groups; three to six digits, or digits as words, after "call", "text",
    "helpline" and the like; or letters for digits (``1-800-...``). Years, dates, times, ages, amounts and doses are
    none.
    """
    known = (table or read_helplines()).digits
    found = sorted((start, end) for start, end, digits in _numbers(text) if digits not in known)
    return tuple(text[start:end].strip() for start, end in found)


def without_unknown_numbers(text: str, *, table: HelplineTable | None = None) -> str:
    """Return `text` with every telephone number that the table does not have replaced by `REMOVED`."""
    known = (table or read_helplines()).digits
    for start, end, digits in sorted(_numbers(text), reverse=True):
        if digits not in known:
            text = text[:start] + REMOVED + text[end:]
    return text
