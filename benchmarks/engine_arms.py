"""The clients that the throughput benchmark compares: each asks the same prompts of the same server.

An arm asks one call before the clock starts, so that lazy imports and the first connection are not measured, and keeps
every answer: a script in a list, strop in its call store.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from engine_server import ServerAt, content_length
from engine_work import IN_FLIGHT, MAX_TOKENS, MODEL, Prompts, count_right

if TYPE_CHECKING:
    from openai import AsyncOpenAI

WARM_UP = "Are you there?"


@dataclass
class Measured:
    """What one client took for all calls, in a process of its own.

    Attributes:
        calls: How many were asked.
        right: How many answers were the right ones.
        seconds: From the first call to the last answer kept.
        cpu_s: Processor seconds of the client in that time.
        peak_mib: The largest resident memory of its process.
    """

    calls: int
    right: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0

    @property
    def calls_per_s(self) -> float:
        """Calls a second, as the client saw it."""
        return self.calls / self.seconds


@contextmanager
def clock(server: ServerAt, measured: Measured) -> Iterator[None]:
    """Measure the block; the server counts from its start."""
    server.reset()
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    measured.seconds, measured.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


def openai_loop(server: ServerAt, measured: Measured) -> None:
    """The usual script: `AsyncOpenAI`, as many workers as calls may be in flight, the answers in a list."""
    asyncio.run(_openai_loop(server, measured))


async def _openai_loop(server: ServerAt, measured: Measured) -> None:
    from openai import AsyncOpenAI

    prompts = Prompts(measured.calls)
    answers: list[str | None] = [None] * measured.calls
    async with AsyncOpenAI(base_url=server.url, api_key="none") as client:
        await _ask(client, WARM_UP)
        numbered = iter(enumerate(prompts))

        async def work() -> None:
            for place, prompt in numbered:
                answers[place] = await _ask(client, prompt)

        with clock(server, measured):
            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    measured.right = count_right(zip(prompts, answers, strict=True))


async def _ask(client: AsyncOpenAI, prompt: str) -> str | None:
    reply = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": prompt}], temperature=0.0, max_tokens=MAX_TOKENS
    )
    return reply.choices[0].message.content


def openai_threads(server: ServerAt, measured: Measured) -> None:
    """The other usual script: the synchronous client in as many threads as calls may be in flight."""
    from openai import OpenAI

    prompts = Prompts(measured.calls)
    with OpenAI(base_url=server.url, api_key="none") as client, ThreadPoolExecutor(IN_FLIGHT) as threads:

        def ask(prompt: str) -> str | None:
            reply = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": prompt}], temperature=0.0, max_tokens=MAX_TOKENS
            )
            return reply.choices[0].message.content

        ask(WARM_UP)
        with clock(server, measured):
            answers = list(threads.map(ask, prompts))
    measured.right = count_right(zip(prompts, answers, strict=True))


def raw_sockets(server: ServerAt, measured: Measured) -> None:
    """No client at all: requests written to sockets, to show what the server and this machine can give."""
    asyncio.run(_raw_sockets(server, measured))


async def _raw_sockets(server: ServerAt, measured: Measured) -> None:
    prompts = Prompts(measured.calls)
    answers: list[str | None] = [None] * measured.calls
    numbered = iter(enumerate(prompts))
    host, port = server.root.removeprefix("http://").split(":")

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for place, prompt in numbered:
            body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": prompt}]}).encode()
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            head = await reader.readuntil(b"\r\n\r\n")
            reply = json.loads(await reader.readexactly(content_length(head)))
            answers[place] = reply["choices"][0]["message"]["content"]
        writer.close()

    connections = [await asyncio.open_connection(host, int(port)) for _ in range(IN_FLIGHT)]
    with clock(server, measured):
        await asyncio.gather(*(work(*connection) for connection in connections))
    measured.right = count_right(zip(prompts, answers, strict=True))


def strop(server: ServerAt, measured: Measured) -> None:
    """strop: every answer goes through the call store on disk before it is used, and comes back in order."""
    from strop.models.asking import ask_each
    from strop.models.opening import open_model
    from strop.models.protocol import Sampling
    from strop.models.spec import parse_model
    from strop.runs.calls import StoredCall
    from strop.runs.store import CallStore

    prompts, sampling = Prompts(measured.calls), Sampling(max_tokens=MAX_TOKENS)
    spec = parse_model({"model": f"{server.url}#{MODEL}", "chat": "on", "max_concurrency": IN_FLIGHT})
    with tempfile.TemporaryDirectory() as scratch, CallStore(Path(scratch) / "calls.sqlite") as store:
        model = open_model(spec)
        list(ask_each(model, [WARM_UP], sampling, store=store))
        with clock(server, measured):
            outcomes = chain.from_iterable(ask_each(model, prompts, sampling, store=store))
            answers = (outcome.text if isinstance(outcome, StoredCall) else None for outcome in outcomes)
            measured.right = count_right(zip(prompts, answers, strict=True))
        model.close()


ARMS: dict[str, Callable[[ServerAt, Measured], None]] = {
    "openai loop": openai_loop,
    "openai threads": openai_threads,
    "raw sockets": raw_sockets,
    "strop": strop,
}
BASELINE = "openai loop"


def peak_mib() -> float:
    """Return the largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def run_arm(name: str, root: str, calls: int) -> Measured:
    """Run an arm in this process and return what it took."""
    measured = Measured(calls)
    ARMS[name](ServerAt(root), measured)
    measured.peak_mib = peak_mib()
    return measured
