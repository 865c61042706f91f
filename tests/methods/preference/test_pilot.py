"""A plan with a pilot: the pool's answers are forecast, kept, and not asked for again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.labelling_stages import answer_candidates
from strop.methods.preference.pilot import with_pilot
from strop.methods.preference.plan import plan, told_total
from strop.methods.preference.stages import draw_speeches
from strop.models.lengths import Range
from strop.runs import Run, derive_seed
from strop.runs.workspace import store_path

Configure = Callable[..., PreferenceConfig]


def asked(workspace: Path) -> int:
    with closing(sqlite3.connect(store_path(workspace))) as connection:
        return int(connection.execute("SELECT count(*) FROM calls").fetchone()[0])


def test_the_pools_answers_are_forecast_and_kept(configure: Configure, tmp_path: Path) -> None:
    """Answers of 3, 2, 3 and 1 words to 40 speeches each: 360; three of each are asked ahead, 148 are left to ask."""
    config = configure()
    before = plan(config, workspace=tmp_path)
    told = with_pilot(before, config, workspace=tmp_path, pilot=3, quiet=True)
    stages = {stage.stage: stage for stage in told.stages}
    assert asked(tmp_path) == 12
    assert stages["candidates"].stored == 12
    assert stages["candidates"].completion_tokens == Range.exactly(360)
    assert stages["candidates"].money is not None
    assert stages["candidates"].money.estimate == 0
    assert [one for one in told.stages if one.stage != "candidates"] == [
        one for one in before.stages if one.stage != "candidates"
    ]
    with Run.open(tmp_path / "run", config=config, origins={}, seed=0, workspace=tmp_path, quiet=True) as run:
        speeches = run.stage(draw_speeches, config.speeches, seed=config.seed, name="speeches")
        seed = derive_seed(config.seed, "labels")
        run.stage(
            answer_candidates,
            speeches,
            candidates=config.candidates,
            seed=seed,
            placement=config.machine,
            name="candidates",
        )
    assert asked(tmp_path) == 160


def test_the_sum_in_words_is_the_pilots(configure: Configure, tmp_path: Path) -> None:
    """One line tells the sum, and it is that of the stages shown above it."""
    config = configure()
    before = plan(config, workspace=tmp_path)
    told = with_pilot(before, config, workspace=tmp_path, pilot=2, quiet=True)
    assert told.total != before.total
    assert [note for note in told.notes if note.startswith("All: ")] == [told_total(told.total)]
    assert "forecast from 2 answers of each model" in told.notes[-1]


def test_rated_files_leave_nothing_to_try(configure: Configure, tmp_path: Path) -> None:
    rated = tmp_path / "rated.jsonl"
    rated.touch()
    config = configure(candidates=None, ratings=None, rated=[rated])
    before = plan(config, workspace=tmp_path)
    told = with_pilot(before, config, workspace=tmp_path, pilot=2, quiet=True)
    assert told.stages == before.stages
    assert "nothing to try" in told.notes[-1]
    assert not store_path(tmp_path).exists()
