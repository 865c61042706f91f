r"""Agreement on OlympicArena: what the original judge accepts stays accepted, except its named false agreements.

The original takes ``\boxed{}`` answers; its multiple-choice branch takes the first capital letter of the prediction (so
``E`` agrees with ``v = \sqrt{2(E - mgh)/m}``), its number branch accepts a distance of 1e-5 (so 0 agrees with
1.05e-6), and its parser reads prefixes.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.evaluation.olympicarena import FALSE_AGREEMENTS, boxed_answer, judge_agreement

ACCEPTED = [
    ("B", "\\mathrm{B}", "SC"),
    ("\\text{B}", "B", "SC"),
    ("B: the second", "B", "SC"),
    ("B: x = 5, y", "B", "SC"),
    ("[B]", "B", "SC"),
    ("B) the second", "B", "SC"),
    ("The answer is B", "B", "SC"),
    ("A, B", "AB", "MC"),
    ("[B, A]", "A, B", "MC"),
    ("True", "True", "TF"),
    ("(True)", "True", "TF"),
    ("2670", "2670.00", "NV"),
    ("0.33333", "\\frac{1}{3}", "NV"),
    ("\\sqrt{2}", "1.41421", "NV"),
    ("1:2", "0.5", "NV"),
    ("1.2 \\times 10^{5}", "1.3 \\times 10^{5}", "NV"),
    ("3.0 \\times 10^{8}", "299800000", "NV"),
    ("10\\%", "10", "SC"),
    ("x \\approx 5", "5", "EX"),
    ("v_0 = 5", "5", "EX"),
    ("|v| = 5", "5", "EX"),
    ("mc^2", "E=mc^2", "EX"),
    ("\\frac{GM}{r^2}", "GM/r^2", "EX"),
    ("x^2+2x+1", "1+2x+x^2", "EX"),
    ("2\\pi\\sqrt{\\frac{l}{g}}", "2\\pi\\sqrt{l/g}", "EX"),
    ("x+y=1", "2x+2y=2", "EQ"),
    ("(1, 2)", "1,2", "TUP"),
    ("(3, 4.0, 5)", "(3,4,5)", "TUP"),
    ("[0.0, 1.0]", "[0,1]", "IN"),
    ("(0,1)\\cup(2,3)", "(2,3)\\cup(0,1)", "IN"),
    ("\\{2, 1\\}", "\\{1,2\\}", "SET"),
]

REFUSED = [
    ("v = \\sqrt{\\frac{2(E - mgh)}{m}}", "E", "option-letter-against-formula"),
    ("m_1gh + m_2gh = E", "E", "option-letter-against-formula"),
    ("d = \\sqrt{r^2 + R^2}", "R", "option-letter-against-formula"),
    ("Aquarius", "A", "option-letter-in-prose"),
    ("AD", "A", "subset-of-options"),
    ("A, B", "A", "subset-of-options"),
    ("A", "A, B", "subset-of-options"),
    ("0", "1.05e-6", "absolute-tolerance-at-zero"),
    ("6.63\\times10^{-34}", "1.05\\times10^{-34}", "absolute-tolerance-at-zero"),
    ("0.05\\times10^3", "0.14\\times10^3", "mantissa-below-one"),
    ("2\\frac{1}{4}", "\\frac{1}{2}", "mixed-number-as-product"),
    ("1,2,3", "1,2,4", "leading-members-only"),
    ("1, 2", "1", "leading-members-only"),
    ("(0,1]", "(0,1)", "interval-brackets"),
    ("2x = 4", "4", "equation-against-value"),
    ("2T = mg", "T = mg", "right-side-only"),
    ("8_9", "8", "prefix-only"),
    ("listen", "silent", "anagram"),
    ("5", "6", None),
    ("B", "C", None),
    ("True", "False", None),
    ("5 \\mathrm{~m}", "5", None),
    ("x", "y", None),
    ("", "5", None),
]


@pytest.mark.parametrize(("predicted", "gold", "kind"), ACCEPTED)
def test_accepted(predicted: str, gold: str, kind: str) -> None:
    agreement = judge_agreement(f"So it is $\\boxed{{{predicted}}}$.", gold)
    assert (agreement.agrees, agreement.kind) == (True, kind)


@pytest.mark.parametrize(("predicted", "gold", "exception"), REFUSED)
def test_refused_by_name(predicted: str, gold: str, exception: str | None) -> None:
    agreement = judge_agreement(f"\\boxed{{{predicted}}}", gold)
    assert (agreement.agrees, agreement.exception) == (False, exception)


def test_every_named_exception_is_shown() -> None:
    assert {exception for _, _, exception in REFUSED if exception} == set(FALSE_AGREEMENTS)


def test_every_named_exception_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/grading.md").read_text(encoding="utf-8")
    assert [name for name in FALSE_AGREEMENTS if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed{a} and \\boxed{b}", "a"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("no box", "no box"),
        ("\\boxed{}", "\\boxed{}"),
        ("\\boxed{open", "\\boxed{open"),
    ],
)
def test_the_first_box_counts(text: str, content: str) -> None:
    assert boxed_answer(text) == content


def test_hostile_answers_end() -> None:
    assert judge_agreement("\\boxed{9^{9^{9^9}}}", "5").agrees is None
    assert judge_agreement("x" * 100_000, "5").agrees is False
    assert judge_agreement("(" * 100_000, "(1)").agrees is False


PIECES = ["1", "2", ",", " ", "x", "=", "0", "(", ")", "[", "]", "\\frac", "{", "}", "A", "B", ":", "\\cup", "\\text{"]


@settings(max_examples=100, deadline=None)
@given(*[st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)] * 2)
def test_never_raises_and_itself_agrees(first: str, second: str) -> None:
    judge_agreement(first, second)
    assert judge_agreement(first, first).agrees or not first.strip(" ")


def test_published_selection(shared_data: Path) -> None:
    """All 746 published pairs agreed for the original: 707 still do, 39 are named, and none is lost without a name.

    Then 500 pairs shuffled between questions whose answers differ: all are refused.
    """
    folder = shared_data / "weak_to_strong/llama_factory/olympicarena"
    weak, icl = (
        [
            row["output"]
            for row in json.loads(
                gzip.decompress((folder / f"train_olympic_llama3-8b-instruct_iter1_{side}.json.gz").read_bytes())
            )
        ]
        for side in ("weak", "icl")
    )
    pairs = list(zip(icl, map(boxed_answer, weak), strict=True))
    found = Counter((one.agrees, one.exception) for one in (judge_agreement(*pair) for pair in pairs))
    assert found == {
        (True, None): 707,
        (False, "option-letter-against-formula"): 33,
        (False, "subset-of-options"): 5,
        (False, "option-letter-in-prose"): 1,
    }
    assert _accepted_shuffled(pairs) == []


def _accepted_shuffled(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    random, accepted, tried = Random(0), [], 0
    while tried < 500:
        (response, own), (_, other) = random.choice(pairs), random.choice(pairs)
        # Questions may share an answer, however it is spelled: such a pair matches.
        if _bare(own) == _bare(other):
            continue
        tried += 1
        if judge_agreement(response, other).agrees:
            accepted.append((boxed_answer(response), other))
    return accepted


def _bare(answer: str) -> str:
    return "".join(re.findall(r"[A-Za-z0-9.]", re.sub(r"\\(?:mathrm|text|mathbf|left|right)", "", answer)))
