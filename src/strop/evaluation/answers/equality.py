r"""Decide whether two answers are the same.

``compat`` is the published rule: equality of normalised strings. ``strict`` and ``lenient`` mean mathematically equal:
structure first (`structure`), then exact numbers (`numbers`), then spelling, and only then symbolic algebra in a
process with a deadline (`symbolic`). What cannot be decided is not graded; it is never counted as wrong or right.
"""

from __future__ import annotations

import re
from functools import lru_cache

from strop.evaluation.answers.canonical import tidy
from strop.evaluation.answers.extraction import Mode
from strop.evaluation.answers.normalisation import normalise
from strop.evaluation.answers.numbers import read_number
from strop.evaluation.answers.structure import Answer, read_structure
from strop.evaluation.answers.symbolic import Verdict, compare_symbolically

RIGHT = Verdict(True)
WRONG = Verdict(False)

LONGEST_ANSWER = 2_000
MOST_MEMBERS = 30

_INTEGER = re.compile(r"-?[0-9]+")
_DIGITS = re.compile(r"\d+")
_BASE_NUMERAL = re.compile(r"\d[0-9A-F]*\s*_\s*(?:\{\s*\d+\s*\}|\d+)")
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_SYMBOL = re.compile(r"[0-9A-Za-z]+|[_:]")
_RATIO = re.compile(r"\d+(?:\s*:\s*\d+)+(?:\s*[AaPp]\.?[Mm]\.?)?")
_OPTION = re.compile(r"(?:\\text\s*\{\s*)?\(?\s*([A-Za-z])\s*\)?(?:\s*\})?")
_TEXT_COMMAND = re.compile(r"\\text\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]+(?:[\s'\-]+[^\W\d_]+)*")
_UNREADABLE = re.compile(r"\d\s*_|\d\s+\d|:|\\text|\\overline|[A-Za-z]{4,}|[^\x00-\x7f]|[\"?;]")
_FUNCTIONS = re.compile(r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|exp|pi)(?![A-Za-z])")
_ROOT = re.compile(r"(?<!\\)\bsqrt\s*\(([^()]*)\)")
_READABLE_COMMAND = re.compile(r"\\(?!text|overline)[A-Za-z]+")
_SUBSCRIPTED_LOG = re.compile(r"\\log\s*_\s*(\w)")
_CONTENT = re.compile(r"(?<![\\A-Za-z])[^\W_]|\\(?!boxed|text|frac|sqrt)[a-z]+")
_TIMES = re.compile(r"(?<=[\d)])\s*[x]\s*(?=[\d(])")


def same_answer(predicted: str, gold: str, mode: Mode) -> Verdict:
    """Say whether two answers are the same.

    Args:
        predicted: An answer as `extract_answer` gives it in the same mode.
        gold: A gold answer as `prepare_gold` gives it, or another extracted answer.
        mode: ``compat`` compares strings (two empty answers are equal, as in the published files); ``strict`` and
            ``lenient`` compare mathematically, and an empty answer equals nothing.

    Returns:
        A verdict that does not depend on the order of the two. ``correct`` is None, with the reason, where an
        expression is too long, cannot be read, or is not decided within the deadline.
    """
    if mode == "compat":
        return RIGHT if predicted == gold else WRONG
    if _INTEGER.fullmatch(predicted) and _INTEGER.fullmatch(gold):
        return RIGHT if _plain(predicted) == _plain(gold) else WRONG
    if not predicted.strip() or not gold.strip():
        return Verdict(False, "no answer")
    first, second = sorted((predicted, gold))
    if max(len(first), len(second)) > LONGEST_ANSWER:
        return RIGHT if first == second else Verdict(None, f"longer than {LONGEST_ANSWER} characters")
    return _same(first, second)


def _plain(integer: str) -> str:
    """Return an integer of any length without leading zeros, and zero without a sign."""
    digits = integer.removeprefix("-").lstrip("0") or "0"
    return f"-{digits}" if integer.startswith("-") and digits != "0" else digits


@lru_cache(maxsize=16_384)
def _same(first: str, second: str) -> Verdict:
    left, right = tidy(first), tidy(second)
    if left == right:
        return RIGHT if left else Verdict(False, "no answer")
    numbers = read_number(left), read_number(right)
    if numbers[0] is not None and numbers[1] is not None:
        return Verdict(numbers[0] == numbers[1])
    return _same_structure(read_structure(left), read_structure(right))


def _same_structure(left: Answer, right: Answer) -> Verdict:
    if left.name and right.name and left.name.lower() != right.name.lower():
        return WRONG
    if left.kind == right.kind == "value":
        return _same_value(left.parts[0], right.parts[0])
    if left.kind == right.kind == "equation":
        return _same_equation(left.parts[0], right.parts[0])
    if {left.kind, right.kind} == {"list", "set"}:
        return _same_members(left.parts, right.parts)
    if left.kind != right.kind or left.brackets != right.brackets:
        return WRONG
    if left.kind in ("list", "set", "union"):
        return _same_members(left.parts, right.parts)
    return _same_sequence(left.parts, right.parts)


def _same_sequence(left: tuple[str, ...], right: tuple[str, ...]) -> Verdict:
    if len(left) != len(right):
        return WRONG
    verdicts = [_same_part(a, b) for a, b in zip(left, right, strict=True)]
    return _all(verdicts)


def _same_members(left: tuple[str, ...], right: tuple[str, ...]) -> Verdict:
    """Compare without order: every member needs a partner of its own."""
    if len(left) != len(right):
        return WRONG
    if len(left) > MOST_MEMBERS:
        return Verdict(None, f"more than {MOST_MEMBERS} members")
    partners, verdicts = sorted(right), []
    for member in sorted(left):
        found = [_same_part(member, partner) for partner in partners]
        best = next((place for place, verdict in enumerate(found) if verdict.correct), None)
        if best is not None:
            del partners[best]
        else:
            verdicts.append(next((verdict for verdict in found if verdict.correct is None), WRONG))
    return _all(verdicts)


def _all(verdicts: list[Verdict]) -> Verdict:
    if any(verdict.correct is False for verdict in verdicts):
        return WRONG
    return next((verdict for verdict in verdicts if verdict.correct is None), RIGHT)


def _same_part(left: str, right: str) -> Verdict:
    if not left or not right:
        return Verdict(left == right)
    return _same(*sorted((left, right)))


def _same_value(left: str, right: str) -> Verdict:
    """Compare two texts that are neither sequences nor equations."""
    numbers = [read_number(text) for text in (left, right)]
    if numbers[0] is not None and numbers[1] is not None:
        return Verdict(numbers[0] == numbers[1])
    if _spelled(left) == _spelled(right) or (numbers == [None, None] and _published_equal(left, right)):
        return RIGHT
    option, other = _OPTION.fullmatch(left), _OPTION.fullmatch(right)
    if option and other:
        return Verdict(option[1].lower() == other[1].lower() and option[1].lower() in "abcdefg")
    for form in (_BASE_NUMERAL, _RATIO):
        if form.fullmatch(left) or form.fullmatch(right):
            return Verdict(_SYMBOL.findall(left) == _SYMBOL.findall(right))
    if _is_text(left) or _is_text(right):
        return Verdict(_plain_words(left) == _plain_words(right))
    return _compare_expressions(left, right)


def _is_text(text: str) -> bool:
    """Say whether an answer is words: mathematics writes no four letters in a row without a command."""
    letters_only = _WORDS.fullmatch(_TEXT_COMMAND.sub(r"\1", text).strip())
    return bool(letters_only) and ("\\text" in text or bool(_LONG_WORD.search(text)))


def _plain_words(text: str) -> str:
    return " ".join(_TEXT_COMMAND.sub(r"\1", text).casefold().replace("-", " ").split())


def _spelled(text: str) -> str:
    """Return the text without the spaces that say nothing: those between two digits stay."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def _published_equal(left: str, right: str) -> bool:
    """Say whether the published normal forms agree for a sound reason: no digit was joined, dropped or moved.

    The published rules delete spaces, units and everything outside the first formula; ``3 feet 2 inches`` becomes
    ``32``. Equal runs of digits on both sides rule that out.
    """
    if "\\overline" in left or "\\overline" in right:
        return False
    same_digits = _DIGITS.findall(left) == _DIGITS.findall(right) and left.count("$") == right.count("$")
    return same_digits and normalise(left) == normalise(right) != ""


def _same_equation(left: str, right: str) -> Verdict:
    if _spelled(left) == _spelled(right):
        return RIGHT
    left, right = mathematical(left), mathematical(right)
    if left.count("=") != 1 or right.count("=") != 1:
        return _compare_expressions(left, right)
    if unreadable(left) or unreadable(right):
        return Verdict(None, "cannot be read as mathematics")
    return compare_symbolically("equation", *sorted((left, right)))


def _compare_expressions(left: str, right: str) -> Verdict:
    left, right = mathematical(left), mathematical(right)
    if unreadable(left) or unreadable(right):
        # A sentence on one side and mathematics on the other are different answers.
        return WRONG
    if _is_broken(left) != _is_broken(right):
        # What is no expression at all equals none: leaving it ungraded would reward a model for writing it.
        return WRONG
    return compare_symbolically("expression", *sorted((left, right)))


def _is_broken(text: str) -> bool:
    """Say whether brackets do not close, or nothing stands in them."""
    text = text.replace("\\{", "").replace("\\}", "")
    unclosed = text.count("{") != text.count("}") or sum(map(text.count, "([")) != sum(map(text.count, ")]"))
    return unclosed or not _CONTENT.search(text)


def mathematical(text: str) -> str:
    """Spell functions, powers and products as LaTeX does, and drop what the grammar does not know."""
    text = _ROOT.sub(r"\\sqrt{\1}", _TIMES.sub(r" \\times ", text.replace("**", "^").replace("$", "")))
    text = _SUBSCRIPTED_LOG.sub(r"\\log_{\1}", text)
    return _FUNCTIONS.sub(r"\\\1 ", text).replace("^\\circ", "")


def unreadable(text: str) -> bool:
    """Say whether a text holds what the grammar of expressions reads wrongly: words, subscripted digits, ratios."""
    return bool(_UNREADABLE.search(_READABLE_COMMAND.sub("#", text)))
