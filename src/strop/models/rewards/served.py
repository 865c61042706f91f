"""A reward model behind the ``/get_reward`` protocol, asked over HTTP.

Servers of OpenRLHF take rendered texts under ``query``, and how to render is not theirs to tell. strop's own server
takes conversations too (``messages``) and renders them as its model was trained; this client speaks only that, so that
no score is read off a text that was rendered in another way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from strop.errors import Stopped, UserError
from strop.models.rewards.protocol import Advance, Item
from strop.records.rows import Message, prompt_to_json

PATH, INFO = "/get_reward", "/info"
PER_REQUEST = 64
TIMEOUT_S = 300.0


def conversation(item: Item) -> list[dict[str, str]]:
    """Return an item as messages whose last turn is the response."""
    prompt, response = item
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    told = prompt_to_json((*turns, Message("assistant", response)))
    assert isinstance(told, list)
    return told


class ServedReward:
    """A reward model that a server holds."""

    def __init__(self, url: str) -> None:
        """Ask the server what it serves.

        Raises:
            Stopped: It does not answer.
            UserError: It is no server of strop's.
        """
        import httpx2

        self._root = url.rstrip("/").removesuffix(PATH)
        self._client = httpx2.Client(timeout=TIMEOUT_S)
        told = self._ask("GET", INFO)
        if not isinstance(told, dict) or not {"name", "revision", "messages"} <= told.keys():
            raise UserError(
                "this server does not say what it serves",
                value=url,
                why="only strop's own server renders a conversation as its model was trained",
                fix="serve the folder with `strop serve-reward`, or give the folder itself",
            )
        self.name, self.revision = str(told["name"]), str(told["revision"])

    def score(self, items: Sequence[Item], *, advance: Advance | None = None) -> list[float]:
        """Return the server's rewards; see `RewardModel.score`.

        Raises:
            UserError: The server refuses an item, as one that is longer than its window.
            Stopped: It does not answer, or answers with something else than numbers.
        """
        rewards: list[float] = []
        for start in range(0, len(items), PER_REQUEST):
            part = items[start : start + PER_REQUEST]
            told = self._ask("POST", PATH, {"messages": [conversation(item) for item in part]})
            rewards += _numbers(told, len(part), self._root)
            if advance is not None:
                advance(len(part))
        return rewards

    def score_text(self, text: str) -> float:
        """Return the reward of one text that is rendered already, as clients of the published protocol ask for it.

        Raises:
            UserError: The server refuses it, as one that is longer than its window.
            Stopped: It does not answer, or answers with something else than a number.
        """
        return next(_numbers(self._ask("POST", PATH, {"query": [text]}), 1, self._root))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
        import httpx2

        try:
            reply = self._client.request(method, self._root + path, json=content)
        except httpx2.TransportError as error:
            fix = "start it with `strop serve-reward`; then run the same command again"
            raise Stopped("the reward server does not answer", value=self._root, why=str(error), fix=fix) from error
        if reply.status_code in (400, 404, 413, 422):
            raise UserError("the reward server refuses", value=reply.status_code, why=reply.text[:500])
        if not reply.is_success:
            raise Stopped("the reward server failed", value=reply.status_code, why=reply.text[:500])
        try:
            return reply.json()
        except ValueError as error:
            raise Stopped("the reward server's answer is no JSON", value=reply.text[:80]) from error


def _numbers(told: Any, wanted: int, root: str) -> Iterator[float]:
    rewards = told.get("rewards") if isinstance(told, dict) else None
    if not isinstance(rewards, list) or len(rewards) != wanted:
        raise Stopped("the reward server's answer does not fit the question", value=str(told)[:120], why=root)
    for reward in rewards:
        if isinstance(reward, bool) or not isinstance(reward, (int, float)) or not math.isfinite(reward):
            raise Stopped("a reward is no number", value=str(reward), why=root)
        yield float(reward)
