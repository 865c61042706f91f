"""A small OpenAI-compatible server: completions and chat completions over HTTP, with faults on request.

python openai_server.py MODEL --host H --port P      serves any model that strop opens
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from strop.models.protocol import Call, Completion, Sampling, TextModel
from strop.records.rows import Prompt, prompt_from_json


@dataclass(frozen=True)
class Fault:
    """What the server answers instead of a completion."""

    status: int = 200
    body: str = '{"error": {"message": "out of order"}}'
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class OpenAIServer:
    """Answers with `model`; `faults` go out first, one a request."""

    def __init__(self, model: TextModel, *, host: str = "127.0.0.1", port: int = 0, healthy_after_s: float = 0) -> None:
        self.model, self.faults = model, list[Fault]()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self._at_once = 0
        self.hold_s = 0.0
        self._healthy_at = time.monotonic() + healthy_after_s
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer((host, port), self._handler())
        self._http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def serve_forever(self) -> None:
        self._http.serve_forever(poll_interval=0.02)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        chat = path.endswith("/chat/completions")
        prompt: Prompt = prompt_from_json(body["messages"] if chat else body["prompt"])
        sampling = Sampling(
            temperature=body["temperature"],
            top_p=body["top_p"],
            max_tokens=body["max_tokens"],
            stop=tuple(body.get("stop", ())),
            seed=body["seed"],
        )
        with self._lock:
            (((_, outcome),),) = self.model.complete([Call(prompt, sampling)])
        assert isinstance(outcome, Completion), outcome
        text = outcome.text if chat else f" {outcome.text}"
        content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        tokens = (outcome.prompt_tokens, outcome.completion_tokens)
        return {
            "id": "1",
            "object": "chat.completion" if chat else "text_completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": outcome.finish, **content}],
            "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(Fault(200 if time.monotonic() >= server._healthy_at else 503, "{}"))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.requests.append(body)
                    server.headers.append({name.lower(): value for name, value in self.headers.items()})
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                    fault = server.faults.pop(0) if server.faults else None
                time.sleep(server.hold_s)
                reply = fault or Fault(body=json.dumps(server.answer(self.path, body)))
                with server._lock:
                    server._at_once -= 1
                self._send(reply)

            def _send(self, reply: Fault) -> None:
                time.sleep(reply.delay_s)
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(reply.body.encode())))
                    self.end_headers()
                    self.wfile.write(reply.body.encode())
                except BrokenPipeError:
                    pass

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    from strop.models.opening import open_model
    from strop.models.spec import parse_model

    model, _, host, _, port = arguments
    OpenAIServer(open_model(parse_model(model)), host=host, port=int(port), healthy_after_s=0.5).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
