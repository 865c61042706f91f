"""The ``/get_reward`` protocol: OpenRLHF's rendered texts, and conversations that the server renders itself.

``POST /get_reward`` takes ``{"query": [text, ...]}`` or ``{"messages": [[{"role", "content"}, ...], ...]}``, the last
turn being the response, and answers ``{"rewards": [number, ...]}``. A text over the window is refused (422): cut, it
would lose the end token that its score is read from. ``GET /info`` tells what is served, ``GET /health`` that it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from strop import __version__
from strop.errors import Stopped, StropError, UserError
from strop.models.rewards import Item
from strop.models.rewards.folder import FolderReward
from strop.models.rewards.served import INFO, PATH
from strop.records.rows import Message, prompt_from_json
from strop.web.reward_batching import Batcher, Reading

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse

HEALTH = "/health"
MOST_BYTES = 64 << 20
"""Longest request; a thousand responses take a few megabytes."""


class Refusal(UserError):
    """A request that cannot be read.

    Attributes:
        status: What the client is told.
    """

    def __init__(self, status: int, what: str, **more: Any) -> None:
        """Compose the message; see `UserError`."""
        super().__init__(what, **more)
        self.status = status


def reward_app(reward: FolderReward, batcher: Batcher, *, normalised: bool, hosts: Sequence[str] = ("*",)) -> Starlette:
    """Return the application that serves a reward model.

    Args:
        reward: An open reward model.
        batcher: Scores for it.
        normalised: Whether the batcher gives rewards in standard deviations; told to clients.
        hosts: Names that a request may call the server by.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    told = {
        "name": reward.name,
        "revision": reward.revision,
        "messages": True,
        "normalised": normalised,
        "max_length": reward.facts.max_length,
        "form": reward.facts.form,
        "heads": list(reward.facts.heads),
        "base": reward.facts.base,
        "strop": __version__,
    }

    async def info(_: Request) -> JSONResponse:
        return JSONResponse(told)

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def get_reward(request: Request) -> JSONResponse:
        try:
            rewards = await asyncio.wrap_future(batcher.submit(_reading(reward, await _body(request))))
        except StropError as error:
            status = error.status if isinstance(error, Refusal) else 422 if isinstance(error, UserError) else 500
            return JSONResponse({"error": str(error)}, status_code=503 if isinstance(error, Stopped) else status)
        return JSONResponse({"rewards": rewards})

    return Starlette(
        routes=[
            Route(PATH, get_reward, methods=["POST"]),
            Route(INFO, info, methods=["GET"]),
            Route(HEALTH, health, methods=["GET"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
    )


async def _body(request: Request) -> dict[str, Any]:
    received = bytearray()
    async for part in request.stream():
        received += part
        if len(received) > MOST_BYTES:
            raise Refusal(413, "the request is too long", value=f"over {MOST_BYTES} bytes", fix="send fewer at a time")
    try:
        content = json.loads(received)
    except ValueError as error:
        raise Refusal(400, "the request is no JSON", why=str(error)) from None
    if not isinstance(content, dict):
        raise Refusal(400, "the request must be a JSON object", value=type(content).__name__)
    return content


def _reading(reward: FolderReward, content: dict[str, Any]) -> Reading:
    """Return how the texts of a request become tokens.

    Raises:
        Refusal: It holds neither texts nor conversations.
    """
    query, conversations = content.get("query"), content.get("messages")
    if (query is None) == (conversations is None):
        raise Refusal(
            400, "a request holds 'query' (rendered texts) or 'messages' (conversations)", value=sorted(content)
        )
    if query is not None:
        texts = [query] if isinstance(query, str) else query
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise Refusal(400, "'query' must be a list of texts")
        return partial(reward.read_texts, texts)
    if not isinstance(conversations, list):
        raise Refusal(400, "'messages' must be a list of conversations")
    items = [_item(turns, number) for number, turns in enumerate(conversations, 1)]
    return partial(reward.read_items, items)


def _item(turns: object, number: int) -> Item:
    try:
        read = prompt_from_json(turns)
    except UserError as error:
        raise Refusal(400, f"conversation {number}: {error.what}") from None
    if isinstance(read, str) or len(read) < 2 or read[-1].role != "assistant":
        raise Refusal(400, f"conversation {number} must be turns of which the last is the assistant's response")
    *before, last = read
    prompt: tuple[Message, ...] = tuple(before)
    return prompt, last.content
