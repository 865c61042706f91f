r"""Mathematical equality: what strict mode must find equal, what it must not, and what it must survive.

The false equalities are those of the published rules and of parsers: ``3, 5, 7`` is not 357 (spaces and commas are
deleted), ``5x - 7y + 11z + 4 = 0`` is not 0 (only what follows the ``=`` is read), ``2\frac{1}{4}`` is 9/4 and not
1/2 (a product), ``1,-3`` is not ``1,-1,-3`` and ``8_9`` is not 8 (a prefix is parsed).
"""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.evaluation.answers import Verdict, extract_answer, normalise, parse_key, same_answer
from strop.evaluation.answers.canonical import tidy
from strop.evaluation.answers.numbers import read_number
from strop.evaluation.answers.symbolic import SymbolicComparer, _environment

EQUAL = [
    ("-615,000", "-615000"),
    ("0.50", "0.5"),
    ("-3.0", "-3"),
    ("3.000", "3"),
    ("007", "7"),
    ("\u22125", "-5"),
    ("\uff15", "5"),
    ("\u0665\u0661", "51"),
    ("\u200b5\u00ad", "5"),
    ("**5**", "5"),
    ("\\$32,\\!348", "32348"),
    ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
    ("$10", "10 dollars"),
    ("72 clips", "72"),
    ("10 cm^2", "10"),
    ("864 \\mbox{ inches}^2", "864"),
    ("90^\\circ", "90"),
    ("50\\%", "50"),
    ("5.", "5"),
    ("27 1/2", "27.5"),
    ("2\\frac{1}{4}", "9/4"),
    ("0.\\overline{3}", "1/3"),
    ("3 \\times 10^{8}", "300,000,000"),
    ("1/2", "\\frac{1}{2}"),
    ("\\dfrac{1}{2}", "\\frac12"),
    ("\\frac9{19}", "9/19"),
    ("-\\frac{35}{9}", "\\frac{-35}{9}"),
    ("5 = x", "5"),
    ("x=5", "5"),
    ("Total = 5", "5"),
    ("20 - 15 = 5", "5"),
    ("12 x 2 = 24", "24"),
    ("y = 2x + 3", "2x+3"),
    ("x \\in [-2,7]", "[-2,7]"),
    ("\\text{(C)}", "C"),
    ("C", "c"),
    ("\\text{Evelyn}", "evelyn"),
    ("15:30", "15:30"),
    ("52_8", "52_{8}"),
    ("\\left(3,2\\right)", "(3,2)"),
    ("(3, 100)", "(3,100)"),
    ("3, 5, 7", "7,5,3"),
    ("3 and 5", "5, 3"),
    ("1 \\pm \\sqrt{19}", "1-\\sqrt{19}, 1+\\sqrt{19}"),
    ("\\{1\\pm\\sqrt{5},-2\\}", "\\{-2,1-\\sqrt{5},1+\\sqrt{5}\\}"),
    ("(2,12) \\cup (12,102)", "(12,102)\\cup(2,12)"),
    ("\\begin{pmatrix} -1/3 \\\\ 2/3\\end{pmatrix}", "\\begin{pmatrix} -\\frac{1}{3} \\\\ \\frac{2}{3}\\end{pmatrix}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("\\sqrt{12}", "2\\sqrt{3}"),
    ("sqrt(2)/2", "\\frac{\\sqrt{2}}{2}"),
    ("p - q", "-q+p"),
    ("6 - 5i", "-5i+6"),
    ("i^2", "-1"),
    ("\\sin^2 x+\\cos^2 x", "1"),
    ("\\log_2 8", "3"),
    ("5x - 7y + 11z + 4 = 0", "-5x+7y-11z-4=0"),
    ("1\\times 7", "7"),
]

DIFFERENT = [
    ("3, 5, 7", "357"),
    ("1,2", "12"),
    ("1 2", "12"),
    ("3 feet 2 inches", "32"),
    ("5 or 6", "56"),
    ("$5$ or $6$", "5"),
    ("5x - 7y + 11z + 4 = 0", "0"),
    ("x+y=0", "0"),
    ("x^2=4", "4"),
    ("2x=0", "x+1=0"),
    ("5 = x", "x"),
    ("x=5", "y=5"),
    ("\\frac{1}{2}", "2\\frac{1}{4}"),
    ("1\\frac{4}{5}", "\\frac{4}{5}"),
    ("1,-3", "1,-1,-3"),
    ("0,\\pi,2\\pi", "0,2\\pi"),
    ("8_9", "8"),
    ("(0,1]", "[0,1)"),
    ("[1,2]", "(1,2)"),
    ("(3,2)", "(2,3)"),
    ("10 cm^2", "10^2"),
    ("10\u00b2", "102"),
    ("0.\\overline{3}", "0.3"),
    ("5xy", "5"),
    ("5 x", "5"),
    ("3 thousand", "3"),
    ("2\\pi", "2"),
    ("3!", "3"),
    ("\\frac12", "12"),
    ("50%", "0.5"),
    ("1", "1.0000001"),
    ("\\sqrt{2}", "1.41421356"),
    ("15:30", "1:2"),
    ("5,000", "5"),
    ("-5", "5"),
    ("A", "B"),
    ("A", "5"),
    ("5", "\\text{even}"),
    ("East", "Seat"),
    ("R", "r"),
    ("x", "y"),
    ("x<5", "5"),
    ("5x-7y=0", "5x-7y=1"),
    ("", "5"),
    ("", ""),
    ("\\boxed{}", "5"),
    ("\\frac{}{}", "5"),
    ("(" * 200, "5"),
    ("\\frac{1}{2", "5"),
    ("nan", "nan of them"),
]

HOSTILE = [
    ("9^{9^{9^9}}", "5"),
    ("\\frac{1}{" * 60 + "2" + "}" * 60, "3"),
    ("x" * 100_000, "y"),
    ("10000!!!!", "4"),
    ("\\int\\int\\sum", "1"),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_equal(first: str, second: str) -> None:
    assert same_answer(first, second, "strict") == Verdict(True)
    assert same_answer(second, first, "strict") == Verdict(True)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different(first: str, second: str) -> None:
    assert same_answer(first, second, "strict").correct is False
    assert same_answer(second, first, "strict").correct is False


@pytest.mark.parametrize(("predicted", "gold"), HOSTILE, ids=lambda text: text[:12])
def test_hostile_answers_are_not_graded(predicted: str, gold: str) -> None:
    """Each ends without a verdict, with a reason, in a few seconds: never as right, and never by hanging."""
    start = time.perf_counter()
    verdict = same_answer(predicted, gold, "strict")
    assert verdict.correct is None
    assert verdict.reason
    assert time.perf_counter() - start < 20


def test_long_integers_are_compared_digit_by_digit() -> None:
    assert same_answer("1" * 100_000, "1" * 100_000, "strict").correct is True
    assert same_answer("0" + "1" * 100_000, "1" * 100_000, "strict").correct is True
    assert same_answer("1" * 100_000, "5", "strict").correct is False
    assert same_answer("-0", "0", "strict").correct is True


def test_huge_exponents_are_not_expanded() -> None:
    start = time.perf_counter()
    assert read_number("1e999999999") is None
    assert time.perf_counter() - start < 5


def test_compat_is_string_equality() -> None:
    assert same_answer("0.50", "0.5", "compat") == Verdict(False)
    assert same_answer("357", normalise("3, 5, 7"), "compat") == Verdict(True)
    assert same_answer("", "", "compat") == Verdict(True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.50", Fraction(2469, 2)),
        ("-$18.5", Fraction(-37, 2)),
        ("0.1\\overline{6}", Fraction(1, 6)),
        ("\\frac{270}{7}\\text{ degrees}", Fraction(270, 7)),
        (".5", Fraction(1, 2)),
        ("1,00", None),
        ("1/0", None),
        ("--5", None),
        ("1,2", None),
        ("5 m", None),
        ("\\pm 5", None),
    ],
)
def test_numbers_are_read_exactly(text: str, value: Fraction | None) -> None:
    assert read_number(tidy(text)) == value


@given(st.fractions(max_denominator=10**6))
def test_every_spelling_of_a_fraction_is_the_same_number(value: Fraction) -> None:
    over, under = value.numerator, value.denominator
    sign = "-" if over < 0 else ""
    spellings = [f"{over}/{under}", f"\\frac{{{over}}}{{{under}}}", f"{sign}\\dfrac{{{abs(over)}}}{{{under}}}"]
    assert all(same_answer(text, spellings[0], "strict").correct is True for text in spellings)


@given(st.integers(-(10**15), 10**15))
def test_thousands_commas_and_zeros_change_nothing(number: int) -> None:
    for text in (f"{number:,}", f"{number}.0", f"{number}.00", f"${number:,}$", f"\\boxed{{{number}}}"):
        assert same_answer(text, str(number), "strict").correct is True
        assert same_answer(text, str(number + 1), "strict").correct is False


PIECES = ["1", "2", "12", ",", " ", "x", "=", "0", "-", "(", ")", "[", "]", "\\frac", "{", "}", "\\sqrt", "^", "_", "%"]
PIECES += [
    "\\pm",
    "\\text{",
    "$",
    "\\left",
    "\\{",
    "\\}",
    "\\cup",
    "cm",
    "A",
    ".",
    "/",
    "\\le",
    "\u200b",
    "\\\\",
    "&",
    ":",
]
expressions = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join)


@settings(max_examples=150, deadline=None)
@given(expressions, expressions)
def test_symmetric_and_never_raises(first: str, second: str) -> None:
    assert same_answer(first, second, "strict") == same_answer(second, first, "strict")


@settings(max_examples=200, deadline=None)
@given(expressions)
def test_an_answer_equals_itself_or_is_none(answer: str) -> None:
    verdict = same_answer(answer, answer, "strict")
    assert verdict.correct is True or (verdict.correct is False and verdict.reason == "no answer")


def test_works_in_any_thread() -> None:
    found: list[Verdict] = []
    pairs = [("x^3+1", "(x+1)(x^2-x+1)"), ("y(y+2)", "y^2+2y"), ("z+z", "3z")]

    def compare(first: str, second: str) -> None:
        found.append(same_answer(first, second, "strict"))

    threads = [threading.Thread(target=compare, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdict.correct is True for verdict in found) == [False, True, True]


def test_a_worker_that_hangs_or_dies_is_replaced() -> None:
    comparer = SymbolicComparer(deadline_s=3.0)
    try:
        assert comparer.compare("expression", "9^{9^{9^9}}", "5") == Verdict(None, "not decided within 3 s")
        assert comparer.compare("expression", "x+x", "2x") == Verdict(True)
        assert comparer._worker is not None
        comparer._worker.kill()
        comparer._worker.wait()
        assert comparer.compare("expression", "x+x", "2x") == Verdict(True)
    finally:
        comparer.close()
    comparer.close()


def test_no_published_correct_answer_turns_wrong(shared_data: Path) -> None:
    """Of 7,000 published rows, strict keeps all 2,896 right ones and adds 13 that differ only in zeros."""
    key, gained = parse_key("gsm8k"), 0
    path = shared_data / "weak_to_strong/outputs/gsm8k_train_2/llama2_7b_results.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            row: dict[str, Any] = json.loads(line)
            correct = same_answer(extract_answer(row["response"], key, "strict"), row["gold"], "strict").correct
            assert correct is not None
            assert correct or not row["result"], row
            gained += correct and not row["result"]
    assert gained == 13


def test_every_math_gold_equals_its_published_form_but_for_the_named_quirks(shared_data: Path) -> None:
    with gzip.open(shared_data / "weak_to_strong/math/test.jsonl.gz", "rt", encoding="utf-8") as stream:
        golds = [json.loads(line)["answer"] for line in stream]
    broken = [gold for gold in golds if same_answer(normalise(gold), gold, "strict").correct is not True]
    assert broken == ["3, 5, 7", "5x - 7y + 11z + 4 = 0"]


def test_a_worker_whose_asker_dies_ends_by_itself() -> None:
    """An alarm without a handler ends it even inside one endless multiplication."""
    program = (
        "import io, sys, strop.evaluation.answers.symbolic_worker as worker\n"
        "worker.LONGEST_REQUEST_S = 1\n"
        'request = \'{"kind": "expression", "first": "9^{9^{9^9}}", "second": "5"}\\n\'\n'
        "worker.serve(io.StringIO(request), sys.stderr)\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], env=_environment(), check=False, timeout=60)
    assert done.returncode == -signal.SIGALRM
    assert time.perf_counter() - start < 60
