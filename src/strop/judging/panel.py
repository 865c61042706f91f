"""A panel of judges: each judges alone, most votes decide, and equal votes are a tie whatever the order of the list."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from strop.errors import UserError
from strop.judging.judge import Comparison, Duel, OrderVerdict, PairJudge
from strop.judging.parsing import ParseFailure, Verdict

FEWEST_JUDGES = 2


@dataclass(frozen=True)
class Panel:
    """Several judges as one; implements `strop.judging.judge.PairJudge`.

    A side wins with more votes than the other; ties count for neither. With an even number of judges, equal votes are
    possible and are a tie. Where no more than half of the judges have a verdict, the panel has none.
    """

    judges: tuple[PairJudge, ...]

    def __post_init__(self) -> None:
        """Check the members.

        Raises:
            UserError: There are fewer than two, or one of them sits twice.
        """
        revisions = [judge.revision for judge in self.judges]
        if len(revisions) < FEWEST_JUDGES:
            raise UserError("a panel needs at least two judges", value=[judge.name for judge in self.judges])
        if len(set(revisions)) < len(revisions):
            raise UserError(
                "a judge sits on the panel twice",
                value=[judge.name for judge in self.judges],
                why="its vote would count double",
                fix="name each judge once",
            )

    @property
    def name(self) -> str:
        """The judges' names in alphabetical order."""
        return "panel of " + ", ".join(sorted(judge.name for judge in self.judges))

    @property
    def revision(self) -> str:
        """A hash over the judges' revisions, whatever their order."""
        return hashlib.sha256("\n".join(sorted(judge.revision for judge in self.judges)).encode()).hexdigest()

    def votes(self, items: Sequence[Duel]) -> list[tuple[Comparison, ...]]:
        """Return the comparisons of all judges, one tuple a duel, in the order of the judges."""
        columns = [judge.compare(items) for judge in self.judges]
        return list(zip(*columns, strict=True))

    def compare(self, items: Sequence[Duel]) -> list[Comparison]:
        """Return the panel's comparison of each duel."""
        return [decide(votes) for votes in self.votes(items)]


def decide(votes: Sequence[Comparison]) -> Comparison:
    """Return what several judges' comparisons of one duel come to.

    Verdict, each order and each criterion are voted on by themselves. A strength is the mean of the judges' where all
    of them state one.

    Args:
        votes: One comparison a judge.
    """
    strengths = [vote.strength for vote in votes if vote.strength is not None]
    keys = dict.fromkeys(key for vote in votes for key in vote.criteria)
    return Comparison(
        id=votes[0].id,
        verdict=_majority([vote.verdict for vote in votes]),
        forward=_order([vote.forward for vote in votes]),
        backward=_order([vote.backward for vote in votes]),
        strength=sum(strengths) / len(strengths) if len(strengths) == len(votes) else None,
        criteria={key: _majority([vote.criteria.get(key) for vote in votes]) for key in keys},
    )


def _majority(votes: Sequence[Verdict | None]) -> Verdict | None:
    cast = [vote for vote in votes if vote is not None]
    if 2 * len(cast) <= len(votes):
        return None
    lead = cast.count("first") - cast.count("second")
    return "tie" if lead == 0 else "first" if lead > 0 else "second"


def _order(votes: Sequence[OrderVerdict]) -> OrderVerdict:
    verdict = _majority([None if isinstance(vote, ParseFailure) else vote for vote in votes])
    if verdict is not None:
        return verdict
    kinds = sorted({vote.kind for vote in votes if isinstance(vote, ParseFailure)})
    return ParseFailure("no_majority", f"failures: {', '.join(kinds)}")
