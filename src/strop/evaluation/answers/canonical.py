r"""One spelling for each way of writing the same mathematical text, without changing what it says.

Nothing here decides equality. `tidy` removes what carries no meaning (invisible characters, ``\left``, thin spaces,
outer ``$`` and ``\boxed{}``) and spells shorthand out (``\frac12``, ``\dfrac``, Unicode signs).
"""

from __future__ import annotations

import re
import unicodedata

_SIGNS = str.maketrans(
    {
        "\u2212": "-",
        "\u2010": "-",
        "\u2011": "-",
        "\u2012": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\ufe63": "-",
        "\uff0d": "-",
        "\uff0b": "+",
        "\uff0c": ",",
        "\uff0e": ".",
        "\uff05": "%",
        "\uff04": "$",
        "\uff08": "(",
        "\uff09": ")",
        "\uff1a": ":",
        "\uff1d": "=",
        "\u2236": ":",
        "\u00d7": "\\times ",
        "\u00b7": "\\cdot ",
        "\u22c5": "\\cdot ",
        "\u00f7": "/",
        "\u2215": "/",
        "\u2044": "/",
        "\u03c0": "\\pi ",
        "\u221e": "\\infty ",
        "\u00b0": "^\\circ ",
        "\u2264": "\\le ",
        "\u2265": "\\ge ",
        "\u2260": "\\ne ",
        "\u2208": "\\in ",
        "\u222a": "\\cup ",
        "\u00b1": "\\pm ",
        "\u00b2": "^2",
        "\u00b3": "^3",
        "\u2032": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
    }
)

_REMOVED = re.compile(
    r"(?<!\\)\\(?:left|right|displaystyle|textstyle|limits|Bigl|Bigr|bigl|bigr|Big|big)(?![A-Za-z])\.?|(?<!\\)\\!|(?<=\d)\\,(?=\d{3}(?!\d))|\*\*"
)
_SPACES = re.compile(r"(?:\\(?:quad|qquad|enspace|thinspace)(?![A-Za-z])|(?<!\\)\\[ ,;:]|~|\s)+")
_DAMAGED_LEFT = re.compile(r"(?<!\\)\\le(?=\s*(?:[(\[|]|\\\{))")
_THIN_COMMA = re.compile(r",\\!\s*")
_BRACE = re.compile(r"[{}]")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_TEXT = re.compile(
    r"\\(?:mbox|textrm|textbf|textit|textsf|texttt|mathrm|mathbf|mathit|mathsf|operatorname|hbox)(?=\s*\{)"
)
_FRACTION_OF_TWO = re.compile(r"\\frac\s*(\d)\s*(\d)")
_FRACTION_BARE_FIRST = re.compile(r"\\frac\s*(\d)\s*(?=\{)")
_FRACTION_BARE_SECOND = re.compile(r"(\\frac\s*\{[^{}]*\})\s*(\d)")
_BARE_ROOT = re.compile(r"\\sqrt\s*(\d|[A-Za-z])")
_COMMANDS = (("\\leq", "\\le"), ("\\geq", "\\ge"), ("\\neq", "\\ne"), ("\\infinity", "\\infty"), ("\\lbrace", "\\{"),
             ("\\rbrace", "\\}"), ("\\degree", "^\\circ"))  # fmt: skip
_WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))


def visible(text: str) -> str:
    """Replace look-alikes of ASCII signs and digits, and drop invisible characters.

    Superscript digits become powers: ``10²`` is not ``102``.
    """
    if text.isascii():
        return text
    text = text.translate(_SIGNS)
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if unicodedata.category(character) in ("Cf", "Cc") and character not in "\n\t":
        return ""
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)


def tidy(text: str) -> str:
    """Return `text` in one spelling; see the module's docstring."""
    text = visible(text)
    if "\\" in text:
        text = (
            _THIN_COMMA.sub(",", text).replace("{,}", ",").replace("\\$", "$").replace("\\%", "%").replace("\\#", "#")
        )
    if "\\right" in text or "{{}" in text:
        # What the published normaliser leaves of "\\left(" and of "\\frac9{19}".
        text = _DAMAGED_LEFT.sub("", text).replace("{{}", "{")
    if "\\" in text or "*" in text or "{" in text:
        text = _REMOVED.sub("", text)
    text = _SPACES.sub(" ", text).strip()
    text = _unwrapped(text)
    if "\\" not in text:
        return text
    for written, canonical in _COMMANDS:
        text = re.sub(re.escape(written) + "(?![A-Za-z])", lambda _, canonical=canonical: canonical, text)  # type: ignore[misc]
    text = _TEXT.sub(r"\\text", _FRACTION.sub(r"\\frac", text))
    text = _FRACTION_OF_TWO.sub(r"\\frac{\1}{\2}", text)
    text = _FRACTION_BARE_SECOND.sub(r"\1{\2}", _FRACTION_BARE_FIRST.sub(r"\\frac{\1}", text))
    return _BARE_ROOT.sub(r"\\sqrt{\1}", text)


def _unwrapped(text: str) -> str:
    r"""Peel off full stops, math delimiters and ``\boxed{}`` that surround the whole text."""
    before = None
    while before != text:
        before = text
        text = text.strip(' "').removesuffix(".").rstrip()
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            if len(text) > len(opening + closing) and text == opening + inner + closing and opening not in inner:
                text = inner.strip()
        for command in ("\\boxed{", "\\text{", "\\mathrm{", "\\textbf{", "\\mathbf{", "\\mbox{"):
            if text.startswith(command) and balanced(text, len(command)) == text[len(command) : -1]:
                text = text[len(command) : -1].strip()
    return text


def balanced(text: str, start: int) -> str | None:
    """Return `text` from `start` up to the brace that closes the one before `start`, or None when none does."""
    depth = 1
    for match in _BRACE.finditer(text, start):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return text[start : match.start()]
    return None
