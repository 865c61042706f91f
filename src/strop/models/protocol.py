"""Text generation behind one protocol: what is asked of a model, and what comes back.

Every backend (local transformers, an OpenAI-compatible endpoint, a script) turns `Call`s into `Completion`s or
`CallFailure`s. A failure is a value of its own: it never becomes an answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from strop.records.rows import Prompt, prompt_to_json

CALL_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw a completion; temperature 0 is greedy.

    `seed` names the stream that samples are drawn from: the same call with the same seed and sample index gives the
    same text on a local model, whatever else is in its batch.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int = 0


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
            "sampling": asdict(self.sampling) | {"stop": list(self.sampling.stop)},
            "sample": self.sample,
        }

    def key(self, revision: str) -> str:
        """Return the store's key: a hash of the model revision, the prompt, the sampling and the sample index."""
        content = {"schema": CALL_SCHEMA, "revision": revision, **self.request()}
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered; the stop string is not part of `text`."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: Literal["stop", "length"]
    latency_s: float


@dataclass(frozen=True, slots=True)
class CallFailure:
    """A call that brought no answer: the class of the error, its message, and whether asking again may help."""

    kind: str
    message: str
    transient: bool
    latency_s: float = field(default=0.0)


Outcome = Completion | CallFailure


class TextModel(Protocol):
    """A model that completes prompts."""

    @property
    def name(self) -> str:
        """What to call the model in a report."""

    @property
    def revision(self) -> str:
        """What identifies the exact model in call keys: a weights hash, or a server's base URL and model name."""

    def complete(
        self, calls: Sequence[Call], *, done: Collection[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield finished batches as ``(index into calls, outcome)``; an index comes at most once.

        Args:
            calls: What is asked. Batches are cut from the whole of it, so that they are the same whatever is `done`.
            done: Indices whose outcome the caller holds already: a batch of nothing else is skipped. Every other
                index comes exactly once.

        A batch is the unit of storage: the caller stores it before it asks for the next.
        """

    def close(self) -> None:
        """Release what the model holds: memory, connections, a server process."""
