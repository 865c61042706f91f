"""A plan with a pilot: bounds become forecasts, and what the pilot asked is not asked again."""

from __future__ import annotations

from pathlib import Path

from strop.methods import RECIPES
from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.pilot import Tried, forecast_stage, with_pilot
from strop.methods.weak_to_strong.plan import plan
from strop.models.forecasting import CallFigures, Expected
from strop.models.lengths import Range
from strop.runs import CallStore, Price
from strop.runs.configuration import load_recipe
from strop.runs.workspace import store_path
from strop.training.planning import PlannedStage

EACH = CallFigures(Expected(10, 10, 10), Expected(20, 15, 25), None, Expected(2, 1, 3))


def test_a_base_models_stage_by_hand() -> None:
    """10 calls, 4 of them stored: 10 x 15 to 10 x 25 tokens; 6 calls take 6 to 18 s.

    At 1 a million prompt tokens and 2 a million of the answer's: (100 + 2 x 150) x 0.6 to (100 + 2 x 250) x 0.6.
    """
    stage = PlannedStage("a", "base", 10, Range(100, 100), Range(10, 400), stored=4, base="base")
    told = forecast_stage(stage, {"base": Tried(EACH, Price(1.0, 2.0), 5)})
    assert (told.completion_tokens, told.seconds) == (Range(150, 250), Range(6, 18))
    assert told.money is not None
    assert (round(told.money.low * 1e6, 6), round(told.money.high * 1e6, 6)) == (240.0, 360.0)


def test_a_trained_models_stage_keeps_its_lower_bound() -> None:
    """It may stop after one token: 10 of at most 250 tokens take 1/25 of the time, 0.4 of 10 s."""
    stage = PlannedStage("a", "trained", 10, Range(100, 100), Range(10, 400), base="base")
    told = forecast_stage(stage, {"base": Tried(EACH, None, 5)})
    assert (told.completion_tokens, told.seconds, told.money) == (Range(10, 250), Range(0, 30), None)


def test_stages_without_calls_or_with_a_known_time_stay_as_they_are() -> None:
    tried = {"base": Tried(EACH, None, 5)}
    assert forecast_stage(PlannedStage("a"), tried) == PlannedStage("a")
    known = PlannedStage("a", "base", 10, completion_tokens=Range(10, 400), seconds=Range(7, 8), base="base")
    assert forecast_stage(known, tried).seconds == Range(7, 8)


def test_with_the_shipped_models(tmp_path: Path) -> None:
    sets = (
        "data.population=development",
        "data.train_2=24",
        "data.test=10",
        "decoding.max_tokens=8",
        "arms=[self_labels]",
    )
    config = load_recipe("weak_to_strong/demo", sets=sets, recipes=RECIPES).config
    assert isinstance(config, WeakToStrongConfig)
    before = plan(config, workspace=tmp_path)
    told = with_pilot(before, config, workspace=tmp_path, pilot=5, quiet=True)
    assert [stage.stage for stage in told.stages] == [stage.stage for stage in before.stages]
    assert told.all_seeds.completion_tokens.high <= before.all_seeds.completion_tokens.high
    assert told.all_seeds.seconds is not None
    assert told.all_seeds.money == Expected(0, 0, 0)
    assert "builtin:stories-weak 5 calls" in told.notes[0]
    with CallStore(store_path(tmp_path)) as store:
        assert store.sizes().calls == 10
    again = plan(config, workspace=tmp_path)
    stored = {stage.stage: stage.stored for stage in again.stages}
    assert stored["self-answers"] == 5
