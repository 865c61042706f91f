"""Keys stay out of everything that is kept or shown: answers, failures, errors, logs."""

from __future__ import annotations

import base64
import logging
from urllib.parse import quote

HIDDEN = "***"
SHORTEST = 8
"""A shorter key is a placeholder ("EMPTY", "none"): hiding it would damage answers that hold the word."""
CLIENT_LOGGERS = (
    "openai",
    "openai._base_client",
    "httpx2",
    *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
    "asyncio",
)
"""The loggers of what sends requests; a server may echo the key in a header, which they show."""


class Secret:
    """A key, and how to take it out of a text."""

    def __init__(self, value: str) -> None:
        """Keep `value`; an empty one hides nothing."""
        self.value = value
        self._forms = forms(value) if len(value) >= SHORTEST else ()
        if self._forms:
            _FILTER.forms.update(self._forms)
            for name in CLIENT_LOGGERS:
                logging.getLogger(name).addFilter(_FILTER)

    def hide(self, text: str) -> str:
        """Return `text` with every form of the key replaced."""
        return _hide(text, self._forms)

    def __repr__(self) -> str:
        return f"Secret({HIDDEN if self.value else ''})"


def forms(key: str) -> tuple[str, ...]:
    """Return how a key may stand in a text: as it is, quoted for a URL, within any base64.

    What base64 makes of a text depends on its place among the bytes around it, by threes; of each place the characters
    are taken that no neighbour changes.
    """
    raw = key.encode()
    encoded = []
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        inner = whole[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        encoded += [inner, inner.replace("+", "-").replace("/", "_")]
    return tuple(dict.fromkeys((key, quote(key, safe=""), *encoded)))


def _hide(text: str, hidden: tuple[str, ...] | set[str]) -> str:
    for form in hidden:
        if form in text:
            text = text.replace(form, HIDDEN)
    return text


class _KeyFilter(logging.Filter):
    """Takes the keys of all open endpoints out of log records."""

    forms: set[str] = set()  # noqa: RUF012 - one for all records of the process

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without keys."""
        message = record.getMessage()
        hidden = _hide(message, self.forms)
        if hidden != message:
            record.msg, record.args = hidden, ()
        return True


_FILTER = _KeyFilter()
