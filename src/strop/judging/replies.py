"""Judges' replies before they are read: cleaned of what is no offer of a verdict, and the JSON objects found in them.

Everything here takes time linear in the reply's length, whatever the reply holds.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from strop.judging.quoting import without_quotes

RESTARTS = 4
"""How many braces that never close are tolerated before the rest of a reply counts as prose."""
MOST_DEPTH = 32
"""Nesting at which an object is left alone: no judge is asked for more than two levels."""

_THOUGHT = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
_STRUCTURE = re.compile(r'["\\{}]')
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_ECHOED_LINE = re.compile(r"^\| .*(?<!\|)$\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Found:
    """A JSON object in a reply and where it stands: ``text[start:end]``."""

    start: int
    end: int
    value: dict[str, Any]


def cleaned(text: str) -> str:
    """Return the part of a reply that may offer a verdict, with ASCII digits and without invisible characters.

    Left out: everything up to the last closed thought (``<think>``), everything from one that never closes, and quoted
    material that the reply echoes.
    """
    text = _without_thoughts(without_quotes(text.replace("\r\n", "\n")))
    visible = text if text.isascii() else "".join(map(_plain_character, text))
    return _ECHOED_LINE.sub("", visible)


def _without_thoughts(text: str) -> str:
    start, opened = 0, None
    for mark in _THOUGHT.finditer(text):
        if mark[0].startswith("</"):
            start, opened = mark.end(), None
        elif opened is None:
            opened = mark.start()
    return text[start:opened]


def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Cf":
        return ""
    return {"\uff1a": ":", "\uff0f": "/", "\u2044": "/", "\u201c": '"', "\u201d": '"', "\u2019": "'"}.get(
        character, character
    )


def json_objects(text: str) -> list[Found]:
    """Return the outermost JSON objects of `text` in order; trailing commas are forgiven, other faults are not."""
    found: list[Found] = []
    for start, end in _balanced(text):
        value = _load(text[start:end])
        if value is not None:
            found.append(Found(start, end, value))
    return found


def _balanced(text: str) -> Iterator[tuple[int, int]]:
    """Yield the outermost regions whose braces balance; braces inside strings do not count."""
    place = text.find("{")
    for _ in range(RESTARTS):
        start, depth, quoted, escaped = -1, 0, False, -1
        for token in _STRUCTURE.finditer(text, max(place, 0)):
            character, at = token[0], token.start()
            if quoted:
                if at == escaped:
                    continue
                if character == "\\":
                    escaped = at + 1
                quoted = character != '"'
            elif character == "{":
                start, depth = (at, 1) if not depth else (start, depth + 1)
            elif depth and character == '"':
                quoted = True
            elif depth and character == "}":
                depth -= 1
                if not depth:
                    yield start, at + 1
        if not depth:
            return
        place = text.find("{", start + 1)
        if place < 0:
            return


def _load(text: str) -> dict[str, Any] | None:
    if not _shallow(text):
        return None
    for attempt in (text, _TRAILING_COMMA.sub(r"\1", text)):
        try:
            value = json.loads(attempt, strict=False)
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None


def _shallow(text: str) -> bool:
    depth = 0
    for character in re.findall(r"[\[{\]}]", text):
        depth += 1 if character in "[{" else -1
        if depth > MOST_DEPTH:
            return False
    return True
