"""Kinds of failed requests: what each error of the client means, and what a person is told when it ends the run."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strop.errors import Stopped, StropError, UserError, nearest
from strop.models.endpoints.replies import ReplyError
from strop.models.endpoints.retrying import retry_after
from strop.models.spec import ModelSpec

if TYPE_CHECKING:
    import openai

UNREACHABLE = "unreachable"
REFUSED = ("rate_limit", "server", "timeout")
"""Kinds that say that the server has too much to do."""
EVERY_REQUEST = (
    *("authentication", "permission", "not_found", "no_model", "quota", "no_usage", "redirect", "compressed"),
)
"""Kinds that any other request would meet as well."""
OF_ONE_PROMPT = ("context", "content_filter", "too_large", "prompt")
"""Permanent kinds that say nothing of other prompts."""
ROW_OF_FAILURES = 20
"""After so many calls in a row that failed for good, without an answer between them, the run stops."""
ALTERNATIVES_SHOWN = 12
SAID = 500
"""Characters of an error that are kept."""
CONTEXT = re.compile(
    r"context[ _](length|size|window)|exceed_context|maximum (model )?(context|input|sequence) length"
    r"|(prompt|input|request)[^.]{0,40} (is )?too (long|large)|longer than the (model|maximum)"
    r"|reduce the length of the (messages|prompt|input)"
    r"|exceeds? the (available|model'?s?|maximum)[^.]{0,30}(context|tokens)",
    re.IGNORECASE,
)
"""How servers say that a prompt is longer than the model's context."""
NO_MODEL = re.compile(
    r"model\b.{0,120}?\b(not found|not exist|not available)|model_not_found|unknown model", re.IGNORECASE
)
"""How servers say that they do not have the model."""
HTML = re.compile(r"\s*<(!doctype|html|head|body)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request.

    Attributes:
        kind: Its class.
        message: What the server or the connection said, on one line.
        transient: Whether asking again may help.
        asked_wait: Seconds that the server asked to wait, if it did.
        reached: Whether a server answered at all.
    """

    kind: str
    message: str
    transient: bool
    asked_wait: float | None = None
    reached: bool = True


def failure_of(error: Exception) -> Failure:
    """Say what an error of a request means."""
    import openai

    if isinstance(error, ReplyError):
        return Failure(error.kind, _line(error), error.transient)
    if isinstance(error, openai.APIStatusError):
        return _status_failure(error)
    if isinstance(error, (TimeoutError, openai.APIConnectionError)):
        return _connection_failure(error)
    if isinstance(error, StropError):
        return Failure("prompt", _line(error), transient=False)
    return Failure("malformed", f"{type(error).__name__}: {_line(error)}", transient=True)


def _connection_failure(error: Exception) -> Failure:
    import httpx2

    cause = error.__cause__
    if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)):
        said = _line(cause) or type(cause).__name__
        return Failure(UNREACHABLE, f"no connection ({said})", transient=True, reached=False)
    if isinstance(error, TimeoutError) or isinstance(cause, httpx2.TimeoutException):
        return Failure("timeout", "no answer in time (option timeout)", transient=True)
    if isinstance(cause, httpx2.RemoteProtocolError) and "without sending" not in str(cause):
        return Failure("malformed", f"a reply that breaks off: {_line(cause)}", transient=True)
    said = _line(cause) if cause is not None and str(cause) else type(cause or error).__name__
    return Failure("disconnected", f"the connection broke ({said})", transient=True)


def _status_failure(error: openai.APIStatusError) -> Failure:
    status = error.status_code
    text = error.response.text[:SAID]
    named, code = _said(error.body, text)
    message = " ".join(f"{status} {named}".split())
    waits = retry_after({name.lower(): value for name, value in error.response.headers.items()}, now=time.time())
    kind, transient = _of_status(status, said=f"{named} {code}", html=bool(HTML.match(text)))
    if kind == "no_path":
        kind, message = "not_found", f"404, and a web page: {error.request.url.path} is no path of such a server"
    return Failure(kind, message, transient, waits)


def _of_status(status: int, *, said: str, html: bool) -> tuple[str, bool]:
    if status == 404:
        return ("no_path" if html else "no_model" if NO_MODEL.search(said) else "not_found"), False
    if status in (400, 413, 422):
        kinds = (("context", CONTEXT), ("no_model", NO_MODEL))
        return next((kind for kind, words in kinds if words.search(said)), "request"), False
    if status == 429 and "insufficient_quota" in said:
        return "quota", False
    known = {
        401: ("authentication", False),
        402: ("quota", False),
        403: ("permission", False),
        408: ("timeout", True),
        409: ("conflict", True),
        425: ("server", True),
        429: ("rate_limit", True),
    }
    return known.get(status, ("server", True) if status >= 500 else ("request", False))


def _said(body: object, text: str) -> tuple[str, str]:
    """Return the message and the code (or type) of an error's body, which servers nest differently."""
    inner: Any = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(inner, Mapping):
        return text, ""
    words = [str(inner.get(name)) for name in ("code", "type") if inner.get(name) is not None]
    return str(inner.get("message", text))[:SAID], " ".join(words)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def stop_of(kind: str, message: str, *, spec: ModelSpec, url: str, models: Sequence[str] = ()) -> StropError:
    """Return what a person is told of a failure that every request would meet."""
    key = spec.api_key_env
    close = nearest(spec.target, models)
    fixes = {
        "authentication": f"check the key in ${key}"
        if key
        else "name the key's environment variable: api_key_env: MY_KEY",
        "permission": f"check what the key in ${key or 'api_key_env'} may use",
        "no_model": f"did you mean #{close}?" if close else "give the name under which the server offers the model",
        "not_found": "check the URL, which usually ends in /v1 before the #; for a server that has chat completions "
        "only, set chat: on",
        "quota": "check the account's plan and limits, then run the same command again: the answered calls are kept",
        "no_usage": "use a server that reports usage, or switch its reporting on",
        "redirect": "give the URL that the server names",
        "compressed": "switch compression off in the server or in the proxy before it",
    }
    return UserError(
        f"the server at {url} refuses every request ({kind})",
        value=spec.target,
        why=message,
        fix=fixes[kind],
        alternatives=tuple(models)[:ALTERNATIVES_SHOWN] if kind == "no_model" else (),
    )


def row_stop(count: int, kind: str, message: str, *, transient: bool, url: str) -> StropError:
    """Return the stop after so many failed calls in a row."""
    what = f"{count} requests in a row failed at {url} ({kind})"
    if transient:
        fix = "run the same command again when the server is well: the answered calls are kept"
        return Stopped(what, why=message, fix=fix)
    return UserError(what, why=message, fix="change what the message names; the answered calls are kept")


def unreachable_stop(urls: Sequence[str], message: str, *, attempts: int) -> Stopped:
    """Return the stop where no server can be reached."""
    return Stopped(
        "the model's server cannot be reached" if len(urls) == 1 else "none of the model's servers can be reached",
        value=", ".join(urls),
        why=f"{message}, after {attempts} attempts",
        fix="start it, or correct the URL, and run the same command again: the answered calls are kept",
    )


def offered(body: bytes) -> list[str]:
    """Return the names in a server's list of models; none where it cannot be read."""
    try:
        return [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
