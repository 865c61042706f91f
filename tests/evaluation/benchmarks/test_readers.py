"""Layouts, repeated rows, tasks on a command line and in YAML, and what a user is told about a broken row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.benchmarks.made import DATA, MEDMCQA, MMLU, committed

from strop.errors import UserError
from strop.evaluation.benchmarks.items import Task
from strop.evaluation.benchmarks.prompts import continued_prompt, reply_prompt
from strop.evaluation.benchmarks.readers import TaskSettings, parse_tasks, read_task
from strop.records.tables import read_table, write_table

PLAIN = {"question": "Which?", "options": ["one", "two", "three"], "answer": "B"}
MEDMCQA_ROW = {"question": "Which?", "opa": "1", "opb": "2", "opc": "3", "opd": "4", "cop": 4, "subject_name": "ENT"}
QUERY = 'Consider this post: "a post of ours" Question: Does the poster suffer from stress?'


def read(tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> Task:
    path = tmp_path / "rows.jsonl"
    write_table(path, rows)
    return read_task("made", TaskSettings(file=path, **settings))


def test_committed_rows_of_each_layout() -> None:
    mmlu, medmcqa = committed("mmlu", *MMLU), committed("medmcqa", *MEDMCQA)
    assert {item.part for item in mmlu.items} == {"college_biology", "medical_genetics"}
    assert {item.part for item in medmcqa.items} == {"ENT", "Skin"}
    assert (mmlu.layout, medmcqa.layout) == ("choices", "medmcqa")
    assert [item.gold for item in committed("skin", "medmcqa_Skin.jsonl").items] == ["A", "D", "D", "C"]
    assert [item.gold for item in committed("medqa", "medqa.jsonl").items] == ["B", "C", "A", "D"]


def test_repeated_rows_are_left_out_and_counted() -> None:
    pubmedqa = committed("pubmedqa", "pubmedqa.jsonl")
    assert (len(pubmedqa.items), pubmedqa.duplicates) == (4, 1)
    kept = read_task("pubmedqa", TaskSettings(file=DATA / "pubmedqa.jsonl", duplicates="keep"))
    assert (len(kept.items), kept.duplicates) == (5, 0)
    assert len({item.id for item in kept.items}) == 5


@pytest.mark.parametrize("contexts", [False, True])
def test_a_long_answer_is_in_no_prompt(contexts: bool) -> None:
    """The conclusion states the verdict; the contexts are shown where they are asked for."""
    rows = {row["id"]: row for row in read_table(DATA / "pubmedqa.jsonl")}
    task = committed("pubmedqa", "pubmedqa.jsonl", contexts=contexts)
    for item in task.items:
        row = rows[str(item.id)]
        for prompt in (continued_prompt(task, item), reply_prompt(task, item)[0].content):
            assert row["LONG_ANSWER"][:40] not in prompt
            assert row["final_decision"] == item.gold
            assert all((section in prompt) == contexts for section in row["CONTEXTS"])


@pytest.mark.parametrize(("answer", "gold"), [("B", "B"), ("b", "B"), ("two", "B"), (" three ", "C")])
def test_a_plain_answer_is_a_letter_or_a_text(tmp_path: Path, answer: str, gold: str) -> None:
    assert read(tmp_path, {**PLAIN, "answer": answer}).items[0].gold == gold


def test_the_layouts_of_the_hub(tmp_path: Path) -> None:
    """MMLU counts answers from 0; PubMedQA nests its contexts; MedMCQA counts from 0."""
    mmlu = {"question": "Which?", "subject": "anatomy", "choices": ["1", "2", "3", "4"], "answer": 2}
    assert (read(tmp_path, mmlu).items[0].gold, read(tmp_path, mmlu).items[0].part) == ("C", "anatomy")
    row = {"pubid": 7, "question": "Is it?", "context": {"contexts": ["So."]}, "final_decision": "maybe"}
    item = read(tmp_path, {**row, "long_answer": "It may be."}).items[0]
    assert (item.id, item.gold, item.contexts) == (7, "maybe", ("So.",))
    from_zero = read(tmp_path, {**MEDMCQA_ROW, "cop": 0}, {**MEDMCQA_ROW, "question": "What?", "cop": 3})
    assert [item.gold for item in from_zero.items] == ["A", "D"]


def test_cop_may_be_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cop may count the options from 0 or from 1.*\[2\]"):
        read(tmp_path, {**MEDMCQA_ROW, "cop": 2})
    assert read(tmp_path, {**MEDMCQA_ROW, "cop": 2}, first_option=0).items[0].gold == "C"
    assert read(tmp_path, {**MEDMCQA_ROW, "cop": 2}, first_option=1).items[0].gold == "B"
    with pytest.raises(UserError, match="cop must be 0 to 3: got 4"):
        read(tmp_path, MEDMCQA_ROW, first_option=0)


BROKEN: list[tuple[tuple[dict[str, Any], ...], str]] = [
    (({"a": 1},), "row 1: a row in no known layout"),
    (({**PLAIN, "answer": "D"},), "names no single option"),
    (({**PLAIN, "answer": 1},), "names no single option"),
    (({**PLAIN, "options": ["one"]},), "2 to 10 options"),
    (({**PLAIN, "options": ["same", "same"], "answer": "same"},), "names no single option"),
    (({**PLAIN, "options": {"B": "one", "A": "two"}},), "lettered A, B, C"),
    (({**PLAIN, "options": "one, two"},), "must be a list of texts"),
    (({**PLAIN, "question": ""},), "'question' must be text"),
    (({"question": "Which?", "options": ["1", "2"], "answer": "1", "answer_idx": "B"},), "name different options"),
    (({**MEDMCQA_ROW, "cop": 4}, {**MEDMCQA_ROW, "cop": 0}), "counts the options in two ways"),
    (({**MEDMCQA_ROW, "cop": -1},), "cop must be 0 to 3, or 1 to 4"),
    (({**MEDMCQA_ROW, "cop": 5}, MEDMCQA_ROW), "cop must be 0 to 3, or 1 to 4"),
    (({**MEDMCQA_ROW, "cop": None},), "cop must be the number"),
    (({name: value for name, value in MEDMCQA_ROW.items() if name != "opc"},), "'opc' is missing"),
    (({"QUESTION": "Is it?", "CONTEXTS": [], "final_decision": "perhaps"},), "is no verdict"),
    (({"query": "nothing", "gold": "yes"},), "a query in no known format"),
    (({"query": QUERY, "gold": "hard to say"},), "no label before the reasoning"),
    (({"query": QUERY},), "is missing"),
    ((PLAIN, MEDMCQA_ROW), "mixes items of different kinds"),
    (({**PLAIN, "id": 1}, {**PLAIN, "id": 1, "answer": "A"}), "two different items have one id"),
    (({**PLAIN, "id": 1.5},), "an id must be"),
]


@pytest.mark.parametrize(("rows", "message"), BROKEN)
def test_a_broken_row_is_named(tmp_path: Path, rows: tuple[dict[str, Any], ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, *rows)


def test_no_message_quotes_a_post(tmp_path: Path) -> None:
    for row in ({"query": QUERY, "gold": "?"}, {"query": QUERY.replace("stress", "rain"), "gold": "yes"}):
        with pytest.raises(UserError) as caught:
            read(tmp_path, row)
        assert "a post of ours" not in str(caught.value)


def test_tasks_of_a_command_line() -> None:
    tasks = parse_tasks(["medqa=a.jsonl,pubmedqa_contexts=b.jsonl", "mmlu=c.jsonl", "mmlu=d.jsonl"])
    assert {name: len(task.file) for name, task in tasks.items()} == {"medqa": 1, "pubmedqa_contexts": 1, "mmlu": 2}
    assert [task.contexts for task in tasks.values()] == [False, True, False]
    with pytest.raises(UserError, match="a task is NAME=FILE"):
        parse_tasks(["medqa"])


def test_tasks_of_a_yaml_file(tmp_path: Path) -> None:
    """Paths are relative to the file; a folder stands for its tables."""
    (tmp_path / "tables").mkdir()
    write_table(tmp_path / "tables" / "mmlu_anatomy_test.jsonl", [PLAIN])
    write_table(tmp_path / "tables" / "mmlu_virology_test.jsonl", [{**PLAIN, "question": "What?"}])
    write_table(tmp_path / "mine.jsonl", [{**MEDMCQA_ROW, "cop": 1}])
    path = tmp_path / "tasks.yaml"
    path.write_text("mmlu: tables\nmine:\n  file: mine.jsonl\n  first_option: 1\n", encoding="utf-8")
    tasks = {name: read_task(name, of) for name, of in parse_tasks([str(path)]).items()}
    assert [item.part for item in tasks["mmlu"].items] == ["anatomy", "virology"]
    assert [item.id for item in tasks["mmlu"].items] == ["anatomy/0", "virology/0"]
    assert tasks["mine"].items[0].gold == "A"
    path.write_text("mine:\n  file: mine.jsonl\n  frist_option: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match="frist_option"):
        parse_tasks([str(path)])


def test_a_limit_keeps_the_first_items() -> None:
    settings = TaskSettings(file=tuple(DATA / name for name in MMLU))
    assert [item.part for item in read_task("mmlu", settings, limit=5).items] == ["college_biology"] * 4 + [
        "medical_genetics"
    ]
