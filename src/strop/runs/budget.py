"""Limits on what a run may spend: calls, tokens, money. Reaching one stops the run; what was paid for is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strop.errors import Stopped

TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in money per million tokens."""

    prompt: float
    completion: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent: calls that a model answered, their tokens, and the money where prices are known."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        """Return the sum of both."""
        return Spent(self.calls + other.calls, self.tokens + other.tokens, self.money + other.money)


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a run may spend over all its executions; None sets no limit.

    Attributes:
        calls: Answered calls.
        tokens: Prompt and completion tokens together.
        money: In the currency of `prices`.
        prices: Price by model name; a model without one costs nothing.
    """

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)

    def cost(self, model: str, *, calls: int, prompt_tokens: int, completion_tokens: int) -> Spent:
        """Return what calls to `model` come to."""
        price = self.prices.get(model, Price(0.0, 0.0))
        money = (prompt_tokens * price.prompt + completion_tokens * price.completion) / TOKENS_PER_PRICE
        return Spent(calls, prompt_tokens + completion_tokens, money)

    def check(self, spent: Spent) -> None:
        """Stop where a limit is reached.

        Raises:
            Stopped: Names every limit that was reached, and what was spent.
        """
        pairs = (
            ("calls", self.calls, spent.calls),
            ("tokens", self.tokens, spent.tokens),
            ("money", self.money, spent.money),
        )
        reached = [
            f"{name} {used:g} of {limit:g}" for name, limit, used in pairs if limit is not None and used >= limit
        ]
        if reached:
            raise Stopped(
                f"the budget is reached: {', '.join(reached)}",
                why="every answer that was paid for is stored and will not be asked again",
                fix="raise the limit and run the same command again",
            )


UNLIMITED = Budget()
"""No limit at all."""
