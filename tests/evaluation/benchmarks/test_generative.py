"""Replies: through the call store, read or counted as unread; the published scorer beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evaluation.benchmarks.made import MEDMCQA, MMLU, committed, item, task, yes_no

from strop.evaluation.benchmarks.generative import converses, read_reply_to, replies
from strop.evaluation.benchmarks.items import VERDICTS, Family, Item, Task
from strop.evaluation.benchmarks.prompts import reply_prompt
from strop.evaluation.benchmarks.scores import score
from strop.models.local import LocalModel
from strop.models.scripted import ScriptedModel
from strop.records.rows import Message
from strop.runs.store import CallStore

TASKS = [
    committed("mmlu", *MMLU),
    committed("medmcqa", *MEDMCQA),
    committed("medqa", "medqa.jsonl"),
    committed("pubmedqa", "pubmedqa.jsonl"),
    task(yes_no(0, "no"), yes_no(1, "yes"), family="dreaddit", layout="imhi"),
]


def scripted(folder: Path, text: str) -> ScriptedModel:
    path = folder / "script.yaml"
    path.write_text(text, encoding="utf-8")
    return ScriptedModel(path)


def test_replies_are_read_and_counted(tmp_path: Path, store: CallStore) -> None:
    """Four items: one answer, one empty reply, one that says nothing, and one that no reply comes to."""
    asked = task(*(item(number) for number in range(4)))
    rules = "".join(
        f"  - {{pattern: 'number {number}', reply: '{reply}'}}\n" for number, reply in enumerate(["A.", " ", "Well."])
    )
    found = replies(asked, scripted(tmp_path, f"rules:\n{rules}"), store=store)
    assert [one.status for one in found] == ["answered", "empty", "unparsed", "failed"]
    assert [one.correct for one in found] == [True, False, False, None]
    assert found[3].failure == "no_reply"
    assert found[0].to_row() == {
        "id": 0,
        "gold": "A",
        "label": "A",
        "status": "answered",
        "correct": True,
        "reply": "A.",
    }


def test_nothing_is_asked_twice(tmp_path: Path, store: CallStore) -> None:
    model = scripted(tmp_path, "default: B\n")
    first = replies(task(item(0), item(1)), model, store=store)
    assert store.ledger.spent.calls == 2
    assert replies(task(item(0), item(1), item(2)), model, store=store)[:2] == first
    assert store.ledger.spent.calls == 3


@pytest.mark.parametrize("asked", TASKS, ids=[task.name for task in TASKS])
def test_an_empty_reply_is_wrong_everywhere(asked: Task) -> None:
    scores = score([read_reply_to(asked, each, "") for each in asked.items], asked.labels)
    assert scores.accuracy is not None
    assert (scores.accuracy.estimate, scores.empty, scores.unparsed) == (0.0, 1.0, 0.0)
    assert sum(scores.predicted.values()) == 0


@pytest.mark.parametrize("asked", TASKS[:3], ids=[task.name for task in TASKS[:3]])
def test_the_published_scorer_calls_empty_replies_right(asked: Task) -> None:
    found = [read_reply_to(asked, each, "", published=True) for each in asked.items]
    assert score(found, asked.labels).published_accuracy == 1.0


@pytest.mark.parametrize(
    ("reply", "layout", "verdict"),
    [
        ("B", "choices", True),
        ("The correct option is B.", "choices", False),  # its first letter is T
        ("B. two", "choices", True),
        ("two", "choices", True),
        ("one or two", "choices", True),  # holds the right text
        ("ABCD", "medmcqa", True),
        ("ABCD", "choices", False),
    ],
)
def test_the_published_scorer_of_options(reply: str, layout: str, verdict: bool) -> None:
    """As ``MedQA_eval.py`` at efb469b does it, defects included."""
    asked = task(item(0, "B"), layout=layout)
    assert read_reply_to(asked, asked.items[0], reply, published=True).published is verdict


@pytest.mark.parametrize(
    ("reply", "gold", "verdict"),
    [
        ("It is not known", "no", True),
        ("Yes", "yes", True),
        ("Yes, I know", "yes", False),
        ("without explanation. No", "no", True),
        ("", "no", False),
    ],
)
def test_the_published_scorer_of_pubmedqa(reply: str, gold: str, verdict: bool) -> None:
    asked = task(Item(0, "Is it?", VERDICTS, VERDICTS, gold), family="verdict", layout="pubmedqa")
    assert read_reply_to(asked, asked.items[0], reply, published=True).published is verdict


def test_the_published_scorer_has_no_rule_for_imhi() -> None:
    assert read_reply_to(TASKS[4], TASKS[4].items[0], "yes", published=True).published is None


@pytest.mark.parametrize(
    ("family", "expected"),
    [("choice", "A. one\nB. two"), ("dreaddit", "yes or no."), ("irf", "a post of ours"), ("cams", "a post of ours")],
)
def test_a_prompt_is_one_message_of_the_user(family: Family, expected: str) -> None:
    asked = task(item(0) if family == "choice" else yes_no(0, "yes"), family=family)
    (message,) = reply_prompt(asked, asked.items[0])
    assert isinstance(message, Message)
    assert message.role == "user"
    assert expected in message.content


def test_a_model_without_a_template_continues_the_plain_prompt(plain_model: LocalModel, store: CallStore) -> None:
    assert not converses(plain_model)
    found = replies(task(item(0), item(1)), plain_model, store=store, max_tokens=4)
    assert [one.id for one in found] == [0, 1]
    assert all(one.reply is not None and "\nQuestion:" not in one.reply for one in found)
