"""Text generation behind one protocol: what is asked of a model, and what comes back.

Every backend (local transformers, an OpenAI-compatible endpoint, a script) turns `Call`s into `Completion`s or
`CallFailure`s. A failure is a value of its own: it never becomes an answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from strop.errors import StropError
from strop.records.rows import Prompt, prompt_to_json
from strop.records.token_choices import TokenChoice
from strop.runs.budget import Price
from strop.runs.calls import Ability

CALL_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw a completion; temperature 0 is greedy.

    `seed` names the stream that samples are drawn from: the same call with the same seed and sample index gives the
    same text on a local model, whatever else is in its batch.

    `json_schema` (the JSON text of a schema) and `top_logprobs` (how many likeliest tokens to report at each place, 0
    for none) are wishes: a model that cannot grant one answers without it, so the answer must still be read with care.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int = 0
    json_schema: str = ""
    top_logprobs: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON; wishes that are not made are left out, so that they change no call's key."""
        wishes = {"json_schema": self.json_schema, "top_logprobs": self.top_logprobs}
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop),
            "seed": self.seed,
            **{name: value for name, value in wishes.items() if value},
        }


@dataclass(frozen=True, slots=True)
class Call:
    """One completion asked of one model: the unit that is stored, counted and paid for."""

    prompt: Prompt
    sampling: Sampling
    sample: int = 0

    def request(self) -> dict[str, Any]:
        """Return the call as JSON, complete enough to ask it again."""
        return {
            "prompt": prompt_to_json(self.prompt),
            "sampling": self.sampling.to_json(),
            "sample": self.sample,
        }

    def key(self, revision: str) -> str:
        """Return the store's key: a hash of the model revision, the prompt, the sampling and the sample index."""
        content = {"schema": CALL_SCHEMA, "revision": revision, **self.request()}
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class CallFailure:
    """A call that brought no answer: the class of the error, its message, and whether asking again may help.

    `attempts` are the failures before this one.
    """

    kind: str
    message: str
    transient: bool
    latency_s: float = field(default=0.0)
    attempts: tuple[CallFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered; the stop string is not part of `text`.

    Attributes:
        text: The answer.
        prompt_tokens: Tokens read, those from a server's cache among them. Samples of one request share its prompt:
            the first of them carries its tokens.
        completion_tokens: Tokens written.
        finish: ``stop``, or ``length`` where `max_tokens` or the context cut the answer.
        latency_s: Seconds that the answer took, failed attempts not among them.
        cached_tokens: How many of the prompt's tokens the server had in its cache.
        log_probs: The answer's tokens with their alternatives, where they were asked for and are to be had.
        attempts: What failed before the answer came.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: Literal["stop", "length"]
    latency_s: float
    cached_tokens: int = 0
    log_probs: tuple[TokenChoice, ...] | None = None
    attempts: tuple[CallFailure, ...] = ()


Outcome = Completion | CallFailure


class TextModel(Protocol):
    """A model that completes prompts."""

    @property
    def name(self) -> str:
        """What to call the model in a report."""

    @property
    def revision(self) -> str:
        """What identifies the exact model in call keys: a weights hash, or a server's base URL and model name."""

    @property
    def price(self) -> Price | None:
        """What its tokens cost; `FREE` on this machine, None where the price is not known."""

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield finished batches as ``(index into calls, outcome)``; an index comes at most once.

        Args:
            calls: What is asked, taken only as far as there is room for it. A local model cuts its batches from
                windows of this, so that they are the same whatever is `done`.
            done: Indices whose outcome the caller holds already, known once their call was taken: a batch of nothing
                else is skipped. Every other index comes exactly once.

        A batch is the unit of storage: the caller stores it before it asks for the next.
        """

    def close(self) -> None:
        """Release what the model holds: memory, connections, a server process."""


@runtime_checkable
class Inquiring(TextModel, Protocol):
    """A model that finds out what its server can do, once; who keeps a store reads and keeps the answers there."""

    @property
    def abilities(self) -> MutableMapping[str, Ability]:
        """What is known, by name."""


class Channel(Protocol):
    """A line to a server that takes one call after the other, while earlier ones are in flight."""

    @property
    def stop(self) -> StropError | None:
        """Why the server is not asked any more, once that is so."""

    @property
    def flying(self) -> int:
        """Calls that were sent and not collected; more than none while a call has no outcome."""

    def has_room(self) -> bool:
        """Say whether another call may be sent."""

    def send(self, index: int, call: Call) -> None:
        """Send a call; after a stop it is not sent and has no outcome."""

    def collect(self, *, wait: float) -> list[tuple[int, Outcome]]:
        """Return the outcomes that have landed; wait for one at most `wait` seconds."""


@runtime_checkable
class Rolling(TextModel, Protocol):
    """A model that many who ask one thing after the other can ask side by side: a server."""

    def channel(self) -> AbstractContextManager[Channel]:
        """Open a line to it."""
