"""The process that compares expressions: one JSON request a line on standard input, one JSON verdict a line back.

It runs alone because sympy may take forever or all memory on a hostile expression: whoever started it can end it.
Run as ``python -m strop.evaluation.answers.symbolic_worker``.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import Any, TextIO

MEMORY_LIMIT_BYTES = 3 * 1024**3
READY = "ready"
LONGEST_REQUEST_S = 60

CLOSE_ABSOLUTE = 1.01e-5
"""OlympicArena's judge accepts numbers this close."""
CLOSE_RELATIVE = 0.01
"""But near zero everything is close: a hundredth of the larger number is the most."""

_MIXED_NUMBER = re.compile(r"(?<![\d}.])(\d+)\s*(\\frac\{\d+\}\{\d+\})(?!\s*[A-Za-z\\(^])")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def parse(text: str) -> Any:
    """Read LaTeX with math-verify's grammar; decimals become exact fractions.

    The text is read inside parentheses, because the grammar silently stops at the first thing that it cannot read:
    there the closing parenthesis is missed.
    """
    import sympy  # type: ignore[import-untyped]
    from latex2sympy2_extended import latex2sympy  # type: ignore[import-untyped]
    from latex2sympy2_extended.latex2sympy2 import (  # type: ignore[import-untyped]
        ConversionConfig,
        NormalizationConfig,
    )

    text = _MIXED_NUMBER.sub(r"(\1+\2)", _DECIMAL_COMMA.sub("", text))
    expression = latex2sympy(
        f"({text})",
        normalization_config=NormalizationConfig(boxed="none"),
        conversion_config=ConversionConfig(lowercase_symbols=False, interpret_as_mixed_fractions=False),
    )
    if isinstance(expression, sympy.Basic):
        exact = {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)}
        expression = expression.xreplace(exact | {sympy.Symbol("i"): sympy.I})
    return expression


def equal_expressions(first: str, second: str) -> bool | None:
    """Say whether two texts are the same expression, relation or set; None where sympy cannot tell."""
    import sympy

    left, right = parse(first), parse(second)
    if left == right:
        return True
    if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr):
        return _zero(left - right)
    from math_verify import verify

    # `verify` treats its two arguments differently: both directions have to agree.
    settings = {"float_rounding": 12, "timeout_seconds": None, "raise_on_error": True}
    return bool(verify(left, right, **settings) and verify(right, left, **settings))


def equal_equations(first: str, second: str) -> bool | None:
    """Say whether ``a = b`` and ``c = d`` have the same solutions: their differences agree up to a constant factor."""
    import sympy

    differences = []
    for equation in (first, second):
        left, _, right = equation.partition("=")
        differences.append(parse(left) - parse(right))
    ratio = sympy.cancel(sympy.together(differences[0] / differences[1]))
    return bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)


def close_expressions(first: str, second: str) -> bool | None:
    """Say whether two expressions are equal, or constants as close as OlympicArena's judge wants them."""
    import sympy

    left, right = parse(first), parse(second)
    if left == right:
        return True
    if not (isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr)):
        return equal_expressions(first, second)
    difference = left - right
    if difference == 0:
        return True
    if difference.free_symbols:
        return _zero(difference)
    distance, size = (abs(complex(sympy.N(value))) for value in (difference, right))
    return distance <= CLOSE_ABSOLUTE and distance <= CLOSE_RELATIVE * max(size, distance)


def _zero(difference: Any) -> bool | None:
    import sympy

    verdict = difference.equals(0)
    if verdict is None:
        simplified = sympy.simplify(difference)
        verdict = True if simplified == 0 else None
    return None if verdict is None else bool(verdict)


COMPARISONS = {"expression": equal_expressions, "equation": equal_equations, "close": close_expressions}


def answer(request: dict[str, str]) -> dict[str, Any]:
    """Return ``{"equal": bool or None, "reason": text or None}`` for one request."""
    try:
        equal = COMPARISONS[request["kind"]](request["first"], request["second"])
    except MemoryError:
        raise
    except Exception as error:  # the grammar raises bare exceptions
        return {"equal": None, "reason": f"cannot be read as mathematics ({type(error).__name__})"}
    return {"equal": equal, "reason": None if equal is not None else "sympy cannot decide whether they are equal"}


def serve(requests: TextIO, verdicts: TextIO) -> None:
    """Answer requests until the input ends."""
    import sympy

    _limit_memory()
    # Whoever asked ends this process: an interrupt from the keyboard is theirs to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parse("1")
    sympy.simplify(sympy.Symbol("x") - sympy.Symbol("x"))
    print(READY, file=verdicts, flush=True)
    for line in requests:
        # Unhandled, the alarm ends even a computation that never returns to Python, should the asker have died.
        signal.alarm(LONGEST_REQUEST_S)
        print(json.dumps(answer(json.loads(line))), file=verdicts, flush=True)
        signal.alarm(0)


def _limit_memory() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    # What the libraries print must not be taken for a verdict.
    verdict_stream, sys.stdout = sys.stdout, sys.stderr
    serve(sys.stdin, verdict_stream)
