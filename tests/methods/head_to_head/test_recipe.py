"""The whole comparison with scripted models: who wins, what is missing, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.methods.head_to_head.plan import plan
from strop.methods.head_to_head.recipe import head_to_head
from strop.records.document import Document
from strop.runs import Run

Configure = Callable[..., HeadToHeadConfig]


def compared(config: HeadToHeadConfig, workspace: Path, name: str = "run") -> tuple[Document, dict[str, Any]]:
    folder = workspace / name
    with Run.open(folder, config=config, origins={}, seed=0, workspace=workspace, quiet=True) as run:
        told = head_to_head(config, run)
        return told, json.loads(run.artifacts["results"].path("results.json").read_text())


def numbers(document: Document) -> dict[str, float | None]:
    return {number.name: number.value for number in document.numbers}


def test_the_better_contestant_wins_in_both_orders_and_what_is_missing_is_missing(
    configure: Configure, tmp_path: Path
) -> None:
    """24 prompts, one without an answer of the second: 23 comparisons, all won."""
    told, results = compared(configure(), tmp_path)
    assert results["counts"]["compared"] == 23
    assert results["counts"]["unanswered"] == {"first": 0, "second": 1}
    assert results["sign"]["wins"] == 23
    assert numbers(told)["win_rate.raw"] == 1.0
    assert numbers(told)["judge.flips"] == 0.0
    assert "good is preferred to poor" in told.verdicts[0].text
    assert any("unqualified" in warning.lower() for warning in told.warnings)
    assert any("never the shorter" in warning for warning in told.warnings)


def test_exchanging_the_contestants_mirrors_the_rates(configure: Configure, tmp_path: Path) -> None:
    one = configure()
    other = configure(first=one.second.model_dump(), second=one.first.model_dump())
    straight, mirrored = (numbers(compared(config, tmp_path, name)[0]) for config, name in ((one, "a"), (other, "b")))
    assert straight["win_rate.raw"] == 1 - (mirrored["win_rate.raw"] or 0)


def test_equal_answers_are_ties_and_half(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    told, results = compared(configure(second=config.first.model_dump()), tmp_path)
    assert (results["sign"]["ties"], numbers(told)["win_rate.raw"]) == (24, 0.5)
    assert "not distinguishable" in told.verdicts[0].text


def test_a_judge_that_only_babbles_says_nothing(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text("default: how lovely")
    told, results = compared(configure(judge__ceiling=1.0), tmp_path)
    assert results["win_rate"] is None
    assert numbers(told)["win_rate.raw"] is None
    assert told.verdicts[0].tone == "bad"


def test_a_judge_that_always_takes_the_side_shown_first_ties_everything(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text("default: 'Verdict: A'")
    told, results = compared(configure(), tmp_path)
    assert (numbers(told)["judge.flips"], numbers(told)["win_rate.raw"]) == (1.0, 0.5)
    assert results["summary"]["shown_first"]["estimate"] == 1.0


def test_a_draw_is_a_sample_in_the_order_of_the_file(configure: Configure, tmp_path: Path) -> None:
    config = configure(limit=10, judge__anchors=False)
    with Run.open(tmp_path / "r", config=config, origins={}, seed=0, workspace=tmp_path, quiet=True) as run:
        head_to_head(config, run)
        ids = [int(row["id"][1:]) for row in run.artifacts["prompts"].rows()]
    assert len(ids) == 10
    assert ids == sorted(set(ids))
    assert ids != list(range(10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge__allow_unqualified": False}, "this judge has no certificate"),
        ({"judge__model": "builtin:stories-weak", "first__model": "builtin:stories-strong"}, "of the same family"),
        ({"group": "theme"}, "no field 'theme'"),
        ({"judge__rubric": "principles-v9"}, "principles-v1"),
    ],
)
def test_what_nobody_could_believe_is_refused_before_anything_is_asked(
    configure: Configure, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compared(configure(**changes), tmp_path)
    assert not list((tmp_path / "run" / "stages").glob("*answers"))


def test_a_plan_counts_the_calls_of_a_run(configure: Configure, tmp_path: Path) -> None:
    """24 answers each; the judge is asked twice a prompt, and again by each of seven criteria where wanted."""
    planned = {stage.stage: stage.calls for stage in plan(configure(), workspace=tmp_path).stages}
    assert planned == {"first-answers": 24, "second-answers": 24, "comparisons": 48}
    wanted = plan(configure(judge__per_criterion=True), workspace=tmp_path)
    assert wanted.stages[-1].calls == 48 * 8


@pytest.mark.slow
def test_on_a_cluster_every_artifact_is_that_of_one_process(configure: Configure, tmp_path: Path) -> None:
    """Answers and verdicts come from two workers; not a byte of any stage differs."""
    pytest.importorskip("ray")
    compared(configure(), tmp_path / "local")
    compared(configure(machine={"executor": "ray", "replicas": 2}), tmp_path / "ray")
    local, remote = (files(tmp_path / name / "run" / "stages") for name in ("local", "ray"))
    assert len(local) > 8
    assert remote == local


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
