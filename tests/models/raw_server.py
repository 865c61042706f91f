"""A server that sends whatever bytes it is told to: what no library would send."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def response(
    body: bytes | str, *, status: int = 200, headers: dict[str, str] | None = None, length: int | None = None
) -> bytes:
    """Return the bytes of a response; `length` says something else than the truth."""
    content = body if isinstance(body, bytes) else body.encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(content) if length is None else length)}
    head = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in {**lines, **(headers or {})}.items())]
    return "\r\n".join([*head, "", ""]).encode() + content


def answer(text: str | None = "fine", *, chat: bool = True, usage: Any = (3, 2), finish: str = "stop") -> str:
    """Return the JSON of an answer."""
    choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    counts = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True)) if usage else None
    return json.dumps({"choices": [{"index": 0, "finish_reason": finish, **choice}], "usage": counts})


class RawServer:
    """Sends what `respond` returns, piece by piece; None is silence until the client hangs up."""

    def __init__(self, respond: Callable[[Request], bytes | Iterable[bytes] | None]) -> None:
        self.respond, self.requests, self._lock = respond, list[Request](), threading.Lock()
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline():
                    method, path, _ = line.decode().split(" ", 2)
                    headers = dict[str, str]()
                    while (header := self.rfile.readline().decode().strip()) != "":
                        name, _, value = header.partition(":")
                        headers[name.lower()] = value.strip()
                    body = json.loads(self.rfile.read(int(headers.get("content-length", 0))) or b"{}")
                    request = Request(method, path, headers, body)
                    with server._lock:
                        server.requests.append(request)
                    if not self._send(server.respond(request)):
                        return

            def _send(self, reply: bytes | Iterable[bytes] | None) -> bool:
                try:
                    for piece in [reply] if isinstance(reply, bytes) else reply or ():
                        self.wfile.write(piece)
                    return reply is not None or bool(self.rfile.read(1))
                except OSError:
                    return False

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.02), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
