"""Has a judge earned trust? Its verdicts on labelled pairs, beside baselines, against written thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from strop.errors import UserError
from strop.evaluation.statistics import Interval
from strop.judging.judge import PairJudge
from strop.judging.pairs import HumanPair, data_hash, duel_of, pair_hash
from strop.judging.qualifying.measures import Judgements, Measured, SliceFigures, few_groups, judgements_of, measure
from strop.judging.qualifying.rated import RatingFigures
from strop.judging.qualifying.verdict import Thresholds, Verdict, decide, rulings_to_rows

FEWEST_PAIRS = 10
"""Below this, folds and intervals are a play with noise."""


@runtime_checkable
class LearntJudge(Protocol):
    """A judge that learnt from labels, and knows which."""

    def seen(self, pair: HumanPair) -> bool:
        """Say whether the judge learnt from a text of this pair."""


@dataclass(frozen=True, slots=True)
class Qualification:
    """Everything that qualifying a judge brought.

    Attributes:
        judge: The judge's name.
        revision: What identifies it exactly.
        n: Usable pairs.
        groups: Their groups.
        data_hash: Hash of the pairs, whatever their order.
        judgements: The verdicts.
        measured: The figures.
        thresholds: What they were held against.
        verdict: The outcome.
        seed: Of orientation, folds and intervals.
    """

    judge: str
    revision: str
    n: int
    groups: int
    data_hash: str
    judgements: Judgements
    measured: Measured
    thresholds: Thresholds
    verdict: Verdict
    seed: int

    @property
    def remarks(self) -> list[str]:
        """What a reader of the figures must know besides them."""
        remarks = [f"intervals resample {self.groups:,} groups, not {self.n:,} pairs"]
        narrow = few_groups(self.measured.slices)
        if narrow:
            remarks.append(f"few groups, one of them can move the figure: {', '.join(narrow)}")
        for why in dict.fromkeys(self.measured.unavailable.values()):
            names = [name for name, reason in self.measured.unavailable.items() if reason == why]
            remarks.append(f"not available ({why}): {', '.join(names)}")
        remarks.append("no figure here says anything about clinical safety: no label in the file measures it")
        return remarks

    def to_row(self) -> dict[str, Any]:
        """Return the qualification as JSON."""
        return {
            "judge": self.judge,
            "judge_revision": self.revision,
            "n": self.n,
            "groups": self.groups,
            "judged": self.judgements.judged,
            "data_hash": self.data_hash,
            "thresholds": {
                "name": self.thresholds.name,
                "version": self.thresholds.version,
                "hash": self.thresholds.hash,
            },
            "verdict": {
                "decision": self.verdict.decision,
                "text": self.verdict.text,
                "decided_by": list(self.verdict.decided_by),
                "pairs_needed": self.verdict.pairs_needed,
            },
            "figures": {name: interval_to_row(figure) for name, figure in self.measured.figures.items()},
            "rules": rulings_to_rows(self.verdict.rulings),
            "slices": [_slice_to_row(each) for each in self.measured.slices],
            "failure_kinds": dict(self.judgements.failure_kinds),
            "remarks": self.remarks,
            "seed": self.seed,
        }


def interval_to_row(figure: Interval | None) -> dict[str, float | int] | None:
    """Return an interval as JSON; None stays None."""
    if figure is None:
        return None
    return {"estimate": figure.estimate, "low": figure.low, "high": figure.high, "n": figure.n, "level": figure.level}


def _slice_to_row(each: SliceFigures) -> dict[str, Any]:
    return {
        "slice": each.name,
        "n": each.n,
        "groups": each.groups,
        "judged": each.judged,
        "accuracy": interval_to_row(each.accuracy),
        "parse_failures": interval_to_row(each.failures),
        "baselines": {name: interval_to_row(figure) for name, figure in each.baselines.items()},
        "unavailable": each.unavailable or None,
    }


def qualify(
    judge: PairJudge,
    pairs: Sequence[HumanPair],
    *,
    thresholds: Thresholds,
    family: str | None = None,
    ratings: RatingFigures | None = None,
    seed: int = 0,
) -> Qualification:
    """Ask a judge about every pair, in an order that hides the label, and hold its verdicts against people's.

    Args:
        judge: Any judge of pairs.
        pairs: Pairs that people labelled, and that the judge never learnt from.
        thresholds: What the judge must show.
        family: The family of the judge's model, see `slices.model_family`; None for a judge of none.
        ratings: How its ratings of single responses agree with people's, where that was measured too.
        seed: Of orientation, folds and intervals.

    Raises:
        UserError: There are too few pairs or groups, the judge learnt from one of their texts, or a threshold names a
            figure that does not exist.
    """
    if len(pairs) < FEWEST_PAIRS:
        raise UserError(
            "too few human pairs to qualify a judge on", value=len(pairs), fix=f"give {FEWEST_PAIRS} or more"
        )
    refuse_seen(judge, pairs)
    # An order of their own: figures must not depend on how the file's rows happen to be sorted.
    ordered = sorted(pairs, key=lambda pair: (pair_hash(pair), pair.group, str(pair.id)))
    duels = [duel_of(pair, seed=seed) for pair in ordered]
    judgements = judgements_of(ordered, duels, judge.compare(duels))
    measured = measure(judgements, family=family, level=thresholds.level, seed=seed)
    if ratings is not None:
        measured = replace(
            measured,
            figures={**measured.figures, **ratings.figures},
            unavailable={**measured.unavailable, **ratings.unavailable},
        )
    return Qualification(
        judge=judge.name,
        revision=judge.revision,
        n=len(pairs),
        groups=len({pair.group for pair in pairs}),
        data_hash=data_hash(pairs),
        judgements=judgements,
        measured=measured,
        thresholds=thresholds,
        verdict=decide(measured.figures, thresholds, n=judgements.judged),
        seed=seed,
    )


def refuse_seen(judge: object, pairs: Sequence[HumanPair]) -> None:
    """Refuse to qualify a judge on texts that it learnt from.

    Raises:
        UserError: It shares a prompt or a response with a pair.
    """
    if not isinstance(judge, LearntJudge):
        return
    seen = sum(map(judge.seen, pairs))
    if seen:
        raise UserError(
            "the judge learnt from some of these pairs",
            value=f"{seen} of {len(pairs)} pairs share a prompt or a response with its training labels",
            why="agreement with labels that a judge was fitted to says nothing about new ones",
            fix="qualify it on pairs that it has not seen; fit.json beside it has its figures by cross-validation",
        )
