"""What a judge's verdicts on labelled pairs amount to: agreement, margins, leans and failures, each with its interval.

Everything is counted over pairs and resampled by group. A pair without a verdict is never right or wrong: it is left
out of a figure and counted apart, and agreement is also given with all such pairs as wrong and as right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strop.evaluation.statistics import DIFFERENCE_OF_SHARES, SHARE, Interval, cluster_bootstrap, wilson
from strop.judging.judge import Comparison, Duel
from strop.judging.pairs import HumanPair, better_side, word_count
from strop.judging.parsing import ParseFailure
from strop.judging.qualifying.baselines import BASELINES, out_of_fold
from strop.judging.qualifying.folds import group_folds
from strop.judging.qualifying.slices import ALL, Members, Slice, model_family, slices_of
from strop.runs.seeds import derive_seed

Values = NDArray[np.float64]
"""One number a pair; NaN where there is none."""

FEW_GROUPS = 10
"""With fewer groups than this, one group can move a figure."""

_SHARE = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True, slots=True)
class Judgements:
    """A judge's verdicts on pairs, seen from the label; each array is ``(pairs,)``.

    Attributes:
        pairs: The pairs.
        credit: 1 where the judge agrees with people, 0 where not, 0.5 for a tie, NaN without a verdict.
        failed: Whether one of the two orders brought no verdict.
        flipped: 1 where the two orders disagree, 0 where not, NaN without a verdict.
        shown_first: Share of the two orders in which the response shown first was preferred; NaN without a verdict.
        failure_kinds: How often each kind of failure occurred, over single orders.
    """

    pairs: tuple[HumanPair, ...]
    credit: Values
    failed: Members
    flipped: Values
    shown_first: Values
    failure_kinds: Mapping[str, int]

    @property
    def judged(self) -> int:
        """How many pairs have a verdict."""
        return int(np.isfinite(self.credit).sum())


def judgements_of(pairs: Sequence[HumanPair], duels: Sequence[Duel], comparisons: Sequence[Comparison]) -> Judgements:
    """Read a judge's comparisons against the labels.

    Args:
        pairs: The labelled pairs.
        duels: Each pair as the judge saw it.
        comparisons: What the judge said, in the same order.

    Raises:
        ValueError: The comparisons are not those of the duels.
    """
    if [comparison.id for comparison in comparisons] != [duel.id for duel in duels]:
        raise ValueError("a judge must return one comparison a duel, in their order")
    failed = np.array([comparison.verdict is None for comparison in comparisons], dtype=bool)
    flipped = np.array([float(comparison.flipped) for comparison in comparisons])
    kinds = Counter(
        order.kind
        for comparison in comparisons
        for order in (comparison.forward, comparison.backward)
        if isinstance(order, ParseFailure)
    )
    return Judgements(
        pairs=tuple(pairs),
        credit=np.array([_credit(*each) for each in zip(pairs, duels, comparisons, strict=True)]),
        failed=failed,
        flipped=np.where(failed, np.nan, flipped),
        shown_first=np.array([_shown_first(comparison) for comparison in comparisons]),
        failure_kinds=dict(kinds.most_common()),
    )


def _credit(pair: HumanPair, duel: Duel, comparison: Comparison) -> float:
    if comparison.verdict is None:
        return float("nan")
    share = _SHARE[comparison.verdict]
    return share if better_side(pair, duel) == "first" else 1 - share


def _shown_first(comparison: Comparison) -> float:
    if isinstance(comparison.forward, ParseFailure) or isinstance(comparison.backward, ParseFailure):
        return float("nan")
    return (_SHARE[comparison.forward] + 1 - _SHARE[comparison.backward]) / 2


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are drawn: by which groups ``(pairs,)``, at which level, from which seed."""

    groups: NDArray[np.str_]
    level: float
    seed: int

    def share(self, values: Values, members: Members | None = None) -> Interval | None:
        """Return the mean of `values` with its interval by group; None without values.

        Args:
            values: One number of 0 to 1 a pair; NaN is left out.
            members: The pairs to take; all by default.
        """
        return self._mean(values, members, SHARE)

    def difference(self, first: Values, second: Values, members: Members | None = None) -> Interval | None:
        """Return mean(first) - mean(second) over pairs that have both, with its interval; None without any."""
        return self._mean(first - second, members, DIFFERENCE_OF_SHARES)

    def rate(self, events: Values, members: Members | None = None) -> Interval | None:
        """Return the share of pairs with an event, which may be rare, with Wilson's interval; None without values.

        A bootstrap has nothing to draw from where few groups hold an event. Instead the pairs are counted down to as
        many independent ones: their number over the design effect (Kish 1965), the variance by group over that of
        independent pairs; where all pairs are alike, each group counts once.

        Args:
            events: 1 or 0 a pair; NaN is left out.
            members: The pairs to take; all by default.
        """
        taken = self._taken(events, members)
        kept, (_, groups) = events[taken], np.unique(self.groups[taken], return_inverse=True)
        if not len(kept):
            return None
        share, n, different = float(kept.mean()), len(kept), int(groups.max()) + 1
        effective = float(different)
        if 0 < share < 1 and different > 1:
            residuals = np.bincount(groups, weights=kept - share)
            variance = different / (different - 1) * float(residuals @ residuals) / n**2
            effective = min(float(n), share * (1 - share) / variance)
        wide = wilson(share * effective, effective, level=self.level)
        return Interval(share, wide.low, wide.high, n, self.level, different)

    def _taken(self, values: Values, members: Members | None) -> Members:
        known: Members = np.isfinite(values)
        return known if members is None else known & members

    def _mean(self, values: Values, members: Members | None, bounds: tuple[float, float]) -> Interval | None:
        taken = self._taken(values, members)
        if not taken.any():
            return None
        # The same draws for every figure: equal columns have equal intervals.
        generator = np.random.default_rng(derive_seed(self.seed, "qualification"))
        groups = [str(group) for group in self.groups[taken]]
        return cluster_bootstrap(values[taken], groups, generator, bounds=bounds, level=self.level)


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """A judge and the baselines on one slice.

    Attributes:
        name: The slice.
        n: Its pairs.
        groups: Its groups.
        judged: Pairs with a verdict.
        accuracy: Agreement with people over the judged pairs.
        failures: Share of pairs without a verdict.
        baselines: Agreement of each baseline, over the same judged pairs.
        unavailable: Why there are no figures; empty where there are.
    """

    name: str
    n: int
    groups: int
    judged: int
    accuracy: Interval | None
    failures: Interval | None
    baselines: Mapping[str, Interval | None]
    unavailable: str


@dataclass(frozen=True, slots=True)
class Measured:
    """All figures of a judge.

    Attributes:
        figures: Figures by name, as the thresholds call them; None where one could not be measured.
        slices: The slices, the whole first.
        unavailable: Why a figure is None, by name.
    """

    figures: Mapping[str, Interval | None]
    slices: tuple[SliceFigures, ...]
    unavailable: Mapping[str, str]


def measure(judgements: Judgements, *, family: str | None, level: float, seed: int) -> Measured:
    """Compute all figures of a judge.

    Args:
        judgements: Its verdicts.
        family: The judge's model family; None where it has none.
        level: Confidence level.
        seed: Of folds and intervals.
    """
    pairs, credit = judgements.pairs, judgements.credit
    groups = [pair.group for pair in pairs]
    resampling = Resampling(np.array(groups), level, seed)
    folds = group_folds(groups, seed=seed)
    baselines = {name: out_of_fold(name, pairs, folds) for name in BASELINES}
    slices = tuple(_slice_figures(each, judgements, baselines, resampling) for each in slices_of(pairs))
    family_lean, no_family = None, "the judge is of no known model family"
    if family is not None:
        family_lean = _family_lean(judgements, resampling, family)
        no_family = f"no pair has one text of the family {family!r}"
    ties = np.where(np.isnan(credit), np.nan, (credit == 0.5).astype(np.float64))
    figures: dict[str, Interval | None] = {
        "accuracy": slices[0].accuracy,
        "accuracy with failures as wrong": resampling.share(np.where(judgements.failed, 0.0, credit)),
        "accuracy with failures as right": resampling.share(np.where(judgements.failed, 1.0, credit)),
        **{f"accuracy of {name}": resampling.share(right) for name, right in baselines.items()},
        **{f"margin over {name}": resampling.difference(credit, right) for name, right in baselines.items()},
        **{f"accuracy where {each.name}": each.accuracy for each in slices[1:]},
        "flip rate": resampling.rate(judgements.flipped),
        "ties": resampling.rate(ties),
        "parse failures": slices[0].failures,
        "first-position lean": resampling.difference(judgements.shown_first, 1 - judgements.shown_first),
        "length lean": _length_lean(judgements, resampling),
        "family lean": family_lean,
    }
    unavailable = {f"accuracy where {each.name}": each.unavailable for each in slices if each.unavailable}
    unavailable |= {"family lean": no_family} if family_lean is None else {}
    for name, figure in figures.items():
        if figure is None:
            unavailable.setdefault(name, "no pair to measure it on has a verdict")
    return Measured(figures, slices, unavailable)


def _slice_figures(
    part: Slice, judgements: Judgements, baselines: Mapping[str, Values], resampling: Resampling
) -> SliceFigures:
    judged = part.members & np.isfinite(judgements.credit)
    return SliceFigures(
        name=part.name,
        n=int(part.members.sum()),
        groups=len(np.unique(resampling.groups[part.members])),
        judged=int(judged.sum()),
        accuracy=resampling.share(judgements.credit, judged),
        failures=resampling.rate(judgements.failed.astype(np.float64), part.members),
        baselines={name: resampling.share(right, judged) for name, right in baselines.items()},
        unavailable=part.unavailable,
    )


def _length_lean(judgements: Judgements, resampling: Resampling) -> Interval | None:
    """Return how much more often the judge prefers the longer response than people do."""
    longer = [word_count(pair.better) - word_count(pair.worse) for pair in judgements.pairs]
    return _lean(judgements, resampling, np.sign(longer).astype(np.float64))


def _family_lean(judgements: Judgements, resampling: Resampling, family: str) -> Interval | None:
    """Return how much more often the judge prefers its own family's text to another's than people do."""

    def own(origin: str | None) -> bool:
        return origin is not None and model_family(origin) == family

    sides = [int(own(pair.better_origin)) - int(own(pair.worse_origin)) for pair in judgements.pairs]
    return _lean(judgements, resampling, np.array(sides, dtype=np.float64))


def _lean(judgements: Judgements, resampling: Resampling, marked: Values) -> Interval | None:
    """Return the judge's preference for the marked side minus people's.

    Args:
        judgements: The judge's verdicts.
        resampling: How the interval is drawn.
        marked: 1 where the better response is the marked one, -1 where the worse is, 0 where neither or both are.
    """
    by_judge = np.where(marked > 0, judgements.credit, 1 - judgements.credit)
    by_people = (marked > 0).astype(np.float64)
    return resampling.difference(by_judge, by_people, marked != 0)


def few_groups(slices: Sequence[SliceFigures]) -> list[str]:
    """Return the names of slices whose intervals come from few groups; see `FEW_GROUPS`."""
    return [each.name for each in slices if each.name != ALL and 0 < each.groups < FEW_GROUPS]
