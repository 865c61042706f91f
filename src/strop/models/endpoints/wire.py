"""The OpenAI protocol: calls as request bodies, and the client that sends them and reads no more than it should."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from strop.models.endpoints.abilities import (
    PROBE_PROMPT,
    PROBE_TOKENS,
    Abilities,
    log_prob_fields,
    path_name,
    probe_fields,
    schema_fields,
)
from strop.models.endpoints.replies import CompressedReplyError, OversizedReplyError, RedirectedError
from strop.models.protocol import Call, Sampling
from strop.models.render import as_messages
from strop.models.spec import OPENAI_URL, ModelSpec
from strop.records.rows import prompt_to_json

if TYPE_CHECKING:
    import httpx2
    from openai import APIStatusError, AsyncOpenAI

CONNECT_S = 10.0
"""The longest that a connection may take to come about."""
FEWEST_IDLE, IDLE_SHARE = 8, 4
"""Connections that are kept while nobody uses them: a quarter of those in flight. The pool looks at every idle one
before every request, and where the pace has gone down, most would be idle."""
CHAT_PATH, TEXT_PATH = "/chat/completions", "/completions"


def request_seed(call: Call) -> int:
    """Return the seed sent with a call: 31 bits that differ between samples, so that repeats are not copies."""
    digest = hashlib.sha256(f"{call.sampling.seed}\0{call.sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def request_of(spec: ModelSpec, calls: Sequence[Call], abilities: Abilities) -> tuple[str, bytes]:
    """Return path and body of the request for samples of one prompt.

    Args:
        spec: The model.
        calls: Samples of one prompt with one sampling; several only where the server can.
        abilities: What the server can do; a wish that it cannot grant is left out.

    Raises:
        UserError: Messages for a model with ``chat: off``.
    """
    first, sampling = calls[0], calls[0].sampling
    messages = as_messages(first.prompt, chat=spec.chat)
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request_seed(first),
        _limit_name(spec): sampling.max_tokens,
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if len(calls) > 1:
        fields["n"] = len(calls)
    fields |= _wished(sampling, abilities, chat=messages is not None)
    if messages is None:
        return TEXT_PATH, _body(spec, {"prompt": str(first.prompt)} | fields)
    return CHAT_PATH, _body(spec, {"messages": prompt_to_json(messages)} | fields)


def _wished(sampling: Sampling, abilities: Abilities, *, chat: bool) -> dict[str, Any]:
    def able(name: str) -> bool:
        known = abilities.get(f"{path_name(chat=chat)}.{name}")
        return known is not None and known.able

    fields: dict[str, Any] = {}
    if sampling.json_schema and able("json_schema"):
        fields |= schema_fields(sampling.json_schema)
    if sampling.top_logprobs and able(f"top_logprobs={sampling.top_logprobs}"):
        fields |= log_prob_fields(sampling.top_logprobs, chat=chat)
    return fields


def probe_of(spec: ModelSpec, name: str) -> tuple[str, bytes]:
    """Return path and body of the request that finds out about an ability."""
    fields = probe_fields(name) | {"seed": 1, _limit_name(spec): PROBE_TOKENS}
    if name.startswith("chat."):
        return CHAT_PATH, _body(spec, {"messages": [{"role": "user", "content": PROBE_PROMPT}]} | fields)
    return TEXT_PATH, _body(spec, {"prompt": PROBE_PROMPT} | fields)


def _limit_name(spec: ModelSpec) -> str:
    # `openai:` names want the newer field, which older servers do not know.
    return "max_completion_tokens" if spec.base_url == OPENAI_URL else "max_tokens"


def _body(spec: ModelSpec, fields: Mapping[str, Any]) -> bytes:
    # Half surrogate pairs cannot be sent as UTF-8; as escapes they can.
    return json.dumps({"model": spec.target, **fields}, separators=(",", ":")).encode()


class Client:
    """Asks one server: with the headers and the errors of the `openai` client, without what that does for each request.

    It makes, copies and checks headers and options anew for every one, which takes as long as sending it.
    """

    def __init__(self, client: AsyncOpenAI, connections: httpx2.AsyncClient) -> None:
        """Take the client and the connections that it uses."""
        self._connections = connections
        self._url = str(client.base_url).rstrip("/")
        headers = {**client.auth_headers, **client.default_headers}
        self._headers = {name: value for name, value in headers.items() if isinstance(value, str)}

    async def post(self, path: str, body: bytes) -> bytes:
        """Send a request and return the body of the reply; `path` stands behind the base URL.

        Raises:
            openai.APIStatusError: The server answers, and not with success.
            openai.APIConnectionError: There is no answer.
            ReplyError: The reply is redirected, compressed or longer than what is read.
        """
        return await self._send("POST", path, body)

    async def get(self, path: str) -> bytes:
        """Read what is at `path`; as `post` otherwise."""
        return await self._send("GET", path, None)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.aclose()

    async def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        import httpx2
        from openai import APIConnectionError

        request = self._connections.build_request(method, self._url + path, content=body, headers=self._headers)
        try:
            response = await self._connections.send(request)
        except (httpx2.RequestError, ssl.SSLError) as error:
            raise APIConnectionError(request=request) from error
        if not response.is_success:
            raise _status_error(response)
        return response.content


def _status_error(response: httpx2.Response) -> APIStatusError:
    from openai import APIStatusError

    try:
        body = json.loads(response.text)
    except (ValueError, RecursionError):
        body = None
    return APIStatusError(f"Error code: {response.status_code}", response=response, body=body)


def open_client(spec: ModelSpec, url: str, *, key: str) -> Client:
    """Return a client for the server at `url` that repeats nothing, follows no redirect and caps replies."""
    from openai import AsyncOpenAI, omit

    # The client would read these from the environment and send them to any URL.
    own = {} if url == OPENAI_URL else {"OpenAI-Organization": omit, "OpenAI-Project": omit}
    headers: Any = {"Accept-Encoding": "identity", **own}
    connections = _open_connections(spec, url)
    client = AsyncOpenAI(
        default_headers=headers,
        base_url=url,
        # The client wants some key; an unnamed one must not be taken from the environment and sent anywhere.
        api_key=key or "none",
        max_retries=0,
        http_client=connections,
    )
    return Client(client, connections)


def _open_connections(spec: ModelSpec, url: str) -> httpx2.AsyncClient:
    import httpx2

    class Capped(httpx2.AsyncByteStream):
        """A reply's body, read up to a number of bytes."""

        def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
            self._stream, self._left, self._most = stream, most, most

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._stream:
                self._left -= len(chunk)
                if self._left < 0:
                    raise OversizedReplyError(f"a reply of more than {self._most:,} bytes (option max_reply_bytes)")
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def guard(response: httpx2.Response) -> None:
        if response.is_redirect:
            raise RedirectedError(f"a redirect ({response.status_code}) to {response.headers.get('location')}")
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise CompressedReplyError(f"a compressed reply ({encoding}), though none was asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Capped(response.stream, spec.max_reply_bytes)

    idle = max(FEWEST_IDLE, spec.max_concurrency // IDLE_SHARE)
    return httpx2.AsyncClient(
        # One limit over the whole request bounds everything but the connection: see `Engine`.
        timeout=httpx2.Timeout(None, connect=min(CONNECT_S, spec.timeout)),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=idle),
        event_hooks={"response": [guard]},
        follow_redirects=False,
        # A proxy of the environment is never meant for a server of this machine or network.
        trust_env=not is_private(url),
    )


def is_private(url: str) -> bool:
    """Say whether a URL names this machine or an address of a private network."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host
