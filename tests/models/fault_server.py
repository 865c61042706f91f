"""An OpenAI-compatible server that misbehaves at stated rates: what a client must survive without losing a call.

Every answer is a function of its prompt, so that a wrong one shows, and the server counts how often it answered each
call in full. Which request meets which fault is drawn from a seed.

    python fault_server.py --seed 0 --latency 0.02      prints its port and serves until its standard input closes
    with FaultServer(seed=0) as server: server.url, server.stats()
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

RATES: Mapping[str, float] = {
    "rate_limit": 0.05,
    "server": 0.02,
    "hang": 0.01,
    "truncated": 0.01,
    "reset": 0.005,
    "empty": 0.005,
}


@dataclass
class Stats:
    """What the server did.

    Attributes:
        requests: How many came.
        faults: How many went wrong, by kind.
        answered: How often each call (its prompt) was answered in full.
        asked: How often each call was asked.
        most_at_once: The most requests at one time.
    """

    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0

    @property
    def attempts(self) -> int:
        return max(self.asked.values(), default=0)


def answer_to(prompt: str) -> str:
    """Return the right answer to a prompt."""
    return f"answer {zlib.crc32(prompt.encode()):08x}"


class Service:
    """Answers or fails, request by request."""

    def __init__(self, *, seed: int, latency_s: float, rates: Mapping[str, float]) -> None:
        self._random, self._latency_s, self._rates = Random(seed), latency_s, rates
        self.stats = Stats()
        self._at_once = 0

    def _fault(self) -> str | None:
        draw = self._random.random()
        for kind, rate in self._rates.items():
            draw -= rate
            if draw < 0:
                return kind
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                if lines[0].startswith("GET"):
                    writer.write(http(200, json.dumps(vars(self.stats))))
                else:
                    await self._complete(json.loads(body), reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            pass  # the server ends
        finally:
            writer.close()

    async def _complete(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        prompt = request["prompt"] if "prompt" in request else request["messages"][-1]["content"]
        fault = self._fault()
        stats = self.stats
        stats.requests += 1
        stats.asked[prompt] += 1
        self._at_once += 1
        stats.most_at_once = max(stats.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self._latency_s)
            if fault is None:
                writer.write(http(200, reply(request, answer_to(prompt))))
                stats.answered[prompt] += 1
            else:
                stats.faults[fault] += 1
                if fault == "hang":
                    await reader.read()  # until the client gives up
                self._misbehave(fault, reply(request, answer_to(prompt)), writer)
        finally:
            self._at_once -= 1

    def _misbehave(self, fault: str, whole: str, writer: asyncio.StreamWriter) -> None:
        odd = self.stats.faults[fault] % 2 == 1
        later = {"retry-after-ms": "150"} if odd else {"Retry-After": "1"}
        told: dict[str, Callable[[], bytes]] = {
            "rate_limit": lambda: http(429, error("slow down"), later),
            "server": lambda: http(503 if odd else 500, error("out of order")),
            "truncated": lambda: http(200, whole[: len(whole) // 2]),
            "empty": lambda: http(200, reply({}, "", written=0) if odd else ""),
        }
        if fault in ("hang", "reset"):
            writer.transport.abort()
            raise ConnectionResetError
        writer.write(told[fault]())


def reply(request: Mapping[str, Any], text: str, *, written: int = 4) -> str:
    """Return the JSON of an answer."""
    chat = "messages" in request
    choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    usage = {"prompt_tokens": 10, "completion_tokens": written, "total_tokens": 10 + written}
    return json.dumps({"choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": usage})


def error(message: str) -> str:
    """Return the JSON of an error."""
    return json.dumps({"error": {"message": message}})


def http(status: int, body: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole response."""
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body.encode())), **(headers or {})}
    return "\r\n".join(
        [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in lines.items()), "", body]
    ).encode()


async def main(arguments: argparse.Namespace) -> None:
    """Serve until standard input closes."""
    rates = {kind: rate * arguments.faults for kind, rate in RATES.items()}
    service = Service(seed=arguments.seed, latency_s=arguments.latency, rates=rates)
    server = await asyncio.start_server(service.serve, "127.0.0.1", arguments.port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent holds the other end: however it ends, the server ends with it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class FaultServer:
    """The server in a process of its own."""

    def __init__(self, *, seed: int = 0, latency_s: float = 0.0, faults: float = 1.0) -> None:
        """Set the rates to `faults` times the usual ones."""
        self._arguments = ["--seed", str(seed), "--latency", str(latency_s), "--faults", str(faults)]

    def __enter__(self) -> Self:
        command = [sys.executable, str(Path(__file__).resolve()), *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def stats(self) -> Stats:
        """Return what the server did so far."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/stats", timeout=30) as response:
            found = json.load(response)
        counters = {name: Counter(found[name]) for name in ("faults", "answered", "asked")}
        return Stats(found["requests"], **counters, most_at_once=found["most_at_once"])


def parser() -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--faults", type=float, default=1.0, help="times the usual rates")
    parser.add_argument("--port", type=int, default=0)
    return parser


if __name__ == "__main__":
    asyncio.run(main(parser().parse_args()))
