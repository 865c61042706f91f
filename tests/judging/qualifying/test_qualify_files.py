"""From a judge and a file to a certificate: scripted models, fitted judges, bad input, and a stop that is continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from strop.cli.judge import app
from strop.errors import Stopped, UserError
from strop.judging.fitting.fitted import FittedJudge
from strop.judging.qualifying.certificate import Certificate, require_qualified
from strop.judging.qualifying.qualify_files import QualifyRequest, qualify_file
from strop.judging.rubric import load_rubric
from strop.records.tables import write_table
from strop.runs.budget import UNLIMITED, Budget
from strop.runs.progress import Reporter
from strop.runs.store import CallStore
from strop.runs.workspace import store_path

# Prefers the response that says "gently", wherever it stands.
KNOWING: Mapping[str, Any] = {
    "rules": [{"pattern": r"begin RESPONSE A [^-]+-----\n\| gently", "reply": "It listens.\nVerdict: A"}],
    "default": "It listens.\nVerdict: B",
}
ALWAYS_A: Mapping[str, Any] = {"default": "It comes first.\nVerdict: A"}
SILENT: Mapping[str, Any] = {"default": "I cannot compare these."}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {
            "prompt": f"Message number {number}.",
            "better": f"gently {'and so ' * (number % 5 + 1)}",
            "worse": f"loudly {'and so ' * ((number + number % 3) % 5 + 1)}",
            "source": "one",
        }
        for number in range(120)
    ]
    write_table(path, rows)
    return path


def scripted(folder: Path, script: Mapping[str, Any]) -> str:
    path = folder / "judge.script.json"
    path.write_text(json.dumps(script), encoding="utf-8")
    return f"scripted:{path}"


def qualified(request: QualifyRequest, workspace: Path, budget: Budget = UNLIMITED) -> Certificate:
    return qualify_file(request, workspace=workspace, budget=budget, reporter=Reporter(quiet=True))[1]


def stored(workspace: Path) -> int:
    with CallStore(store_path(workspace)) as store:
        return store.sizes().calls


def test_a_judge_that_knows_is_certified_and_passes_the_gate(tmp_path: Path, pairs: Path) -> None:
    judge = scripted(tmp_path, KNOWING)
    request = QualifyRequest(judge, pairs, tmp_path / "out", rubric="principles-v1", command="strop judge qualify")
    found = qualified(request, tmp_path / "runs")
    assert found.verdict == "qualified (n=120)"
    assert found.rubric.hash == load_rubric("principles-v1").hash
    assert stored(tmp_path / "runs") == 240
    standing = require_qualified(found.judge.revision, found.rubric.hash, tmp_path / "out" / "certificate.json")
    assert standing.qualified


def test_a_habit_of_position_is_a_flip_and_silence_a_failure(tmp_path: Path, pairs: Path) -> None:
    for script, rule in ((ALWAYS_A, "flip rate"), (SILENT, "parse failures")):
        request = QualifyRequest(scripted(tmp_path, script), pairs, tmp_path / "out", rubric="principles-v1")
        found = qualified(request, tmp_path / "runs")
        assert found.decision == "not qualified"
        assert rule in found.verdict


def test_a_budget_stops_and_the_same_command_continues(tmp_path: Path, pairs: Path) -> None:
    request = QualifyRequest(scripted(tmp_path, KNOWING), pairs, tmp_path / "out", rubric="principles-v1")
    with pytest.raises(Stopped):
        qualified(request, tmp_path / "runs", Budget(calls=100))
    assert stored(tmp_path / "runs") == 100
    assert not (tmp_path / "out").exists()
    found = qualified(request, tmp_path / "runs", Budget(calls=240))
    assert stored(tmp_path / "runs") == 240
    assert found == qualified(request, tmp_path / "runs", Budget(calls=1))


def test_a_limit_takes_so_many_pairs(tmp_path: Path, pairs: Path) -> None:
    request = QualifyRequest(scripted(tmp_path, KNOWING), pairs, tmp_path / "out", rubric="principles-v1", limit=30)
    found = qualified(request, tmp_path / "runs")
    assert (found.data.rows, found.judged) == (30, 30)


def test_anchors_are_judged_and_kept(tmp_path: Path, pairs: Path) -> None:
    request = QualifyRequest(
        scripted(tmp_path, KNOWING), pairs, tmp_path / "out", rubric="principles-v1", limit=20, anchors=True
    )
    qualified(request, tmp_path / "runs")
    assert list((tmp_path / "runs").glob("*/*.json"))


def test_a_model_needs_a_rubric(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(UserError, match="--rubric"):
        qualified(QualifyRequest(scripted(tmp_path, KNOWING), pairs, tmp_path / "out"), tmp_path / "runs")


def test_a_fitted_judge_is_refused_on_its_own_labels_and_measured_on_others(tmp_path: Path, pairs: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from strop.judging.fitting.fit_files import FitRequest, fit_files

    rows = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["better"], row["worse"] = (f"{row[side]} {number} {side}" for side in ("better", "worse"))
    write_table(tmp_path / "own.jsonl", rows[:60])
    write_table(tmp_path / "new.jsonl", rows[60:])
    request = FitRequest(tmp_path / "own.jsonl", tmp_path / "judge", encoder="builtin:minilm", grid="single", draws=1)
    fit_files(request, reporter=Reporter(quiet=True), cache=tmp_path / "cache")
    with pytest.raises(UserError, match="learnt from some of these pairs"):
        qualified(QualifyRequest(str(tmp_path / "judge"), tmp_path / "own.jsonl", tmp_path / "out"), tmp_path / "runs")
    found = qualified(
        QualifyRequest(str(tmp_path / "judge"), tmp_path / "new.jsonl", tmp_path / "out"), tmp_path / "runs"
    )
    assert found.judge.revision == FittedJudge.load(tmp_path / "judge").revision
    assert found.rubric.hash == ""
    flips = found.figures["flip rate"]
    assert flips is not None
    assert flips.estimate == 0.0


def test_the_command_line_prints_the_verdict_for_people_and_machines(tmp_path: Path, pairs: Path) -> None:
    arguments = ["qualify", "--judge", scripted(tmp_path, ALWAYS_A), "--rubric", "principles-v1", "--limit", "40"]
    arguments += [
        "--pairs",
        str(pairs),
        "--out",
        str(tmp_path / "out"),
        "--workspace",
        str(tmp_path / "runs"),
        "--quiet",
    ]
    people = CliRunner().invoke(app, arguments)
    assert people.exit_code == 0, people.output
    assert "not qualified (n=40)" in people.output
    machines = CliRunner().invoke(app, [*arguments, "--json"])
    content = json.loads(machines.stdout)
    assert content["verdict"]["decision"] == "not qualified"
    assert content["certificate"]["seal"] == Certificate.load(tmp_path / "out" / "certificate.json").seal
    assert "strop" in CliRunner().invoke(app, ["qualify", "--help"]).output
