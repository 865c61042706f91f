"""Serve a reward model until somebody stops it, once it has shown that it serves what it scores offline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from strop.errors import StropError, UserError
from strop.models.rewards import Item
from strop.models.rewards.folder import FolderReward
from strop.models.rewards.reading import render_text
from strop.models.rewards.served import PATH, ServedReward, conversation
from strop.web.guard import LOOPBACK, is_loopback
from strop.web.reward_batching import Batcher
from strop.web.serving import listen

if TYPE_CHECKING:
    from starlette.applications import Starlette

PORT = 5000
"""Of the published command."""
STOPPING_S = 30
"""How long requests in flight may take when the server is told to stop."""
STARTING_S = 30.0
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
"""How far a served score may be from the offline one, relative to scores above 1."""
SAMPLES: tuple[Item, ...] = (
    ("I can't sleep and I feel alone.", "What goes through your mind at night?"),
    ("I lost my job.", "That is a hard blow. How are you coping with it, day by day?"),
    ("My sister and I do not talk any more.", "You miss her."),
    ("I don't know whether to stay.", "Stay.\n\nOr go: it is your choice, and it need not be made today."),
    ("I am fine.", "OK."),
)
"""Own texts, of several lengths, that fit any window worth serving."""


def application(reward: FolderReward, batcher: Batcher, *, normalised: bool, host: str) -> Starlette:
    """Return the application for a server on `host`.

    Raises:
        UserError: The web extra is missing.
    """
    try:
        from strop.web.reward_app import reward_app

        names = [*LOOPBACK, "[::1]"] if is_loopback(host) else ["*"]
        return reward_app(reward, batcher, normalised=normalised, hosts=names)
    except ModuleNotFoundError as error:
        raise UserError(
            "serving needs starlette and uvicorn", why=str(error), fix="pip install 'strop[web]'"
        ) from error


def serve(app: Starlette, *, host: str, port: int, ready: Any = lambda base: None) -> None:
    """Serve until a signal; requests in flight are finished.

    Args:
        app: The application.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        ready: Told the address, once it is bound.

    Raises:
        UserError: The port cannot be had.
    """
    listener = listen(host, port)
    bound = listener.getsockname()[1]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    ready(f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}{PATH}")
    try:
        _server(app).run(sockets=[listener])
    except KeyboardInterrupt:
        # How a server is stopped.
        pass
    finally:
        listener.close()


def _server(app: Starlette) -> Any:
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=STOPPING_S,
    )
    return uvicorn.Server(config)


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """Serve on a free port of this machine, in a thread, until the block ends; yield the address.

    Raises:
        StropError: The server does not start.
    """
    listener = listen("127.0.0.1", 0)
    server = _server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until = time.monotonic() + STARTING_S
    try:
        while not server.started:
            if time.monotonic() > until or not thread.is_alive():
                raise StropError("the reward server did not start")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def check_parity(reward: FolderReward, app: Starlette, *, normalised: bool, samples: Sequence[Item] = SAMPLES) -> float:
    """Ask the server for scores in both of its forms, all at a time, and compare them with offline scores one by one.

    Args:
        reward: The reward model.
        app: The application that serves it.
        normalised: Whether it serves normalised rewards.
        samples: What is scored.

    Returns:
        The largest difference.

    Raises:
        StropError: A served score is not the offline one.
    """
    offline = [reward.score([item], normalised=normalised)[0] for item in samples]
    with running(app) as address:
        client = ServedReward(address)
        try:
            in_turns = client.score(list(samples))
            rendered = [client_text(reward, item) for item in samples]
            with ThreadPoolExecutor(len(samples)) as clients:
                as_texts = list(clients.map(client.score_text, rendered))
        finally:
            client.close()
    differences = [
        abs(served - own) / max(1.0, abs(own))
        for column in (in_turns, as_texts)
        for served, own in zip(column, offline, strict=True)
    ]
    bound = TOLERANCE.get(reward.dtype, TOLERANCE["bfloat16"])
    if max(differences) > bound:
        raise StropError(
            "served scores are not the offline ones",
            value=f"largest difference {max(differences):.2e}, bound {bound:g}",
            why="the server renders or batches in another way than the model was trained",
            fix="serve with --dtype float32; if that does not help, this is a defect of strop",
        )
    return max(differences)


def client_text(reward: FolderReward, item: Item) -> str:
    """Return an item as a client of the published protocol sends it: the chat template's text, as it is.

    Models without a template have no such form; they are sent the text that they read.
    """
    if reward.facts.form != "chat":
        return render_text(reward.tokenizer, item, form=reward.facts.form)
    return str(reward.tokenizer.apply_chat_template(conversation(item), tokenize=False))
