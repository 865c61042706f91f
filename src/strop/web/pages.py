"""The annotation page as a web application: three static files, and one answer of JSON for each thing that it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from strop.errors import StropError, UserError
from strop.web.annotations import Outdated
from strop.web.desk import Desk, Next, Open, Save, Show, Undo
from strop.web.guard import Guard, Hosts
from strop.web.sittings import Elsewhere

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LARGEST_REQUEST = 100_000
_FILES = {
    "/": ("annotate.html", "text/html"),
    "/annotate.css": ("annotate.css", "text/css"),
    "/annotate.js": ("annotate.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_Asked = TypeVar("_Asked", bound=BaseModel)


class _Refused(StropError):
    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error = status, error


def annotation_app(desk: Desk, hosts: Hosts) -> ASGIApp:
    """Return the application.

    Args:
        desk: The pairs and annotations behind it.
        hosts: The Host headers that are answered.
    """
    routes = [_file_route(path, name, kind) for path, (name, kind) in _FILES.items()]
    routes += [
        _route("/api/open", Open, desk, desk.open),
        _route("/api/show", Show, desk, desk.show),
        _route("/api/next", Next, desk, desk.next),
        _route("/api/save", Save, desk, desk.save),
        _route("/api/undo", Undo, desk, desk.undo),
        _route("/api/beat", Open, desk, lambda annotator, asked: _beat(desk, annotator, asked)),
        _route("/api/leave", Open, desk, lambda annotator, asked: _leave(desk, annotator, asked)),
    ]
    return Guard(Starlette(routes=routes), hosts)


def _beat(desk: Desk, annotator: str, asked: Open) -> dict[str, Any]:
    desk.sittings.claim(annotator, asked.session)
    return {}


def _leave(desk: Desk, annotator: str, asked: Open) -> dict[str, Any]:
    desk.sittings.leave(annotator, asked.session)
    return {}


def _file_route(path: str, name: str, kind: str) -> Route:
    content = files("strop.web").joinpath(name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(path, answer, methods=["GET"])


def _route(path: str, kind: type[_Asked], desk: Desk, handle: Callable[[str, _Asked], dict[str, Any]]) -> Route:
    async def answer(request: Request) -> Response:
        annotator = None
        try:
            annotator = _annotator(request, desk)
            return _json(handle(annotator, kind.model_validate_json(await _body(request))))
        except ClientDisconnect:
            return Response(status_code=400)
        except ValidationError as error:
            return _problem(400, "request", f"not understood: {error.errors()[0]['msg']}")
        except _Refused as refusal:
            return _problem(refusal.status, refusal.error, str(refusal))
        except Elsewhere as elsewhere:
            return _problem(409, "elsewhere", str(elsewhere))
        except Outdated as outdated:
            return _problem(409, "outdated", str(outdated))
        except UserError as error:
            return _problem(500 if error.__cause__ else 400, "refused", str(error))

    return Route(path, answer, methods=["POST"])


def _annotator(request: Request, desk: Desk) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    annotator = desk.annotator_of(token) if scheme.lower() == "bearer" and token.isascii() else None
    if annotator is None:
        raise _Refused(401, "token", "This address carries no valid token. Ask for the address that is meant for you.")
    return annotator


async def _body(request: Request) -> bytes:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_REQUEST:
            raise _Refused(413, "request", f"more than {LARGEST_REQUEST:,} bytes")
    return content


def _json(payload: dict[str, Any], status: int = 200) -> Response:
    # ASCII escapes: lone surrogates, legal in JSON files, have no UTF-8.
    return Response(json.dumps(payload), status_code=status, media_type="application/json")


def _problem(status: int, error: str, message: str) -> Response:
    return _json({"error": error, "message": message}, status)
