"""What stands before every page: which hosts are answered, which origins may write, and the headers of each reply."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    # Texts of clients must not stay in a browser's cache.
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Hosts:
    """The values of the Host header that are answered; every other one is a sign of DNS rebinding.

    Attributes:
        names: Names and addresses, lower case.
        port: The port that goes with them.
        any_address: Whether any IP address will do, for a server that listens on all of them.
        elsewhere: Names that are answered with any port, for a proxy in front.
    """

    names: frozenset[str]
    port: int
    any_address: bool = False
    elsewhere: frozenset[str] = frozenset()

    def accept(self, header: str) -> bool:
        """Say whether a Host header is one of ours."""
        name, port = _split(header.strip().lower())
        if name in self.elsewhere:
            return True
        ours = port == str(self.port) or (port == "" and self.port == 80)
        return ours and (name in self.names or (self.any_address and _is_address(name)))


def hosts_for(host: str, port: int, *, elsewhere: Iterable[str] = ()) -> Hosts:
    """Return the hosts that a server bound to `host` answers.

    Args:
        host: The address or name that the server listens on.
        port: Its port.
        elsewhere: Further names, answered with any port.
    """
    names = frozenset({*LOOPBACK, _bracketed(host.lower())})
    extra = frozenset(_bracketed(name.lower()) for name in elsewhere)
    return Hosts(names, port, any_address=host in ("0.0.0.0", "::", ""), elsewhere=extra)


def is_loopback(host: str) -> bool:
    """Say whether a server bound to `host` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _split(header: str) -> tuple[str, str]:
    name, colon, port = header.rpartition(":")
    return (name, port) if colon and not port.endswith("]") else (header, "")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class Guard:
    """An ASGI application around another one that turns strangers away and adds the headers of safety."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, with_headers)
            return
        from starlette.responses import PlainTextResponse

        await PlainTextResponse(refusal, status_code=403)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> str | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = [value.decode("latin-1") for value in headers.get(b"host", [])]
        if len(hosts) != 1 or not self._hosts.accept(hosts[0]):
            return "strop: this address is not answered here; use the one that strop annotate printed, or --allow-host"
        origins = [value.decode("latin-1").lower() for value in headers.get(b"origin", [])]
        own = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}
        return None if own.issuperset(origins) else "strop: another page may not write here"
