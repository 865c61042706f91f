"""What a server makes of a prompt, as far as it can be asked: its tokens, its greedy text, its log-probabilities.

llama.cpp renders with ``/apply-template`` and tokenizes with ``/tokenize``; vLLM does both with ``/tokenize``. Any
other server tells only how many tokens it read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from strop.errors import UserError
from strop.models.protocol import Sampling
from strop.models.render import as_messages
from strop.models.spec import OPENAI_URL, ModelSpec, parse_model
from strop.records.rows import Message, Prompt, prompt_to_json

if TYPE_CHECKING:
    import httpx2

ServerKind = Literal["llama.cpp", "vllm", "other"]
ABSENT = (404, 405, 501)
"""Statuses of a path that a server does not have."""
REFUSED_KEY = (401, 403)
GREEDY = Sampling()
MESSAGE_SHOWN = 300
PROBE = (Message("user", "Hello"),)


@dataclass(frozen=True, slots=True)
class Token:
    """A token's id and the text that stands for it."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class ServedText:
    """A greedy completion.

    Attributes:
        text: What was written.
        stopped: Whether the model ended it, not the limit.
        prompt_tokens: How many tokens the server says that it read.
        ids: The tokens written, where the server tells all of them.
        log_probs: Their log-probabilities, where the server tells all of them.
    """

    text: str
    stopped: bool
    prompt_tokens: int | None
    ids: tuple[int, ...] | None
    log_probs: tuple[float, ...] | None


class ServedModel:
    """A model behind an OpenAI-compatible URL, asked for more than its answers."""

    def __init__(self, spec: ModelSpec) -> None:
        """Take the URL, the name and the key of `spec`; nothing is sent."""
        import httpx2

        self.spec = spec
        self._key = os.environ.get(spec.api_key_env, "") if spec.api_key_env else ""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx2.Client(headers=headers, timeout=spec.timeout)
        self._root = spec.base_url.removesuffix("/v1")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @cached_property
    def kind(self) -> ServerKind:
        """Which server it is, told by what it can do.

        Raises:
            UserError: The server cannot be reached, or refuses the key.
        """
        if "prompt" in self._found(f"{self._root}/apply-template", {"messages": prompt_to_json(PROBE)}):
            return "llama.cpp"
        if isinstance(self._found(f"{self._root}/tokenize", self._named(prompt="Hello")).get("tokens"), list):
            return "vllm"
        return "other"

    @cached_property
    def chat_template(self) -> str | None:
        """The chat template, where the server shows it."""
        if self.kind != "llama.cpp":
            return None
        template = self._object(self._send("GET", f"{self._root}/props")).get("chat_template")
        return template if isinstance(template, str) and template else None

    def prompt_tokens(self, prompt: Prompt) -> list[Token] | None:
        """Return the tokens that the server reads for `prompt`, or None where it does not tell.

        Raises:
            UserError: The server refuses the prompt, the key or the model, or cannot be reached.
        """
        messages = as_messages(prompt, chat=self.spec.chat)
        if self.kind == "llama.cpp":
            text = prompt
            if messages is not None:
                text = self._asked(f"{self._root}/apply-template", {"messages": prompt_to_json(messages)})["prompt"]
            # As the server itself tokenizes what it completes.
            body = {"content": text, "add_special": True, "parse_special": True, "with_pieces": True}
            pieces = self._asked(f"{self._root}/tokenize", body)["tokens"]
            return [Token(int(piece["id"]), _piece_text(piece["piece"])) for piece in pieces]
        if self.kind == "vllm":
            content = {"prompt": prompt} if messages is None else {"messages": prompt_to_json(messages)}
            reply = self._asked(f"{self._root}/tokenize", self._named(**content, return_token_strs=True))
            ids = reply["tokens"]
            texts = reply.get("token_strs") or [""] * len(ids)
            return [Token(int(number), str(text)) for number, text in zip(ids, texts, strict=True)]
        return None

    def greedy(self, prompt: Prompt, *, max_tokens: int) -> ServedText | None:
        """Return the completion at temperature 0, or None where the server does not complete plain text.

        Raises:
            UserError: The server refuses the prompt, the key or the model, cannot be reached, or its reply is not
                what the protocol promises.
        """
        messages = as_messages(prompt, chat=self.spec.chat)
        path = "completions" if messages is None else "chat/completions"
        content = {"prompt": prompt} if messages is None else {"messages": prompt_to_json(messages)}
        limit = "max_completion_tokens" if self.spec.base_url == OPENAI_URL else "max_tokens"
        body = self._named(**content, temperature=GREEDY.temperature, top_p=GREEDY.top_p, **{limit: max_tokens})
        wishes: dict[str, Any] = {"logprobs": 1} if messages is None else {"logprobs": True, "top_logprobs": 1}
        if self.kind == "vllm":
            wishes["return_token_ids"] = True
        url = f"{self.spec.base_url}/{path}"
        reply = self._send("POST", url, body | wishes)
        if reply.status_code in (400, 422):
            reply = self._send("POST", url, body)
        if messages is None and reply.status_code in ABSENT:
            return None
        return _read_text(self._object(reply), chat=messages is not None)

    def names(self) -> list[str]:
        """Return the names of the server's models.

        Raises:
            UserError: The server does not list them, or cannot be reached.
        """
        listed = self._object(self._send("GET", f"{self.spec.base_url}/models")).get("data")
        return [str(model["id"]) for model in listed or () if isinstance(model, dict) and "id" in model]

    def _named(self, **content: Any) -> dict[str, Any]:
        return {"model": self.spec.target, **content}

    def _found(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask for what a server may lack; an empty object where it does."""
        reply = self._send("POST", url, body)
        try:
            content = reply.json() if reply.is_success else {}
        except ValueError:
            content = {}
        return content if isinstance(content, dict) else {}

    def _asked(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._object(self._send("POST", url, body))

    def _send(self, method: str, url: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        import httpx2

        try:
            reply = self._client.request(method, url, json=body)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise UserError(
                "the server cannot be reached",
                value=self.spec.base_url,
                why=f"{type(error).__name__}: {error}",
                fix="start it, or correct the URL: http://HOST:PORT/v1#NAME",
            ) from error
        if reply.status_code in REFUSED_KEY:
            raise UserError(
                f"the server refuses the key (status {reply.status_code})",
                value=self.spec.base_url,
                fix="name the environment variable that holds it with --api-key-env",
            )
        return reply

    def _object(self, reply: httpx2.Response) -> dict[str, Any]:
        try:
            content = reply.json()
        except ValueError:
            content = None
        if reply.is_success and isinstance(content, dict):
            return content
        said = " ".join(reply.text.split())[:MESSAGE_SHOWN]
        raise UserError(
            f"the server answers {reply.url.path} with status {reply.status_code} and nothing to compare",
            value=self.spec.target,
            why=said.replace(self._key, "***") if self._key else said,
            fix="check the URL, which ends in /v1 with most servers, and the model's name behind #",
        )


def open_served(url: str, *, api_key_env: str = "") -> ServedModel:
    """Open the server at ``http://HOST:PORT/v1#NAME``; where it has a single model, ``#NAME`` may be left out.

    Raises:
        UserError: The URL names no host or no model where there are several, the key is not set, or the server cannot
            be reached.
    """
    base, _, name = url.partition("#")
    if not base.startswith(("http://", "https://")):
        raise UserError("not the URL of a server", value=url, fix="http://HOST:PORT/v1#NAME")
    options = {"api_key_env": api_key_env} if api_key_env else {}
    # Any name does to ask the server for its own.
    spec = parse_model({"model": f"{base}#{name or 'unnamed'}", **options})
    spec.check()
    served = ServedModel(spec)
    if not name:
        names = served.names()
        served.close()
        if len(names) != 1:
            raise UserError(
                f"the server has {len(names)} models", value=url, fix=f"name one: {base}#NAME", alternatives=names
            )
        served = ServedModel(parse_model({"model": f"{base}#{names[0]}", **options}))
    return served


def _piece_text(piece: object) -> str:
    """Return the text of a llama.cpp piece: a string, or bytes that are no whole characters."""
    return bytes(piece).decode("utf-8", "backslashreplace") if isinstance(piece, list) else str(piece)


def _read_text(reply: dict[str, Any], *, chat: bool) -> ServedText:
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] if chat else choice["text"]
        finish = choice["finish_reason"]
        usage = reply.get("usage") or {}
        ids, log_probs = _written(choice, usage.get("completion_tokens"))
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(
            "a reply that is not what the protocol promises", value=str(reply)[:MESSAGE_SHOWN], why=repr(error)
        ) from error
    if not isinstance(text, str) or finish not in ("stop", "length"):
        raise UserError(f"a reply with text {text!r} and finish reason {finish!r}, which cannot be compared")
    return ServedText(text, finish == "stop", usage.get("prompt_tokens"), ids, log_probs)


def _written(choice: dict[str, Any], count: int | None) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """Return ids and log-probabilities of the tokens of a choice, each only where all are there.

    llama.cpp leaves out the tokens whose bytes are no whole characters.
    """
    told = choice.get("logprobs") or {}
    content = told.get("content") or []
    ids = choice.get("token_ids") or [entry["id"] for entry in content if "id" in entry]
    values = told.get("token_logprobs") or [entry["logprob"] for entry in content]
    complete_ids = bool(ids) and len(ids) == count
    complete_values = bool(values) and len(values) == count
    return tuple(map(int, ids)) if complete_ids else None, tuple(map(float, values)) if complete_values else None
