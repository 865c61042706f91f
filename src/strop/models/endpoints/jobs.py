"""What is sent as one request: samples of one prompt, or the question what a server can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from strop.models.endpoints.abilities import judged, refused
from strop.models.endpoints.replies import Choice, MalformedReplyError, Reply, ReplyError, Usage, read_reply
from strop.models.endpoints.wire import CHAT_PATH
from strop.models.protocol import Call, CallFailure, Completion, Outcome
from strop.runs.calls import Ability

Place = tuple[int, Call]
"""A call and where it stands among all."""
Landed = list[tuple[int, Outcome]]


@dataclass(slots=True, eq=False)
class Job(ABC):
    """One request and what it met so far.

    Attributes:
        path: Behind the base URL.
        body: JSON.
        failures: What went wrong so far.
        began: When it was first sent, by the clock of the loop.
    """

    path: str
    body: bytes
    failures: list[CallFailure] = field(default_factory=list)
    began: float | None = None

    @abstractmethod
    def read(self, body: bytes, *, latency_s: float) -> tuple[Landed, list[Job]]:
        """Return the outcomes of the job's calls, and jobs for what the reply lacks.

        Raises:
            ReplyError: The reply is no answer.
        """

    @abstractmethod
    def lose(self) -> Landed:
        """Return the outcomes where the job is given up; none where it was never tried."""


@dataclass(slots=True, eq=False)
class CallsJob(Job):
    """Samples of one prompt.

    Attributes:
        places: The calls.
        finished: Makes the answer's text from what the server wrote.
        alone: Makes a job for one of the calls.
    """

    places: Sequence[Place] = ()
    finished: Callable[[str, Call], str] = lambda text, _: text
    alone: Callable[[Place], CallsJob] | None = None

    def read(self, body: bytes, *, latency_s: float) -> tuple[Landed, list[Job]]:
        """Return an outcome for every call whose choice is whole; the others are asked for alone."""
        reply = read_reply(body, chat=self.path == CHAT_PATH)
        if len(self.places) == 1 and isinstance(only := reply.choices.get(0, _MISSING), ReplyError):
            raise only
        whole = [place for place in range(len(self.places)) if isinstance(reply.choices.get(place), Choice)]
        landed = self._answers(reply, whole, latency_s)
        again: list[Job] = []
        for place in range(len(self.places)):
            choice = reply.choices.get(place, _MISSING)
            if isinstance(choice, ReplyError):
                failure = CallFailure(choice.kind, str(choice), choice.transient, latency_s)
                if choice.transient:
                    again.append(self._alone(place, failure))
                else:
                    landed.append((self.places[place][0], replace(failure, attempts=tuple(self.failures))))
        return landed, again

    def _answers(self, reply: Reply, whole: Sequence[int], latency_s: float) -> Landed:
        choices = [choice for place in whole if isinstance(choice := reply.choices[place], Choice)]
        usages = shared(reply.usage, choices)
        return [
            (
                self.places[place][0],
                Completion(
                    text=self.finished(choice.text, self.places[place][1]),
                    prompt_tokens=usage.prompt,
                    completion_tokens=usage.completion,
                    finish=choice.finish,
                    latency_s=latency_s,
                    cached_tokens=usage.cached,
                    log_probs=choice.log_probs if self.places[place][1].sampling.top_logprobs else None,
                    attempts=tuple(self.failures),
                ),
            )
            for place, choice, usage in zip(whole, choices, usages, strict=True)
        ]

    def _alone(self, place: int, failure: CallFailure) -> CallsJob:
        assert self.alone is not None
        job = self.alone(self.places[place])
        job.failures, job.began = [*self.failures, failure], self.began
        return job

    def lose(self) -> Landed:
        """Return the last failure, with those before it as attempts."""
        if not self.failures:
            return []
        failure = replace(self.failures[-1], attempts=tuple(self.failures[:-1]))
        return [(index, failure) for index, _ in self.places]


_MISSING = MalformedReplyError("a reply that lacks one of its choices")


def shared(usage: Usage, choices: Sequence[Choice]) -> Iterator[Usage]:
    """Yield each choice's tokens: the prompt's go to the first, those written are shared out by length.

    The sums are those of `usage` exactly.
    """
    lengths = [len(choice.text) + 1 for choice in choices]
    total, before = sum(lengths), 0
    for number, length in enumerate(lengths):
        first, last = (usage.completion * edge // total for edge in (before, before + length))
        before += length
        yield Usage(usage.prompt, last - first, usage.cached) if number == 0 else Usage(0, last - first, 0)


@dataclass(slots=True, eq=False)
class Probe(Job):
    """The question whether a server has an ability.

    Attributes:
        name: The ability.
        found: The answer, once it is there.
        sure: Whether the server said so; otherwise it failed for another reason and is asked again another time.
    """

    name: str = ""
    found: Ability | None = None
    sure: bool = True

    def read(self, body: bytes, *, latency_s: float) -> tuple[Landed, list[Job]]:
        """Judge the ability by the reply."""
        self.found = judged(self.name, read_reply(body, chat=self.path == CHAT_PATH))
        return [], []

    def lose(self) -> Landed:
        """Take a refusal as the answer."""
        if self.failures:
            self.sure = not self.failures[-1].transient
            self.found = refused(self.failures[-1].message)
        return []
