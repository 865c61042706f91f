"""A server that tells its tokens, as vLLM does, or less: real HTTP, real templates, a real model behind it.

`replies` overrides a path, so that a test can have any server there is or should not be.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from strop.models.local import LocalModel
from strop.models.render import encode_prompts
from strop.records.rows import prompt_from_json

Reply = tuple[int, str]
ABSENT: Reply = (404, '{"error": "no such path"}')


@dataclass
class TokenServer:
    """Serves `model`.

    Attributes:
        model: What answers, greedily.
        tells_tokens: Whether it has vLLM's ``/tokenize`` and gives the ids of what it writes.
        completes_text: Whether it completes plain text.
        replies: What it answers at a path, whatever is asked.
        wishes_refused: Whether it refuses requests for log-probabilities.
    """

    model: LocalModel
    tells_tokens: bool = True
    completes_text: bool = True
    wishes_refused: bool = False
    replies: dict[str, Reply] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=lambda: self._http.serve_forever(poll_interval=0.02), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The base URL of the OpenAI-compatible protocol."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        """Return status and body of the reply to a request."""
        self.requests.append(body)
        if path in self.replies:
            return self.replies[path]
        if path == "/v1/models":
            return 200, json.dumps({"data": [{"id": "tiny"}]})
        if path == "/tokenize" and self.tells_tokens:
            ids = self._read(body)
            texts = [self.model.tokenizer.convert_ids_to_tokens(number) for number in ids]
            return 200, json.dumps({"count": len(ids), "tokens": ids, "token_strs": texts})
        if path == "/v1/chat/completions" or (path == "/v1/completions" and self.completes_text):
            if self.wishes_refused and "logprobs" in body:
                return 400, '{"error": "no log-probabilities here"}'
            return 200, json.dumps(self._complete(path, body))
        return ABSENT

    def _read(self, body: dict[str, Any]) -> list[int]:
        prompt = prompt_from_json(body["messages"] if "messages" in body else body["prompt"])
        return encode_prompts(self.model.tokenizer, [prompt])[0]

    def _complete(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        read = self._read(body)
        written, log_probs = self._write(read, body["max_tokens"])
        stopped = written[-1] == self.model.tokenizer.eos_token_id
        text = self.model.tokenizer.decode(written[: len(written) - stopped])
        chat = path.endswith("/chat/completions")
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if stopped else "length"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if "logprobs" in body and chat:
            choice["logprobs"] = {"content": [{"token": "?", "logprob": value} for value in log_probs]}
        elif "logprobs" in body:
            choice["logprobs"] = {"tokens": ["?"] * len(written), "token_logprobs": log_probs}
        if body.get("return_token_ids"):
            choice["token_ids"] = written
        return {"choices": [choice], "usage": {"prompt_tokens": len(read), "completion_tokens": len(written)}}

    def _write(self, ids: list[int], most: int) -> tuple[list[int], list[float]]:
        import torch

        written: list[int] = []
        log_probs: list[float] = []
        while len(written) < most and written[-1:] != [self.model.tokenizer.eos_token_id]:
            with torch.inference_mode():
                logits_v = self.model.model(input_ids=torch.tensor([ids + written])).logits[0, -1]
            best = int(logits_v.argmax())
            written.append(best)
            log_probs.append(float(logits_v.log_softmax(-1)[best]))
        return written, log_probs


def _handler(server: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, text = server.answer(self.path, body)
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
