"""Agreement by hand, and against scikit-learn and the krippendorff package."""

from __future__ import annotations

import math

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score

from strop.evaluation.statistics import Interval, NotEstimable
from strop.web.agreement_report import CODES, AgreementReport, agreement_report
from strop.web.blinding import Response
from strop.web.collecting import Collected, MarkedPair, majority
from strop.web.marks import Mark, Verdict

Row = tuple[Response | None, dict[str, Verdict | None]]


def _collected(rows: list[Row], *, criteria: tuple[str, ...] = ()) -> Collected:
    names = sorted({name for _, verdicts in rows for name in verdicts})
    pairs = tuple(
        MarkedPair(
            str(number), f"client {number // 2}", label, {name: Mark(verdict=each) for name, each in verdicts.items()}
        )
        for number, (label, verdicts) in enumerate(rows)
    )
    return Collected(tuple(names), criteria, pairs)


def _report(rows: list[Row]) -> AgreementReport:
    return agreement_report(_collected(rows), resamples=200)


def _estimate(outcome: Interval | NotEstimable) -> float:
    assert isinstance(outcome, Interval), outcome
    return outcome.estimate


HAND: list[Row] = [
    ("first", {"anna": "first", "ben": "first"}),
    ("second", {"anna": "second", "ben": "second"}),
    ("first", {"anna": "first", "ben": "second"}),
    ("second", {"anna": "second", "ben": "cannot"}),
    ("first", {"anna": "tie", "ben": "first"}),
    ("second", {"anna": "second"}),
    ("first", {}),
]


def test_worked_by_hand() -> None:
    """Anna and Ben both decide on pairs 0, 1, 2, 4 and agree on 0 and 1: 2 of 4; pair 3 is left out.

    Kappa of (f,f) (s,s) (f,s) (t,f): chance = (2*2 + 1*2 + 1*0) / 16 = 0.375, kappa = (0.5 - 0.375) / 0.625 = 0.2.
    Anna and the label: pairs 0, 1, 2, 3, 5 all alike; the tie of pair 4 is left out. Ben: 0, 1, 4 alike, 2 not, 3 left
    out. The majority decides 0, 1, 3, 4, 5 and has none on 2.
    """
    report = _report(HAND)
    (between,) = report.between
    assert (between.first, between.second, between.n, between.left_out) == ("anna", "ben", 4, 1)
    assert _estimate(between.share) == 0.5
    assert _estimate(between.kappa) == pytest.approx(0.2)
    anna, ben, all_of_them = report.with_label
    assert (anna.n, anna.left_out, _estimate(anna.share)) == (5, 1, 1.0)
    assert (ben.n, ben.left_out, _estimate(ben.share)) == (4, 1, 0.75)
    assert (all_of_them.first, all_of_them.n, all_of_them.left_out) == ("majority", 5, 1)
    assert [each.key for each in report.disagreements] == ["2", "4"]
    assert report.disagreements[0].from_label == ("ben",)
    assert (report.disagreements[1].between_annotators, report.disagreements[1].from_label) == (True, ())
    counts = {each.name: (each.marked, each.unmarked, each.ties, each.cannot) for each in report.annotators}
    assert counts == {"anna": (6, 1, 1, 0), "ben": (5, 2, 0, 1)}
    assert report.alpha_of_all is None


def _simulated(seed: int, names: tuple[str, ...], *, missing: float = 0.2) -> list[Row]:
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(40):
        label: Response = "first" if generator.random() < 0.5 else "second"
        verdicts: dict[str, Verdict | None] = {}
        for name in names:
            if generator.random() < missing:
                continue
            kinds: list[Verdict] = [label, "first", "second", "tie", "cannot"]
            verdicts[name] = kinds[generator.choice(5, p=[0.6, 0.12, 0.12, 0.08, 0.08])]
        rows.append((label, verdicts))
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_the_same_numbers_as_independent_implementations(seed: int) -> None:
    rows = _simulated(seed, ("anna", "ben"))
    report = _report(rows)
    sides = [(found.get("anna"), found.get("ben")) for _, found in rows]
    both = [(a, b) for a, b in sides if a not in (None, "cannot") and b not in (None, "cannot")]
    anna, ben = ([str(each[place]) for each in both] for place in (0, 1))
    (between,) = report.between
    assert between.n == len(both)
    assert _estimate(between.share) == pytest.approx(accuracy_score(anna, ben))
    assert _estimate(between.kappa) == pytest.approx(cohen_kappa_score(anna, ben))
    coded = [[CODES[each] for each in column] for column in zip(*both, strict=True)]
    expected = krippendorff.alpha(np.array(coded), level_of_measurement="nominal")
    assert _estimate(between.alpha) == pytest.approx(expected)
    decided = [(label, found["anna"]) for label, found in rows if found.get("anna") in ("first", "second")]
    labels, verdicts = zip(*decided, strict=True)
    assert _estimate(report.with_label[0].share) == pytest.approx(accuracy_score(labels, verdicts))
    assert _estimate(report.with_label[0].kappa) == pytest.approx(cohen_kappa_score(labels, verdicts))


def test_alpha_over_three_annotators_with_gaps() -> None:
    rows = _simulated(7, ("anna", "ben", "carla"), missing=0.4)
    table = np.array(
        [[CODES.get(found.get(name) or "cannot", math.nan) for _, found in rows] for name in ("anna", "ben", "carla")]
    )
    report = _report(rows)
    expected = krippendorff.alpha(table, level_of_measurement="nominal")
    assert report.alpha_of_all is not None
    assert isinstance(report.alpha_of_all, Interval)
    assert report.alpha_of_all.estimate == pytest.approx(expected)
    assert report.alpha_of_all.low < expected < report.alpha_of_all.high
    assert report.alpha_of_all.groups == 20
    assert len(report.between) == 3


def test_nothing_marked_is_not_estimable_and_never_a_number() -> None:
    report = _report([("first", {}), ("second", {})])
    assert (report.between, report.disagreements) == ((), ())
    report = _report([("first", {"anna": "cannot", "ben": None}), ("second", {"anna": None, "ben": "first"})])
    (between,) = report.between
    assert between.n == 0
    assert all(isinstance(each, NotEstimable) for each in (between.share, between.kappa, between.alpha))
    assert isinstance(report.annotators[0].shown_left_preferred, NotEstimable)
    assert report.annotators[0].seconds is None


def test_perfect_agreement_on_few_groups_is_no_certainty() -> None:
    """Six groups that all agree: up to 1 - 0.025^(1/6) = 0.4593 of unseen groups may differ.

    The share is 0.54 to 1; with half of the verdicts for either side, kappa and alpha go down to 1 - 0.4593 / 0.5.
    """
    rows: list[Row] = [("first", dict.fromkeys("abc", "first" if number % 4 < 2 else "second")) for number in range(12)]
    report = _report(rows)
    outcomes = [report.alpha_of_all, report.between[0].alpha, report.between[0].kappa]
    for outcome in outcomes:
        assert isinstance(outcome, Interval)
        assert (outcome.estimate, outcome.high) == (1.0, 1.0)
        assert outcome.low == pytest.approx(1 - 0.4593 / 0.5, abs=1e-4)
    share = report.between[0].share
    assert isinstance(share, Interval)
    assert share.low == pytest.approx(0.5407, abs=1e-4)


def test_a_kappa_of_somebody_who_always_says_the_same_is_not_bounded() -> None:
    """It is 0 in every resample, whatever the other one says."""
    rows: list[Row] = [(None, {"a": "first", "b": "first" if number % 3 else "second"}) for number in range(12)]
    kappa = _report(rows).between[0].kappa
    assert isinstance(kappa, Interval)
    assert (kappa.estimate, kappa.low, kappa.high) == (0.0, -1.0, 1.0)


def test_without_labels_annotators_are_still_compared() -> None:
    report = _report([(None, verdicts) for _, verdicts in HAND])
    assert not report.labels
    assert report.with_label == ()
    assert report.between[0].n == 4
    assert [each.from_label for each in report.disagreements] == [(), ()]


def test_swapping_what_is_called_first_changes_no_agreement() -> None:
    """Which response sorts first is arbitrary, so no figure may depend on it."""
    other: dict[Verdict | None, Verdict | None] = {"first": "second", "second": "first"}
    rows = _simulated(3, ("anna", "ben"))
    swapped: list[Row] = [
        (
            "second" if label == "first" else "first",
            {name: other.get(verdict, verdict) for name, verdict in found.items()},
        )
        for label, found in rows
    ]
    for one, two in zip(_report(rows).between, _report(swapped).between, strict=True):
        assert _estimate(one.share) == _estimate(two.share)
        assert _estimate(one.kappa) == pytest.approx(_estimate(two.kappa))
        assert _estimate(one.alpha) == pytest.approx(_estimate(two.alpha))


def test_principles() -> None:
    pairs = tuple(
        MarkedPair(
            str(number),
            str(number),
            None,
            {
                "anna": Mark(principles={"safety": "first", "empathy": "first"}),
                "ben": Mark(principles={"safety": "first" if number else "second"}),
            },
        )
        for number in range(4)
    )
    report = agreement_report(Collected(("anna", "ben"), ("empathy", "safety"), pairs), resamples=100)
    (safety,) = report.principles
    assert (safety.principle, safety.agreement.n, _estimate(safety.agreement.share)) == ("safety", 4, 0.75)


@pytest.mark.parametrize(
    ("verdicts", "winner"),
    [
        (["first", "first", "second"], "first"),
        (["first", "second"], None),
        (["tie", "tie", "second"], "second"),
        (["cannot", None], None),
        ([], None),
    ],
)
def test_majority(verdicts: list[Verdict | None], winner: Response | None) -> None:
    assert majority({str(place): Mark(verdict=each) for place, each in enumerate(verdicts)}) == winner
