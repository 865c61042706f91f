"""Store first: every finished call is read from the store, every new one is stored before it is used.

Calls are taken, asked and read back as streams, so memory does not grow with their number: the answers wait in the
store, not in the process.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import count, islice

from strop.errors import Stopped, StropError, UserError
from strop.models.protocol import Call, CallFailure, Completion, Inquiring, Outcome, Sampling, TextModel
from strop.records.rows import Prompt
from strop.runs.budget import FREE, UNLIMITED, Price
from strop.runs.calls import FailedCall, StoredCall
from strop.runs.store import CallStore

FAILURES_SHOWN = 200
"""Characters of the first failure's message that a stop shows."""
LOOKED_UP = 512
"""Calls that are looked up in the store at a time."""
WINDOW = 8192
"""Calls among which an equal one is left out; later ones count as asked already."""
CHARACTERS_PER_TOKEN = 4
"""A first guess of a prompt's length, until a call has come back."""

Advance = Callable[[int], object]
Answered = StoredCall | FailedCall
"""What became of a call: its answer as it is stored, or why there is none."""


def ask(
    model: TextModel,
    prompts: Collection[Prompt],
    sampling: Sampling,
    *,
    samples: int = 1,
    store: CallStore,
    advance: Advance | None = None,
) -> list[list[str]]:
    """Return `samples` responses to each prompt, in the order of `prompts`; a call without an answer is an error.

    See `ask_each`, which gives failures as values and holds one row at a time.

    Raises:
        Stopped: As `ask_each`.
        UserError: As `ask_each`; or a call failed in a way that asking again does not help.
    """
    rows: list[list[str]] = []
    failures: list[FailedCall] = []
    for row in ask_each(model, prompts, sampling, samples=samples, store=store, advance=advance):
        failures += [outcome for outcome in row if isinstance(outcome, FailedCall)]
        rows.append([outcome.text for outcome in row if isinstance(outcome, StoredCall)])
    if failures:
        unique = list({failure.key: failure for failure in failures}.values())
        fix = "change what the message names; the answered calls are kept"
        raise _failed(model, unique, asked=len(rows) * samples, fix=fix)
    return rows


def ask_each(
    model: TextModel,
    prompts: Collection[Prompt],
    sampling: Sampling,
    *,
    samples: int = 1,
    store: CallStore,
    advance: Advance | None = None,
) -> Iterator[tuple[Answered, ...]]:
    """Ask everything that the store lacks, then yield what became of each prompt's calls, in the order of `prompts`.

    Calls that the store holds are not asked again. The model is handed all calls in their order with a mark on the
    finished ones, so that a continued run computes the same batches, and the same bytes, as an unbroken one.

    Args:
        model: Answers the calls.
        prompts: What to ask, gone through twice; equal prompts share their answers.
        sampling: How to draw; sample `i` of a prompt is its call with index `i`.
        samples: Responses for each prompt.
        store: Keeps every answer and every failure, batch by batch, before any of it is used; holds the run to its
            budget.
        advance: Told how many responses have come, as they come; those from the store at once.

    Yields:
        `samples` outcomes a prompt: an answer, or a failure that asking again does not help (a prompt that is longer
        than the model's context).

    Raises:
        Stopped: Calls failed in a way that may pass, or the budget has no room for the next call; all answers are
            stored and the same command continues.
        UserError: The budget limits money and the model's price is not known.
    """

    def calls() -> Iterator[Call]:
        return (Call(prompt, sampling, sample) for prompt in prompts for sample in range(samples))

    answered = ask_calls(model, calls, store=store, advance=advance)
    while row := tuple(islice(answered, samples)):
        yield row


def ask_calls(
    model: TextModel, calls: Callable[[], Iterator[Call]], *, store: CallStore, advance: Advance | None = None
) -> Iterator[Answered]:
    """Ask every call that the store lacks, then yield what became of each, in their order; as `ask_each` otherwise.

    Args:
        model: Answers the calls.
        calls: Makes the stream of calls; it is gone through twice.
        store: Keeps every answer and every failure.
        advance: Told how many answers have come.

    Raises:
        Stopped: As `ask_each`.
        UserError: As `ask_each`.
    """
    store.ledger.budget.require_price(model.name, model.price)
    feed = Feed(calls(), model, store, advance)
    known = remembered(model, store)
    while not feed.exhausted:
        _answer(model, feed, store, known)
    if feed.transient:
        raise unanswered(model, feed.transient, asked=feed.taken)
    keyed = (call.key(model.revision) for call in calls())
    while keys := list(islice(keyed, LOOKED_UP)):
        found: dict[str, Answered] = {**feed.lost, **store.read_many(keys)}
        yield from (found[key] for key in keys)


def unanswered(model: TextModel, failures: Sequence[FailedCall], *, asked: int) -> StropError:
    """Return the stop for calls that brought no answer and may bring one later."""
    return _failed(model, failures, asked=asked, fix="run the same command again: it asks only what is missing")


def _answer(model: TextModel, feed: Feed, store: CallStore, known: set[str]) -> None:
    """Hand the model what the feed has room for, and store what comes back."""
    taken = feed.taken
    for batch in model.complete(feed, done=feed.done):
        if isinstance(model, Inquiring):
            keep_abilities(model, store, known)
        records: list[Answered] = []
        for index, outcome in batch:
            landed = feed.land(index)
            if landed is not None:
                records += records_of(model, *landed, outcome)
        stored = store.put_many(records)
        feed.note([stored.get(record.key, record) if isinstance(record, StoredCall) else record for record in records])
    if feed.taken == taken and not feed.exhausted:
        raise store.ledger.reached()


def remembered(model: TextModel, store: CallStore) -> set[str]:
    """Tell the model what the store knows about its server; return the names."""
    if not isinstance(model, Inquiring):
        return set()
    found = store.abilities(model.revision)
    model.abilities.update(found)
    return set(found)


def keep_abilities(model: Inquiring, store: CallStore, known: set[str]) -> None:
    """Store what the model has found out about its server beside what is `known`."""
    for name in model.abilities.keys() - known:
        store.record_ability(model.revision, name, model.abilities[name])
        known.add(name)


class Feed:
    """The calls that are handed to a model: those that the store holds are marked done, the others are in flight.

    Iterating takes one call after the other, as long as the budget has room for one more beside those in flight.

    Attributes:
        done: Indices of calls that need no answer.
        flying: Key and call by index, of calls that have no outcome yet.
        lost: Permanent failures by key.
        transient: Failures that may pass.
        taken: How many calls were handed over that do need an answer.
        exhausted: Whether every call was handed over.
    """

    def __init__(self, calls: Iterator[Call], model: TextModel, store: CallStore, advance: Advance | None) -> None:
        """Take the calls as a stream; nothing is looked up yet."""
        self._calls, self._revision, self._price = calls, model.revision, model.price
        self._store, self._advance = store, advance
        self.done: set[int] = set()
        self.flying: dict[int, tuple[str, Call]] = {}
        self.lost: dict[str, FailedCall] = {}
        self.transient: list[FailedCall] = []
        self.taken = 0
        self.exhausted = False
        self._keys_flying: set[str] = set()
        self._looked_up: deque[tuple[str, Call, bool]] = deque()
        self._seen: set[str] = set()
        self._places = count()
        self._untold = 0

    def __iter__(self) -> Iterator[Call]:
        self.done.clear()
        index = 0
        while self._look_up():
            key, call, known = self._looked_up.popleft()
            if key in self._seen:
                self._untold += 1
                continue
            if known or key in self._keys_flying:
                self.done.add(index)
                self._untold += 1
            elif has_room(call, self._store, self._price, flying=len(self.flying)):
                self._tell()
                self.flying[index] = (key, call)
                self._keys_flying.add(key)
                self.taken += 1
            else:
                self._looked_up.appendleft((key, call, known))
                return
            if next(self._places) % WINDOW == 0:
                self._seen.clear()
            self._seen.add(key)
            yield call
            index += 1
        self._tell()
        self.exhausted = True

    def land(self, index: int) -> tuple[str, Call] | None:
        """Take a call out of the flying ones; None where it needed no answer."""
        landed = self.flying.pop(index, None)
        if landed is not None:
            self._keys_flying.discard(landed[0])
        return landed

    def note(self, records: Sequence[Answered]) -> None:
        """Take note of outcomes that are stored now."""
        for record in records:
            if isinstance(record, StoredCall):
                self._untold += 1
            elif record.final and record.transient:
                self.transient.append(record)
            elif record.final:
                self.lost[record.key] = record
        self._tell()

    def _look_up(self) -> bool:
        """Fill the looked-up calls where there are none left; say whether there is one."""
        if not self._looked_up:
            calls = list(islice(self._calls, LOOKED_UP))
            keys = [call.key(self._revision) for call in calls]
            known = self._store.get_many(keys)
            self._looked_up.extend((key, call, key in known) for key, call in zip(keys, calls, strict=True))
        return bool(self._looked_up)

    def _tell(self) -> None:
        if self._advance is not None and self._untold:
            untold, self._untold = self._untold, 0
            self._advance(untold)


def has_room(call: Call, store: CallStore, price: Price | None, *, flying: int) -> bool:
    """Say whether the budget has room for one more call beside those in flight.

    Args:
        call: The next one.
        store: Holds the run to its budget.
        price: Of the model's tokens.
        flying: Calls of the run without an outcome.
    """
    ledger = store.ledger
    if ledger.budget is UNLIMITED:
        return True
    spent = ledger.spent
    if spent.calls:
        tokens, money = spent.tokens / spent.calls, spent.money / spent.calls
    else:
        prompt, answer = prompt_characters(call.prompt) // CHARACTERS_PER_TOKEN, call.sampling.max_tokens
        tokens = float(prompt + answer)
        money = (price or FREE).cost(prompt_tokens=prompt, completion_tokens=answer)
    return ledger.room(flying=flying, tokens=tokens, money=money)


def prompt_characters(prompt: Prompt) -> int:
    """Return how many characters a prompt has."""
    return len(prompt) if isinstance(prompt, str) else sum(len(turn.content) for turn in prompt)


def records_of(model: TextModel, key: str, call: Call, outcome: Outcome) -> list[Answered]:
    """Return what the store keeps of an outcome: the answer or the final failure, and the attempts before it."""
    request = call.request()

    def failed(failure: CallFailure, *, final: bool) -> FailedCall:
        return FailedCall(
            key=key,
            model=model.name,
            revision=model.revision,
            request=request,
            sample=call.sample,
            kind=failure.kind,
            message=failure.message,
            transient=failure.transient,
            latency_s=failure.latency_s,
            final=final,
        )

    before: list[Answered] = [failed(attempt, final=False) for attempt in outcome.attempts]
    if isinstance(outcome, CallFailure):
        return [*before, failed(outcome, final=True)]
    return [*before, _answered(model, key, call, outcome)]


def _answered(model: TextModel, key: str, call: Call, outcome: Completion) -> StoredCall:
    price: Price | None = model.price
    counts = {
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "cached_tokens": outcome.cached_tokens,
    }
    return StoredCall(
        key=key,
        model=model.name,
        revision=model.revision,
        request=call.request(),
        sample=call.sample,
        text=outcome.text,
        finish=outcome.finish,
        latency_s=outcome.latency_s,
        money=None if price is None else price.cost(**counts),
        log_probs=outcome.log_probs,
        **counts,
    )


def _failed(model: TextModel, failures: Sequence[FailedCall], *, asked: int, fix: str) -> StropError:
    kinds = Counter(failure.kind for failure in failures)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    first = failures[0]
    what = f"{len(failures)} of {asked} calls to {model.name} failed ({counted})"
    why = f"{first.message[:FAILURES_SHOWN]} (prompt: {str(first.request['prompt'])[:80]!r})"
    return Stopped(what, why=why, fix=fix) if first.transient else UserError(what, why=why, fix=fix)
