r"""OlympicArena's agreement of two answers, without its false agreements.

The weak-to-strong paper decides agreement on OlympicArena with the benchmark's own automatic judge, given the
in-context response as prediction and the weak model's boxed answer as gold, without knowing the answer's type: it tries
every type and accepts any success. This comparator accepts what that judge accepts, with the same tolerances, except
the agreements that come from reading only a part of an answer, or an answer as something that it is not. Each such
exception has a name in `FALSE_AGREEMENTS` and is reported by it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from strop.evaluation.answers.canonical import balanced, tidy
from strop.evaluation.answers.equality import mathematical, unreadable
from strop.evaluation.answers.numbers import read_number
from strop.evaluation.answers.symbolic import compare_symbolically
from strop.evaluation.answers.symbolic_worker import CLOSE_ABSOLUTE, CLOSE_RELATIVE

AnswerType = Literal["SC", "MC", "TF", "NV", "SET", "IN", "EX", "EQ", "TUP"]
"""Single choice, multiple choice, true or false, numerical value, set, interval, expression, equation, tuple."""

FALSE_AGREEMENTS = {
    "option-letter-against-formula": "an option letter agreed with the first capital letter of a formula",
    "option-letter-in-prose": "an option letter agreed with the first capital letter of a word or sentence",
    "subset-of-options": "some options agreed with a larger or different set of options",
    "absolute-tolerance-at-zero": "numbers below the absolute tolerance agreed whatever their ratio",
    "mantissa-below-one": "mantissas below 1 agreed although the numbers differ by more than a tenth",
    "mixed-number-as-product": "a mixed number was read as a product",
    "leading-members-only": "sequences agreed by their first one or two members",
    "interval-brackets": "an open and a closed end of an interval agreed",
    "equation-against-value": "an equation agreed with the value of its right side",
    "right-side-only": "two different equations agreed by their right sides",
    "prefix-only": "an answer agreed with the part that the parser had understood of the other",
    "anagram": "words agreed because their letters were multiplied",
}
"""The exceptions: their names, and what the original judge does."""

MANTISSA_TOLERANCE = Fraction(101, 1000)
LARGEST_RATIO = Fraction(102, 1000)

_LOOK = (("\\approx", "="), ("\\simeq", "="), ("\\sim", "="), ("^{\\prime}", "'"), ("^\\prime", "'"), ("%", ""),
         ("^{\\circ}", ""), ("^\\circ", ""), ("$", ""))  # fmt: skip
_FONT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s*\{~?([^{}]*)\}")
_OPTIONS = re.compile(r"[A-Z](?:\s*,?\s*[A-Z])*")
_LETTER = re.compile(r"[A-Z]")
_STATED_OPTION = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)(?:\s+is)?\s*[:=]?\s*)?[(\[]?([A-Z])[)\]]?(?:[.;]?$|\s*[:.)]\s|:|\s+is\b)",
    re.I,
)
_MATHEMATICAL = re.compile(r"[=+^_\\/*<>{}]|\d")
_SCIENTIFIC = re.compile(r"([-+]?[\d.,]+)\s*(?:\\times|\\cdot|\\ast|\*)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))")
_MIXED = re.compile(r"([-+]?\d+)\s*(\\frac\s*\{\d+\}\s*\{\d+\})")
_NAME = re.compile(
    r"\\?[A-Za-z]+'*(?:_(?:\{[^{}]*\}|\w))?'*(?:\([^()=]*\))?|\\[A-Za-z]+\s+[A-Za-z](?:_(?:\{[^{}]*\}|\w))?|[A-Za-z ]*"
    r"|\|[^|=]+\||d[A-Za-z]/d[A-Za-z]|\\frac\s*\{d[^{}]*\}\s*\{d[^{}]*\}"
)
"""What may stand on the left of a definition: a name, with indices and arguments, its size or its derivative."""
_WORDS = re.compile(r"[A-Za-z]+(?:[\s'\-]+[A-Za-z]+)*")
_RATIO = re.compile(r"(\d{1,9})\s*:\s*(\d{1,9})")
_LONG_WORD = re.compile(r"[A-Za-z]{4,}")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether a response agrees with an answer.

    Attributes:
        agrees: None where it was not decided; `reason` says why.
        kind: The type of answer by which they agree.
        exception: The named false agreement that was refused.
        reason: Why it was not decided.
    """

    agrees: bool | None
    kind: AnswerType | None = None
    exception: str | None = None
    reason: str | None = None


_NO = Agreement(False)


def boxed_answer(text: str) -> str:
    r"""Return the content of the first ``\boxed{...}``, or the whole text where there is none or it is empty."""
    start = text.find("\\boxed{")
    content = balanced(text, start + len("\\boxed{")) if start >= 0 else None
    return content or text


def judge_agreement(response: str, gold: str) -> Agreement:
    r"""Say whether a response's boxed answer agrees with a gold answer.

    Args:
        response: The prediction: a response, whose first ``\boxed{}`` counts (the in-context response, in the paper).
        gold: The reference answer (the weak model's boxed answer, in the paper); not symmetric with `response`.

    Returns:
        The agreement with its type, or the refusal with the name of the false agreement that was avoided.
    """
    left, right = _peeled(_read(boxed_answer(response))), _peeled(_read(gold))
    if not left or not right:
        return _NO
    if _spelled(left) == _spelled(right):
        return Agreement(True, "TF" if left in ("True", "False") else "SC")
    if _LETTER.fullmatch(right):
        return _against_option(left, right)
    if _OPTIONS.fullmatch(_options_text(right)) and _stated_options(left):
        return _options(left, right)
    if max(len(left), len(right)) > 2_000:
        return _NO
    return _compare(left, right)


def _read(text: str) -> str:
    text = tidy(text)
    for written, read in _LOOK:
        text = text.replace(written, read)
    return tidy(_FONT.sub(r"\1", text))


def _peeled(text: str) -> str:
    """Drop brackets around a single answer: those around a sequence stay."""
    while _bracketed(text) and len(_members(text)) == 1:
        text = text[1:-1].strip()
    return text


def _spelled(text: str) -> str:
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def _options_text(text: str) -> str:
    return text.strip("[](){}\\ ").strip()


def _stated_options(text: str) -> list[str] | None:
    """Return the option letters that a text states, or None where it states something else."""
    bare = _options_text(text)
    if _OPTIONS.fullmatch(bare):
        return _LETTER.findall(bare)
    items = [_STATED_OPTION.match(item.strip()) for item in bare.split(",")]
    letters = [item[1] for item in items if item and item[1].isupper()]
    return letters if letters and len(letters) == len(items) and "=" not in text else None


def _against_option(left: str, option: str) -> Agreement:
    if left.startswith(f"{option}:"):
        return Agreement(True, "SC")
    stated = _stated_options(left)
    if stated is not None:
        if set(stated) == {option}:
            return Agreement(True, "SC")
        return Agreement(False, exception="subset-of-options" if option in stated else None)
    *names, value = (side.strip() for side in left.split("="))
    if value == option and names and all(_NAME.fullmatch(name) for name in names):
        return Agreement(True, "EX")
    first_capital = _LETTER.search(left)
    if (first_capital and first_capital[0] == option) or value == option:
        formula = _MATHEMATICAL.search(left) is not None
        return Agreement(False, exception=f"option-letter-{'against-formula' if formula else 'in-prose'}")
    return _NO


def _options(left: str, right: str) -> Agreement:
    stated, wanted = set(_stated_options(left) or ()), set(_LETTER.findall(right))
    if stated == wanted:
        return Agreement(True, "MC")
    return Agreement(False, exception="subset-of-options" if stated & wanted else None)


def _compare(left: str, right: str) -> Agreement:
    """Compare two answers that are no options: sequences first, then equations, then single values."""
    if "\\cup" in left or "\\cup" in right:
        return _unions(left.split("\\cup"), right.split("\\cup"))
    members = _members(left), _members(right)
    if max(map(len, members)) > 1:
        return _sequences(left, right, *members)
    if "=" in left or "=" in right:
        return _equations(left, right)
    return _values(left, right)


def _bracketed(text: str) -> bool:
    return len(text) > 2 and text[0] in "([" and text[-1] in ")]" and _closes_at_end(text)


def _members(text: str) -> list[str]:
    """Split at the commas outside brackets, without the brackets around the whole."""
    inner = text
    if _bracketed(text):
        inner = text[1:-1]
    elif text.startswith("\\{") and text.endswith("\\}"):
        inner = text[2:-2]
    kept = {match.start() for match in _THOUSANDS.finditer(inner)} if inner is text else set()
    members, start, depth = [], 0, 0
    for position, character in enumerate(inner):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0 and position not in kept:
            members.append(inner[start:position].strip())
            start = position + 1
    members.append(inner[start:].strip())
    return members if len(members) > 1 else [text]


def _closes_at_end(text: str) -> bool:
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return position == len(text) - 1
    return False


def _sequences(left: str, right: str, members: list[str], wanted: list[str]) -> Agreement:
    if len(members) != len(wanted):
        return _named("leading-members-only", _leading(members, wanted))
    pairs = [_single(a, b) for a, b in zip(members, wanted, strict=True)]
    verdict = _all(pairs)
    if verdict is True:
        if _ends(left) != _ends(right):
            return Agreement(False, exception="interval-brackets")
        return Agreement(True, "TUP" if "" in _ends(left) or len(members) != 2 else "IN")
    if verdict is False and left.startswith("\\{") and right.startswith("\\{"):
        return _unordered(members, wanted)
    if verdict is None:
        return _undecided(pairs)
    refused = next((pair.exception for pair in pairs if pair.exception), None)
    return Agreement(False, exception=refused or ("leading-members-only" if _leading(members, wanted) else None))


def _ends(text: str) -> tuple[str, str]:
    """Return the square brackets at the ends: only they tell a closed end from an open one, or from none."""
    return text[0] if text[0] == "[" else "", text[-1] if text[-1] == "]" else ""


def _leading(members: list[str], wanted: list[str]) -> bool:
    return _single(members[0], wanted[0]).agrees is True


def _unordered(members: list[str], wanted: list[str]) -> Agreement:
    left_over = list(wanted)
    for member in members:
        partner = next((place for place, other in enumerate(left_over) if _single(member, other).agrees), None)
        if partner is None:
            return _NO
        del left_over[partner]
    return Agreement(True, "SET")


def _unions(parts: list[str], wanted: list[str]) -> Agreement:
    left_over = [part.strip() for part in wanted]
    if len(parts) != len(wanted):
        return _NO
    for part in parts:
        partner = next((n for n, other in enumerate(left_over) if _compare(part.strip(), other).agrees), None)
        if partner is None:
            return _NO
        del left_over[partner]
    return Agreement(True, "IN")


def _single(left: str, right: str) -> Agreement:
    if left == right:
        return Agreement(True, "SC")
    if not left or not right:
        return _NO
    return _equations(left, right) if "=" in left or "=" in right else _values(left, right)


def _equations(left: str, right: str) -> Agreement:
    """Compare where at least one side is an equation; ``name = value`` stands for its value."""
    values, wanted = _defined(left), _defined(right)
    if values and wanted:
        found = [_values(value, other) for value in values for other in wanted]
        best = next((one for one in found if one.agrees), None)
        return Agreement(True, "EX") if best else _undecided(found) if _all(found) is None else found[-1]
    if left.count("=") == right.count("=") == 1:
        first, second = mathematical(left), mathematical(right)
        if not (unreadable(first) or unreadable(second)):
            verdict = compare_symbolically("equation", first, second)
            if verdict.correct:
                return Agreement(True, "EQ")
    same_right = _values(left.rpartition("=")[2].strip(), right.rpartition("=")[2].strip()).agrees is True
    return _named("right-side-only" if "=" in left and "=" in right else "equation-against-value", same_right)


def _defined(text: str) -> list[str]:
    """Return the values that a definition or a bare answer states; none for an equation to be solved."""
    first, *rest = (side.strip() for side in text.split("="))
    if not rest:
        return [first]
    if not _NAME.fullmatch(first) or not all(rest):
        return []
    return list(dict.fromkeys((rest[-1], rest[0])))


def _values(left: str, right: str) -> Agreement:
    if _spelled(left) == _spelled(right):
        return Agreement(True, "SC")
    numbers = _plain_number(left), _plain_number(right)
    if numbers[0] is not None and numbers[1] is not None:
        return _numbers(left, right, numbers[0], numbers[1])
    if _is_words(left) or _is_words(right):
        same_letters = Counter(_spelled(left)) == Counter(_spelled(right))
        return _named("anagram", same_letters)
    prefix = _is_prefix(left, right) or _is_prefix(right, left)
    first, second = mathematical(left), mathematical(right)
    if unreadable(first) or unreadable(second):
        return _named("prefix-only", prefix)
    verdict = compare_symbolically("close", first, second)
    if verdict.correct:
        return Agreement(True, "NV" if numbers != (None, None) else "EX")
    if verdict.correct is None and not prefix:
        return Agreement(None, reason=verdict.reason)
    return _named("prefix-only", prefix)


def _plain_number(text: str) -> Fraction | None:
    """Read a number without a unit: numbers with units are expressions here, as in the original."""
    ratio = _RATIO.fullmatch(text)
    if ratio and int(ratio[2]):
        return Fraction(int(ratio[1]), int(ratio[2]))
    words = re.sub(r"\\[A-Za-z]+", "", text)
    return None if re.search(r"[A-Za-z]{2}|[A-DF-Za-df-z]", words) else read_number(text)


def _numbers(left: str, right: str, value: Fraction, wanted: Fraction) -> Agreement:
    distance, size = abs(value - wanted), max(abs(value), abs(wanted))
    if distance <= CLOSE_ABSOLUTE:
        if distance <= CLOSE_RELATIVE * size:
            return Agreement(True, "NV")
        return Agreement(False, exception="absolute-tolerance-at-zero")
    mantissas = _mantissas(left, right, value, wanted)
    if mantissas is not None and abs(mantissas[0] - mantissas[1]) <= MANTISSA_TOLERANCE:
        if distance <= LARGEST_RATIO * size:
            return Agreement(True, "NV")
        return Agreement(False, exception="mantissa-below-one")
    product = {_as_product(left) or value, _as_product(right) or wanted}
    return _named("mixed-number-as-product", len(product) == 1)


def _mantissas(left: str, right: str, value: Fraction, wanted: Fraction) -> tuple[Fraction, Fraction] | None:
    """Return both mantissas where a number is written in scientific notation and the exponents agree."""
    written = _scientific(left), _scientific(right)
    if written == (None, None):
        return None
    first, second = written[0] or _to_scientific(value), written[1] or _to_scientific(wanted)
    return (first[0], second[0]) if first[1] == second[1] else None


def _scientific(text: str) -> tuple[Fraction, int] | None:
    match = _SCIENTIFIC.fullmatch(text)
    if match is None:
        return None
    mantissa = read_number(match[1])
    return None if mantissa is None else (mantissa, int(match[2] or match[3]))


def _to_scientific(value: Fraction) -> tuple[Fraction, int]:
    """Round to three significant digits, as the original does before it compares."""
    mantissa, _, exponent = f"{float(value):.2e}".partition("e")
    return Fraction(mantissa), int(exponent)


def _as_product(text: str) -> Fraction | None:
    match = _MIXED.fullmatch(text)
    if match is None:
        return None
    fraction = read_number(match[2])
    return None if fraction is None else int(match[1]) * fraction


def _is_words(text: str) -> bool:
    return bool(_WORDS.fullmatch(text)) and bool(_LONG_WORD.search(text))


def _is_prefix(text: str, longer: str) -> bool:
    """Say whether the parser may have stopped where `text` ends: an operator or a factor would have carried it on."""
    rest = longer.removeprefix(text)
    following = rest.lstrip()[:1]
    return rest != longer and not following.isalnum() and following not in tuple("+-*/^(=")


def _named(exception: str, applies: bool) -> Agreement:
    return Agreement(False, exception=exception) if applies else _NO


def _all(agreements: list[Agreement]) -> bool | None:
    if any(one.agrees is False for one in agreements):
        return False
    return None if any(one.agrees is None for one in agreements) else True


def _undecided(agreements: list[Agreement]) -> Agreement:
    return next(one for one in agreements if one.agrees is None)
