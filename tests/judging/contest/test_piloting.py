"""A contestant's pilot: its answers are the run's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.judging.contest.arena import CPU, PROMPTS, answers

from strop.judging.contest.answering import Contestant, addressed
from strop.judging.contest.piloting import try_contestant
from strop.runs import Run, derive_seed
from strop.runs.workspace import store_path

Scripted = Callable[..., str]


def asked(workspace: Path) -> int:
    with closing(sqlite3.connect(store_path(workspace))) as connection:
        return int(connection.execute("SELECT count(*) FROM calls").fetchone()[0])


def test_what_the_pilot_asked_the_run_does_not_ask_again(
    opened: Callable[[str], Run], scripted: Scripted, tmp_path: Path
) -> None:
    """Five of 24 ahead, the other 19 in the run, under the same system message, limit and sampling."""
    model = scripted("any", default="one two three")
    contestant = Contestant.model_validate({"model": model, "name": "first", "system": "Be calm.", "temperature": 0.5})
    told = try_contestant(
        contestant,
        [addressed(row["prompt"], "Be calm.", word_limit=40) for row in PROMPTS],
        sampling_seed=0,
        draw_seed=derive_seed(0, "pilot"),
        pilot=5,
        workspace=tmp_path,
        placement=CPU,
        quiet=True,
    )
    assert (told.calls, told.stored, told.asked, told.remaining) == (24, 0, 5, 19)
    assert told.each.completion_tokens.estimate == 3
    assert told.rest.completion_tokens.estimate == 19 * 3
    assert asked(tmp_path) == 5
    made = answers(opened("run"), model, "first", system="Be calm.", temperature=0.5, word_limit=40)
    assert len(made.rows()) == 24
    assert asked(tmp_path) == 24
