"""What every judge of pairs is: two responses in, a verdict out, and each order's own reply kept beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from strop.errors import UserError
from strop.judging.parsing import ParseFailure, Verdict
from strop.records.rows import Identifier, Prompt

OrderVerdict = Verdict | ParseFailure
"""What one order of the two responses brought, already mapped back to the duel's own first and second."""

_MIRROR: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Duel:
    """Two responses to one prompt, in the order in which the judge is shown them first."""

    id: Identifier
    prompt: Prompt
    first: str
    second: str

    def swapped(self) -> Duel:
        """Return the same duel with its sides exchanged."""
        return Duel(self.id, self.prompt, self.second, self.first)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a judge said about a duel.

    Attributes:
        id: The duel's id.
        verdict: The better side; None where the judge failed in either order. An order-dependent verdict is a tie.
        forward: The verdict with the first response shown first.
        backward: The verdict with the second response shown first, mapped back to the duel's own sides.
        strength: Probability that the first side is better, 0 to 1; None for a judge that states none.
        criteria: The verdict on each criterion where the judge was asked criterion by criterion.
    """

    id: Identifier
    verdict: Verdict | None
    forward: OrderVerdict
    backward: OrderVerdict
    strength: float | None = None
    criteria: Mapping[str, Verdict | None] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Say whether one of the orders brought no verdict."""
        return isinstance(self.forward, ParseFailure) or isinstance(self.backward, ParseFailure)

    @property
    def flipped(self) -> bool:
        """Say whether both orders brought a verdict, and not the same one."""
        return not self.failed and self.forward != self.backward


class PairJudge(Protocol):
    """Whatever says which of two responses is better: a model with a rubric, a fitted judge, a panel."""

    @property
    def name(self) -> str:
        """What to call the judge in a report."""

    @property
    def revision(self) -> str:
        """What identifies the judge exactly: its weights, its rubric, its prompt format."""

    def compare(self, items: Sequence[Duel]) -> list[Comparison]:
        """Return one comparison a duel, in their order."""


def mirrored(verdict: OrderVerdict) -> OrderVerdict:
    """Return the verdict as seen with the two sides exchanged; a failure stays what it is."""
    return verdict if isinstance(verdict, ParseFailure) else _MIRROR[verdict]


def settled(forward: OrderVerdict, backward: OrderVerdict) -> Verdict | None:
    """Return the verdict of both orders: theirs where they agree, a tie where not, None where one of them failed.

    Args:
        forward: The verdict with the first response shown first.
        backward: The other order's, mapped back to the same sides.
    """
    if isinstance(forward, ParseFailure) or isinstance(backward, ParseFailure):
        return None
    return forward if forward == backward else "tie"


def require_same_revision(first: str, second: str) -> None:
    """Refuse to compare figures of two judges, or of two revisions of one.

    Raises:
        UserError: The revisions differ.
    """
    if first != second:
        raise UserError(
            "figures of two judge revisions cannot be compared",
            value=f"{first} and {second}",
            why="another model, rubric or prompt format moves ratings by itself",
            fix="judge both sets of responses again with one revision",
        )
