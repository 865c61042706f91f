"""Limits on what a run may spend: calls, tokens, money. Reaching one stops the run; what was paid for is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from strop.errors import Stopped, UserError

TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in money per million tokens.

    Attributes:
        prompt: A prompt's tokens.
        completion: An answer's tokens.
        cached: A prompt's tokens that the server had in its cache; None where they cost as much as others.
        source: Where the price was read, and when.
    """

    prompt: float
    completion: float
    cached: float | None = None
    source: str = ""

    def cost(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """Return what a call costs; `cached_tokens` are among `prompt_tokens`."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.prompt + cached_tokens * cached + completion_tokens * self.completion) / TOKENS_PER_PRICE


FREE = Price(0.0, 0.0, source="this machine")
"""The price of a model that runs here."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent: calls that a model answered, their tokens, and the money where prices are known.

    Attributes:
        calls: Answered calls.
        tokens: Prompt and completion tokens together.
        money: What they cost; those without a known price count nothing here.
        unpriced: How many of the calls have no known price.
    """

    calls: int = 0
    tokens: int = 0
    money: float = 0.0
    unpriced: int = 0

    def __add__(self, other: Spent) -> Spent:
        """Return the sum of both."""
        return Spent(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.money + other.money,
            self.unpriced + other.unpriced,
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a run may spend over all its executions; None sets no limit.

    Attributes:
        calls: Answered calls.
        tokens: Prompt and completion tokens together.
        money: In the currency of the price file.
    """

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None

    def require_price(self, model: str, price: Price | None) -> None:
        """Refuse a model of unknown price under a limit on money.

        Raises:
            UserError: The price is not known, so the limit could not be kept.
        """
        if self.money is not None and price is None:
            raise UserError(
                f"the price of {model} is not known, and the budget limits money",
                value=f"{self.money:g}",
                why="without a price the limit could not be kept; nothing was asked",
                fix="give the model's option price: {prompt: 2.5, completion: 10} (per million tokens), or a price "
                "file in $STROP_PRICES, or limit calls or tokens instead",
            )


@dataclass(slots=True)
class Ledger:
    """What a run has spent so far, and whether its budget has room for more.

    Attributes:
        budget: The limits.
        spent: What the run paid for, in this execution or before.
    """

    budget: Budget
    spent: Spent = field(default_factory=Spent)

    def add(self, spent: Spent) -> None:
        """Take in what was paid for just now."""
        self.spent = self.spent + spent

    def room(self, *, flying: int, tokens: float, money: float) -> bool:
        """Say whether one more call may be asked while `flying` others are in flight.

        Args:
            flying: Calls that were asked and have not come back.
            tokens: What one of them is expected to take.
            money: What one of them is expected to cost.
        """
        more = flying + 1
        limits = (
            (self.budget.calls, self.spent.calls + more),
            (self.budget.tokens, self.spent.tokens + more * tokens),
            (self.budget.money, self.spent.money + more * money),
        )
        return all(limit is None or wanted <= limit for limit, wanted in limits)

    def reached(self) -> Stopped:
        """Return the stop of a run whose budget has no room for its next call."""
        pairs = (
            ("calls", self.budget.calls, self.spent.calls),
            ("tokens", self.budget.tokens, self.spent.tokens),
            ("money", self.budget.money, self.spent.money),
        )
        used = ", ".join(f"{name} {used:,.6g} of {limit:,.6g}" for name, limit, used in pairs if limit is not None)
        return Stopped(
            f"the budget has no room for the next call: {used}",
            why="every answer that was paid for is stored and will not be asked again",
            fix="raise the limit and run the same command again",
        )


UNLIMITED = Budget()
"""No limit at all."""
