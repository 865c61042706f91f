"""The collapse alarm: still where nothing moved, loud where a round narrowed, silent where a few sessions differ."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_sessions import discarded, record
from strop.errors import Stopped, UserError
from strop.methods.selfplay.collapse import Expected, stop_on_collapse, watched
from strop.methods.selfplay.monitors import CollapseLimits
from strop.methods.selfplay.session_record import Discarded, SessionRecord
from strop.models.scoring import TokenScores

LIMITS = CollapseLimits()
FIRST = [record(n, pass_=p) for n in range(12) for p in range(2)]


def look(now: list[SessionRecord], first: list[SessionRecord] = FIRST, **given: Any) -> dict[str, Any]:
    return {one.measure: one for one in watched(now, first, LIMITS, np.random.default_rng(0), **given)}


def test_the_same_round_breaks_nothing() -> None:
    found = look(FIRST)
    assert set(found) == set(CollapseLimits.model_fields) - {"perplexity"}
    assert not any(one.broken for one in found.values())
    stop_on_collapse(list(found.values()), iteration=2)


def test_everybody_says_the_same() -> None:
    """Four illnesses in equal parts are 2 bits, one is none; 24 equal sessions have a 24th of the variety."""
    found = look([record(n, pass_=p, same=True) for n in range(12) for p in range(2)])
    assert {name for name, one in found.items() if one.broken} == {
        "illness_entropy",
        "distinct_2_turns",
        "distinct_2_plans",
    }
    assert found["illness_entropy"].interval.estimate == pytest.approx(2.0)
    assert found["distinct_2_turns"].interval.estimate == pytest.approx(1 / 24)
    with pytest.raises(Stopped) as stopped:
        stop_on_collapse(list(found.values()), iteration=3)
    told = str(stopped.value)
    assert "round 3" in told
    assert "2.00 bits" in told
    assert "set iterations to 2" in told


def test_roles_are_lost() -> None:
    """Half the sessions fail; in the other half every second turn is discarded and a doctor is the illness."""
    faults = tuple(discarded(n) for n in range(2))
    now = [
        replace(one, status="failed", illness="", dialogue=(), treatments=(), medicines=())
        if place % 2
        else replace(one, illness="Doctor 1.", ledger=faults)
        for place, one in enumerate(FIRST)
    ]
    found = look(now)
    assert found["failed"].interval.estimate == 0.5
    assert found["unnamed"].interval.estimate == 1.0
    assert found["discarded"].interval.estimate == 0.5
    assert all(found[name].broken for name in ("failed", "unnamed", "discarded"))
    assert "illness_entropy" not in found


def test_a_kept_turn_is_not_discarded() -> None:
    now = [replace(one, ledger=(discarded(0, "kept: repeats"), Discarded(-1, "judge", "x", ""))) for one in FIRST]
    assert look(now)["discarded"].interval.estimate == 0.0


def test_a_handful_of_sessions_raises_no_alarm() -> None:
    """One of two cards fails: +50 %, beyond the limit, and no proof of anything."""
    first = [record(0), record(1)]
    now = [record(0), record(1, status="failed")]
    found = look(now, first)
    assert found["failed"].interval.estimate == 0.5
    assert not found["failed"].broken


def test_only_shared_sessions_are_compared() -> None:
    now = [*FIRST, record(77, status="failed"), record(78, status="failed")]
    assert look(now)["failed"].interval.n == len(FIRST)
    with pytest.raises(UserError, match="share no session"):
        look([record(77)])


def expected(log_p: float) -> Expected:
    return Expected([TokenScores((1, 2), (log_p, log_p)) for _ in range(12)], [f"c{n}" for n in range(12)])


@pytest.mark.parametrize(("bits", "broken"), [(2, True), (1, False)])
def test_perplexity_by_hand(bits: int, broken: bool) -> None:
    """Tokens of probability 1/8 where they had 1/2: 4 times the perplexity, over the limit of 3; 1/4: twice."""
    start, now = expected(-math.log(2)), expected(-(bits + 1) * math.log(2))
    found = look(FIRST, expected=(now, start))["perplexity"]
    assert found.interval.estimate == pytest.approx(2.0**bits)
    assert found.broken == broken
    with pytest.raises(UserError, match="share no card"):
        look(FIRST, expected=(now, Expected(start.scores, ["other"] * 12)))


def test_limits_can_be_off() -> None:
    off = CollapseLimits(**dict.fromkeys(CollapseLimits.model_fields))
    now = [record(n, pass_=p, same=True) for n in range(12) for p in range(2)]
    assert not any(one.broken for one in watched(now, FIRST, off, np.random.default_rng(0)))


SESSIONS = st.lists(
    st.builds(
        record,
        st.integers(0, 3),
        status=st.sampled_from(["complete", "partial", "failed"]),
        illness=st.sampled_from(["", "Depression", "PTSD", "Doctor 2"]),
        dialogue=st.just(()) | st.just(record(1).dialogue),
        treatments=st.just(()),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(SESSIONS, SESSIONS)
def test_any_rounds_can_be_watched(now: list[SessionRecord], first: list[SessionRecord]) -> None:
    """Every estimate is a number, and a round beside itself breaks nothing."""
    if {one.id for one in now} & {one.id for one in first}:
        assert all(math.isfinite(one.interval.estimate) for one in look(now, first).values())
    unique = list({one.id: one for one in now}.values())
    assert not any(one.broken for one in look(unique, unique).values())
