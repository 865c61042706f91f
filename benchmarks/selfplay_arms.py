"""The clients that the self-play benchmark compares: each holds the same sessions against the same server.

An arm asks one call before the clock starts, as in `engine_arms`, and keeps every answer: the loop in a list, strop in
its call store.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine_arms import WARM_UP, Measured, clock, peak_mib
from engine_server import ServerAt
from engine_work import IN_FLIGHT, MODEL
from selfplay_players import reply_to
from selfplay_sessions import Told, contents_of, overheard, patients, rehearse, sessions

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from strop.models.asking import Answered
    from strop.models.episodes import Ask

Request = dict[str, Any]
PATIENCE_S = 120.0


def request_of(told: Told) -> Request:
    """Return a question as strop sends it, for the client's own method."""
    from strop.models.endpoints.wire import request_seed
    from strop.records.rows import prompt_to_json

    sampling = told.ask.sampling
    return {
        "model": MODEL,
        "messages": prompt_to_json(told.ask.prompt),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request_seed(told.ask.call),
        "max_tokens": sampling.max_tokens,
    }


def openai_loop(server: ServerAt, count: int) -> Measured:
    """The script that one would write: `AsyncOpenAI`, a coroutine for each patient, the answers in a list.

    What each asks, and what it waits for before it asks on, was recorded beforehand: no session is held here, so that
    the loop has nothing to do but to call.
    """
    return asyncio.run(_openai_loop(server, count))


async def _openai_loop(server: ServerAt, count: int) -> Measured:
    from openai import AsyncOpenAI

    scripts = [rehearse(episode) for episode in sessions(patients(count))]
    asked = [[[request_of(told) for told in group] for group in script.groups] for script in scripts]
    measured = Measured(sum(len(script.calls) for script in scripts))
    # On a crowded machine 64 connections at once take longer than the client's own limit for one.
    async with AsyncOpenAI(base_url=server.url, api_key="none", timeout=PATIENCE_S) as client:
        room = asyncio.Semaphore(IN_FLIGHT)
        await _ask(client, room, {"model": MODEL, "messages": [{"role": "user", "content": WARM_UP}]})
        with clock(server, measured):
            answers = await asyncio.gather(*(_play(client, room, groups) for groups in asked))
    expected = [[told.text for told in script.calls] for script in scripts]
    pairs = zip(answers, expected, strict=True)
    measured.right = sum(got == text for each in pairs for got, text in zip(*each, strict=True))
    return measured


async def _play(client: AsyncOpenAI, room: asyncio.Semaphore, groups: list[list[Request]]) -> list[str | None]:
    answers: list[str | None] = []
    for group in groups:
        answers += await asyncio.gather(*(_ask(client, room, request) for request in group))
    return answers


async def _ask(client: AsyncOpenAI, room: asyncio.Semaphore, request: Request) -> str | None:
    async with room:
        reply = await client.chat.completions.create(**request)
    content: str | None = reply.choices[0].message.content
    return content


def side_by_side(server: ServerAt, count: int) -> Measured:
    """All sessions at once by strop, and no more calls in flight than the loop has."""
    return _strop(server, count, at_once=IN_FLIGHT)


def one_by_one(server: ServerAt, count: int) -> Measured:
    """One session after the other by strop; what a session asks together stays together."""
    return _strop(server, count, at_once=1)


def _strop(server: ServerAt, count: int, *, at_once: int) -> Measured:
    from strop.models.asking import ask
    from strop.models.episodes import run_episodes
    from strop.models.opening import open_model
    from strop.models.protocol import Sampling
    from strop.models.spec import parse_model
    from strop.runs.store import CallStore

    told: list[tuple[Ask, Answered]] = []
    episodes = [overheard(episode, told) for episode in sessions(patients(count))]
    spec = parse_model({"model": f"{server.url}#{MODEL}", "chat": "on", "max_concurrency": IN_FLIGHT})
    measured = Measured(0)
    with tempfile.TemporaryDirectory() as scratch, CallStore(Path(scratch) / "calls.sqlite") as store:
        model = open_model(spec)
        ask(model, [WARM_UP], Sampling(), store=store)
        with clock(server, measured):
            run_episodes(
                episodes, dict.fromkeys(("patient", "therapist", "judge"), model), store=store, at_once=at_once
            )
        model.close()
    measured.calls, measured.right = len(told), sum(_is_right(ask, outcome) for ask, outcome in told)
    return measured


def _is_right(ask: Ask, outcome: Answered) -> bool:
    from strop.runs.calls import StoredCall

    return isinstance(outcome, StoredCall) and outcome.text == reply_to(contents_of(ask))


STROP, LOOP, ALONE = "strop", "openai loop", "one by one"
ARMS: dict[str, Callable[[ServerAt, int], Measured]] = {STROP: side_by_side, LOOP: openai_loop, ALONE: one_by_one}


def run_arm(name: str, root: str, count: int) -> Measured:
    """Run an arm with so many patients in this process, and return what it took."""
    measured = ARMS[name](ServerAt(root), count)
    measured.peak_mib = peak_mib()
    return measured
