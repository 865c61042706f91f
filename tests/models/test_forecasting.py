"""A pilot's forecast: exact where nothing varies, and a range that holds what the whole then takes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from strop.models.asking import ask
from strop.models.forecasting import ZERO, Expected, forecast, mean_of
from strop.models.protocol import Call, Sampling
from strop.models.scripted import ScriptedModel
from strop.runs.store import CallStore


def test_the_mean_has_the_interval_of_students_t() -> None:
    """Values 2 and 4: mean 3, deviation sqrt(2), t(0.975, 1) = 12.706: half = 12.706; the low end is cut at 0."""
    told = mean_of([2, 4])
    assert told.estimate == 3
    assert told.low == 0
    assert told.high == pytest.approx(3 + 12.7062, abs=1e-3)
    assert mean_of([5]) == Expected(5, 0, 10)
    assert mean_of([]) == ZERO


@pytest.fixture
def varied(tmp_path: Path) -> ScriptedModel:
    """Answers with as many words as the prompt's last digit says."""
    script = tmp_path / "varied.yaml"
    rules = [f"{{pattern: '{digit}$', reply: '{' w' * (digit + 1)}'}}" for digit in range(10)]
    script.write_text(f"rules: [{', '.join(rules)}]")
    return ScriptedModel(script)


def test_the_range_holds_what_the_whole_takes(varied: ScriptedModel, store: CallStore) -> None:
    """300 prompts with 1 to 10 words an answer: 1,650 in all."""
    prompts = [f"prompt {number}" for number in range(300)]
    told = forecast(varied, prompts, Sampling(), samples=1, store=store, pilot=40, random=Random(1))
    assert (told.calls, told.stored, told.asked, told.remaining) == (300, 0, 40, 260)
    paid = sum(call.completion_tokens for call in store.read_many(_keys(varied, prompts)).values())
    ask(varied, prompts, Sampling(), store=store)
    whole = sum(call.completion_tokens for call in store.read_many(_keys(varied, prompts)).values())
    assert whole == 1650
    assert told.rest.completion_tokens.low <= whole - paid <= told.rest.completion_tokens.high
    assert told.rest.completion_tokens.high < 2 * (whole - paid)
    assert told.rest.money == ZERO


def test_what_is_stored_costs_nothing(varied: ScriptedModel, store: CallStore) -> None:
    prompts = [f"prompt {number}" for number in range(20)]
    ask(varied, prompts, Sampling(), store=store)
    told = forecast(varied, prompts, Sampling(), samples=1, store=store, pilot=5, random=Random(1))
    assert (told.stored, told.asked, told.remaining) == (20, 0, 0)
    assert told.rest.completion_tokens == ZERO


def _keys(model: ScriptedModel, prompts: list[str]) -> list[str]:
    return [Call(prompt, Sampling()).key(model.revision) for prompt in prompts]
