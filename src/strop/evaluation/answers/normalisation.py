r"""The published answer normaliser, with every quirk that the published files depend on.

Weak-to-Strong Reasoning (arXiv 2407.13647) compares answers as strings after the rules of Lewkowycz et al. (2022),
appendix D.1. The released code applies them to every prediction and every gold answer; agreement, votes and all
published ``result`` flags follow from it. Some rules are wrong (``\left(`` becomes ``\le(`` because "ft" is a unit, a
list of digits becomes one integer): strict grading repairs them, this module must not.

`normalise` gives the same string as a literal reading of the rules and takes a fraction of its time: an answer that is
a plain integer is returned at once, short answers are remembered, and no step is quadratic in the answer's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

SUBSTITUTIONS = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    ("\\%", "%"),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
)
"""Step b, in order: later replacements see what earlier ones left."""

DELETIONS = (
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    '"',
    "\\dots",
)
"""Step c, in order."""

LONGEST_REMEMBERED = 200
REMEMBERED = 4_096

_UNWRAPPED_TO_FIRST_BRACE = (
    ("\\text{", re.compile(r"\\text\{([^}\n]*)\}")),
    ("\\textbf{", re.compile(r"\\textbf\{([^}\n]*)\}")),
    ("\\overline{", re.compile(r"\\overline\{([^}\n]*)\}")),
)
_BARE_FRACTION = re.compile(r"frac([^{])(.)")
_BARE_ROOT = re.compile(r"sqrt([^{])")
_BOXED = "\\boxed{"


def normalise(answer: str) -> str:
    """Return the published normal form of an answer (steps a to g of the rules).

    Args:
        answer: A final answer, as extracted from a response or as given in a gold file.

    Returns:
        The string that the published files hold as ``pred`` or ``gold``. Not idempotent for every input: ``N.00%`` and
        nested wrappers lose one layer a call, as in the released code.
    """
    if answer.isascii() and answer.isdigit():
        return answer
    if len(answer) <= LONGEST_REMEMBERED:
        return _remembered(answer)
    return _normalise(answer)


def _normalise(answer: str) -> str:
    answer = answer.rpartition("=")[2]
    for before, after in SUBSTITUTIONS:
        answer = answer.replace(before, after)
    for deleted in DELETIONS:
        answer = answer.replace(deleted, "")
    if "$" in answer:
        answer = _by_line(answer, _first_formula)
    if "\\" in answer:
        answer = _unwrap(answer)
    if "frac" in answer:
        answer = _BARE_FRACTION.sub(r"frac{\1}{\2}", answer)
    if "sqrt" in answer:
        answer = _BARE_ROOT.sub(r"sqrt{\1}", answer)
    return _plain_number(answer.replace("$", ""))


@lru_cache(maxsize=REMEMBERED)
def _remembered(answer: str) -> str:
    return _normalise(answer)


def _by_line(answer: str, change: Callable[[str], str]) -> str:
    """Apply `change` to each line: no published pattern crosses a line end."""
    return "\n".join(map(change, answer.split("\n")))


def _first_formula(line: str) -> str:
    """Keep only the first ``$...$`` of a line that has one."""
    opening = line.find("$")
    closing = line.find("$", opening + 1)
    return line if opening < 0 or closing < 0 else line[opening : closing + 1]


def _unwrap(answer: str) -> str:
    for opening, pattern in _UNWRAPPED_TO_FIRST_BRACE:
        if opening in answer:
            answer = _by_line(answer, lambda line, pattern=pattern: _up_to_last_brace(line, pattern))  # type: ignore[misc]
    return _by_line(answer, _unbox) if _BOXED in answer else answer


def _up_to_last_brace(line: str, pattern: re.Pattern[str]) -> str:
    # After the last brace nothing can match; searching there anyway would be quadratic in unclosed openings.
    end = line.rfind("}") + 1
    return pattern.sub(r"\1", line[:end]) + line[end:]


def _unbox(line: str) -> str:
    r"""Drop the first ``\boxed{`` of a line and the last brace after it."""
    opening = line.find(_BOXED)
    content = opening + len(_BOXED)
    closing = line.rfind("}")
    if opening < 0 or closing < content:
        return line
    return line[:opening] + line[content:closing] + line[closing + 1 :]


def _plain_number(answer: str) -> str:
    """Step g: thousands commas, ``.0``, ``.00`` and ``%`` after plain digits; single letters a to g in lower case."""
    without_commas = answer.replace(",", "")
    if without_commas.isdigit():
        answer = without_commas
    for suffix in (".0", ".00", "%"):
        if answer.endswith(suffix) and answer[: -len(suffix)].isdigit():
            answer = answer[: -len(suffix)]
    return answer.lower() if answer in _OPTION_LETTERS else answer


_OPTION_LETTERS = frozenset("ABCDEFG")
