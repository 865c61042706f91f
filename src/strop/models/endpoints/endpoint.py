"""An OpenAI-compatible server, or several: conversations through chat completions, plain prompts through completions.

The engine keeps requests in flight; this is the model in front of it: which calls share a request, what a server can
do, what its tokens cost.
"""

from __future__ import annotations

import logging
import os
from collections import ChainMap
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from strop.errors import StropError
from strop.models.endpoints.abilities import path_name, wishes_of
from strop.models.endpoints.engine import Engine
from strop.models.endpoints.jobs import CallsJob, Job, Place, Probe
from strop.models.endpoints.prices import price_of
from strop.models.endpoints.replicas import open_replicas
from strop.models.endpoints.secrets import Secret
from strop.models.endpoints.wire import probe_of, request_of, request_seed
from strop.models.protocol import Call, Outcome
from strop.models.render import as_messages, read_completion
from strop.models.spec import ModelSpec
from strop.runs.budget import FREE, Price
from strop.runs.calls import Ability

MOST_SAMPLES = 32
"""The most samples of one prompt in a request."""

__all__ = ["EndpointModel", "request_seed"]

LINGER_S = 0.005
"""How long a channel waits for other answers, once one has landed: somebody waits for it before asking on."""

log = logging.getLogger(__name__)


class EndpointModel:
    """A model behind one or more URLs."""

    def __init__(self, spec: ModelSpec, *, base_url: str = "", name: str = "") -> None:
        """Prepare; nothing is sent.

        Args:
            spec: An endpoint, or the vLLM model whose server is at `base_url`.
            base_url: Where the server is, if not where `spec` says.
            name: What the model is called in reports and call keys, if not as in `spec`.
        """
        self._spec = spec
        self._base_url = base_url or spec.base_url
        self._name = name or spec.model
        self._secret = Secret(os.environ.get(spec.api_key_env, "") if spec.api_key_env else "")
        self._replicas = open_replicas((self._base_url, *spec.replicas), most=spec.max_concurrency)
        self._price = FREE if spec.kind == "vllm" else spec.price or price_of(self._base_url, spec.target)
        self.abilities: dict[str, Ability] = {}
        """What is known of the server: found out when it is first wanted, or remembered by the caller."""
        self._assumed: dict[str, Ability] = {}
        self._known = ChainMap(self.abilities, self._assumed)

    @property
    def name(self) -> str:
        """The model as the configuration names it."""
        return self._name

    @property
    def revision(self) -> str:
        """Base URL and name, or name and stated revision; and the treatment of plain prompts if not the usual one."""
        chat = "" if self._spec.chat == "auto" else f"+chat-{self._spec.chat}"
        return f"{self._name if self._spec.kind == 'vllm' else self._spec.served_as(self._base_url)}{chat}"

    @property
    def price(self) -> Price | None:
        """As the model's option says, else as the price file says, else not known."""
        return self._price

    def describe(self) -> dict[str, Any]:
        """Return how each server is doing: its limit on requests in flight, and whether it is set aside."""
        return {
            replica.url: {"limit": replica.pacer.limit, "flying": replica.pacer.flying, "aside": replica.strikes > 0}
            for replica in self._replicas.all
        }

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield what has come in, as it comes in; see `TextModel.complete`.

        Raises:
            Stopped: No server can be reached, or nothing but failures comes.
            UserError: The server refuses the key, does not know the model, or refuses every request.
        """
        waiting = ((index, call) for index, call in enumerate(calls) if index not in done)
        with Engine(self._spec, self._replicas, self._secret) as engine:
            for job in self._jobs(waiting):
                engine.submit(job)
                while engine.stop is None and (_open(job) or not engine.has_room()):
                    yield from filter(None, (engine.collect(),))
                if engine.stop is not None:
                    break
            while engine.outstanding:
                yield from filter(None, (engine.collect(),))
            stop = engine.stop
        if stop is not None:
            raise stop

    @contextmanager
    def channel(self) -> Iterator[EndpointChannel]:
        """Keep requests in flight for as long as the block lasts; see `Rolling`."""
        with Engine(self._spec, self._replicas, self._secret) as engine:
            yield EndpointChannel(engine, questions=self._questions, job=self._job)

    def close(self) -> None:
        """Do nothing: connections end with the calls."""

    def _jobs(self, places: Iterator[Place]) -> Iterator[Job]:
        """Yield requests, with the questions about the server before the calls that hang on the answers.

        Neighbours that differ in their sample alone share a request where the server can.
        """
        group: list[Place] = []
        for place in places:
            alike = bool(group) and _alike(group[-1][1], place[1])
            yield from self._questions(place[1], repeats=alike)
            if alike and self._can("n", place[1]) and len(group) < MOST_SAMPLES:
                group.append(place)
                continue
            if group:
                yield self._job(group)
            group = [place]
            if self._can("n", place[1]) is False:
                yield self._job([place])
                group = []
        if group:
            yield self._job(group)

    def _job(self, places: Sequence[Place]) -> CallsJob:
        path, body = request_of(self._spec, [call for _, call in places], self._known)
        return CallsJob(path, body, places=tuple(places), finished=self._finished, alone=lambda one: self._job([one]))

    def _finished(self, text: str, call: Call) -> str:
        return self._secret.hide(read_completion(text, call.prompt, chat=self._spec.chat))

    def _questions(self, call: Call, *, repeats: bool) -> Iterator[Probe]:
        for name in wishes_of(call.sampling, chat=self._is_chat(call), repeats=repeats):
            if name in self._known:
                continue
            probe = Probe(*probe_of(self._spec, name), name=name)
            yield probe
            if probe.found is not None:
                (self.abilities if probe.sure else self._assumed)[name] = probe.found
                log.info("%s: %s %s (%s)", self._name, name, "yes" if probe.found.able else "no", probe.found.detail)

    def _can(self, wish: str, call: Call) -> bool | None:
        known = self._known.get(f"{path_name(chat=self._is_chat(call))}.{wish}")
        return None if known is None else known.able

    def _is_chat(self, call: Call) -> bool:
        return as_messages(call.prompt, chat=self._spec.chat) is not None


def _alike(first: Call, second: Call) -> bool:
    same = first.prompt is second.prompt or first.prompt == second.prompt
    return same and (first.sampling is second.sampling or first.sampling == second.sampling)


def _open(job: Job) -> bool:
    return isinstance(job, Probe) and job.found is None


class EndpointChannel:
    """A line to the servers of an endpoint that takes one call after the other; see `Channel`."""

    def __init__(
        self, engine: Engine, *, questions: Callable[..., Iterator[Probe]], job: Callable[[Sequence[Place]], Job]
    ) -> None:
        """Use a running engine.

        Args:
            engine: Keeps requests in flight.
            questions: Gives what must be asked about the server before a call.
            job: Makes the request of calls.
        """
        self._engine, self._questions, self._job = engine, questions, job
        self._landed: list[tuple[int, Outcome]] = []

    @property
    def stop(self) -> StropError | None:
        """Why the servers are not asked any more, once that is so."""
        return self._engine.stop

    @property
    def flying(self) -> int:
        """Requests in flight, and outcomes that were not collected."""
        return self._engine.outstanding + len(self._landed)

    def has_room(self) -> bool:
        """Say whether another call may be sent."""
        return self._engine.stop is None and self._engine.has_room()

    def send(self, index: int, call: Call) -> None:
        """Send a call; where it wishes for what the server has not been asked about, that is asked first."""
        for probe in self._questions(call, repeats=False):
            self._engine.submit(probe)
            while self._engine.stop is None and _open(probe):
                self._landed += self._engine.collect()
        if self._engine.stop is None:
            self._engine.submit(self._job([(index, call)]))

    def collect(self, *, wait: float) -> list[tuple[int, Outcome]]:
        """Return what has landed; wait for something at most `wait` seconds."""
        landed, self._landed = self._landed, []
        if self._engine.outstanding:
            landed += self._engine.collect(wait=0 if landed else wait, linger=LINGER_S)
        return landed
