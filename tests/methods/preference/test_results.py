"""What policies gained: paired by speech, by hand; an end that the data do not bound is null."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from strop.evaluation.statistics import Interval
from strop.methods.preference.results import compare_policies, interval_row
from strop.runs import Artifact, Config, Run, Stage


class NoSettings(Config):
    """A run without settings of its own."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", config=NoSettings(), origins={}, seed=0, workspace=tmp_path, quiet=True) as opened:
        yield opened


def put(stage: Stage, rows: list[dict[str, Any]]) -> None:
    """Write a table."""
    stage.write_rows(rows)


def examined(run: Run, name: str, **rewards: list[float]) -> Artifact:
    columns = zip(*rewards.values(), strict=True)
    rows = [{"id": f"s{n}", "rewards": dict(zip(rewards, each, strict=True))} for n, each in enumerate(columns)]
    return run.stage(put, rows, name=name)


def gains(run: Run, name: str = "gains", **policies: Artifact) -> dict[str, Any]:
    made = run.stage(compare_policies, policies, initial="initial", seed=0, name=name)
    told: dict[str, Any] = json.loads(made.path("gains.json").read_text(encoding="utf-8"))
    return told


FIRST = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
MORE = [0.5, 1.0, 1.5, 0.0, -0.5, 1.0, 0.5, 1.0]


def test_by_hand(run: Run) -> None:
    """Differences 0.5, 1, 1.5, 0, -0.5, 1, 0.5, 1 have the mean 5 / 8; the means are 3.5 and 4.125.

    By the second reward, the policy lost 1 on every speech.
    """
    own = [a + b for a, b in zip(FIRST, MORE, strict=True)]
    initial = examined(run, "a", reward=FIRST, second=FIRST)
    told = gains(run, initial=initial, dpo=examined(run, "b", reward=own, second=[one - 1 for one in FIRST]))
    assert told["initial"]["reward"]["mean"] == 3.5
    assert told["initial"]["reward"]["difference"]["estimate"] == 0.0
    gain = told["dpo"]["reward"]
    assert gain["mean"] == 4.125
    assert gain["difference"]["estimate"] == 0.625
    assert gain["difference"]["n"] == 8
    assert told["dpo"]["second"]["difference"]["estimate"] == -1.0


def test_the_interval_is_paired(run: Run) -> None:
    """Speeches differ by 7 and the differences by 2: the interval is near Student's of the differences, within half.

    Unpaired, it would be more than four times as wide.
    """
    own = [a + b for a, b in zip(FIRST, MORE, strict=True)]
    told = gains(run, initial=examined(run, "a", reward=FIRST), dpo=examined(run, "b", reward=own))
    difference = told["dpo"]["reward"]["difference"]
    low, high = stats.t.interval(0.95, 7, loc=np.mean(MORE), scale=stats.sem(MORE))
    assert difference["low"] < 0.625 < difference["high"]
    assert difference["high"] - difference["low"] == pytest.approx(high - low, rel=0.5)


def test_exchanging_the_policies_turns_the_sign(run: Run) -> None:
    own = [a + b for a, b in zip(FIRST, MORE, strict=True)]
    one, other = examined(run, "a", reward=FIRST), examined(run, "b", reward=own)
    straight, turned = gains(run, "g1", initial=one, dpo=other), gains(run, "g2", initial=other, dpo=one)
    assert straight["dpo"]["reward"]["difference"]["estimate"] == -turned["dpo"]["reward"]["difference"]["estimate"]


def test_what_would_tell_is_a_number_only_where_nothing_does(run: Run) -> None:
    flat = [a + (0.1 if n % 2 else -0.08) for n, a in enumerate(FIRST)]
    clear = [a + 1 + 0.1 * (n % 3) for n, a in enumerate(FIRST)]
    initial = examined(run, "a", reward=FIRST)
    told = gains(run, initial=initial, dpo=examined(run, "b", reward=flat), online=examined(run, "c", reward=clear))
    assert told["dpo"]["reward"]["difference"]["low"] < 0 < told["dpo"]["reward"]["difference"]["high"]
    assert told["dpo"]["reward"]["needed"] > 8
    assert told["online"]["reward"]["difference"]["low"] > 0


def test_an_end_that_nothing_bounds_is_null() -> None:
    row = interval_row(Interval(0.5, -math.inf, math.inf, 1))
    assert row == {"estimate": 0.5, "low": None, "high": None, "n": 1}
    assert json.loads(json.dumps(row)) == row
