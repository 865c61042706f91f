"""What asking many prompts will take, told from a pilot of a few: calls, tokens, money and time, each with a range.

The pilot is a random sample of the prompts that the store does not answer yet, and its own answers are kept: what it
pays for, the run does not pay again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random

from strop.models.asking import Advance, ask_each
from strop.models.protocol import Call, Sampling, TextModel
from strop.records.rows import Prompt
from strop.runs.calls import StoredCall
from strop.runs.store import CallStore

LEVEL = 0.95
TIME_SPREAD = 1.5
"""A machine's speed changes between a pilot and a run by more than samples tell: this widens the time's range."""
KEYS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Expected:
    """A forecast figure: the estimate and the bounds of its 95 % interval."""

    estimate: float
    low: float
    high: float

    def times(self, factor: float) -> Expected:
        """Return the forecast of a multiple."""
        return Expected(self.estimate * factor, self.low * factor, self.high * factor)

    def plus(self, other: Expected) -> Expected:
        """Return the forecast of a sum; the ends are added, which is on the wide side."""
        return Expected(self.estimate + other.estimate, self.low + other.low, self.high + other.high)


ZERO = Expected(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class CallFigures:
    """What calls take: one of them, or many together.

    Attributes:
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        money: What they cost; None where the price is not known.
        seconds: How long they take, one's share of the time that many take side by side.
    """

    prompt_tokens: Expected
    completion_tokens: Expected
    money: Expected | None
    seconds: Expected

    def times(self, calls: float) -> CallFigures:
        """Return what so many calls take."""
        return CallFigures(
            self.prompt_tokens.times(calls),
            self.completion_tokens.times(calls),
            None if self.money is None else self.money.times(calls),
            self.seconds.times(calls),
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What there is to ask, what a pilot told, and what the rest will take.

    Attributes:
        calls: All calls, equal ones counted once.
        stored: Those that the store answered before the pilot: they cost nothing.
        asked: Calls that the pilot asked and got an answer to.
        failed: Calls of the pilot that no answer came to.
        each: What one call takes.
    """

    calls: int
    stored: int
    asked: int
    failed: int
    each: CallFigures

    @property
    def remaining(self) -> int:
        """The calls that are left to ask behind the pilot."""
        return self.calls - self.stored - self.asked - self.failed

    @property
    def rest(self) -> CallFigures:
        """What the calls that are left take together."""
        return self.each.times(self.remaining)


def forecast(
    model: TextModel,
    prompts: Collection[Prompt],
    sampling: Sampling,
    *,
    samples: int,
    store: CallStore,
    pilot: int,
    random: Random,
    parallel: int = 1,
    advance: Advance | None = None,
) -> Forecast:
    """Ask `pilot` of the prompts that lack an answer, and tell from them what the others will take.

    Args:
        model: Who answers.
        prompts: Everything that is to be asked.
        sampling: How.
        samples: Answers a prompt.
        store: What it holds costs nothing; the pilot's answers go into it.
        pilot: Prompts to ask, at most those that are left. Where none are left, stored ones tell the tokens.
        random: Chooses them.
        parallel: Calls that the model answers side by side once there are enough; a smaller pilot cannot show that, so
            the time's range reaches down to it.
        advance: Told of the pilot's answers as they come.

    Raises:
        Stopped: See `ask_each`.
    """
    unique = list(dict.fromkeys(prompts))
    open_prompts, stored = _open_prompts(model, unique, sampling, samples, store)
    pool = open_prompts or unique
    chosen = random.sample(pool, min(pilot, len(pool)))
    before, started = store.ledger.spent.calls, time.monotonic()
    rows = [
        [outcome for outcome in row if isinstance(outcome, StoredCall)]
        for row in ask_each(model, chosen, sampling, samples=samples, store=store, advance=advance)
    ]
    seconds, asked = time.monotonic() - started, store.ledger.spent.calls - before
    # Samples of one prompt are alike: the prompt is what counts as one observation.
    answered = [row for row in rows if row]
    figures = CallFigures(
        prompt_tokens=_mean_over(answered, lambda call: call.prompt_tokens),
        completion_tokens=_mean_over(answered, lambda call: call.completion_tokens),
        money=None if model.price is None else _mean_over(answered, lambda call: call.money or 0.0),
        seconds=_pace(seconds, asked, parallel),
    )
    failed = len(chosen) * samples - sum(map(len, rows))
    return Forecast(len(unique) * samples, stored, asked, failed, figures)


def _pace(seconds: float, asked: int, parallel: int) -> Expected:
    slow = seconds / max(1, asked)
    fast = slow * min(1.0, asked / parallel)
    return Expected(math.sqrt(slow * fast), fast / TIME_SPREAD, slow * TIME_SPREAD)


def _mean_over(rows: Sequence[Sequence[StoredCall]], figure: Callable[[StoredCall], float]) -> Expected:
    return mean_of([sum(map(figure, row)) / len(row) for row in rows])


def _open_prompts(
    model: TextModel, prompts: Sequence[Prompt], sampling: Sampling, samples: int, store: CallStore
) -> tuple[list[Prompt], int]:
    """Return the prompts that lack an answer, and how many calls are stored."""
    lacking, stored = [], 0
    for start in range(0, len(prompts), KEYS_AT_ONCE):
        some = prompts[start : start + KEYS_AT_ONCE]
        keys = [[Call(prompt, sampling, number).key(model.revision) for number in range(samples)] for prompt in some]
        found = store.read_many([key for row in keys for key in row])
        stored += len(found)
        lacking += [prompt for prompt, row in zip(some, keys, strict=True) if any(key not in found for key in row)]
    return lacking, stored


def mean_of(values: Sequence[float]) -> Expected:
    """Return the mean with its t interval, which knows that a pilot is small; never below zero.

    A single value has no spread to tell: its range is from zero to twice itself.
    """
    from scipy.stats import t

    if not values:
        return ZERO
    count, mean = len(values), sum(values) / len(values)
    if count == 1:
        return Expected(mean, 0.0, 2 * mean)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.5 + LEVEL / 2, count - 1)) * deviation / math.sqrt(count)
    return Expected(mean, max(0.0, mean - half), mean + half)
