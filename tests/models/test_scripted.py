"""Scripts of replies: which rule answers, samples by index, and broken scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.errors import UserError
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling
from strop.models.scripted import ScriptedModel
from strop.records.rows import Message, Prompt

YAML = r"""
default: none
rules:
  - prompt: "What is 2 + 2?"
    reply: "4"
  - pattern: 'What is (\d+) \+'
    replies: ["5", "6\n#### 6"]
  - pattern: "user: hello"
    reply: "hi"
"""
JSONL = '{"pattern": "2", "replies": ["a", "b"]}\n{"default": "c"}\n'


def answer(model: ScriptedModel, prompt: Prompt, *, sample: int = 0, stop: tuple[str, ...] = ()) -> Outcome:
    (((_, outcome),),) = model.complete([Call(prompt, Sampling(stop=stop), sample)])
    return outcome


def text(model: ScriptedModel, prompt: Prompt, *, sample: int = 0, stop: tuple[str, ...] = ()) -> str:
    outcome = answer(model, prompt, sample=sample, stop=stop)
    assert isinstance(outcome, Completion)
    return outcome.text


def test_exact_prompts_patterns_samples_messages_and_the_default(tmp_path: Path) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text(YAML)
    model = ScriptedModel(path)
    assert text(model, "What is 2 + 2?") == "4"
    assert [text(model, "What is 2 + 3?", sample=sample) for sample in range(3)] == ["5", "6\n#### 6", "5"]
    assert text(model, "What is 2 + 3?", sample=1, stop=("\n####",)) == "6"
    assert text(model, (Message("system", "be kind"), Message("user", "hello"))) == "hi"
    assert text(model, "What is 2 + 2? ") == "5"
    assert text(model, "?") == "none"


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text(JSONL)
    model = ScriptedModel(path)
    assert [text(model, "2"), text(model, "2", sample=1), text(model, "3")] == ["a", "b", "c"]


def test_a_prompt_without_reply_is_a_failure_that_asking_again_does_not_mend(tmp_path: Path) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text("rules: []")
    outcome = answer(ScriptedModel(path), "anything")
    assert isinstance(outcome, CallFailure)
    assert not outcome.transient


def test_the_revision_follows_the_contents(tmp_path: Path) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text("default: a")
    before = ScriptedModel(path).revision
    path.write_text("default: bc")
    assert ScriptedModel(path).revision != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "a script is a mapping"),
        ("rules: [{prompts: a, reply: b}]", "did you mean 'prompt'"),
        ("rules: [{prompt: a}]", "one of prompt and pattern, and one of reply and replies"),
        ("rules: [{prompt: a, pattern: b, reply: c}]", "one of prompt and pattern"),
        ("rules: [{pattern: '(', reply: c}]", "rule 1: not a regular expression"),
        ("rules: [{prompt: a, reply: 4}]", "put numbers in quotes"),
        ("rules: [{prompt: a, replies: []}]", "texts are expected"),
        ("rules: [{prompt: 4, reply: a}]", "'prompt' must be text"),
        ("rules: [", "not valid YAML"),
    ],
)
def test_broken_scripts(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        ScriptedModel(path)


def test_done_calls_are_not_answered_again(tmp_path: Path) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text("default: a")
    calls = [Call(str(number), Sampling()) for number in range(600)]
    batches = list(ScriptedModel(path).complete(calls, done=set(range(1, 599))))
    assert [[index for index, _ in batch] for batch in batches] == [[0], [599]]
