"""Thresholds: three outcomes a rule, one verdict, the n that would settle it; by hand and by property."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.statistics import Interval
from strop.judging.qualifying.verdict import THRESHOLDS, Rule, Thresholds, decide, load_thresholds, pairs_needed

ORDER = ("broken", "cannot tell", "holds")


def figure(low: float, high: float, n: int = 100) -> Interval:
    return Interval((low + high) / 2, low, high, n, 0.95)


def at_least(bound: float, shown: str = "holds", name: str = "accuracy") -> Rule:
    return Rule.model_validate({"figure": name, "at_least": bound, "shown": shown, "reason": "because"})


def at_most(bound: float, shown: str = "holds", name: str = "flip rate") -> Rule:
    return Rule.model_validate({"figure": name, "at_most": bound, "shown": shown, "reason": "because"})


def thresholds(*rules: Rule) -> Thresholds:
    return Thresholds(name="own", version=1, level=0.95, rules=rules)


@pytest.mark.parametrize(
    ("rule", "interval", "outcome"),
    [
        (at_least(0.5), figure(0.5, 0.6), "holds"),
        (at_least(0.5), figure(0.45, 0.6), "cannot tell"),
        (at_least(0.5), figure(0.3, 0.49), "broken"),
        (at_least(0.5), figure(0.3, 0.5), "cannot tell"),
        (at_most(0.2), figure(0.1, 0.2), "holds"),
        (at_most(0.2), figure(0.1, 0.3), "cannot tell"),
        (at_most(0.2), figure(0.21, 0.3), "broken"),
        (at_most(0.2), None, "not measured"),
    ],
)
def test_an_interval_that_holds_the_bound_settles_nothing(rule: Rule, interval: Interval | None, outcome: str) -> None:
    assert rule.outcome(interval) == outcome


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_a_better_figure_never_has_a_worse_outcome(low: float, width: float, gain: float, bound: float) -> None:
    worse, better = figure(low, low + width), figure(low + gain, low + width + gain)
    least, most = at_least(bound), at_most(bound)
    assert ORDER.index(least.outcome(better)) >= ORDER.index(least.outcome(worse))
    assert ORDER.index(most.outcome(better)) <= ORDER.index(most.outcome(worse))


def test_one_broken_rule_decides_whatever_else_is_open() -> None:
    rules = thresholds(at_least(0.5), at_most(0.2))
    verdict = decide({"accuracy": figure(0.4, 0.6), "flip rate": figure(0.3, 0.4)}, rules, n=100)
    assert verdict.decision == "not qualified"
    assert verdict.text == "not qualified (n=100): flip rate at most 0.2 is broken (0.350, 0.300 to 0.400)"
    assert verdict.pairs_needed is None


def test_what_must_be_shown_and_is_not_leaves_the_verdict_open() -> None:
    rules = thresholds(at_least(0.5), at_most(0.2))
    verdict = decide({"accuracy": figure(0.45, 0.65), "flip rate": figure(0.1, 0.15)}, rules, n=100)
    assert verdict.decision == "cannot tell"
    assert verdict.pairs_needed is not None
    assert verdict.text.startswith(f"cannot tell at n=100, needs about n={verdict.pairs_needed}: accuracy at least 0.5")


def test_a_rule_that_counts_only_when_shown_broken_lets_doubt_pass() -> None:
    rules = thresholds(at_least(0.5, shown="broken"))
    assert decide({"accuracy": figure(0.3, 0.6)}, rules, n=100).decision == "qualified"
    assert decide({"accuracy": None}, rules, n=100).decision == "qualified"
    assert decide({"accuracy": figure(0.3, 0.4)}, rules, n=100).decision == "not qualified"


def test_a_figure_that_must_be_shown_and_was_not_measured_is_not_a_pass() -> None:
    verdict = decide({"accuracy": None}, thresholds(at_least(0.5)), n=0)
    assert verdict.decision == "cannot tell"
    assert "no n can be stated: accuracy at least 0.5 is not measured" in verdict.text


def test_pairs_needed_follow_the_interval() -> None:
    """Estimate .60, interval .50 to .70 at n = 100, bound .55.

    Standard error .1 / 1.95996 = .05102 at n = 100; .05 must be 1.95996 + .84162 = 2.80158 of them:
    100 * (2.80158 * .05102 / .05)^2 = 817.3, rounded up to 820. Half of the pairs used: twice as many.
    """
    assert pairs_needed(figure(0.5, 0.7), 0.55, n=100) == 820
    assert pairs_needed(figure(0.5, 0.7), 0.55, n=200) == 1700
    assert pairs_needed(figure(0.5, 0.7), 0.6, n=100) is None
    assert pairs_needed(figure(0.5, 0.7), 0.60001, n=100) is None


def test_the_shipped_thresholds_are_complete_and_their_hash_ignores_layout(tmp_path: Path) -> None:
    shipped = load_thresholds()
    assert {rule.figure for rule in shipped.rules} >= {"accuracy", "flip rate", "parse failures", "length lean"}
    copy = tmp_path / "own.yaml"
    copy.write_text("# my own\n" + THRESHOLDS.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_thresholds(copy).hash == shipped.hash
    copy.write_text(
        THRESHOLDS.read_text(encoding="utf-8").replace("at_least: 0.55", "at_least: 0.54"), encoding="utf-8"
    )
    assert load_thresholds(copy).hash != shipped.hash


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("at_least: 0.55", "at_lest: 0.55"), "did you mean .*at_least"),
        (("at_least: 0.55", "reasons: x"), "reason"),
        (("at_most: 0.25", "at_most: 0.25\n    at_least: 0.1"), "one of at_least and at_most"),
        (("level: 0.95", "level: 95"), "level"),
    ],
)
def test_broken_thresholds_are_one_clear_message(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(THRESHOLDS.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=says):
        load_thresholds(path)


def test_a_rule_on_a_figure_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="figure that does not exist"):
        decide({"accuracy": None}, thresholds(at_least(0.5, name="acuracy")), n=10)
