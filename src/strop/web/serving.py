"""Serve the annotation page until somebody stops it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strop.errors import UserError
from strop.web.annotations import AnnotationFile
from strop.web.guard import hosts_for
from strop.web.marks import fold

if TYPE_CHECKING:
    import uvicorn

    from strop.judging.pairs import HumanPair

PORT = 8765
ANNOTATOR = "expert"
"""Who annotates where nobody is named."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A server that is bound to its port and not started yet.

    Attributes:
        server: The server.
        socket: The socket that it is to accept on.
        base: The address of the page, without a token.
    """

    server: uvicorn.Server
    socket: socket.socket
    base: str

    def run(self) -> None:
        """Serve until `server.should_exit`, or until a signal."""
        try:
            self.server.run(sockets=[self.socket])
        except KeyboardInterrupt:
            # Stopping is how a sitting ends: every mark is on the disk.
            pass
        finally:
            self.socket.close()


def bind(
    pairs: Sequence[HumanPair],
    file: AnnotationFile,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    elsewhere: Sequence[str] = (),
) -> Bound:
    """Bind the annotation page of `pairs` to a port.

    Args:
        pairs: The pairs that `file` belongs to.
        file: The open file of annotations.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        elsewhere: Further names that the page is reached by, through a proxy.

    Raises:
        UserError: The web extra is missing, or the port cannot be had.
    """
    try:
        import uvicorn

        from strop.web.desk import Desk
        from strop.web.pages import annotation_app
    except ModuleNotFoundError as error:
        raise UserError(
            "the annotation page needs starlette and uvicorn", why=str(error), fix="pip install 'strop[web]'"
        ) from error
    listener = listen(host, port)
    port = listener.getsockname()[1]
    application = annotation_app(Desk(pairs, file), hosts_for(host, port, elsewhere=elsewhere))
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=3,
    )
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return Bound(uvicorn.Server(config), listener, f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/")


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        UserError: The port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            "cannot listen on this address", value=f"{host}:{port}", why=str(error), fix="--port 0 takes a free port"
        ) from error
    return listener


def default_path(pairs: Path) -> Path:
    """Return where the annotations of a file of pairs are kept: beside it."""
    return pairs.with_name(f"{pairs.name}.annotations.sqlite")


def progress(file: AnnotationFile) -> dict[str, int]:
    """Return on how many pairs each annotator has a verdict."""
    marks = {name: fold(file.events(name)).values() for name in file.tokens()}
    return {name: sum(mark.verdict is not None for mark in found) for name, found in marks.items()}


def add_annotators(file: AnnotationFile, names: str | None) -> None:
    """Add the annotators of a list by commas; `ANNOTATOR` where a file has none and none is given.

    Raises:
        UserError: A name cannot be used, or occurs twice.
    """
    given = [name.strip() for name in (names or "").split(",") if name.strip()]
    file.add_annotators(given if given or file.tokens() else [ANNOTATOR])
