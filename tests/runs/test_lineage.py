"""From a number of the report back to the artifacts and the calls that it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.runs import Artifact, Config, Run, Stage, StoredCall, trace
from strop.runs.history import read_history
from strop.runs.lineage import Node


class Settings(Config):
    """No settings."""


def answer(stage: Stage, model: str, count: int) -> None:
    calls = [
        StoredCall(f"{model}{n}", model, "1", {"prompt": f"question {n}"}, 0, f"reply {n}", "stop", 10, 5, 0.1)
        for n in range(count)
    ]
    stage.store.put_many(calls)
    stage.note(asked=count)
    stage.write_rows([{"text": call.text} for call in calls])


def join(stage: Stage, answers: list[Artifact], scale: int) -> None:
    stage.write_rows([{"n": scale * len(artifact.rows())} for artifact in answers])


def measure(stage: Stage, joined: Artifact, answers: Artifact) -> None:
    draw = stage.seed("bootstrap")
    stage.write_rows([{"value": len(joined.rows()) + len(answers.rows()), "draw": draw}])


def make(workspace: Path, numbers: Any, *, scale: int = 1) -> Path:
    folder = workspace / "run"
    with Run.open(folder, config=Settings(), origins={}, seed=5, workspace=workspace, quiet=True) as run:
        weak = run.stage(answer, "weak", 4, name="weak")
        strong = run.stage(answer, "strong", 2, name="strong")
        joined = run.stage(join, [weak, strong], scale, name="joined")
        run.stage(measure, joined, weak, name="measured")
    (folder / "report.json").write_text(json.dumps(numbers))
    return folder


NUMBER = {"name": "accuracy", "value": 0.5, "artifact": "stages/04-measured", "file": "rows.jsonl"}


@pytest.mark.parametrize("artifact", ["stages/04-measured", "04-measured", "measured"])
def test_the_way_back_from_a_number(tmp_path: Path, artifact: str) -> None:
    folder = make(tmp_path, {"numbers": [NUMBER | {"artifact": artifact}]})
    found = trace(folder, "accuracy", calls=2)
    assert (found.value, found.file) == (0.5, "rows.jsonl")
    assert shape(found.root) == ("04-measured", 0, [("03-joined", 0, [WEAK, STRONG]), WEAK])
    assert found.root.lineage.seed == 5
    weak = found.root.inputs[1]
    assert (weak.calls, weak.tokens, weak.lineage.seed) == (4, 60, None)
    assert [call.text for call in weak.first_calls] == ["reply 0", "reply 1"]
    assert weak.lineage.arguments == {"model": "weak", "count": 4}


WEAK: tuple[str, int, list[Any]] = ("01-weak", 4, [])
STRONG: tuple[str, int, list[Any]] = ("02-strong", 2, [])


def shape(node: Node) -> tuple[str, int, list[Any]]:
    return (node.folder.name if node.folder else "", node.calls, [shape(child) for child in node.inputs])


def test_a_trace_follows_the_settings_in_force(tmp_path: Path) -> None:
    make(tmp_path, [NUMBER])
    folder = make(tmp_path, [NUMBER], scale=2)
    assert trace(folder, "accuracy").root.inputs[0].lineage.arguments["scale"] == 2
    folder = make(tmp_path, [NUMBER])
    assert trace(folder, "accuracy").root.inputs[0].lineage.arguments["scale"] == 1


def test_numbers_that_cannot_be_traced(tmp_path: Path) -> None:
    folder = make(tmp_path, [NUMBER, NUMBER | {"name": "elsewhere", "artifact": "stages/09-absent"}])
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        trace(folder, "acuracy")
    with pytest.raises(UserError, match="names no artifact of this run"):
        trace(folder, "elsewhere")
    (folder / "stages" / "04-measured" / "rows.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="was changed after its stage had finished"):
        trace(folder, "accuracy")
    (folder / "report.json").write_text('{"numbers": 3}')
    with pytest.raises(UserError, match="a list of numbers"):
        trace(folder, "accuracy")
    (folder / "report.json").unlink()
    with pytest.raises(UserError, match="no report yet"):
        trace(folder, "accuracy")
    with pytest.raises(UserError, match="no run in this folder"):
        read_history(tmp_path)


def test_the_history_of_a_run(tmp_path: Path) -> None:
    make(tmp_path, [])
    history = read_history(make(tmp_path, []))
    assert (history.status, history.executions, history.stops, history.seed) == ("finished", 2, 0, 5)
    weak, strong, joined, measured = history.stages
    assert [stage.stage for stage in history.stages] == ["01-weak", "02-strong", "03-joined", "04-measured"]
    assert {stage.status for stage in history.stages} == {"skipped"}
    assert (weak.calls, weak.reused, weak.tokens, weak.notes) == (4, 0, 60, {"asked": 4})
    assert strong.notes == {"asked": 2}
    assert joined.notes == {}
    assert measured.seconds is not None
