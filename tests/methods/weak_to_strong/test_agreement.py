"""Final answers and their agreement, per key and mode."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from strop.methods.weak_to_strong.agreement import AnswerRule, answer_mark, gold_comparison
from strop.methods.weak_to_strong.data import answer_from_row
from strop.methods.weak_to_strong.selection import AnswerPair, Decision, decide


@pytest.mark.parametrize(
    ("key", "mode", "predicted", "reference", "agree"),
    [
        ("gsm8k", "compat", "0.5", "0.50", False),
        ("gsm8k", "strict", "0.5", "0.50", True),
        ("gsm8k", "compat", "5", "5", True),
        ("gsm8k", "compat", "", "", True),
        ("gsm8k", "compat", "", "5", False),
        ("gsm8k", "strict", "5", "", False),
        ("math", "compat", "\\dfrac{1}{2}", "\\frac{1}{2}", False),
        ("math", "strict", "\\dfrac{1}{2}", "\\frac{1}{2}", True),
        ("olympicarena", "compat", "\\mathrm{B}", "B", True),
        ("olympicarena", "compat", "\\sqrt{2(E - mgh)/m}", "E", False),
    ],
)
def test_agreement(key: str, mode: Any, predicted: str, reference: str, agree: bool) -> None:
    assert AnswerRule.for_key(key, mode).agree(predicted, reference) is agree


@pytest.mark.parametrize(
    ("key", "response", "answer"),
    [
        ("gsm8k", "a\n#### 1,024", "1024"),
        ("math", "so it is. The answer is: 336", "336"),
        ("A:", "a\nA: 5", "5"),
        ("olympicarena", "so \\boxed{ \\frac{1}{2} } and \\boxed{3}", "\\frac{1}{2}"),
        ("olympicarena", "the answer is B", ""),
    ],
)
def test_final_answers(key: str, response: str, answer: str) -> None:
    assert AnswerRule.for_key(key).extract(response) == answer
    assert (answer_mark(key) in response) == bool(answer)


@pytest.mark.parametrize(
    ("key", "predicted", "gold", "same"),
    [
        ("gsm8k", "1024", "1,024", True),
        ("gsm8k", "1024", "two steps\n#### 1,024", True),
        ("gsm8k", "1024", "1025", False),
        ("olympicarena", "\\mathrm{B}", "B", True),
    ],
)
def test_gold_may_stand_as_in_the_data(key: str, predicted: str, gold: str, same: bool) -> None:
    assert gold_comparison(key)(predicted, gold) is same


def test_olympicarena_selection_loses_only_false_agreements(published: Any) -> None:
    """All 746 published rows are boxed on both sides; what the comparator refuses of them it refuses by name."""
    stem = "llama_factory/olympicarena/train_olympic_llama3-8b-instruct_iter1"
    weak, icl = (map(answer_from_row, published(f"{stem}_{side}.json")) for side in ("weak", "icl"))
    pairs = [AnswerPair(left, right) for left, right in zip(weak, icl, strict=True)]
    decisions = Counter(decision for _, decision in decide(pairs, AnswerRule.for_key("olympicarena")))
    assert decisions.total() == 746
    assert set(decisions) <= {Decision.AGREED, Decision.DIFFERENT}
    assert decisions[Decision.AGREED] > 700
