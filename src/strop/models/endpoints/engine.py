"""The loop behind an endpoint: requests in flight on a thread of their own, calls and outcomes on the caller's.

The caller hands jobs over as long as there is room and collects what has landed, in whatever batches it lands. A job
that failed and may succeed later waits for its turn without taking a place in flight.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from random import Random
from types import TracebackType
from typing import Self

from strop.errors import StropError
from strop.models.endpoints.jobs import Job, Landed, Probe
from strop.models.endpoints.refusals import (
    EVERY_REQUEST,
    OF_ONE_PROMPT,
    REFUSED,
    ROW_OF_FAILURES,
    UNREACHABLE,
    Failure,
    failure_of,
    offered,
    row_stop,
    stop_of,
    unreachable_stop,
)
from strop.models.endpoints.replicas import Replica, Replicas
from strop.models.endpoints.retrying import Retrying
from strop.models.endpoints.secrets import Secret
from strop.models.endpoints.wire import Client, open_client
from strop.models.protocol import CallFailure
from strop.models.spec import ModelSpec

LINGER_S = 0.04
"""How long landed answers wait for others, so that they are stored together: every batch costs two changes of thread
and a flush to the disk. It is what a kill may lose beside the requests in flight."""
AHEAD = 1
"""For each so many calls that may be in flight, one more is ready to follow, so that nobody waits for the caller."""
OFFERED_S = 10.0
JOIN_S = 10.0


log = logging.getLogger(__name__)


class Engine:
    """Sends jobs to the servers of an endpoint for as long as the block lasts."""

    def __init__(self, spec: ModelSpec, replicas: Replicas, secret: Secret) -> None:
        """Keep the settings; the thread starts with the block."""
        self._spec, self._replicas, self._secret = spec, replicas, secret
        self._retrying = Retrying(spec.retries, spec.retry_for)
        self._random = Random(spec.model)
        self.stop: StropError | None = None
        """Why no further job is sent, once that is so."""
        self.outstanding = 0
        """Jobs that were submitted and not collected."""
        self._outbox: list[Job] = []
        self._landed: SimpleQueue[tuple[Landed, int] | BaseException] = SimpleQueue()
        # Of the loop's thread:
        self._ready: deque[Job] = deque()
        self._waiting: dict[Job, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._failed_in_a_row = 0
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name="strop-endpoint", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(JOIN_S)

    # The caller's side.

    def has_room(self) -> bool:
        """Say whether another job may be submitted: little more than may be in flight, and what waits beside it."""
        limit = self._replicas.limit
        waiting = min(len(self._waiting), self._spec.max_concurrency)
        return self.outstanding < limit + limit // AHEAD + waiting

    def submit(self, job: Job) -> None:
        """Hand a job over; it is sent at the next `collect` at the latest."""
        self.outstanding += 1
        self._outbox.append(job)

    def collect(self, *, wait: float | None = None, linger: float = LINGER_S) -> Landed:
        """Wait for something to land, and return all that has.

        Args:
            wait: Seconds after which nothing is returned; None waits for as long as it takes.
            linger: Seconds to wait for others, once something has landed.
        """
        if self._outbox:
            self._loop.call_soon_threadsafe(self._accept, self._outbox)
            self._outbox = []
        try:
            entries = [self._landed.get(timeout=wait)]
        except Empty:
            return []
        if self.outstanding > 1 and linger:
            time.sleep(linger)
        with suppress(Empty):
            while True:
                entries.append(self._landed.get_nowait())
        outcomes: Landed = []
        for entry in entries:
            if isinstance(entry, BaseException):
                raise entry
            landed, more = entry
            outcomes += landed
            self.outstanding += more - 1
        return outcomes

    # The loop's side.

    def _live(self) -> None:
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._landed.put(error)
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._clients = {
            replica.url: open_client(self._spec, replica.url, key=self._secret.value) for replica in self._replicas.all
        }
        await self._over.wait()
        for timer in (*self._waiting.values(), *([self._alarm] if self._alarm else [])):
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    def _accept(self, jobs: list[Job]) -> None:
        self._ready.extend(jobs)
        if self.stop is not None:
            self._give_up_all()
        self._dispatch()

    def _dispatch(self) -> None:
        now = self._loop.time()
        while self._ready and (replica := self._replicas.choose(now)) is not None:
            job = self._ready.popleft()
            job.began = now if job.began is None else job.began
            replica.start(now)
            task = self._loop.create_task(self._attempt(job, replica))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        if self._ready:
            self._wake_at(self._replicas.next_room(now))

    def _wake_at(self, moment: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if moment == float("inf") else self._loop.call_at(moment, self._dispatch)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._landed.put(error)

    async def _attempt(self, job: Job, replica: Replica) -> None:
        started = self._loop.time()
        try:
            body = await self._post(job, replica)
            latency = self._loop.time() - started
            landed, again = job.read(body, latency_s=latency)
        except Exception as error:  # whatever a request meets becomes a recorded failure of its calls
            await self._fail(job, replica, failure_of(error), started)
        else:
            replica.land(self._loop.time(), latency=latency, refused=False)
            self._failed_in_a_row = 0
            self._ready.extendleft(again)
            self._landed.put((landed, len(again)))
        if self.stop is not None:
            self._give_up_all()
        self._dispatch()

    async def _post(self, job: Job, replica: Replica) -> bytes:
        async with asyncio.timeout(self._spec.timeout):
            return await self._clients[replica.url].post(job.path, job.body)

    async def _fail(self, job: Job, replica: Replica, failure: Failure, started: float) -> None:
        now = self._loop.time()
        message = self._secret.hide(failure.message)
        job.failures.append(CallFailure(failure.kind, message, failure.transient, now - started))
        if failure.kind == UNREACHABLE:
            self._miss(job, replica, message, started)
            return
        replica.land(now, latency=now - started, refused=failure.kind in REFUSED)
        if failure.kind in EVERY_REQUEST:
            models = await self._offered(replica) if failure.kind == "no_model" else []
            self.stop = self.stop or stop_of(failure.kind, message, spec=self._spec, url=replica.url, models=models)
        wait = self._retrying.wait(
            job.failures, elapsed=now - (job.began or now), asked=failure.asked_wait, random=self._random
        )
        if wait is None or self.stop is not None:
            self._count(job, failure, message, replica.url)
            self._lose(job)
        else:
            self._waiting[job] = self._loop.call_later(wait, self._retry, job)
            self._landed.put(([], 1))  # there is room for another job now

    def _miss(self, job: Job, replica: Replica, message: str, started: float) -> None:
        self._ready.appendleft(job)
        now = self._loop.time()
        if replica.miss(now, started=started):
            log.warning("%s cannot be reached; next try in %.1f s", replica.url, replica.aside_until - now)
        # A server of our own that has ended will not come again by itself.
        patience = 0.0 if self._spec.kind == "vllm" else self._spec.retry_for
        if self._replicas.given_up(now, retries=self._spec.retries, patience=patience):
            urls = [other.url for other in self._replicas.all]
            self.stop = self.stop or unreachable_stop(urls, message, attempts=replica.strikes)

    def _count(self, job: Job, failure: Failure, message: str, url: str) -> None:
        if isinstance(job, Probe) or failure.kind in OF_ONE_PROMPT:
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= ROW_OF_FAILURES and self.stop is None:
            self.stop = row_stop(self._failed_in_a_row, failure.kind, message, transient=failure.transient, url=url)

    def _retry(self, job: Job) -> None:
        del self._waiting[job]
        self._ready.append(job)
        self._dispatch()

    def _lose(self, job: Job) -> None:
        self._landed.put((job.lose(), 0))

    def _give_up_all(self) -> None:
        """Give up what is not in flight."""
        for timer in self._waiting.values():
            timer.cancel()
        given_up = [*self._ready, *self._waiting]
        self._ready.clear()
        self._waiting.clear()
        for job in given_up:
            self._lose(job)

    async def _offered(self, replica: Replica) -> list[str]:
        """Return the names of the server's models, as far as it tells."""
        try:
            async with asyncio.timeout(OFFERED_S):
                reply = await self._clients[replica.url].get("/models")
            return [self._secret.hide(name) for name in offered(reply)]
        except Exception:  # the list is a courtesy
            return []
