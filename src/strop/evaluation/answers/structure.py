r"""What an answer is made of: a value, an equation, or a sequence of answers in some kind of bracket.

Comparing structure before content is what removes the published false equalities: a list of digits is no integer, an
equation "= 0" is no zero, and a tuple is never read by its first entry alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["value", "equation", "list", "set", "union", "matrix", "tuple", "interval"]

_OPENING, _CLOSING = "([{", ")]}"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_AND = re.compile(r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)\s*")
_MATRIX = re.compile(r"\\begin\s*\{([pbB]?matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\s*\{\1\}", re.DOTALL)
_ROW_END = re.compile(r"\\\\|\\(?=[-\d&])")
"""A single backslash before a number is what the published normaliser leaves of a row end."""
_NAME = re.compile(
    r"(?:\\?[A-Za-z]+|\\text\s*\{[^{}]*\})(?:_(?:\{[^{}]*\}|\w))?'*(?:\s*\([^()=]*\))?"
    r"|[A-Za-z][A-Za-z' ]*|\\angle ?[A-Z]+|\$?"
)
_TIMES = re.compile(r"(?<=[\d)])\s*[xX]\s*(?=[\d($])")
_COMMAND = re.compile(r"\\text\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_LETTER = re.compile(r"[A-Za-z]")
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx|sim|equiv)(?![A-Za-z])|[<>]")
_MEMBERSHIP = re.compile(r"^[A-Za-z]\s*\\in(?![A-Za-z])\s*")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's kind and its parts: one text for a value or an equation, else the texts of its members.

    `brackets` tells ``(0,1]`` from ``[0,1)``; `name` is the letter that a definition such as ``x = 5`` defines.
    """

    kind: Kind
    parts: tuple[str, ...]
    brackets: str = ""
    name: str | None = None


def read_structure(text: str) -> Answer:
    """Return the structure of a tidied answer."""
    text = _MEMBERSHIP.sub("", text)
    if "=" not in text:
        return _read_value(text, None)
    left, _, right = text.rpartition("=")
    left, right = left.strip(), right.strip()
    name = left.rpartition("=")[2].strip()
    if _RELATION.search(text):
        return Answer("equation", (text,))
    if _NAME.fullmatch(name) and name != right:
        return _read_value(right, name if len(name) == 1 else None)
    if _NAME.fullmatch(right) and "=" not in left and right and not _has_unknown(left):
        return _read_value(left, right if len(right) == 1 else None)
    if not _has_unknown(left):
        # A calculation such as 20 - 15 = 5, or a sentence: its value is what it ends with.
        return _read_value(right, None)
    return Answer("equation", (text,))


def _has_unknown(text: str) -> bool:
    """Say whether a side of an equation computes with a letter; an ``x`` between numbers is a multiplication sign."""
    text = _COMMAND.sub(" ", _TIMES.sub("*", text))
    return bool(_LETTER.search(_WORD.sub(" ", text))) or bool(re.search(r"\d[A-Za-z]{2}(?![A-Za-z])", text))


def _read_value(text: str, name: str | None) -> Answer:
    if "," not in text and "\\" not in text and " " not in text:
        return Answer("value", (text,), name=name)
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        rows = [row for row in _ROW_END.split(matrix[2]) if row.strip()]
        cells = tuple(cell.strip() for row in rows for cell in row.split("&"))
        return Answer("matrix", cells, brackets=f"{len(rows)} rows", name=name)
    if "\\cup" in text:
        return Answer("union", tuple(part.strip() for part in text.split("\\cup")), name=name)
    inside = _bracketed(text)
    if inside is None:
        members = _expanded(_split(_AND.sub(", ", text), bare=True))
        return Answer("list" if len(members) > 1 else "value", members, name=name)
    brackets, content = inside
    if brackets == "{}":
        return Answer("set", _expanded(_split(content)), name=name)
    members = _split(content)
    if len(members) == 1:
        return Answer("value", (text,), name=name)
    if len(members) == 2 and brackets in ("(]", "[)", "[]"):
        return Answer("interval", members, brackets=brackets, name=name)
    # (a, b) may be a point or an open interval: both are compared member by member, in order.
    return Answer("tuple", members, brackets=brackets, name=name)


def _plus_and_minus(text: str) -> tuple[str, ...]:
    r"""Spell ``a \pm b`` out as two values."""
    if text.count("\\pm") != 1:
        return (text,)
    before, _, after = text.partition("\\pm")
    return (f"{before.strip()} + {after.strip()}".removeprefix(" + "), f"{before.strip()} - {after.strip()}".strip())


def _expanded(members: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value for member in members for value in _plus_and_minus(member))


def _bracketed(text: str) -> tuple[str, str] | None:
    """Return the outer brackets and what they hold, or None where no pair surrounds the whole text."""
    if text.startswith("\\{") and text.endswith("\\}"):
        return "{}", text[2:-2].strip()
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]":
        return None
    depth = 0
    for position, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and position < len(text) - 1:
            return None
    return (text[0] + text[-1], text[1:-1].strip()) if depth == 0 else None


def _split(text: str, *, bare: bool = False) -> tuple[str, ...]:
    """Split at the commas outside brackets; a comma between three-digit groups may belong to a number.

    Args:
        text: The members of a sequence.
        bare: No bracket surrounds them: then ``1,234`` is always one number. In brackets it is one number only where
            other commas have a space after them, as in ``(1,000, 2,000)``.
    """
    spaced = ", " in text
    kept = {match.start() for match in _THOUSANDS.finditer(text)} if bare or spaced else set()
    members, start, depth = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if character == "," and depth == 0 and position not in kept:
            members.append(text[start:position].strip())
            start = position + 1
    members.append(text[start:].strip())
    return tuple(members) if all(members) or len(members) > 1 else (text,)
