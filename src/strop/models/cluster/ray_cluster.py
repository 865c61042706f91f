"""A Ray cluster, joined or started for the time that models are open on it, without its noise."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from strop.errors import UserError

PASSED_ON = ("HF_HUB_OFFLINE", "OMP_NUM_THREADS", "PYTHONPATH", "STROP_CACHE")
"""What workers need of this process's environment. Keys are not among it: Ray writes what it passes on to its logs."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""No report of its use to its makers; workers without a GPU keep their environment."""


class Cluster:
    """The cluster that this process uses: Ray has one for a process, so its users share it.

    Attributes:
        own: Whether it was started here; it then ends with its last user.
    """

    def __init__(self) -> None:
        """Use none yet."""
        self.own = False
        self._address = ""
        self._users = self._keepers = 0
        # A connection that other code of this process has made is not ours to close.
        self._connected_here = False

    def join(self, address: str) -> None:
        """Become a user of the cluster, and connect to it if this is the first.

        Args:
            address: ``local`` starts one here, ``auto`` finds the one that runs here, ``ray://HOST:PORT`` is elsewhere.

        Raises:
            UserError: Ray is not installed, no cluster is there, or this process uses another one.
        """
        ray = import_ray()
        if (self._users or (self._keepers and self._connected_here)) and address != self._address:
            raise UserError(
                "this process is connected to another Ray cluster",
                value=address,
                why=f"models that are open use {self._address}, and Ray joins one at a time",
                fix="give every model of a run the same ray_address",
            )
        if not ray.is_initialized():
            _connect(ray, address)
            self._connected_here, self.own = True, address == "local"
        self._address = address
        self._users += 1

    def leave(self) -> None:
        """Stop being a user; the last one closes the connection, and so ends a cluster of our own."""
        self._users -= 1
        self._close_if_unused()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the cluster between one user and the next: starting it takes longer than many a stage."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not (self._users or self._keepers) and self._connected_here:
            self._connected_here = self.own = False
            import_ray().shutdown()


CLUSTER = Cluster()


def import_ray() -> ModuleType:
    """Return Ray with its data library, quietened.

    Raises:
        UserError: It is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            "executor: ray needs Ray", why=str(error), fix="pip install 'strop[scale]', or executor: local"
        ) from error
    # Its own handlers write to the console; what matters of a failure is in the exception.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    module: ModuleType = ray
    return module


def _connect(ray: ModuleType, address: str) -> None:
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        with _kept_signals():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            "no Ray cluster can be used",
            value=address,
            why=" ".join(str(error).split()),
            fix="start one with 'ray start --head', correct ray_address, or use ray_address: local",
        ) from error


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Put back the handlers of signals that end a run: Ray sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def passed_on() -> dict[str, str]:
    """Return the variables that workers are given; paths are made absolute, for a worker has a folder of its own."""
    given = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if "PYTHONPATH" in given:
        parts = given["PYTHONPATH"].split(os.pathsep)
        given["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in parts if part)
    if "STROP_CACHE" in given:
        given["STROP_CACHE"] = str(Path(given["STROP_CACHE"]).absolute())
    return given
