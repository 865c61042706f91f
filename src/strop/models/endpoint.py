"""An OpenAI-compatible server: conversations through chat completions, plain prompts through completions.

Requests run in threads, a bounded number at a time. What may pass (429, 5xx, timeouts) is repeated a bounded number of
times by the `openai` client, which waits as long as Retry-After says. A server that is down, and an answer that
says that every other request will fail too, stop the run after what is in flight has come in.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Literal

from strop.errors import Stopped, StropError, UserError
from strop.models.protocol import Call, CallFailure, Completion, Outcome
from strop.models.render import as_messages, read_completion
from strop.models.spec import OPENAI_URL, ModelSpec
from strop.records.rows import prompt_to_json
from strop.runs.budget import Price

if TYPE_CHECKING:
    from openai import OpenAI

UNREACHABLE = "unreachable"
EVERY_REQUEST = ("authentication", "permission", "not_found", "no_usage")
"""Kinds of failure that any other request would meet as well."""
FAILURES_IN_A_ROW = 20
"""After so many requests in a row that failed after all repeats, the server counts as down."""


class EndpointModel:
    """A model behind a URL."""

    def __init__(self, spec: ModelSpec, *, base_url: str = "", name: str = "") -> None:
        """Prepare the client; nothing is sent.

        Args:
            spec: An endpoint, or the vLLM model whose server is at `base_url`.
            base_url: Where the server is, if not where `spec` says.
            name: What the model is called in reports and call keys, if not as in `spec`.
        """
        self._spec = spec
        self._base_url = base_url or spec.base_url
        self._name = name or spec.model
        self._key = os.environ.get(spec.api_key_env, "") if spec.api_key_env else ""
        self._client = self._open_client()

    def _open_client(self) -> OpenAI:
        from openai import OpenAI, omit

        # The client would read these from the environment and send them to any URL.
        own = {} if self._base_url == OPENAI_URL else {"OpenAI-Organization": omit, "OpenAI-Project": omit}
        headers: Any = own
        return OpenAI(
            default_headers=headers,
            base_url=self._base_url,
            # The client wants some key; an unnamed one must not be taken from the environment and sent anywhere.
            api_key=self._key or "none",
            timeout=self._spec.timeout,
            max_retries=self._spec.retries,
        )

    @property
    def name(self) -> str:
        """The model as the configuration names it."""
        return self._name

    @property
    def revision(self) -> str:
        """Base URL and name, and the treatment of plain prompts where it is not the usual one."""
        chat = "" if self._spec.chat == "auto" else f"+chat-{self._spec.chat}"
        return f"{self._name if self._spec.kind == 'vllm' else f'{self._base_url}#{self._spec.target}'}{chat}"

    @property
    def price(self) -> Price | None:
        """Not known."""
        return None

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield what has come in, as it comes in; see `TextModel.complete`.

        Raises:
            Stopped: The server cannot be reached, or nothing but failures comes from it.
            UserError: The server refuses the key or does not know the model.
        """
        waiting = ((index, call) for index, call in enumerate(calls) if index not in done)
        flying: dict[Future[Outcome], int] = {}
        stop: StropError | None = None
        failed_in_a_row = 0
        with ThreadPoolExecutor(self._spec.max_concurrency, thread_name_prefix="strop-endpoint") as threads:
            while True:
                while stop is None and len(flying) < self._spec.max_concurrency:
                    following = next(waiting, None)
                    if following is None:
                        break
                    flying[threads.submit(self._answer, following[1])] = following[0]
                if not flying:
                    break
                landed, _ = wait(flying, return_when=FIRST_COMPLETED)
                batch = sorted((flying.pop(future), future.result()) for future in landed)
                yield batch
                for _, outcome in batch:
                    failed_in_a_row = failed_in_a_row + 1 if isinstance(outcome, CallFailure) else 0
                    stop = stop or self._stop_for(outcome, failed_in_a_row)
        if stop is not None:
            raise stop

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _stop_for(self, outcome: Outcome, failed_in_a_row: int) -> StropError | None:
        if not isinstance(outcome, CallFailure):
            return None
        if outcome.kind == UNREACHABLE:
            return Stopped(
                "the model's server cannot be reached",
                value=self._base_url,
                why=f"{outcome.message}, after {self._spec.retries + 1} attempts",
                fix="start it, or correct the URL, and run the same command again: the answered calls are kept",
            )
        if outcome.kind in EVERY_REQUEST:
            return UserError(
                f"the server at {self._base_url} refuses every request ({outcome.kind})",
                value=self._spec.target,
                why=outcome.message,
                fix=f"check the model's name, {self._spec.api_key_env or 'api_key_env'}, and chat: on for a server "
                "that has chat completions only",
            )
        if failed_in_a_row >= FAILURES_IN_A_ROW and outcome.transient:
            return Stopped(
                f"{failed_in_a_row} requests in a row failed at {self._base_url} ({outcome.kind})",
                why=outcome.message,
                fix="run the same command again when the server is well: the answered calls are kept",
            )
        return None

    def _answer(self, call: Call) -> Outcome:
        started = time.monotonic()
        try:
            text, finish, usage = self._request(call)
        except Exception as error:  # every error of a request becomes a recorded failure of that call
            return self._failure(error, time.monotonic() - started)
        return Completion(
            text=read_completion(text, call.prompt, chat=self._spec.chat),
            prompt_tokens=int(usage.prompt_tokens),
            completion_tokens=int(usage.completion_tokens),
            finish=finish,
            latency_s=time.monotonic() - started,
        )

    def _request(self, call: Call) -> tuple[str, Literal["stop", "length"], Any]:
        sampling = call.sampling
        # `openai:` names want the newer field, which older servers do not know.
        limit = "max_completion_tokens" if self._base_url == OPENAI_URL else "max_tokens"
        options: dict[str, Any] = {
            "model": self._spec.target,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request_seed(call),
            limit: sampling.max_tokens,
        }
        if sampling.stop:
            options["stop"] = list(sampling.stop)
        messages = as_messages(call.prompt, chat=self._spec.chat)
        if messages is None:
            reply: Any = self._client.completions.create(prompt=str(call.prompt), **options)
        else:
            turns: Any = prompt_to_json(messages)
            reply = self._client.chat.completions.create(messages=turns, **options)
        return _read(reply, chat=messages is not None)

    def _failure(self, error: Exception, latency: float) -> CallFailure:
        kind, transient = classify(error)
        message = " ".join(str(error).split())
        cause = error.__cause__
        if kind == UNREACHABLE and cause is not None:
            message = f"{message} ({' '.join(str(cause).split())})"
        return CallFailure(kind, self._without_key(message), transient, latency)

    def _without_key(self, message: str) -> str:
        return message.replace(self._key, "***") if self._key else message


class MalformedReplyError(Exception):
    """A reply that is not what the protocol promises."""


class UncountedReplyError(Exception):
    """A reply without its number of tokens."""


class WithheldReplyError(Exception):
    """A reply that the server cut for its content."""


def classify(error: Exception) -> tuple[str, bool]:
    """Return the kind of a request's failure, and whether asking again later may help."""
    import openai

    kinds: tuple[tuple[type[Exception], str, bool], ...] = (
        (openai.APITimeoutError, "timeout", True),
        (openai.APIConnectionError, UNREACHABLE, True),
        (openai.RateLimitError, "rate_limit", True),
        (openai.InternalServerError, "server", True),
        (openai.AuthenticationError, "authentication", False),
        (openai.PermissionDeniedError, "permission", False),
        (openai.NotFoundError, "not_found", False),
        (openai.ConflictError, "conflict", True),
        (openai.APIStatusError, "request", False),
        (UncountedReplyError, "no_usage", False),
        (WithheldReplyError, "content_filter", False),
        (StropError, "prompt", False),
    )
    for class_, kind, transient in kinds:
        if isinstance(error, class_):
            return kind, transient
    return "malformed", True


def request_seed(call: Call) -> int:
    """Return the seed sent with a call: 31 bits that differ between samples, so that repeats are not copies."""
    digest = hashlib.sha256(f"{call.sampling.seed}\0{call.sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _read(reply: Any, *, chat: bool) -> tuple[str, Literal["stop", "length"], Any]:
    choices = getattr(reply, "choices", None)
    usage = getattr(reply, "usage", None)
    if not choices:
        raise MalformedReplyError(f"a reply without choices: {str(reply)[:200]!r}")
    text = choices[0].message.content if chat else choices[0].text
    finish = choices[0].finish_reason
    if finish == "content_filter":
        raise WithheldReplyError("the server withheld the reply: content_filter")
    if not isinstance(text, str) or finish not in ("stop", "length"):
        raise MalformedReplyError(f"a reply with text {text!r} and finish reason {finish!r}")
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        raise UncountedReplyError("the server's replies carry no token counts (usage), which budgets rest on")
    return text, finish, usage
