r"""A model that answers from a file: for tests, demonstrations and dry runs of a whole recipe.

The file is YAML, or JSONL with one rule a line (and ``{"default": ...}`` on a line of its own)::

    default: "I do not know."           # optional; a prompt without a reply is a failure otherwise
    rules:
      - prompt: "What is 2 + 2?"        # the whole prompt, or
        reply: "4"
      - pattern: "What is (\d+) \+"     # a regular expression that is searched for in it
        replies: ["4", "5"]             # sample i gets reply i, and the list starts over

The first rule that fits answers; words count as tokens. A conversation is matched as its turns,
``role: content``, one a line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from strop.errors import UserError, nearest
from strop.models.protocol import Call, CallFailure, Completion, Outcome
from strop.models.weights import file_hash
from strop.records.rows import Prompt
from strop.records.tables import read_table
from strop.runs.budget import FREE, Price

CALLS_PER_BATCH = 256
RULE_KEYS = ("prompt", "pattern", "reply", "replies")


@dataclass(frozen=True, slots=True)
class Rule:
    """Replies to the prompts that `pattern` matches; a rule for one prompt matches it whole."""

    pattern: re.Pattern[str]
    replies: tuple[str, ...]


class ScriptedModel:
    """A file of replies, asked like any other model."""

    def __init__(self, path: Path) -> None:
        """Read the script.

        Raises:
            UserError: It is missing or broken; the rule is named.
        """
        if not path.is_file():
            raise UserError("no such script of replies", value=str(path))
        self._path = path
        self._rules, self._default = _read_script(path)

    @property
    def name(self) -> str:
        """``scripted:`` and the file's name."""
        return f"scripted:{self._path.name}"

    @property
    def revision(self) -> str:
        """The hash of the script."""
        return file_hash(self._path)

    @property
    def price(self) -> Price | None:
        """Nothing: it only reads."""
        return FREE

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield batches of replies; see `TextModel.complete`."""
        numbered = enumerate(calls)
        while batch := list(islice(numbered, CALLS_PER_BATCH)):
            wanted = [(index, call) for index, call in batch if index not in done]
            if wanted:
                yield [(index, self._answer(call)) for index, call in wanted]

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, call: Call) -> Outcome:
        started = time.monotonic()
        prompt = prompt_text(call.prompt)
        rule = next((rule for rule in self._rules if rule.pattern.search(prompt)), None)
        replies = self._default if rule is None else rule.replies
        if not replies:
            return CallFailure("no_reply", f"{self._path} has no reply to this prompt and no default", transient=False)
        reply = replies[call.sample % len(replies)]
        ends = [reply.find(stop) for stop in call.sampling.stop if stop in reply]
        text = reply[: min(ends)] if ends else reply
        return Completion(text, len(prompt.split()), len(text.split()), "stop", time.monotonic() - started)


def prompt_text(prompt: Prompt) -> str:
    """Return what patterns are searched for in: the text, or the turns as ``role: content``, one a line."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


def _read_script(path: Path) -> tuple[list[Rule], tuple[str, ...]]:
    if path.suffix in (".yaml", ".yml", ".json"):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not valid YAML", why=str(error)) from None
        entries = _yaml_entries(path, content)
    else:
        entries = read_table(path)
    rules: list[Rule] = []
    default: tuple[str, ...] = ()
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, Mapping) and set(entry) == {"default"}:
            default = _texts(entry["default"], f"{path}, default")
        else:
            rules.append(_rule(entry, f"{path}, rule {number}"))
    return rules, default


def _yaml_entries(path: Path, content: Any) -> list[Any]:
    if not isinstance(content, dict) or not set(content) <= {"default", "rules"}:
        raise UserError(f"{path}: a script is a mapping", value=content, alternatives=["rules", "default"])
    default = [{"default": content["default"]}] if "default" in content else []
    return [*(content.get("rules") or ()), *default]


def _rule(entry: Any, where: str) -> Rule:
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}: a rule is a mapping", value=entry, alternatives=RULE_KEYS)
    for key in entry:
        if key not in RULE_KEYS:
            close = nearest(str(key), RULE_KEYS)
            hint = f"did you mean {close!r}?" if close else None
            raise UserError(f"{where}: unknown key", value=key, fix=hint, alternatives=RULE_KEYS)
    if ("prompt" in entry) == ("pattern" in entry) or ("reply" in entry) == ("replies" in entry):
        raise UserError(f"{where}: one of prompt and pattern, and one of reply and replies", value=sorted(entry))
    replies = _texts(entry.get("reply", entry.get("replies")), where)
    if "prompt" in entry:
        if not isinstance(entry["prompt"], str):
            raise UserError(f"{where}: 'prompt' must be text", value=entry["prompt"])
        return Rule(re.compile(rf"\A{re.escape(entry['prompt'])}\Z"), replies)
    try:
        return Rule(re.compile(str(entry["pattern"])), replies)
    except re.error as error:
        raise UserError(f"{where}: not a regular expression", value=entry["pattern"], why=str(error)) from None


def _texts(value: Any, where: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: texts are expected", value=value, fix="put numbers in quotes")
    return tuple(texts)
