r"""Quoting text as data, so that nothing in it can pass for a part of the prompt.

Each text stands between two fences that carry a mark, with ``| `` before each of its lines::

    ----- begin RESPONSE A 5f0c1d2e9ab3 -----
    | I hear how tired you are.
    ----- end RESPONSE A 5f0c1d2e9ab3 -----

The mark is derived from a hash of all quoted texts and occurs in none of them. What looks like a model's control token
(``<|im_end|>``, ``</s>``, ``[INST]``) gets a backslash inside (``<\|im_end|>``): a tokenizer would otherwise read it
as the real one. Both changes are visible and can be undone exactly.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

MARK_LENGTH = 12
LINE = "| "

# Deliberately generous: one backslash too many is harmless, one control token too many is not.
_CONTROL = re.compile(r"(<|\[)(\\*)(?=[A-Za-z/|!\uFF5C])")
_ESCAPED = re.compile(r"(<|\[)\\(\\*)(?=[A-Za-z/|!\uFF5C])")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# Whatever any reader might take for the start of a new line.
_ENDS = r"(\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029])"
_LINE_END, _LINE_START = re.compile(_ENDS), re.compile(_ENDS + re.escape(LINE))
_FENCE = re.compile(rf"^----- (begin|end) [A-Z ]+ [0-9a-f]{{{MARK_LENGTH}}} -----$", re.MULTILINE)


def mark_for(*texts: str) -> str:
    """Return a mark that occurs in none of `texts`; the same texts get the same mark."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass"))
    while any(digest.hexdigest()[:MARK_LENGTH] in text.lower() for text in texts):
        digest.update(b"+")
    return digest.hexdigest()[:MARK_LENGTH]


def quote(text: str, *, label: str, mark: str) -> str:
    """Return `text` between fences.

    Args:
        text: What to quote, whatever it holds.
        label: What it is, in capitals, as ``RESPONSE A``.
        mark: See `mark_for`.
    """
    escaped = _CONTROL.sub(r"\1\2\\", text)
    body = LINE + _LINE_END.sub(rf"\1{LINE}", escaped)
    return f"----- begin {label} {mark} -----\n{body}\n----- end {label} {mark} -----"


def unquote(quoted: str) -> str:
    """Return the text that `quote` was given."""
    body = quoted.split("\n", 1)[1].rsplit("\n", 1)[0]
    return _ESCAPED.sub(r"\1\2", _LINE_START.sub(r"\1", body.removeprefix(LINE)))


def without_quotes(text: str) -> str:
    """Return `text` without the fences in it and what stands between them: a judge's reply may echo its prompt.

    A fence that never closes takes the rest of the text with it.
    """
    kept: list[str] = []
    place, inside = 0, False
    for fence in _FENCE.finditer(text):
        if not inside:
            kept.append(text[place : fence.start()])
        inside = fence[1] == "begin"
        place = fence.end()
    if not inside:
        kept.append(text[place:])
    return "".join(kept)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each ``{name}`` of `template` in one pass: braces in the values stay what they are."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)
