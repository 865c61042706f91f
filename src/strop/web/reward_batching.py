"""Many clients, one reward model: what waits at the same time is scored in one batch, by one thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from strop.errors import Stopped, StropError
from strop.models.rewards.folder import FolderReward

TEXTS_AT_ONCE = 256
"""Most texts that are taken from the queue for one batch; a single request may hold more."""
WAIT_S = 0.005
"""How long a request waits for others to share its batch."""

Tokens = list[list[int]]
Reading = Callable[[], Tokens]
"""Turns a request into tokens; it may refuse it."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    read: Reading
    done: Future[list[float]]


class Batcher:
    """Scores the texts of waiting requests together.

    Tokenizer and model are used by this one thread alone. A request that is refused, for a text over the window, fails
    by itself: the others of its batch are scored.
    """

    def __init__(self, reward: FolderReward, *, normalised: bool = False) -> None:
        """Start the thread.

        Args:
            reward: An open reward model; whoever opened it closes it, after this.
            normalised: Whether rewards are given in standard deviations from the mean.
        """
        self._reward, self._normalised = reward, normalised
        self._queue: queue.Queue[_Waiting | None] = queue.Queue()
        self._closed = False
        self.batches: list[int] = []
        self._thread = threading.Thread(target=self._work, name="reward model", daemon=True)
        self._thread.start()

    def submit(self, read: Reading) -> Future[list[float]]:
        """Queue a request; its rewards come in the order of its texts."""
        waiting = _Waiting(read, Future())
        if self._closed:
            waiting.done.set_exception(Stopped("the reward server is stopping"))
        else:
            self._queue.put(waiting)
        return waiting.done

    def close(self) -> None:
        """Score what waits, then stop."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            taken, going = self._take()
            read: list[tuple[_Waiting, Tokens]] = []
            for waiting in taken:
                if not waiting.done.set_running_or_notify_cancel():
                    continue
                try:
                    read.append((waiting, waiting.read()))
                except Exception as error:
                    waiting.done.set_exception(error)
            self._score(read)

    def _take(self) -> tuple[list[_Waiting], bool]:
        """Return the requests of the next batch, and whether there will be others."""
        first = self._queue.get()
        if first is None:
            return [], False
        taken, until = [first], time.monotonic() + WAIT_S
        while len(taken) < TEXTS_AT_ONCE:
            try:
                another = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if another is None:
                return taken, False
            taken.append(another)
        return taken, True

    def _score(self, read: list[tuple[_Waiting, Tokens]]) -> None:
        texts = [ids for _, tokens in read for ids in tokens]
        if not read:
            return
        self.batches.append(len(texts))
        try:
            rewards = iter(self._reward.rewards(texts, normalised=self._normalised))
        except Exception as error:
            told = error if isinstance(error, StropError) else StropError("the reward model failed", why=str(error))
            for waiting, _ in read:
                waiting.done.set_exception(told)
            return
        for waiting, tokens in read:
            waiting.done.set_result([next(rewards) for _ in tokens])
