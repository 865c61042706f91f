"""Panels: most votes decide, equal votes are a tie, and neither the order of judges nor that of sides matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.judging.judge import Comparison, Duel, OrderVerdict, mirrored, settled
from strop.judging.panel import Panel, decide
from strop.judging.parsing import ParseFailure

DUEL = Duel("d", "p", "one", "two")
FAILED = ParseFailure("missing", "")
VERDICTS = st.sampled_from(["first", "second", "tie", FAILED])


def vote(forward: OrderVerdict, backward: OrderVerdict | None = None, *, strength: float | None = None) -> Comparison:
    backward = forward if backward is None else backward
    return Comparison("d", settled(forward, backward), forward, backward, strength)


@dataclass(frozen=True)
class Fixed:
    name: str
    revision: str
    said: Comparison

    def compare(self, items: Sequence[Duel]) -> list[Comparison]:
        return [self.said for _ in items]


@pytest.mark.parametrize(
    ("votes", "verdict"),
    [
        (["first", "first", "second"], "first"),
        (["first", "second", "second"], "second"),
        (["first", "second", "tie"], "tie"),
        (["first", "second"], "tie"),
        (["first", "tie", "tie"], "first"),
        (["tie", "tie", "tie"], "tie"),
        (["first", FAILED, "first"], "first"),
        (["first", FAILED, FAILED], None),
        (["first", FAILED], None),
        ([FAILED, FAILED, FAILED], None),
    ],
)
def test_votes(votes: list[OrderVerdict], verdict: str | None) -> None:
    assert decide([vote(each) for each in votes]).verdict == verdict


@given(st.lists(st.tuples(VERDICTS, VERDICTS), min_size=2, max_size=6))
def test_the_order_of_the_judges_does_not_matter(orders: list[tuple[OrderVerdict, OrderVerdict]]) -> None:
    votes = [vote(*order) for order in orders]
    shuffled = sorted(votes, key=lambda each: (str(each.backward), str(each.forward)))
    assert decide(votes) == decide(shuffled) == decide(votes[::-1])


@given(st.lists(st.tuples(VERDICTS, VERDICTS), min_size=2, max_size=6))
def test_swapping_the_sides_swaps_the_verdict(orders: list[tuple[OrderVerdict, OrderVerdict]]) -> None:
    told = decide([vote(forward, backward) for forward, backward in orders])
    swapped = decide([vote(mirrored(backward), mirrored(forward)) for forward, backward in orders])
    expected = None if told.verdict is None else mirrored(told.verdict)
    assert swapped.verdict == expected
    assert swapped.forward == mirrored(told.backward)


def test_a_strength_is_a_mean_and_missing_where_one_is() -> None:
    assert decide([vote("first", strength=0.9), vote("second", strength=0.2)]).strength == pytest.approx(0.55)
    assert decide([vote("first", strength=0.9), vote("second")]).strength is None


def test_a_panel_of_judges() -> None:
    said = {"b": vote("first"), "a": vote("first"), "c": vote("second")}
    judges = tuple(Fixed(name, name * 3, each) for name, each in said.items())
    panel, turned = Panel(judges), Panel(judges[::-1])
    assert panel.compare([DUEL])[0].verdict == "first"
    assert (panel.name, panel.revision) == (turned.name, turned.revision) == ("panel of a, b, c", panel.revision)
    assert [comparison.verdict for comparison in panel.votes([DUEL])[0]] == ["first", "first", "second"]


def test_a_panel_needs_different_judges() -> None:
    one = Fixed("a", "r", vote("first"))
    with pytest.raises(UserError, match="at least two judges"):
        Panel((one,))
    with pytest.raises(UserError, match="sits on the panel twice"):
        Panel((one, Fixed("b", "r", vote("tie"))))
