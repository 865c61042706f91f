"""Rubrics: the shipped ones, files with mistakes, and clinicians' questions with their branches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from strop.errors import UserError
from strop.judging.rubric import Rubric, load_rubric, shipped_rubrics, walk

GOOD: dict[str, Any] = {
    "name": "mine",
    "version": 1,
    "purpose": "one reply",
    "criteria": [
        {
            "key": key,
            "name": key.title(),
            "description": "Is it so?",
            "anchors": {1: "no", 3: "half", 5: "yes"},
            "weight": 1,
        }
        for key in ("warmth", "safety")
    ],
}


def written(folder: Path, content: Any, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_shipped_rubrics() -> None:
    assert shipped_rubrics() == ["principles-v1", "reasoning-v1"]
    principles = load_rubric("principles-v1")
    assert principles.keys == ("empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging")
    assert [criterion.key for criterion in principles.criteria if criterion.gate] == ["safety"]
    assert "notice" in principles.criterion("safety").description
    assert all(
        set(criterion.anchors) == {1, 3, 5} for name in shipped_rubrics() for criterion in load_rubric(name).criteria
    )


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    plain = load_rubric(written(tmp_path, GOOD))
    text = "# a comment\n" + yaml.safe_dump(GOOD, sort_keys=False, indent=8)
    assert load_rubric(written(tmp_path, text, "other.yaml")).hash == plain.hash
    changed = copy.deepcopy(GOOD)
    changed["criteria"][0]["anchors"][3] = "nearly"
    assert load_rubric(written(tmp_path, changed)).hash != plain.hash


def _change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        target: Any = content
        *parents, last = path.split(".")
        for part in parents:
            target = target[int(part)] if part.isdigit() else target[part]
        if value is None:
            del target[last]
        else:
            target[last] = value

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change("criteria.1.key", "warmth"), "keys must be unique, these repeat: warmth"),
        (_change("criteria.0.weight", None), r"criteria\.0\.weight: missing"),
        (_change("criteria.0.weight", 0), "greater than 0: got 0"),
        (_change("criteria.0.weight", -1.5), "greater than 0: got -1.5"),
        (_change("criteria.0.weight", float("nan")), "weight"),
        (_change("criteria", []), "a rubric needs criteria"),
        (_change("criteria", None), "a rubric needs criteria"),
        (_change("criteria", "warm"), "criteria"),
        (_change("criteria.0.anchors", {1: "no", 5: "yes"}), "'warmth' has no anchor for 3"),
        (_change("criteria.0.anchors", {1: "a", 2: "b", 3: "c", 5: "d"}), "anchors"),
        (_change("criteria.0.anchors", None), r"criteria\.0\.anchors: missing"),
        (_change("criteria.0.wieght", 1), r"unknown key, did you mean 'criteria\.0\.weight'"),
        (_change("criteria.0.description", "  "), "description"),
        (_change("criteria.0.key", "Warm Heart"), "key"),
        (_change("purpose", None), "purpose: missing"),
        (_change("questions", []), "questions come from TSV files"),
    ],
    ids=range(16),
)
def test_a_rubric_with_a_mistake(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    content = copy.deepcopy(GOOD)
    change(content)
    with pytest.raises(UserError, match=message):
        load_rubric(written(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\n---\nname: b\n", "not valid YAML"),
        ("- name: a\n- name: b\n", "must be 'key: value' lines"),
        ("name: [\n", "not valid YAML"),
        ("name: a\nname: b\n", "the key 'name' was given before, on line 1"),
        ("criteria:\n- key: a\n  weight: 1\n  weight: 2\n", "the key 'weight' was given before"),
        ("", "a rubric needs criteria"),
        ("\x00", "not valid YAML"),
    ],
    ids=range(7),
)
def test_a_file_that_is_no_rubric(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_rubric(written(tmp_path, text))


def test_an_unknown_name_and_an_unknown_criterion() -> None:
    with pytest.raises(UserError, match="did you mean 'principles-v1'"):
        load_rubric("principle-v1")
    with pytest.raises(UserError, match="did you mean 'clarity'"):
        load_rubric("principles-v1").criterion("claritiy")


HEADER = "Question ID\tDimension\tSeverity\tRisk Type\tQuestion\tExamples\tAnswer\tGOTO\n"
QUESTIONS = HEADER + (
    "1\tNotice\t\t\tIs there a sign of risk?\tsaid openly or in passing\tYes, there is\t2\n"
    "\t\t\t\t\t\tNo, there is none\tEND\n"
    "2\tNotice\tRed\t\tIs the risk near?\t\tNear\t5\n"
    "\t\t\t\t\t\tFar\t3\n"
    "3\tHelp\tYelow\tFar\tIs help left out?\t\t\t\n"
    "4\tHelp\tRed\tFar\tIs the person left alone?\t\t\t\n"
    "5\tHelp\tRed\tNear\tIs urgent help left out?\t\t\t\n"
    "6\tManner\tYellow\t\tIs the tone harsh?\t\t\t\n"
)


@pytest.fixture
def questions(tmp_path: Path) -> Rubric:
    return load_rubric(written(tmp_path, QUESTIONS, "risk.tsv"))


def test_questions_are_read_with_severity_answers_and_branches(questions: Rubric) -> None:
    assert (questions.name, len(questions.questions), questions.criteria) == ("risk", 6, ())
    assert [question.severity for question in questions.questions] == ["", "red", "yellow", "red", "red", "yellow"]
    assert [question.gate for question in questions.questions] == [False, True, False, True, True, False]
    assert [choice.answer for choice in questions.questions[2].choices] == ["Yes", "No"]


@pytest.mark.parametrize(
    ("answers", "met"),
    [
        ([], "1"),
        (["No, there is none"], "1"),
        (["yes, there is", "near"], "125"),
        (["Yes, there is", "Near", "No"], "1256"),
        (["Yes, there is", "Far", "No", "No"], "12346"),
        (["Yes, there is", "Far", "Yes"], "1236"),
        (["Yes, there is", "Far", "No", "No", "Yes"], "12346"),
    ],
)
def test_a_walk(questions: Rubric, answers: list[str], met: str) -> None:
    assert "".join(question.key for question in walk(questions, answers)) == met


def test_a_walk_with_an_answer_that_is_not_offered_or_too_many(questions: Rubric) -> None:
    with pytest.raises(UserError, match="question 1 has no such answer"):
        walk(questions, ["Perhaps"])
    with pytest.raises(UserError, match="ended before the answers"):
        walk(questions, ["No, there is none", "Yes"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (QUESTIONS.replace("\t3\n", "\t9\n"), "2 leads to '9'"),
        (QUESTIONS.replace("6\tManner", "5\tManner"), "these repeat: 5"),
        (QUESTIONS.replace("Red\t\t", "Purple\t\t"), "unknown severity: got 'Purple'"),
        (HEADER + "\t\t\t\t\t\tYes\t2\n", "an answer before the first question"),
        ("Question ID\tQuestion\n1\tWhy?\n", "lacks columns"),
        (HEADER, "needs criteria to rate, or questions to answer"),
    ],
    ids=range(6),
)
def test_questions_with_a_mistake(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_rubric(written(tmp_path, text, "risk.tsv"))


def test_the_clinicians_rubric_is_readable(shared_data: Path) -> None:
    rubric = load_rubric(shared_data / "counsel" / "vera-mh" / "rubric.tsv")
    assert (rubric.name, len(rubric.questions)) == ("vera-mh", 34)
    assert sum(question.gate for question in rubric.questions) == 18
    no_risk = rubric.questions[0].choices[1].answer
    assert [question.key for question in walk(rubric, [no_risk, "No"])] == ["4", "6"]
    # Every way through the questions ends, wherever it turns.
    for choice in (0, 1, -1):
        met = [rubric.questions[0]]
        answers: list[str] = []
        while len(walk(rubric, answers)) > len(answers):
            met = walk(rubric, answers)
            answers.append(met[-1].choices[choice if abs(choice) < len(met[-1].choices) else 0].answer)
            assert len(answers) <= len(rubric.questions)
