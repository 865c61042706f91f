"""The published formats, there and back; gold stays in a table of its own."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.weak_to_strong import data
from strop.records import Answer, Message, PreferencePair, Prompt, Question, SampledAnswers, SupervisedExample
from strop.records.tables import read_table, write_table
from strop.records.training_forms import columns_pair

EXAMPLE = SupervisedExample(3, "Question: a?\nAnswer:", "b")
PAIR = PreferencePair(3, "Question: a?\nAnswer:", "good", "bad")
CHAT: Prompt = (Message("user", "a?"),)


@pytest.mark.parametrize(
    "row",
    [
        {"id": 3, "content": EXAMPLE.prompt, "output": "b"},
        {"id": 3, "prompt": EXAMPLE.prompt, "response": "b"},
        {"id": 3, "prompt": EXAMPLE.prompt, "completion": "b"},
        {"id": 3, "content": EXAMPLE.prompt, "output": "b", "gold": "9", "pred": "b", "result": False},
    ],
)
def test_rows_are_told_by_their_fields(row: dict[str, Any]) -> None:
    assert data.answer_from_row(row) == Answer(3, EXAMPLE.prompt, "b")
    assert data.supervised_from_row(row) == EXAMPLE


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 3}, "a prompt and a response"),
        ({"prompt": "a", "response": "b"}, "no field 'id'"),
        ({"id": 3, "content": "a", "output": ["b", "c"]}, "'output' must be text"),
        ({"id": 3, "prompt": 5, "response": "b"}, "a prompt must be text"),
        ({"id": True, "prompt": "a", "response": "b"}, "an id must be"),
        ({"id": 3, "prompt": "a", "response": None}, "'response' must be text"),
    ],
)
def test_other_rows_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data.answer_from_row(row)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"instruction": PAIR.prompt, "input": "", "output": ["good", "bad"]}, PAIR.prompt),
        ({"instruction": PAIR.prompt, "input": "", "chosen": "good", "rejected": "bad"}, PAIR.prompt),
        ({"instruction": "a", "input": "b", "output": ["good", "bad"]}, "a\nb"),
        ({"instruction": "a", "output": ["good", "bad"]}, "a"),
        ({"prompt": PAIR.prompt, "chosen": "good", "rejected": "bad"}, PAIR.prompt),
        (
            {
                "prompt": [{"role": "user", "content": "a?"}],
                "chosen": [{"role": "assistant", "content": "good"}],
                "rejected": [{"role": "assistant", "content": "bad"}],
            },
            CHAT,
        ),
    ],
)
def test_pairs_are_told_by_their_fields(row: dict[str, Any], prompt: Prompt) -> None:
    assert data.pair_from_row({"id": 3, **row}) == PreferencePair(3, prompt, "good", "bad")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "a", "output": "good"}, "two responses"),
        ({"instruction": "a", "output": ["good"]}, "two responses"),
        ({"instruction": "a", "output": ["good", "bad", "worse"]}, "two responses"),
        ({"output": ["good", "bad"]}, "needs a prompt"),
        ({"instruction": "a", "chosen": "good", "rejected": []}, "'rejected' must be text"),
    ],
)
def test_other_pairs_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data.pair_from_row({"id": 3, **row})


TEXT = st.text(max_size=20)


@given(st.integers() | TEXT, TEXT, TEXT, TEXT)
def test_what_is_written_is_read_back(identifier: int | str, prompt: str, first: str, second: str) -> None:
    example, pair = SupervisedExample(identifier, prompt, first), PreferencePair(identifier, prompt, first, second)
    assert data.supervised_from_row(data.published_example(example)) == example
    for write in (data.published_pair, columns_pair):
        assert data.pair_from_row(json.loads(json.dumps(write(pair)))) == pair


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet"])
def test_every_container_holds_every_format(suffix: str, tmp_path: Path) -> None:
    supervised, pairs = tmp_path / f"sft{suffix}", tmp_path / f"pairs{suffix}"
    write_table(supervised, [data.published_example(EXAMPLE)])
    write_table(pairs, [data.published_pair(PAIR)])
    assert [data.supervised_from_row(row) for row in read_table(supervised)] == [EXAMPLE]
    assert list(data.read_pairs(pairs)) == [PAIR]


def test_a_conversation_does_not_fit_a_plain_format() -> None:
    with pytest.raises(UserError, match="plain prompts"):
        data.published_example(SupervisedExample(3, CHAT, "b"))


def test_gsm8k_raw_and_test_form(tmp_path: Path) -> None:
    solution = "48/2 = <<48/2=24>>24\n#### 1,024"
    raw, test = tmp_path / "raw.jsonl", tmp_path / "test.jsonl"
    write_table(raw, [{"id": "gsm8k_12", "question": "a?", "answer": solution}])
    write_table(test, [{"source": "GSM8K", "question": "a?", "solution": solution, "answer": "1024", "tag": {}}])
    assert data.read_gsm8k(raw) == (
        [Question(0, "a?")],
        [data.Gold(0, "1,024", "48/2 = 24\n#### 1,024", "gsm8k_12")],
    )
    assert data.read_gsm8k(test)[1] == [data.Gold(0, "1024", "48/2 = 24\n#### 1,024", "0")]


def test_gsm8k_without_a_final_line(tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    write_table(path, [{"question": "a?", "answer": "24"}])
    with pytest.raises(UserError, match="row 1: no final line"):
        data.read_gsm8k(path)


def test_math_gold_states_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "math.jsonl"
    row = {"problem": "p", "solution": "s", "answer": "5", "subject": "Algebra", "level": 1, "unique_id": "test/1.json"}
    write_table(path, [row])
    questions, gold = data.read_math(path)
    assert questions == [Question(0, "p")]
    assert gold == [data.Gold(0, "5", "s The answer is: 5", "test/1.json")]
    assert list(data.gold_examples(questions, gold)) == [
        SupervisedExample(0, "Question: p\nAnswer:", "s The answer is: 5")
    ]


def test_olympicarena_keeps_what_the_paper_keeps(tmp_path: Path) -> None:
    path = tmp_path / "olympic.jsonl"
    base = {"prompt": "In.\n\nproblem:\np", "subject": "Math", "language": "EN", "answer_type": "NV", "answer": ["5"]}
    changes: list[dict[str, Any]] = [
        {},
        {"subject": "CS"},
        {"language": "ZH"},
        {"answer_type": "CODE"},
        {"answer_type": "OT"},
        {"answer": None},
        {"answer": ["1", "2"]},
    ]
    write_table(path, [{"id": f"Math_{number}", **base, **change} for number, change in enumerate(changes)])
    questions, gold = data.read_olympicarena(path)
    assert [question.id for question in questions] == ["Math_0", "Math_5", "Math_6"]
    assert questions[0].text == "In.\n\nQuestion: p\n\nAnswer:"
    assert [(known.id, known.answer) for known in gold] == [("Math_0", "5"), ("Math_6", "1, 2")]


def test_questions_of_any_file(tmp_path: Path) -> None:
    path = tmp_path / "any.jsonl"
    write_table(path, [{"question": "a"}, {"problem": "b", "id": "x"}, {"content": "Question: c\nAnswer:", "id": 7}])
    assert list(data.read_questions(path)) == [Question(0, "a"), Question("x", "b"), Question(7, "c")]


def test_builders_take_no_gold() -> None:
    """The records that builders are given have no field that could hold it."""
    for record in (Question, Answer, SampledAnswers, SupervisedExample, PreferencePair):
        assert {field.name for field in fields(record)} <= {
            "id",
            "text",
            "prompt",
            "response",
            "responses",
            "chosen",
            "rejected",
        }
