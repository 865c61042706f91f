"""Many dialogues side by side: each asks one thing after the other, and all of them keep the models busy.

An episode is a generator. It yields what it asks next, a group of questions that do not depend on each other, and is
sent what became of them; in the end it returns its result. It sees an answer only once the call store holds it, so an
episode of a run that was killed is told its stored answers again, up to the very call that is missing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from strop.models.asking import Answered, ask_calls, has_room, keep_abilities, records_of, remembered, unanswered
from strop.models.protocol import Call, Channel, Inquiring, Outcome, Rolling, Sampling, TextModel
from strop.records.rows import Prompt
from strop.runs.calls import FailedCall, StoredCall
from strop.runs.store import CallStore

AT_ONCE = 64
"""Episodes that run side by side."""
WAIT_S = 0.05
"""How long one of several servers is waited for before the next is looked at."""
ALONE_S = 1.0
"""How long the only server is waited for before the run looks for a signal."""

Result = TypeVar("Result")
Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question of an episode.

    Attributes:
        to: The name of the model.
        prompt: What is asked.
        sampling: How the answer is drawn.
        sample: Its index among the answers to this prompt; the same one is the same answer.
    """

    to: str
    prompt: Prompt
    sampling: Sampling
    sample: int = 0

    @property
    def call(self) -> Call:
        """The question as a call."""
        return Call(self.prompt, self.sampling, self.sample)


Episode = Generator[Sequence[Ask], Sequence[Answered], Result]
"""Yields groups of questions, is sent their outcomes in order, returns its result."""


def run_episodes(
    episodes: Iterable[Episode[Result]],
    models: Mapping[str, TextModel],
    *,
    store: CallStore,
    at_once: int = AT_ONCE,
    advance: Advance | None = None,
) -> list[Result]:
    """Run episodes to their end and return their results, in their order.

    Where all models are servers, every episode goes on as soon as its own answers are there. Where one of them
    computes here, the episodes go in step: their questions make one batch, and the next begins when all are answered,
    so that a continued run computes the batches, and the bytes, of an unbroken one.

    Args:
        episodes: Taken as there is room for another one.
        models: Who answers, by the names that the questions use; names may share a model.
        store: Keeps every answer before an episode sees it; holds the run to its budget.
        at_once: Most episodes at a time.
        advance: Told how many episodes have ended, often, also that none has.

    Returns:
        What each episode returned. A question that can have no answer (longer than the model's context) is sent to its
        episode as a failure.

    Raises:
        Stopped: Calls failed in a way that may pass, or the budget has no room; all answers are stored and the same
            command continues.
        UserError: A server refuses every request, or the budget limits money and a price is not known.
    """
    distinct = {id(model): model for model in models.values()}
    for model in distinct.values():
        store.ledger.budget.require_price(model.name, model.price)
    hall = _Hall(episodes, at_once=at_once, advance=advance)
    if all(isinstance(model, Rolling) for model in distinct.values()):
        _roll(hall, models, store)
    else:
        _walk_in_step(hall, models, store)
    return hall.results


@dataclass(slots=True, eq=False)
class _Seat(Generic[Result]):
    """An episode that runs, its number, its open questions and what became of them so far."""

    number: int
    episode: Episode[Result]
    asked: Sequence[Ask]
    outcomes: list[Answered | None]

    @property
    def ready(self) -> bool:
        return None not in self.outcomes


class _Hall(Generic[Result]):
    """The episodes that run now; those that end make room for the next."""

    def __init__(self, episodes: Iterable[Episode[Result]], *, at_once: int, advance: Advance | None) -> None:
        self._waiting = enumerate(episodes)
        self._at_once, self._advance = at_once, advance
        self._ended: dict[int, Result] = {}
        self.seats: list[_Seat[Result]] = []

    @property
    def results(self) -> list[Result]:
        return [self._ended[number] for number in sorted(self._ended)]

    def fill(self) -> list[_Seat[Result]]:
        """Let new episodes in, and return those of them that ask something."""
        entered: list[_Seat[Result]] = []
        while room := self._at_once - len(self.seats):
            fresh = list(islice(self._waiting, room))
            if not fresh:
                break
            for number, episode in fresh:
                seat = _Seat(number, episode, (), [])
                if self._resume(seat, start=True):
                    self.seats.append(seat)
                    entered.append(seat)
        return entered

    def go_on(self, seat: _Seat[Result]) -> bool:
        """Tell an episode what became of its questions; say whether it asks more."""
        if self._resume(seat, start=False):
            return True
        self.seats.remove(seat)
        return False

    def tell(self, ended: int = 0) -> None:
        if self._advance is not None:
            self._advance(ended)

    def _resume(self, seat: _Seat[Result], *, start: bool) -> bool:
        told = [outcome for outcome in seat.outcomes if outcome is not None]
        try:
            asked = next(seat.episode) if start else seat.episode.send(told)
            while not asked:
                asked = seat.episode.send([])
        except StopIteration as end:
            self._ended[seat.number] = end.value
            self.tell(1)
            return False
        seat.asked, seat.outcomes = asked, [None] * len(asked)
        return True


def _walk_in_step(hall: _Hall[Result], models: Mapping[str, TextModel], store: CallStore) -> None:
    hall.fill()
    while hall.seats:
        places: dict[int, list[tuple[_Seat[Result], int]]] = defaultdict(list)
        for seat in hall.seats:
            for place, ask in enumerate(seat.asked):
                places[id(models[ask.to])].append((seat, place))
        for asked in places.values():
            first, place = asked[0]
            calls = [seat.asked[place].call for seat, place in asked]
            answers = ask_calls(models[first.asked[place].to], lambda calls=calls: iter(calls), store=store)  # type: ignore[misc]
            for (seat, place), answer in zip(asked, answers, strict=True):
                seat.outcomes[place] = answer
        hall.tell()
        for seat in list(hall.seats):
            hall.go_on(seat)
        hall.fill()


def _roll(hall: _Hall[Result], models: Mapping[str, TextModel], store: CallStore) -> None:
    with ExitStack() as stack:
        lines: dict[int, _Line[Result]] = {
            id(model): _Line(model, store, stack)
            for model in {id(model): model for model in models.values()}.values()
            if isinstance(model, Rolling)
        }
        asking = hall.fill()
        while True:
            while asking:
                seats, asking = asking, []
                places: dict[int, list[tuple[_Seat[Result], int]]] = defaultdict(list)
                for seat in seats:
                    for place, ask in enumerate(seat.asked):
                        places[id(models[ask.to])].append((seat, place))
                for server, asked in places.items():
                    lines[server].take(asked)
                for seat in seats:
                    if seat.ready:
                        asking += _next(hall, seat)
            flying = sum(line.flying for line in lines.values())
            for line in lines.values():
                flying += line.send(flying=flying)
            busy = [line for line in lines.values() if line.flying]
            if not busy:
                break
            for line in busy:
                for seat in line.collect(wait=ALONE_S if len(busy) == 1 else WAIT_S):
                    asking += _next(hall, seat)
            hall.tell()
        for line in lines.values():
            line.check()


def _next(hall: _Hall[Result], seat: _Seat[Result]) -> list[_Seat[Result]]:
    return [seat] if hall.go_on(seat) else hall.fill()


class _Line(Generic[Result]):
    """One server: the calls that wait for room or budget, and those in flight with the seats that wait for them."""

    def __init__(self, model: Rolling, store: CallStore, stack: ExitStack) -> None:
        self._model, self._store = model, store
        self._inquiring = model if isinstance(model, Inquiring) else None
        self._known = remembered(model, store)
        self._channel: Channel = stack.enter_context(model.channel())
        self._waiting: deque[tuple[str, Call]] = deque()
        self._wanted: dict[str, list[tuple[_Seat[Result], int]]] = defaultdict(list)
        self._keys: dict[int, tuple[str, Call]] = {}
        self._failures: list[FailedCall] = []
        self._taken = 0

    @property
    def flying(self) -> int:
        """Calls in flight, and answers that were not collected."""
        return self._channel.flying

    def take(self, asked: Sequence[tuple[_Seat[Result], int]]) -> None:
        """Answer questions, places of seats, from the store, and keep the others for the server."""
        calls = [seat.asked[place].call for seat, place in asked]
        keys = [call.key(self._model.revision) for call in calls]
        known = self._store.get_many(keys)
        for (seat, place), key, call in zip(asked, keys, calls, strict=True):
            if key in known:
                seat.outcomes[place] = known[key]
                continue
            if key not in self._wanted:
                self._waiting.append((key, call))
            self._wanted[key].append((seat, place))

    def send(self, *, flying: int) -> int:
        """Send what there is room and budget for; return how many calls that was."""
        sent = 0
        while self._waiting and self._channel.has_room():
            key, call = self._waiting[0]
            if not has_room(call, self._store, self._model.price, flying=flying + sent):
                break
            self._waiting.popleft()
            self._keys[self._taken] = key, call
            self._channel.send(self._taken, call)
            self._taken += 1
            sent += 1
        return sent

    def collect(self, *, wait: float) -> Iterator[_Seat[Result]]:
        """Store what has landed, and yield the seats whose questions are all answered now."""
        landed = self._channel.collect(wait=wait)
        if self._inquiring is not None:
            keep_abilities(self._inquiring, self._store, self._known)
        records: list[Answered] = []
        for index, outcome in landed:
            records += self._records(index, outcome)
        stored = self._store.put_many(records)
        for record in records:
            final = stored.get(record.key, record) if isinstance(record, StoredCall) else record
            if isinstance(final, FailedCall) and (not final.final or final.transient):
                self._failures += [final] if final.final else []
                continue
            for seat, place in self._wanted.pop(final.key, ()):
                seat.outcomes[place] = final
                if seat.ready:
                    yield seat

    def check(self) -> None:
        """Raise what kept calls from being answered."""
        if self._channel.stop is not None:
            raise self._channel.stop
        if self._failures:
            raise unanswered(self._model, self._failures, asked=self._taken)
        if self._waiting:
            raise self._store.ledger.reached()

    def _records(self, index: int, outcome: Outcome) -> list[Answered]:
        key, call = self._keys.pop(index)
        return records_of(self._model, key, call, outcome)
