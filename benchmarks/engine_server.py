"""An OpenAI-compatible server that takes a fixed time for each request and next to no processor time.

It answers `POST /v1/chat/completions` and `/v1/completions` with `engine_work.answer_to` of the last message or the
prompt, or with what a named function makes of the request, any number of them at a time, and says on `GET /stats` what
it saw since the last `POST /reset`. Raw asyncio and the standard library: what a client is measured against should not
be what the server can do.

    with FixedLatencyServer() as server: server.url, server.reset(), server.stats()
    with FixedLatencyServer(answer="module:function"): ...  # from this folder; takes the request's JSON, returns a text
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from engine_work import LATENCY_S, MODEL, answer_to

HERE = Path(__file__).resolve().parent
MOST_CONNECTIONS_WAITING = 4096
REPLIED_WITHIN_S = 30.0
USAGE = '"usage":{"prompt_tokens":50,"completion_tokens":4,"total_tokens":54}'
COMMON = f'"id":"fixed","created":1700000000,"model":"{MODEL}",{USAGE}'
CHAT = (
    f'{{{COMMON},"object":"chat.completion","choices":[{{"index":0,"finish_reason":"stop",'
    '"message":{"role":"assistant","content":"%s"}}]}'
)
COMPLETION = f'{{{COMMON},"object":"text_completion","choices":[{{"index":0,"finish_reason":"stop","text":"%s"}}]}}'
MODELS = f'{{"object":"list","data":[{{"id":"{MODEL}","object":"model","created":1700000000,"owned_by":"strop"}}]}}'

Answer = Callable[[dict[str, Any]], str]
"""Makes the answer to a request, as it stands between the quotation marks of JSON."""


@dataclass
class Stats:
    """What the server saw since the last reset; times are seconds of a clock of its own.

    Attributes:
        requests: Completions that were asked for.
        answered: Completions that went out.
        dropped: Requests whose client hung up before the answer.
        most_at_once: Most requests that waited for their answer at one time.
        first_request_s: When the first request had come.
        last_answer_s: When the last answer went out.
        held_s: Seconds between request and answer, summed over the answers.
        connections: How often a client connected.
        cpu_s: Processor seconds of the server.
    """

    requests: int = 0
    answered: int = 0
    dropped: int = 0
    most_at_once: int = 0
    first_request_s: float = 0.0
    last_answer_s: float = 0.0
    held_s: float = 0.0
    connections: int = 0
    cpu_s: float = 0.0

    @property
    def calls_per_s(self) -> float:
        """Answers a second between the first request and the last answer: start and end of the client left out."""
        return self.answered / max(self.last_answer_s - self.first_request_s, 1e-9)


class Tally:
    """The running counts, what is answered, and how long an answer takes."""

    def __init__(self, latency_s: float, answer: Answer) -> None:
        """Count from now."""
        self.latency_s, self.answer = latency_s, answer
        self.reset()

    def reset(self) -> None:
        """Count from now."""
        self.stats, self.at_once = Stats(), 0
        self._cpu_before = time.process_time()

    def snapshot(self) -> Stats:
        """Return the counts so far."""
        self.stats.cpu_s = time.process_time() - self._cpu_before
        return self.stats


class Connection(asyncio.Protocol):
    """One client's connection: requests in, answers out after the latency."""

    def __init__(self, tally: Tally) -> None:
        """Wait for the first byte."""
        self._tally = tally
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where the answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._tally.stats.connections += 1

    def data_received(self, data: bytes) -> None:
        """Take every request that is whole."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            whole = end + 4 + content_length(head)
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            self._take(method, path, body)

    def _take(self, method: str, path: str, body: bytes) -> None:
        match method, path:
            case "POST", "/v1/chat/completions":
                self._answer_later(CHAT, body)
            case "POST", "/v1/completions":
                self._answer_later(COMPLETION, body)
            case "GET", "/v1/models":
                self._send(MODELS)
            case "GET", "/stats":
                self._send(json.dumps(asdict(self._tally.snapshot())))
            case "POST", "/reset":
                self._tally.reset()
                self._send("{}")
            case _:
                self._send(json.dumps({"error": {"message": f"no {method} {path} here"}}), HTTPStatus.NOT_FOUND)

    def _answer_later(self, template: str, body: bytes) -> None:
        try:
            reply = template % self._tally.answer(json.loads(body))
        except (ValueError, LookupError, TypeError) as error:
            self._send(json.dumps({"error": {"message": f"not a request: {error!r}"}}), HTTPStatus.BAD_REQUEST)
            return
        tally, now = self._tally, time.perf_counter()
        tally.at_once += 1
        tally.stats.requests += 1
        tally.stats.most_at_once = max(tally.stats.most_at_once, tally.at_once)
        tally.stats.first_request_s = tally.stats.first_request_s or now
        asyncio.get_running_loop().call_later(tally.latency_s, self._answer, reply, now)

    def _answer(self, reply: str, asked_s: float) -> None:
        tally = self._tally
        tally.at_once -= 1
        if self._transport.is_closing():
            tally.stats.dropped += 1
            return
        self._send(reply)
        tally.stats.answered += 1
        tally.stats.last_answer_s = time.perf_counter()
        tally.stats.held_s += tally.stats.last_answer_s - asked_s

    def _send(self, body: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._transport.write(f"{head}\r\n\r\n{body}".encode())


def content_length(head: bytes) -> int:
    """Return how long the body of a request is, from its header lines."""
    at = head.lower().find(b"\r\ncontent-length:")
    return int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def last_text(request: dict[str, Any]) -> str:
    """Return the prompt of a completion, or the text of a conversation's last message."""
    if "prompt" in request:
        return str(request["prompt"])
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def answer_of_prompt(request: dict[str, Any]) -> str:
    """Return the answer that depends on the last text alone; it has nothing that JSON would escape."""
    return answer_to(last_text(request))


def named_answer(name: str) -> Answer:
    """Return what answers by a function, ``module:function``, that takes a request and returns a text."""
    module, _, function = name.partition(":")
    found: Answer = getattr(importlib.import_module(module), function)
    return lambda request: json.dumps(found(request))[1:-1]


async def serve(latency_s: float, answer: str = "") -> None:
    """Listen on a free port of the loopback, print it, and answer until standard input closes."""
    loop = asyncio.get_running_loop()
    tally = Tally(latency_s, named_answer(answer) if answer else answer_of_prompt)
    server = await loop.create_server(lambda: Connection(tally), "127.0.0.1", 0, backlog=MOST_CONNECTIONS_WAITING)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent holds the other end: however it ends, the server ends with it.
    await loop.run_in_executor(None, sys.stdin.read)


class ServerAt:
    """What the server counts, asked for from outside."""

    def __init__(self, root: str) -> None:
        """Take the address without path."""
        self.root = root

    @property
    def url(self) -> str:
        """The base URL that an OpenAI client wants."""
        return f"{self.root}/v1"

    def reset(self) -> None:
        """Count from now."""
        self._fetch("POST", "/reset")

    def stats(self) -> Stats:
        """Return what the server saw since the last reset."""
        return Stats(**self._fetch("GET", "/stats"))

    def _fetch(self, method: str, path: str) -> dict[str, Any]:
        # A proxy of the environment is never meant for the loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.root + path, method=method)
        with opener.open(request, timeout=REPLIED_WITHIN_S) as reply:
            found: dict[str, Any] = json.load(reply)
        return found


class FixedLatencyServer(ServerAt):
    """The server in a process of its own, for as long as the block lasts."""

    def __init__(self, latency_s: float = LATENCY_S, *, answer: str = "") -> None:
        """Say how long an answer takes and which function makes it, the usual one by default; nothing is started."""
        super().__init__("")
        self._latency_s, self._answer = latency_s, answer

    def __enter__(self) -> Self:
        program = (
            f"import asyncio, engine_server; asyncio.run(engine_server.serve({self._latency_s!r}, {self._answer!r}))"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.root = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
