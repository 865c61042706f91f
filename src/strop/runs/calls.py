"""What the call store keeps: answers, failed attempts, who used them; and how each stands in a row of a table."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from strop.records.token_choices import TokenChoice
from strop.runs.budget import Spent


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call with its answer.

    Attributes:
        key: The hash that identifies the call.
        model: What the model is called in reports.
        revision: What identifies the exact model.
        request: The call as JSON, complete enough to ask it again.
        sample: The index of the sample among repeats of one prompt.
        text: The answer.
        finish: Why the answer ended: ``stop`` or ``length``.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        latency_s: Seconds that the answer took.
        created: Unix time of the answer.
        cached_tokens: How many of the tokens read came from the server's cache.
        money: What the call cost at the price of its day; None where that was not known.
        log_probs: The answer's tokens and their alternatives, where they were asked for and given.
    """

    key: str
    model: str
    revision: str
    request: Mapping[str, Any]
    sample: int
    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    created: float = field(default_factory=time.time)
    cached_tokens: int = 0
    money: float | None = None
    log_probs: tuple[TokenChoice, ...] | None = None

    @property
    def spent(self) -> Spent:
        """What the call took."""
        tokens = self.prompt_tokens + self.completion_tokens
        return Spent(1, tokens, self.money or 0.0, int(self.money is None))


@dataclass(frozen=True, slots=True)
class FailedCall:
    """An attempt that brought no answer: the class of the error, its message, and whether asking again may help.

    `final` says that the call was given up after it; otherwise a later attempt was made.
    """

    key: str
    model: str
    revision: str
    request: Mapping[str, Any]
    sample: int
    kind: str
    message: str
    transient: bool
    latency_s: float
    created: float = field(default_factory=time.time)
    final: bool = True


@dataclass(frozen=True, slots=True)
class Ability:
    """Whether a server can do something, found out by asking it once."""

    able: bool
    detail: str


@dataclass(frozen=True, slots=True)
class FailureCount:
    """Attempts of one kind that failed at one model.

    Attributes:
        model: What the model is called in reports.
        kind: The class of the error.
        attempts: How many attempts failed so.
        given_up: How many of them were the last of their call.
        seconds: The time they took together; attempts run side by side.
    """

    model: str
    kind: str
    attempts: int
    given_up: int
    seconds: float


@dataclass(frozen=True, slots=True)
class User:
    """Who uses calls: one stage of one run, with the fingerprint that tells its settings apart."""

    run: str
    stage: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StoreSizes:
    """How much the store holds; `unused` counts the answers that no existing run refers to."""

    calls: int
    failures: int
    unused: int
    tokens: int
    bytes: int
    runs: int


CALL_COLUMNS = (
    "key, model, revision, request, sample, text, finish, prompt_tokens, completion_tokens, latency_s, created, "
    "cached_tokens, money, log_probs"
)
FAILURE_COLUMNS = "key, model, revision, request, sample, kind, message, transient, latency_s, created, final"


def marks(count: int) -> str:
    """Return as many question marks of a statement."""
    return ",".join("?" * count)


def _request(request: Mapping[str, Any]) -> str:
    return json.dumps(dict(request))


def storable(call: StoredCall) -> StoredCall:
    """Return the call with half surrogate pairs, which a server may send and UTF-8 lacks, as question marks."""
    try:
        call.text.encode("utf-8")
    except UnicodeEncodeError:
        return replace(call, text=call.text.encode("utf-8", "replace").decode("utf-8"))
    return call


def answer_row(call: StoredCall) -> tuple[Any, ...]:
    """Return the values of `CALL_COLUMNS`."""
    return (
        *(call.key, call.model, call.revision, _request(call.request), call.sample, call.text, call.finish),
        *(call.prompt_tokens, call.completion_tokens, call.latency_s, call.created, call.cached_tokens, call.money),
        None if call.log_probs is None else json.dumps([choice.to_json() for choice in call.log_probs]),
    )


def failure_row(call: FailedCall) -> tuple[Any, ...]:
    """Return the values of `FAILURE_COLUMNS`."""
    return (
        *(call.key, call.model, call.revision, _request(call.request), call.sample, call.kind, call.message),
        *(int(call.transient), call.latency_s, call.created, int(call.final)),
    )


def call_of(row: Sequence[Any]) -> StoredCall:
    """Read a row of `CALL_COLUMNS`."""
    fields = dict(zip(CALL_COLUMNS.split(", "), row, strict=True))
    choices = fields["log_probs"]
    log_probs = None if choices is None else tuple(map(TokenChoice.from_json, json.loads(choices)))
    return StoredCall(**fields | {"request": json.loads(fields["request"]), "log_probs": log_probs})


def failure_of(row: Sequence[Any]) -> FailedCall:
    """Read a row of `FAILURE_COLUMNS`."""
    fields = dict(zip(FAILURE_COLUMNS.split(", "), row, strict=True))
    flags = {name: bool(fields[name]) for name in ("transient", "final")}
    return FailedCall(**fields | flags | {"request": json.loads(fields["request"])})
