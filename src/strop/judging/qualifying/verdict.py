"""From figures to a verdict: thresholds in a data file, three outcomes a rule, and the n that would settle the rest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from strop.errors import UserError
from strop.evaluation.statistics import Interval, items_needed
from strop.runs.configuration import Config, validate
from strop.runs.yaml_files import read_yaml

THRESHOLDS = Path(__file__).resolve().parents[2] / "data" / "judge_thresholds.yaml"
MOST_PAIRS = 1_000_000
"""More pairs than this are as good as never."""

Outcome = Literal["holds", "broken", "cannot tell", "not measured"]
Decision = Literal["qualified", "not qualified", "cannot tell"]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Rule(Config):
    """A bound on one figure."""

    figure: Words
    """The figure's name in the report."""
    at_least: float | None = None
    """The figure must not lie below this."""
    at_most: float | None = None
    """The figure must not lie above this."""
    shown: Literal["holds", "broken"]
    """What the data must show: that the bound holds, or only that it is broken before it counts."""
    reason: Words
    """Why the bound is where it is."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"the rule on {self.figure!r} needs one of at_least and at_most")
        return self

    @property
    def bound(self) -> float:
        """The bound, whichever it is."""
        return self.at_least if self.at_least is not None else self.at_most or 0.0

    @property
    def text(self) -> str:
        """The rule in words."""
        side = "at least" if self.at_least is not None else "at most"
        return f"{self.figure} {side} {self.bound:g}"

    def outcome(self, figure: Interval | None) -> Outcome:
        """Return what the figure's interval says about the bound."""
        if figure is None:
            return "not measured"
        if self.at_least is not None:
            holds, broken = figure.low >= self.bound, figure.high < self.bound
        else:
            holds, broken = figure.high <= self.bound, figure.low > self.bound
        return "holds" if holds else "broken" if broken else "cannot tell"


class Thresholds(Config):
    """The rules that a judge is measured against."""

    name: Words
    """Name in reports."""
    version: int
    """Raised with every change."""
    level: float = Field(gt=0.5, lt=1)
    """Confidence level of every interval."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """All of them must be met."""

    @property
    def hash(self) -> str:
        """Hash of the rules, whatever the file looks like."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()


def load_thresholds(path: Path = THRESHOLDS) -> Thresholds:
    """Read a file of thresholds; the shipped one by default.

    Raises:
        UserError: It is missing or broken: all its problems are named.
    """
    thresholds = validate(Thresholds, read_yaml(path), where=str(path))
    assert isinstance(thresholds, Thresholds)
    return thresholds


@dataclass(frozen=True, slots=True)
class Ruling:
    """What became of one rule.

    Attributes:
        rule: The rule.
        figure: What was measured; None where it could not be.
        outcome: What the interval says about the bound.
        counts_against: Whether the outcome keeps the judge from being qualified.
        pairs_needed: About how many pairs would settle it, where it is open; None where no number can be stated.
    """

    rule: Rule
    figure: Interval | None
    outcome: Outcome
    counts_against: bool
    pairs_needed: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a judge is qualified, and by which rule.

    Attributes:
        decision: The verdict.
        n: Pairs that were judged.
        rulings: Every rule's outcome, in the order of the file.
        decided_by: The rules that decided; empty for a qualified judge.
        pairs_needed: About how many pairs would settle it; None where it is settled or no number can be stated.
    """

    decision: Decision
    n: int
    rulings: tuple[Ruling, ...]
    decided_by: tuple[str, ...]
    pairs_needed: int | None

    @property
    def text(self) -> str:
        """The verdict in one line."""
        if self.decision == "qualified":
            return f"qualified (n={self.n:,})"
        because = "; ".join(self.decided_by)
        if self.decision == "not qualified":
            return f"not qualified (n={self.n:,}): {because}"
        needed = "no n can be stated" if self.pairs_needed is None else f"needs about n={self.pairs_needed:,}"
        return f"cannot tell at n={self.n:,}, {needed}: {because}"


def decide(figures: Mapping[str, Interval | None], thresholds: Thresholds, *, n: int) -> Verdict:
    """Apply every rule to its figure.

    A rule that is surely broken makes the judge "not qualified". Otherwise a rule that must be shown to hold, and is
    not, makes it "cannot tell"; a figure that could not be measured shows nothing. All rules must be met at once, so
    their number makes the verdict no laxer, and no correction is due.

    Args:
        figures: Figures by name; None for one that could not be measured.
        thresholds: The rules.
        n: Pairs that were judged.

    Raises:
        UserError: A rule names a figure that does not exist.
    """
    unknown = [rule.figure for rule in thresholds.rules if rule.figure not in figures]
    if unknown:
        raise UserError(
            f"thresholds {thresholds.name!r} have a rule on a figure that does not exist",
            value=unknown[0],
            alternatives=sorted(figures),
        )
    rulings = tuple(_ruling(rule, figures[rule.figure], n=n) for rule in thresholds.rules)
    broken = [ruling for ruling in rulings if ruling.outcome == "broken"]
    open_ = [ruling for ruling in rulings if ruling.counts_against]
    decisive = broken or open_
    decision: Decision = "not qualified" if broken else "cannot tell" if open_ else "qualified"
    stated = [ruling.pairs_needed for ruling in open_ if ruling.pairs_needed is not None]
    settled = not broken and len(stated) == len(open_) and stated
    return Verdict(
        decision=decision,
        n=n,
        rulings=rulings,
        decided_by=tuple(f"{ruling.rule.text} {_said(ruling)}" for ruling in decisive),
        pairs_needed=max(stated) if settled else None,
    )


def _ruling(rule: Rule, figure: Interval | None, *, n: int) -> Ruling:
    outcome = rule.outcome(figure)
    against = outcome == "broken" or (rule.shown == "holds" and outcome != "holds")
    open_ = figure is not None and outcome == "cannot tell"
    needed = pairs_needed(figure, rule.bound, n=n) if figure is not None and open_ else None
    return Ruling(rule, figure, outcome, against, needed)


def _said(ruling: Ruling) -> str:
    figure = ruling.figure
    if figure is None:
        return "is not measured"
    verb = "is broken" if ruling.outcome == "broken" else "is not shown"
    return f"{verb} ({figure.estimate:.3f}, {figure.low:.3f} to {figure.high:.3f})"


def pairs_needed(figure: Interval, bound: float, *, n: int) -> int | None:
    """Return about how many pairs would tell a figure of this size from its bound, with power 0.8.

    Args:
        figure: What was measured.
        bound: What it is to be told from.
        n: Judged pairs of the whole file, of which the figure may use some: the answer is in pairs of a file like it.

    Returns:
        Pairs, rounded up to two digits and above `n`; None where the estimate sits on the bound or the number exceeds
        `MOST_PAIRS`.
    """
    needed = items_needed(figure, bound)
    if needed is None or needed * n / figure.n > MOST_PAIRS:
        return None
    return _two_digits(max(n + 1, needed * n / figure.n))


def _two_digits(number: float) -> int:
    """Round up to two digits: more would claim a precision that the estimate lacks."""
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return int(math.ceil(number / unit) * unit)


def rulings_to_rows(rulings: Sequence[Ruling]) -> list[dict[str, Any]]:
    """Return the rulings as JSON rows."""
    return [
        {
            "rule": ruling.rule.text,
            "shown": ruling.rule.shown,
            "outcome": ruling.outcome,
            "counts_against": ruling.counts_against,
            "pairs_needed": ruling.pairs_needed,
            "reason": ruling.rule.reason,
        }
        for ruling in rulings
    ]
