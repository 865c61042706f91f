"""Scores against worked numbers, scikit-learn and scipy; constant predictors against numpy; paired comparisons."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score
from tests.evaluation.benchmarks.made import DATA, MEDMCQA, MMLU, committed, item

from strop.errors import UserError
from strop.evaluation.benchmarks.comparison import compare
from strop.evaluation.benchmarks.generative import read_reply_to
from strop.evaluation.benchmarks.items import Task
from strop.evaluation.benchmarks.predictions import Prediction, answered, constant, failed
from strop.evaluation.benchmarks.scores import macro_f1, score
from strop.evaluation.statistics import wilson

LABELS = ("A", "B", "C")


def predictions(pairs: str) -> list[Prediction]:
    """``AB`` is gold A answered B; ``A?`` could not be read, ``A.`` was empty, ``A!`` failed."""
    found = []
    for number, (gold, said) in enumerate(tuple(pair) for pair in pairs.split()):
        asked = item(number, gold, options=("1", "2", "3"))
        unread = {"?": "no idea", ".": ""}
        if said == "!":
            found.append(failed(asked, "context"))
        elif said in unread:
            found.append(read_reply_to(Task("made", "choice", (asked,), "choices", ()), asked, unread[said]))
        else:
            found.append(answered(asked, said))
    return found


def test_scores_by_hand() -> None:
    """AA AA AB BB B? C. CC A!: of 7 replies 4 are right, one unread, one empty; golds A 3, B 2, C 2.

    F1: A 2*2/(2+3) = .8, B 2*1/(2+2) = .5, C 2*1/(1+2) = 2/3; mean .65556. Always A gets 3/7.
    """
    scores = score(predictions("AA AA AB BB B? C. CC A!"), LABELS)
    assert (scores.items, scores.failed) == (8, 1)
    assert scores.accuracy == wilson(4, 7)
    assert scores.macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert (scores.unparsed, scores.empty) == (1 / 7, 1 / 7)
    assert scores.constants == {"A": 3 / 7, "B": 2 / 7, "C": 2 / 7}
    assert (scores.majority, scores.constant) == ("A", 3 / 7)
    assert scores.predicted == {"A": 2, "B": 2, "C": 1}
    assert scores.one_label is None


def test_nothing_but_failures_is_no_number() -> None:
    scores = score(predictions("A! B!"), LABELS)
    assert (scores.accuracy, scores.macro_f1, scores.unparsed, scores.constant) == (None, None, None, None)
    assert scores.findings() == ["2 of 2 items got no reply and are left out"]
    with pytest.raises(UserError, match="no predictions"):
        score([], LABELS)


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("ABC?")), min_size=1, max_size=60))
def test_metrics_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    found = predictions(" ".join(gold + said for gold, said in pairs))
    golds, said = [gold for gold, _ in pairs], [label for _, label in pairs]
    scores = score(found, LABELS)
    assert scores.accuracy is not None
    assert scores.accuracy.estimate == pytest.approx(accuracy_score(golds, said))
    expected = f1_score(golds, said, labels=sorted(set(golds)), average="macro", zero_division=0)
    assert macro_f1(golds, [None if label == "?" else label for label in said]) == pytest.approx(expected)
    assert scores.macro_f1 == pytest.approx(expected)


@pytest.mark.parametrize(("ones", "flag"), [(95, None), (96, "A")])
def test_the_flag_for_one_label_starts_above_95_percent(ones: int, flag: str | None) -> None:
    assert score(predictions(" ".join(["AA"] * ones + ["BB"] * (100 - ones))), LABELS).one_label == flag


TASKS = [
    committed("mmlu", *MMLU),
    committed("medmcqa", *MEDMCQA),
    committed("medqa", "medqa.jsonl"),
    committed("pubmedqa", "pubmedqa.jsonl"),
]


@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
def test_constant_predictors_get_their_share_of_the_raw_file(task: Task) -> None:
    """The shares are counted by numpy in the raw rows, without any of strop's readers."""
    for label in task.labels:
        scores = score(constant(task.items, label), task.labels)
        assert scores.accuracy is not None
        assert scores.accuracy.estimate == np.mean(np.array(_raw_golds(task)) == label)
        assert scores.accuracy.estimate == scores.constants[label]
        assert scores.one_label == label


def _raw_golds(task: Task) -> list[str]:
    rows = [json.loads(line) for file in task.files for line in (DATA / file).read_text(encoding="utf-8").splitlines()]
    unique = {json.dumps(row): row for row in rows}.values()
    return [row.get("answer_idx") or row.get("final_decision") or "ABCD"[row["cop"] - 1] for row in unique]


def test_parts_are_scored_by_themselves() -> None:
    items = [item(number, gold, part=part) for number, (gold, part) in enumerate([("A", "x"), ("B", "x"), ("B", "y")])]
    scores = score([answered(each, "B") for each in items], ("A", "B"))
    assert {name: (of.n, of.accuracy.estimate, of.constant) for name, of in scores.parts.items()} == {
        "x": (2, 0.5, 0.5),
        "y": (1, 1.0, 1.0),
    }


def test_a_comparison_is_the_exact_mcnemar_test() -> None:
    """Ten items: the second model alone is right on 6, the first alone on 1: p = 2 * P(X <= 1 | 7, 1/2) = .125."""
    first = predictions("AA AB AB AB AB AB AB BB BB BC")
    second = predictions("AB AA AA AA AA AA AA BB BB BC")
    compared = compare("made", ("second", second), ("first", first))
    assert compared.result is not None
    assert compared.result.p_value == pytest.approx(binomtest(1, 7).pvalue) == pytest.approx(0.125)
    assert (compared.result.only_first, compared.result.only_second) == (6, 1)
    assert compared.result.difference.estimate == pytest.approx(0.5)
    assert "not distinguishable, about" in compared.finding()


def test_items_that_failed_in_one_model_are_left_out_of_a_comparison() -> None:
    compared = compare("made", ("a", predictions("AA A! BB")), ("b", predictions("AB AA BB")))
    assert compared.result is not None
    assert (compared.result.n, compared.result.left_out) == (2, 1)
    nothing = compare("made", ("a", predictions("A!")), ("b", predictions("AA")))
    assert nothing.result is None
    assert "no item was answered by both" in nothing.finding()


def test_findings_stand_beside_the_constant_answer() -> None:
    always = score(constant(tuple(item(number, "A") for number in range(20)), "A"), ("A", "B"))
    assert "as good as always answering 'A' (100.00%)" in always.findings()
    wrong = score(predictions(" ".join(["AB"] * 20 + ["BB"])), LABELS)
    assert any(line.startswith("worse than always answering 'A'") for line in wrong.findings())
    right = score(predictions(" ".join(["AA"] * 10 + ["BB"] * 10)), LABELS)
    assert any(line.startswith("better than always answering") for line in right.findings())
