"""How far annotators agree with each other and with the labels.

Verdicts are compared as *first* and *second*, which response it is by its text (`strop.web.blinding`), never as "the
labelled one": coded by the label, the label would be constant and kappa with it undefined. "Cannot judge" is no
verdict; "equally good" is a category between annotators, and is left out where the label is compared, which knows none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median

import numpy as np

from strop.evaluation.statistics import (
    RESAMPLES,
    SHARE,
    Interval,
    NotEstimable,
    agreement_intervals,
    alpha_measure,
    cluster_bootstrap,
    kappa_measure,
    krippendorff_alpha,
)
from strop.evaluation.statistics.agreement import CORRELATION
from strop.evaluation.statistics.clusters import Floats
from strop.runs.seeds import derive_seed
from strop.web.collecting import Collected, MarkedPair, majority
from strop.web.marks import Mark, Verdict

Outcome = Interval | NotEstimable
CODES: dict[Verdict, float] = {"first": 0.0, "second": 1.0, "tie": 2.0}
LABEL, MAJORITY = "label", "majority"
_ABSENT = -1.0
_MEASURES = {"kappa": kappa_measure("none"), "alpha": alpha_measure("nominal")}


@dataclass(frozen=True, slots=True)
class AnnotatorCount:
    """What one annotator did.

    Attributes:
        name: Who.
        marked: Pairs with a verdict, "cannot judge" included.
        unmarked: Pairs without one.
        ties: Verdicts "equally good".
        cannot: Verdicts "cannot judge".
        notes: Pairs with a note.
        shown_left_preferred: Share of verdicts for the response on the left; half is no lean.
        seconds: Median time to a verdict; None where the page did not say.
    """

    name: str
    marked: int
    unmarked: int
    ties: int
    cannot: int
    notes: int
    shown_left_preferred: Outcome
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two sources of verdicts agree.

    Attributes:
        first: One source: an annotator, or the majority.
        second: The other: an annotator, or the label.
        n: Pairs on which both have a verdict that counts.
        left_out: Pairs marked by both sources of which one could not judge, or stayed undecided beside a label.
        share: Share of pairs with the same verdict.
        kappa: Cohen's kappa, unweighted.
        alpha: Krippendorff's alpha, nominal.
    """

    first: str
    second: str
    n: int
    left_out: int
    share: Outcome
    kappa: Outcome
    alpha: Outcome


@dataclass(frozen=True, slots=True)
class PrincipleAgreement:
    """How far two annotators agree on one principle."""

    principle: str
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A pair on which verdicts differ.

    Attributes:
        key: The pair's id as JSON text.
        group: Its group.
        label: The labelled response.
        verdicts: By annotator.
        between_annotators: Whether two annotators differ; "cannot judge" differs from nothing.
        from_label: Annotators who prefer the other response than the label.
        notes: By annotator.
    """

    key: str
    group: str
    label: str | None
    verdicts: Mapping[str, Verdict]
    between_annotators: bool
    from_label: tuple[str, ...]
    notes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """Everything that ``strop annotate report`` says.

    Attributes:
        pairs: Pairs of the set.
        labels: Whether the labels were at hand.
        annotators: One entry each.
        between: Every two annotators.
        alpha_of_all: Krippendorff's alpha over all annotators, nominal; None with fewer than three.
        with_label: Each annotator, and the majority where there are two or more, beside the label.
        principles: Every two annotators on each principle that both marked somewhere.
        disagreements: Pairs on which verdicts differ, sorted by key.
    """

    pairs: int
    labels: bool
    annotators: tuple[AnnotatorCount, ...]
    between: tuple[Agreement, ...]
    alpha_of_all: Outcome | None
    with_label: tuple[Agreement, ...]
    principles: tuple[PrincipleAgreement, ...]
    disagreements: tuple[Disagreement, ...]


def agreement_report(collected: Collected, *, seed: int = 0, resamples: int = RESAMPLES) -> AgreementReport:
    """Compare annotators with each other and with the labels; intervals resample groups.

    Args:
        collected: The marks, side by side.
        seed: Of the bootstrap draws.
        resamples: Number of draws.
    """
    pairs, names = collected.pairs, collected.annotators
    groups = [pair.group for pair in pairs]
    verdicts = {name: [_verdict(pair, name) for pair in pairs] for name in names}
    labels: list[Verdict | None] = [pair.label for pair in pairs]
    drawing = _Drawing(groups, seed, resamples)
    between = tuple(drawing.agreement(a, verdicts[a], b, verdicts[b]) for a, b in combinations(names, 2))
    with_label: list[Agreement] = []
    if any(labels):
        sources = dict(verdicts)
        if len(names) > 1:
            sources[MAJORITY] = [_majority(pair) for pair in pairs]
        with_label = [drawing.agreement(a, _decided(found), LABEL, labels) for a, found in sources.items()]
    return AgreementReport(
        pairs=len(pairs),
        labels=any(labels),
        annotators=tuple(_count(name, pairs, drawing) for name in names),
        between=between,
        alpha_of_all=drawing.alpha_of_all(list(verdicts.values())) if len(names) > 2 else None,
        with_label=tuple(with_label),
        principles=tuple(_on_principles(collected, drawing)),
        disagreements=tuple(found for pair in pairs if (found := _disagreement(pair)) is not None),
    )


def _verdict(pair: MarkedPair, name: str) -> Verdict | None:
    mark = pair.marks.get(name)
    return None if mark is None else mark.verdict


def _majority(pair: MarkedPair) -> Verdict | None:
    """Return the majority's verdict; "cannot judge" where there are verdicts and no majority."""
    if all(mark.verdict is None for mark in pair.marks.values()):
        return None
    return majority(pair.marks) or "cannot"


def _decided(verdicts: Sequence[Verdict | None]) -> list[Verdict | None]:
    """Return the verdicts with "equally good" as "cannot judge": marked, and nothing to compare a label with."""
    return ["cannot" if verdict == "tie" else verdict for verdict in verdicts]


class _Drawing:
    """Computes agreements with intervals, each from a stream of its own."""

    def __init__(self, groups: Sequence[str], seed: int, resamples: int) -> None:
        self.groups = groups
        self.seed = seed
        self.resamples = resamples

    def generator(self, *names: str) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.seed, "annotate report", *names))

    def agreement(
        self,
        first: str,
        left: Sequence[Verdict | None],
        second: str,
        right: Sequence[Verdict | None],
        *,
        about: str = "",
    ) -> Agreement:
        columns = np.stack([_coded(left), _coded(right)])
        both = np.isfinite(columns).all(axis=0)
        marked = sum(None not in sides for sides in zip(left, right, strict=True))
        n = int(both.sum())
        generator = self.generator(about, first, second)
        share: Outcome = NotEstimable("no pair has both verdicts", 0)
        if n:
            same = np.where(both, columns[0] == columns[1], np.nan)
            share = cluster_bootstrap(same, self.groups, generator, bounds=SHARE, resamples=self.resamples)
        found = agreement_intervals(
            columns[0], columns[1], self.groups, generator, measures=_MEASURES, resamples=self.resamples
        )
        kappa, alpha = (_with_unseen(found[name], columns[:, both]) for name in ("kappa", "alpha"))
        return Agreement(first, second, n, marked - n, share, kappa, alpha)

    def alpha_of_all(self, verdicts: Sequence[Sequence[Verdict | None]]) -> Outcome:
        table = np.stack([_coded(each) for each in verdicts], axis=1)
        estimate = _alpha(table)
        rated_twice = int((np.isfinite(table).sum(axis=1) > 1).sum())
        if math.isnan(estimate):
            return NotEstimable("no pair was marked twice, or all verdicts are the same", rated_twice)
        interval = cluster_bootstrap(
            # The bootstrap leaves out rows with a NaN, and here a row lacks whoever did not mark it.
            np.nan_to_num(table, nan=_ABSENT),
            self.groups,
            self.generator("all"),
            statistic=lambda rows: _alpha(np.where(rows == _ABSENT, np.nan, rows)),
            bounds=CORRELATION,
            resamples=self.resamples,
        )
        return _with_unseen(replace(interval, n=rated_twice), table)


def _coded(verdicts: Sequence[Verdict | None]) -> Floats:
    return np.array([CODES.get(verdict, math.nan) if verdict else math.nan for verdict in verdicts])


def _with_unseen(outcome: Outcome, verdicts: Floats) -> Outcome:
    """Widen the interval of a kappa or an alpha that no resample moves: unseen groups might.

    At 1 the share of groups that differ has the exact (Clopper-Pearson) limit that the interval of the share uses; both
    measures are 1 - observed / expected disagreement, the latter here 1 - the sum of the verdicts' squared shares.
    Elsewhere, as at 0 where somebody always says the same, the data bound nothing.
    """
    if isinstance(outcome, NotEstimable) or outcome.low < outcome.high or not outcome.groups:
        return outcome
    if outcome.estimate < 1:
        return replace(outcome, low=CORRELATION[0], high=CORRELATION[1])
    _, counts = np.unique(verdicts[np.isfinite(verdicts)], return_counts=True)
    expected = 1 - float(((counts / counts.sum()) ** 2).sum())
    unseen = 1 - ((1 - outcome.level) / 2) ** (1 / outcome.groups)
    return replace(outcome, low=max(CORRELATION[0], outcome.estimate - unseen / expected))


def _alpha(table: Floats) -> float:
    value = krippendorff_alpha(table.T, metric="nominal")
    return math.nan if isinstance(value, NotEstimable) else value


def _count(name: str, pairs: Sequence[MarkedPair], drawing: _Drawing) -> AnnotatorCount:
    marks = [(pair.group, pair.marks[name]) for pair in pairs if name in pair.marks]
    given = [mark for _, mark in marks if mark.verdict is not None]
    sides = [(group, mark) for group, mark in marks if mark.verdict in ("first", "second")]
    lean: Outcome = NotEstimable("no verdict for a side", 0)
    if sides:
        lean = cluster_bootstrap(
            [float(mark.verdict == mark.shown_left) for _, mark in sides],
            [group for group, _ in sides],
            drawing.generator("left", name),
            bounds=SHARE,
            resamples=drawing.resamples,
        )
    seconds = [mark.seconds for mark in given if mark.seconds is not None]
    return AnnotatorCount(
        name=name,
        marked=len(given),
        unmarked=len(pairs) - len(given),
        ties=sum(mark.verdict == "tie" for mark in given),
        cannot=sum(mark.verdict == "cannot" for mark in given),
        notes=sum(bool(mark.note.strip()) for _, mark in marks),
        shown_left_preferred=lean,
        seconds=median(seconds) if seconds else None,
    )


def _on_principles(collected: Collected, drawing: _Drawing) -> list[PrincipleAgreement]:
    found = []
    for principle in collected.criteria:
        columns: dict[str, list[Verdict | None]] = {
            name: [pair.marks.get(name, Mark()).principles.get(principle) for pair in collected.pairs]
            for name in collected.annotators
        }
        for a, b in combinations(collected.annotators, 2):
            agreement = drawing.agreement(a, columns[a], b, columns[b], about=principle)
            if agreement.n:
                found.append(PrincipleAgreement(principle, agreement))
    return found


def _disagreement(pair: MarkedPair) -> Disagreement | None:
    verdicts = {name: mark.verdict for name, mark in pair.marks.items() if mark.verdict is not None}
    stated = {verdict for verdict in verdicts.values() if verdict != "cannot"}
    from_label = tuple(
        name for name, verdict in verdicts.items() if pair.label and verdict not in (pair.label, "tie", "cannot")
    )
    if len(stated) < 2 and not from_label:
        return None
    notes = {name: mark.note for name, mark in pair.marks.items() if mark.note.strip()}
    return Disagreement(pair.key, pair.group, pair.label, verdicts, len(stated) > 1, from_label, notes)
