"""What a server can do beside answering: found out by one tiny request each, because many accept a wish and ignore it.

Known by name: ``chat.n`` (several samples a request), ``chat.json_schema``, ``chat.top_logprobs=5``, and the same with
``completions``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from strop.models.endpoints.replies import Choice, Reply
from strop.models.protocol import Sampling
from strop.runs.calls import Ability

PROBE_PROMPT = "Here is a long story about the sea. Once upon a time there was"
"""Open at its end, so that answers run into the limit and their tokens are known."""
PROBE_TOKENS = 64
PROBE_SCHEMA = {
    "type": "object",
    "properties": {"calm": {"type": "boolean"}},
    "required": ["calm"],
    "additionalProperties": False,
}
TWO = 2

Abilities = Mapping[str, Ability]


def path_name(*, chat: bool) -> str:
    """Return the first part of an ability's name."""
    return "chat" if chat else "completions"


def wishes_of(sampling: Sampling, *, chat: bool, repeats: bool) -> list[str]:
    """Return the abilities that a call would use.

    Args:
        sampling: How it is drawn.
        chat: Whether it goes to chat completions.
        repeats: Whether other samples of the same prompt could share its request.
    """
    path = path_name(chat=chat)
    names = {
        f"{path}.n": repeats,
        f"{path}.json_schema": bool(sampling.json_schema),
        f"{path}.top_logprobs={sampling.top_logprobs}": sampling.top_logprobs > 0,
    }
    return [name for name, wished in names.items() if wished]


def probe_fields(name: str) -> dict[str, Any]:
    """Return the fields of the request that finds out about an ability, beside prompt and model."""
    path, _, wish = name.partition(".")
    fields: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    if wish == "n":
        return fields | {"n": TWO}
    if wish == "json_schema":
        return fields | schema_fields(json.dumps(PROBE_SCHEMA))
    return fields | log_prob_fields(int(wish.partition("=")[2]), chat=path == "chat")


def schema_fields(schema: str) -> dict[str, Any]:
    """Return the fields that ask for an answer of a schema."""
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": json.loads(schema)},
        }
    }


def log_prob_fields(count: int, *, chat: bool) -> dict[str, Any]:
    """Return the fields that ask for the likeliest tokens at each place."""
    return {"logprobs": True, "top_logprobs": count} if chat else {"logprobs": count}


def judged(name: str, reply: Reply) -> Ability:
    """Say from the reply to its probe whether a server has an ability."""
    wish = name.partition(".")[2]
    if wish == "n":
        return _has_samples(reply)
    first = reply.choices.get(0)
    if not isinstance(first, Choice):
        return Ability(False, f"no answer: {first or 'no choice 0'}")
    if wish == "json_schema":
        return _has_schema(first)
    if first.log_probs is None or not all(choice.top for choice in first.log_probs):
        return Ability(False, "the reply has no log-probs")
    return Ability(True, f"{len(first.log_probs)} tokens with log-probs")


def refused(why: str) -> Ability:
    """Return the ability of a server that refuses the wish."""
    return Ability(False, why[:300])


def _has_samples(reply: Reply) -> Ability:
    choices = [choice for choice in reply.choices.values() if isinstance(choice, Choice)]
    texts = [choice.text for choice in choices]
    if len(texts) != TWO or set(reply.choices) != {0, 1}:
        return Ability(False, f"{len(texts)} choices where {TWO} were asked for")
    if texts[0] == texts[1]:
        return Ability(False, "the choices are copies of each other")
    # llama.cpp's server counts the tokens of the first choice alone; budgets rest on all of them.
    fewest = sum(PROBE_TOKENS if choice.finish == "length" else bool(choice.text) for choice in choices)
    if reply.usage.completion < fewest:
        return Ability(False, f"it counts {reply.usage.completion} tokens for choices of {fewest} or more")
    return Ability(True, f"{TWO} different choices")


def _has_schema(choice: Choice) -> Ability:
    try:
        value = json.loads(choice.text)
    except ValueError:
        return Ability(False, f"the reply is no JSON: {choice.text[:80]!r}")
    if not isinstance(value, dict) or not isinstance(value.get("calm"), bool):
        return Ability(False, f"the reply does not keep to the schema: {choice.text[:80]!r}")
    return Ability(True, "the reply keeps to the schema")
