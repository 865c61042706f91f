"""The files of Weak-to-Strong Reasoning as published: rows in, rows out (``docs/formats.md``).

A training set is a JSON array of ``{"id", "content", "output"}``, answers are JSON lines of ``{"id", "prompt",
"response"}``, pairs hold ``output: [chosen, rejected]``. Fields that hold gold are never read here but by the readers
of raw data sets, which return questions and gold as two tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.methods.weak_to_strong.demonstrations import question_of
from strop.methods.weak_to_strong.prompts import olympicarena_prompt, zero_shot_prompt
from strop.records import (
    Answer,
    Identifier,
    PreferencePair,
    Prompt,
    Question,
    SampledAnswers,
    SupervisedExample,
)
from strop.records.rows import identifier, prompt_from_json
from strop.records.tables import iter_table
from strop.records.training_forms import plain_prompt

Row = Mapping[str, Any]

CALCULATOR_MARK = re.compile(r"<<.*?>>")
GSM8K_ANSWER = re.compile(r"#### (.*)\Z")
OLYMPICARENA_SUBJECTS = ("Math", "Physics", "Chemistry", "Biology", "Geography", "Astronomy")
OLYMPICARENA_LEFT_OUT = ("CODE", "OT")

RESPONSE_FIELDS = (("prompt", "response"), ("content", "output"), ("prompt", "completion"))
"""The pairs of names under which a row may hold a prompt and a response to it."""


def _text(value: Any, name: str) -> str:
    """Return text, or the content of a conversational completion (one assistant message)."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], Mapping):
        content = value[0].get("content")
        if isinstance(content, str):
            return content
    raise UserError(f"field {name!r} must be text or one assistant message", value=value)


def _prompt_and_response(row: Row) -> tuple[Prompt, str]:
    for prompt, response in RESPONSE_FIELDS:
        if prompt in row and response in row:
            return prompt_from_json(row[prompt]), _text(row[response], response)
    raise UserError(
        "a row must hold a prompt and a response to it",
        value=sorted(row),
        fix="map its fields, for example --fields prompt=question --fields response=answer",
        alternatives=[" and ".join(names) for names in RESPONSE_FIELDS],
    )


def answer_from_row(row: Row) -> Answer:
    """Read an answer from ``prompt/response``, ``content/output`` or ``prompt/completion``, told by the field names.

    Raises:
        UserError: The row has no id, or none of these pairs of fields.
    """
    return Answer(identifier(row), *_prompt_and_response(row))


def supervised_from_row(row: Row) -> SupervisedExample:
    """Read a training example; see `answer_from_row`."""
    return SupervisedExample(identifier(row), *_prompt_and_response(row))


def pair_from_row(row: Row) -> PreferencePair:
    """Read a pair from the published two-element ``output``, or from ``chosen`` and ``rejected`` (text or messages).

    The prompt is ``prompt``, or ``instruction`` followed by ``input`` where that is not empty.

    Raises:
        UserError: The row has no id, no prompt, or no two responses.
    """
    output = row.get("output")
    if "chosen" in row and "rejected" in row:
        chosen, rejected = _text(row["chosen"], "chosen"), _text(row["rejected"], "rejected")
    elif isinstance(output, (list, tuple)) and len(output) == 2:
        chosen, rejected = _text(output[0], "output"), _text(output[1], "output")
    else:
        raise UserError(
            "a pair needs two responses",
            value=sorted(row),
            alternatives=("output: [chosen, rejected]", "chosen and rejected"),
        )
    return PreferencePair(identifier(row), _prompt_of_pair(row), chosen, rejected)


def _prompt_of_pair(row: Row) -> Prompt:
    if "prompt" in row:
        return prompt_from_json(row["prompt"])
    instruction, given = row.get("instruction"), row.get("input") or ""
    if not isinstance(instruction, str) or not isinstance(given, str):
        raise UserError("a pair needs a prompt", value=sorted(row), alternatives=("prompt", "instruction"))
    return f"{instruction}\n{given}" if given else instruction


def read_answers(path: Path, *, fields: Mapping[str, str] | None = None) -> Iterator[Answer]:
    """Yield the answers of a file one by one."""
    return (answer_from_row(row) for row in iter_table(path, fields=fields))


def read_questions(path: Path, *, fields: Mapping[str, str] | None = None) -> Iterator[Question]:
    """Yield the questions of any file of the method: raw data, test files, or rows with a zero-shot prompt.

    A row without an id has the number of its line, from 0. Whatever else a row holds, gold among it, is left behind.

    Raises:
        UserError: A row has neither ``question`` nor ``problem`` nor a zero-shot prompt.
    """
    for number, row in enumerate(iter_table(path, fields=fields)):
        text = row.get("question", row.get("problem"))
        if not isinstance(text, str):
            prompt = row.get("prompt", row.get("content", row.get("instruction")))
            if prompt is None:
                names = ("question", "problem", "prompt", "content", "instruction")
                raise UserError(f"{path}, row {number + 1}: no question", value=sorted(row), alternatives=names)
            text = question_of(prompt_from_json(prompt))
        yield Question(identifier(row) if "id" in row else number, text)


def read_samples(path: Path, *, fields: Mapping[str, str] | None = None) -> Iterator[SampledAnswers]:
    """Yield the sampled answers of a file (``id, prompt, responses``) one by one."""
    return (SampledAnswers.from_row(row) for row in iter_table(path, fields=fields))


def read_pairs(path: Path, *, fields: Mapping[str, str] | None = None) -> Iterator[PreferencePair]:
    """Yield the pairs of a file one by one."""
    return (pair_from_row(row) for row in iter_table(path, fields=fields))


def published_example(example: SupervisedExample) -> dict[str, Any]:
    """Return ``{"id", "content", "output"}``, the published form of a training example."""
    return {"id": example.id, "content": plain_prompt(example.prompt), "output": example.response}


def published_pair(pair: PreferencePair) -> dict[str, Any]:
    """Return ``{"id", "instruction", "input", "output": [chosen, rejected]}``, the published form of a pair."""
    return {
        "id": pair.id,
        "instruction": plain_prompt(pair.prompt),
        "input": "",
        "output": [pair.chosen, pair.rejected],
    }


@dataclass(frozen=True, slots=True)
class Gold:
    """What a data set says about one question; kept apart from `Question`, read by reports and gold training only."""

    id: Identifier
    answer: str
    solution: str
    source: str

    def to_row(self) -> dict[str, Any]:
        """Return ``{"id", "answer", "solution", "source"}``."""
        return {"id": self.id, "answer": self.answer, "solution": self.solution, "source": self.source}


QuestionsAndGold = tuple[list[Question], list[Gold]]


def strip_calculator_marks(text: str) -> str:
    """Return a GSM8K solution without its calculator marks ``<<48/2=24>>``."""
    return CALCULATOR_MARK.sub("", text)


def read_gsm8k(path: Path) -> QuestionsAndGold:
    """Read GSM8K, raw (``question, answer``) or as a test file (``question, solution, answer``).

    Questions are numbered by line from 0, as in all published files; the data set's own id is the gold's `source`.

    Raises:
        UserError: A raw answer has no final line ``#### value``.
    """
    questions, gold = [], []
    for number, row in enumerate(iter_table(path)):
        questions.append(Question(number, _given(row, "question", path)))
        solution = _given(row, "solution" if "solution" in row else "answer", path)
        stated = GSM8K_ANSWER.search(solution)
        if "solution" not in row and stated is None:
            raise UserError(f"{path}, row {number + 1}: no final line '#### value'", value=solution[-60:])
        answer = _given(row, "answer", path) if "solution" in row or stated is None else stated[1]
        gold.append(Gold(number, answer, strip_calculator_marks(solution), str(row.get("id", number))))
    return questions, gold


def read_math(path: Path) -> QuestionsAndGold:
    """Read MATH, raw (``problem, solution, answer``) or as a test file (``question, solution, answer``).

    Questions are numbered by line from 0. The gold solution ends in `` The answer is: answer``, as published.
    """
    questions, gold = [], []
    for number, row in enumerate(iter_table(path)):
        questions.append(Question(number, _given(row, "problem" if "problem" in row else "question", path)))
        answer = _given(row, "answer", path)
        solution = f"{_given(row, 'solution', path)} The answer is: {answer}"
        gold.append(Gold(number, answer, solution, str(row.get("unique_id", number))))
    return questions, gold


def read_olympicarena(path: Path) -> QuestionsAndGold:
    """Read OlympicArena's rows of the six published subjects, English, neither code nor open-ended.

    A question's text is its zero-shot prompt. There is gold only for rows that state an answer (the public test rows
    do not); the answers of a question with several parts are joined by a comma.
    """
    questions, gold = [], []
    for row in iter_table(path):
        if row.get("subject") not in OLYMPICARENA_SUBJECTS or row.get("language") != "EN":
            continue
        if row.get("answer_type") in OLYMPICARENA_LEFT_OUT:
            continue
        questions.append(Question(identifier(row), olympicarena_prompt(_given(row, "prompt", path))))
        stated = row.get("answer")
        if stated:
            answer = stated if isinstance(stated, str) else ", ".join(map(str, stated))
            gold.append(Gold(identifier(row), answer, str(row.get("solution") or ""), str(row["subject"])))
    return questions, gold


def _given(row: Row, name: str, path: Path) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise UserError(f"{path}: a row has no text field {name!r}", value=sorted(row))
    return value


def gold_examples(questions: Iterable[Question], gold: Iterable[Gold]) -> Iterator[SupervisedExample]:
    """Yield the gold training set: what trains the weak model, and the strong ceiling.

    Args:
        questions: Questions in the order of their gold.
        gold: One entry per question.
    """
    for question, known in zip(questions, gold, strict=True):
        if question.id != known.id:
            raise UserError("questions and gold are in different order", value=(question.id, known.id))
        yield SupervisedExample(question.id, zero_shot_prompt(question.text), known.solution)
