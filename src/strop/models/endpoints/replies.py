"""What a server sent, read with care: everything that is not a whole answer with its token counts is a failure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from strop.records.token_choices import TokenChoice

SHOWN = 200
"""Characters of a reply that a message shows."""


class ReplyError(Exception):
    """A reply that is no answer."""

    kind = "malformed"
    transient = True


class MalformedReplyError(ReplyError):
    """A reply that is not what the protocol promises; the next one may be."""


class UncountedReplyError(ReplyError):
    """A reply without its number of tokens."""

    kind, transient = "no_usage", False


class WithheldReplyError(ReplyError):
    """A reply that the server or the model withheld for its content."""

    kind, transient = "content_filter", False


class OverlongPromptError(ReplyError):
    """A prompt that left no room for an answer."""

    kind, transient = "context", False


class OversizedReplyError(ReplyError):
    """A reply of more bytes than are read."""

    kind, transient = "too_large", False


class CompressedReplyError(ReplyError):
    """A compressed reply, though none was asked for: its size cannot be bounded."""

    kind, transient = "compressed", False


class RedirectedError(ReplyError):
    """A reply that names another URL; prompts and keys go only where the configuration says."""

    kind, transient = "redirect", False


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a reply."""

    text: str
    finish: Literal["stop", "length"]
    log_probs: tuple[TokenChoice, ...] | None


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of a reply, all its choices together; `cached` are among those of the prompt."""

    prompt: int
    completion: int
    cached: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply's choices by index, whole ones and unreadable ones, and its tokens."""

    choices: Mapping[int, Choice | ReplyError]
    usage: Usage


def read_reply(body: bytes, *, chat: bool) -> Reply:
    """Read the body of a successful reply.

    A choice that cannot be read is a `ReplyError` among the choices; one that is read has all its text. An empty text
    is an answer only where the server counts a token for it (the end of the turn): without one, nothing was generated.

    Args:
        body: What came, JSON in UTF-8.
        chat: Whether chat completions were asked.

    Raises:
        ReplyError: Nothing of it can be read.
    """
    reply = _json_object(body)
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedReplyError(f"a reply without choices: {_shown(body)}")
    read: dict[int, Choice | ReplyError] = {}
    for place, choice in enumerate(choices):
        index = choice.get("index", place) if isinstance(choice, dict) else place
        if _is_count(index):
            read.setdefault(index, _read_choice(choice, chat=chat))
    usage = _read_usage(reply.get("usage"), read)
    for index, found in read.items():
        if isinstance(found, Choice) and not found.text.strip() and usage.completion == 0:
            read[index] = _nothing_written(found)
    return Reply(read, usage)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MalformedReplyError(f"a reply that is no JSON ({error}): {_shown(body)}") from None
    if not isinstance(reply, dict):
        raise MalformedReplyError(f"a reply that is no JSON object: {_shown(body)}")
    return reply


def _read_choice(choice: Any, *, chat: bool) -> Choice | ReplyError:
    holder = choice.get("message") if chat and isinstance(choice, dict) else choice
    if not isinstance(holder, dict):
        return MalformedReplyError(f"a choice that is none: {str(choice)[:SHOWN]!r}")
    text, finish = holder.get("content" if chat else "text"), choice.get("finish_reason")
    if finish == "content_filter":
        return WithheldReplyError("the server withheld the reply: content_filter")
    if chat and text is None and isinstance(holder.get("refusal"), str):
        return WithheldReplyError(f"the model refused: {holder['refusal'][:SHOWN]}")
    if not isinstance(text, str) or finish not in ("stop", "length"):
        return MalformedReplyError(f"a reply with text {str(text)[:SHOWN]!r} and finish reason {finish!r}")
    return Choice(text, finish, read_log_probs(choice.get("logprobs"), chat=chat))


def _nothing_written(choice: Choice) -> ReplyError:
    if choice.finish == "length":
        return OverlongPromptError("the prompt left no room for an answer in the model's context")
    return MalformedReplyError("an empty reply for which no token was generated")


def _read_usage(usage: Any, choices: Mapping[int, Choice | ReplyError]) -> Usage:
    counted = isinstance(usage, dict) and _is_count(usage.get("prompt_tokens"))
    if not counted or not _is_count(usage.get("completion_tokens")):
        for choice in choices.values():
            if isinstance(choice, ReplyError):
                raise choice
        raise UncountedReplyError("the server's replies carry no token counts (usage), which budgets rest on")
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    prompt = int(usage["prompt_tokens"])
    return Usage(prompt, int(usage["completion_tokens"]), min(cached, prompt) if _is_count(cached) else 0)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def read_log_probs(given: Any, *, chat: bool) -> tuple[TokenChoice, ...] | None:
    """Return a choice's tokens with their alternatives; None where there are none or they cannot be read.

    Chat completions list an object a token (newer servers do for completions too); completions have parallel lists.
    """
    if not isinstance(given, dict):
        return None
    try:
        if chat or isinstance(given.get("content"), list):
            return tuple(map(_chat_token, given["content"])) or None
        columns = zip(given["tokens"], given["token_logprobs"], given["top_logprobs"], strict=True)
        return (
            tuple(TokenChoice(str(token), float(log_prob), _likeliest(top)) for token, log_prob, top in columns) or None
        )
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _chat_token(item: Any) -> TokenChoice:
    top = {str(other["token"]): other["logprob"] for other in item.get("top_logprobs") or ()}
    return TokenChoice(str(item["token"]), float(item["logprob"]), _likeliest(top))


def _likeliest(top: Mapping[str, Any] | None) -> tuple[tuple[str, float], ...]:
    pairs = [(str(token), float(log_prob)) for token, log_prob in (top or {}).items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))


def _shown(body: bytes) -> str:
    return repr(body[:SHOWN].decode("utf-8", "replace"))
