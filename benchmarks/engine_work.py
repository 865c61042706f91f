"""The work that every client of the throughput benchmark does: which prompts, and what the server answers to each.

Standard library only: the peers import it from environments of their own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

MODEL = "fixed-latency"
IN_FLIGHT = 64
LATENCY_S = 0.05
MAX_TOKENS = 16

IDEAL_PER_S = IN_FLIGHT / LATENCY_S
"""Calls a second where the clients cost nothing: every place in flight is taken again the moment it is free."""


class Prompts(Sequence[str]):
    """Distinct prompts of about 200 characters, made when they are asked for, so that they take no memory."""

    def __init__(self, count: int) -> None:
        """Hold nothing but the `count`."""
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [prompt(index) for index in range(self._count)[place]]
        return prompt(range(self._count)[place])

    def __iter__(self) -> Iterator[str]:
        return map(prompt, range(self._count))


def prompt(index: int) -> str:
    """Return the prompt at `index`."""
    return (
        f"Letter {index}. A friend writes that the last weeks were hard, that sleep does not come and that the work "
        f"piles up. What would you answer, in two sentences, without giving advice that was not asked for?"
    )


def answer_to(text: str) -> str:
    """Return what the server answers to a prompt: it depends on every byte, so an answer in the wrong row shows."""
    return f"Answer {zlib.crc32(text.encode()):08x}."


def count_right(answered: Iterable[tuple[str, str | None]]) -> int:
    """Return how many prompts have the answer that belongs to them."""
    return sum(answer == answer_to(asked) for asked, answer in answered)
