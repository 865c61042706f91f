"""Rated responses: figures by hand, scales that must be stated, failures that are not numbers, and real judges."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.errors import UserError
from strop.judging.asking import Asking
from strop.judging.llm import LlmJudge
from strop.judging.qualifying.rated import RatedResponse, measure_ratings, parse_scale, ratings_by, read_rated
from strop.judging.rubric import load_rubric
from strop.models.scripted import ScriptedModel
from strop.records.tables import write_table
from strop.runs.store import CallStore

RUBRIC = load_rubric("principles-v1")


def rows(*scores: float) -> list[RatedResponse]:
    return [RatedResponse(f"m{number}", "r", score, f"g{number}") for number, score in enumerate(scores)]


def estimates(people: list[float], judged: list[float], **settings: Any) -> dict[str, float | None]:
    given = {"stepped": True, "scale": None, "level": 0.95, "seed": 0} | settings
    found = measure_ratings(rows(*people), np.array(judged), **given)
    return {name: None if figure is None else figure.estimate for name, figure in found.figures.items()}


def test_figures_by_hand() -> None:
    """People 1 2 3 4 5, judge 2 2 4 4 5.

    Lean: (1 + 0 + 1 + 0 + 0) / 5 = .4 points of a scale 4 wide = .1. Kappa with quadratic weights: observed squared
    differences 2 of 5 items; expected mean of (i - j)^2 over all 25 pairs is
    (1+1+9+9+16 + 0+0+4+4+9 + 1+1+1+1+4 + 4+4+0+0+1 + 9+9+1+1+0) / 25 = 90 / 25 = 3.6; 1 - .4 / 3.6 = .8889.
    """
    found = estimates([1, 2, 3, 4, 5], [2, 2, 4, 4, 5])
    assert found["ratings: lean"] == pytest.approx(0.1)
    assert found["ratings: weighted kappa"] == pytest.approx(1 - 0.4 / 3.6)
    assert found["ratings: failures"] == 0.0


def test_the_ends_of_peoples_scale_are_mapped_to_the_rubrics() -> None:
    """0, 3 and 6 on a scale of 0 to 6 are 1, 3 and 5: agreement is perfect, lean 0."""
    found = estimates([0, 3, 6], [1, 3, 5], scale=(0, 6))
    assert {name: value for name, value in found.items() if name != "ratings: failures"} == pytest.approx(
        {"ratings: Spearman": 1.0, "ratings: weighted kappa": 1.0, "ratings: alpha": 1.0, "ratings: lean": 0.0}
    )


def test_without_a_common_scale_only_the_order_counts() -> None:
    for settings in ({}, {"stepped": False}):
        found = estimates([0, 3, 6, 6], [1.5, 3, 4, 5], **settings)
        assert found["ratings: Spearman"] is not None
        assert found["ratings: weighted kappa"] is found["ratings: alpha"] is found["ratings: lean"] is None


def test_a_failed_rating_is_left_out_and_counted() -> None:
    found = measure_ratings(
        rows(1, 2, 3, 4, 5), np.array([1, 2, math.nan, 4, 5]), stepped=True, scale=None, level=0.95, seed=0
    )
    spearman, failures = found.figures["ratings: Spearman"], found.figures["ratings: failures"]
    assert spearman is not None
    assert failures is not None
    assert (spearman.n, spearman.estimate, failures.estimate) == (4, 1.0, 0.2)


def test_ratings_that_never_vary_have_no_correlation() -> None:
    found = measure_ratings(rows(1, 2, 3), np.full(3, 4.0), stepped=True, scale=None, level=0.95, seed=0)
    assert found.figures["ratings: Spearman"] is None
    assert found.unavailable["ratings: Spearman"] == "ratings or scores do not vary"


def test_a_score_outside_the_scale_is_refused() -> None:
    with pytest.raises(UserError, match="outside the scale"):
        estimates([0, 7], [1, 5], scale=(0, 6))


@pytest.mark.parametrize("text", ["", "1", "5,1", "a,b", "1,2,3", "0,inf"])
def test_a_scale_is_two_numbers_in_order(text: str) -> None:
    with pytest.raises(UserError, match="lowest and its highest"):
        parse_scale(text)
    assert parse_scale("0,6") == (0.0, 6.0)


def test_files_are_read_folded_into_groups_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "rated.jsonl"
    write_table(
        path,
        [
            {"context": "I feel low.", "response": "Tell me.", "score": 2},
            {"context": "i feel low", "response": "Oh.", "score": 0.5},
            {"context": "x", "response": " ", "score": 1},
            {"context": "x", "response": "y", "score": None},
        ],
    )
    read = read_rated(path)
    assert len({row.group for row in read.rows}) == 1
    assert read.left_out == {"empty response": 1, "no score": 1}
    write_table(path, [{"context": "x", "response": "y", "score": "high"}])
    with pytest.raises(UserError, match="must be a number"):
        read_rated(path)


def test_a_model_rates_by_its_rubric_and_a_silent_one_fails(tmp_path: Path) -> None:
    lines = "\n".join(f"{key}: 4" for key in RUBRIC.keys)
    script = tmp_path / "script.json"
    script.write_text(
        json.dumps({"rules": [{"pattern": "speak up", "reply": f"Good.\n{lines}"}], "default": "No."}), encoding="utf-8"
    )
    items = [RatedResponse("m", "speak up", 5, "g"), RatedResponse("m", "hush", 1, "h")]
    with CallStore(tmp_path / "calls.sqlite") as store:
        judge = LlmJudge(ScriptedModel(script), RUBRIC, store, Asking(again=0, ceiling=1.0))
        ratings = ratings_by(judge, items)
    assert ratings[0] == 4.0
    assert math.isnan(ratings[1])
