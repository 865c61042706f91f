"""The whole method with a scripted player that keeps its roles: what is made, what is told, what is done only once."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from players import ASKING, SAYING
from strop.errors import UserError
from strop.methods.selfplay.config import SelfplayConfig
from strop.methods.selfplay.doctor import examine_recipe
from strop.methods.selfplay.pilot import with_pilot
from strop.methods.selfplay.plan import plan, session_calls
from strop.methods.selfplay.recipe import selfplay
from strop.methods.selfplay.session_config import SessionSettings
from strop.models.lengths import Range
from strop.records.document import Document
from strop.records.tables import read_table
from strop.report import write_report
from strop.report.exporting import export_run
from strop.runs import Run
from strop.runs.content import hash_tree

Configure = Callable[..., SelfplayConfig]

PROBES = "Feels that disaster is near, and keeps everything under control so that nobody can be hurt."


def script() -> dict[str, Any]:
    """Return a player: what it says next follows from the last thing that was said to it."""
    rules: list[dict[str, str]] = [
        {"pattern": "Which group fits this patient best", "reply": "2"},
        {"pattern": r"State in one to three(?![\s\S]*\nassistant)", "reply": PROBES},
        {"pattern": "already thought of", "reply": "Diagnosis: Generalised Anxiety Disorder\nReason: worry."},
        {"pattern": "Name the one psychiatric", "reply": "Diagnosis: Obsessive-Compulsive Disorder\nReason: checks."},
        {"pattern": "Two doctors have told", "reply": "That is me.\nChoice: 1"},
        {
            "pattern": "Propose one specific psych",
            "reply": "Treatment: Exposure therapy\nExplanation: It weakens rituals.",
        },
        {"pattern": "Propose one medicine", "reply": "Medicine: Sertraline\nExplanation: It eases compulsions."},
        {"pattern": "You are offered this", "reply": "I check less and sleep through most nights."},
        {"pattern": "Write one or two open questions", "reply": "What was it like at home?"},
        {"pattern": "How well are you now", "reply": "9"},
    ]
    for place in reversed(range(len(ASKING))):
        rules.append({"pattern": f"user: (?:[^\n]*\n)?{re.escape(SAYING[place])}", "reply": ASKING[place]})
        rules.append({"pattern": f"user: {re.escape(ASKING[place])}", "reply": SAYING[place + 1]})
    return {"default": SAYING[0], "rules": rules}


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Return a maker of settings for the scripted player: ``session__tries=2`` changes a nested one."""
    file = tmp_path / "player.yaml"
    file.write_text(yaml.safe_dump(script()), encoding="utf-8")

    def make(**changes: Any) -> SelfplayConfig:
        settings: dict[str, Any] = {
            "recipe": "selfplay",
            "patients": {
                "cards": ["shipped:selfplay/cards-v1.jsonl"],
                "behaviours": "shipped:selfplay/behaviours-v1.json",
                "limit": 5,
            },
            "model": f"scripted:{file}",
            "judge": {"model": f"scripted:{file}", "allow_unqualified": True},
            "iterations": 1,
            "session": {"exchanges": 2, "extra_rounds": 1, "tries": 2},
            "train": None,
        }
        for name, value in changes.items():
            *parents, last = name.split("__")
            place = settings
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        return SelfplayConfig.model_validate(settings)

    return make


def play(config: SelfplayConfig, folder: Path) -> tuple[Document, Run]:
    with Run.open(folder, config=config, origins={}, seed=0, workspace=folder.parent, quiet=True) as run:
        return selfplay(config, run), run


def test_every_stage_in_the_papers_order(configure: Configure, tmp_path: Path) -> None:
    """Five cards, a quarter of them for development: one; the four others hold a session and teach three pairs each.

    What the scripted therapist understands is the same of all, so the card is what tells the pairs apart.
    """
    document, run = play(configure(training_set__input="encoded"), tmp_path / "run")
    names = ["patients", "iteration1-sessions", "iteration1-examples", "iteration1-looked"]
    assert list(run.artifacts) == names
    records = run.artifacts["iteration1-sessions"].rows("train.jsonl")
    assert {row["status"] for row in records} == {"complete"}
    assert [row["illness"] for row in records] == ["Obsessive-Compulsive Disorder"] * 4
    assert len(run.artifacts["iteration1-examples"].rows("examples.jsonl")) == 12
    known = {number.name: number for number in document.numbers}
    assert known["iteration1.similarity"].value is not None
    assert known["iteration1.perplexity"].value is None, "a scripted player has no probabilities"
    assert all(number.artifact in run.artifacts for number in document.numbers)
    page = write_report(document, tmp_path / "report").read_text(encoding="utf-8")
    assert "Exposure therapy" in page
    assert ASKING[0] in page


def test_what_is_learned_is_exported(configure: Configure, tmp_path: Path) -> None:
    """Every example as each trainer reads it, with a card that tells what was left out."""
    document, run = play(configure(training_set__input="encoded"), tmp_path / "runs" / "first")
    write_report(document, run.folder)
    (made,) = export_run(run.folder, tmp_path / "out")
    assert (made.name, made.record["notes"]) == ("iteration1-examples", [])
    rows = run.artifacts["iteration1-examples"].rows("examples.jsonl")
    assert len(rows) == 12
    taught = [[*row["prompt"], {"role": "assistant", "content": row["response"]}] for row in rows]
    for file in ("llama_factory/examples.json", "openai/examples.jsonl"):
        assert [row["messages"] for row in read_table(made.folder / file)] == taught
    for file in ("trl/examples.jsonl", "openrlhf/examples.jsonl"):
        assert [row["prompt"] + row["completion"] for row in read_table(made.folder / file)] == taught
    assert "| counts, sessions | 4 |" in (made.folder / "README.md").read_text(encoding="utf-8")


def test_no_card_is_on_both_sides(configure: Configure, tmp_path: Path) -> None:
    _, run = play(configure(), tmp_path / "run")
    sides = {row["id"]: row["side"] for row in run.artifacts["patients"].rows()}
    assert {sides[row["card"]] for row in run.artifacts["iteration1-sessions"].rows("train.jsonl")} == {"train"}
    assert {sides[row["card"]] for row in run.artifacts["iteration1-sessions"].rows("development.jsonl")} == {
        "development"
    }


def test_run_again_does_nothing_again(configure: Configure, tmp_path: Path) -> None:
    first, run = play(configure(), tmp_path / "run")
    digests = {name: hash_tree(artifact.folder) for name, artifact in run.artifacts.items()}
    second, again = play(configure(), tmp_path / "run")
    assert {name: hash_tree(artifact.folder) for name, artifact in again.artifacts.items()} == digests
    assert first.numbers == second.numbers


def test_passes_and_iterations_draw_anew(configure: Configure, tmp_path: Path) -> None:
    """A scripted player says the same to the same question; that another pass asks it again is seen in the store."""
    _, run = play(configure(patients__passes=2), tmp_path / "run")
    rows = run.artifacts["iteration1-sessions"].rows("train.jsonl")
    assert len({row["id"] for row in rows}) == 8
    with closing(sqlite3.connect(run.store.path)) as connection:
        seeds = {json.loads(row[0])["sampling"]["seed"] for row in connection.execute("SELECT request FROM calls")}
    assert len(seeds) == 8 + 1


def test_a_model_that_cannot_play_teaches_nothing_and_the_report_says_so(configure: Configure, tmp_path: Path) -> None:
    silent = tmp_path / "silent.yaml"
    silent.write_text("default: ''", encoding="utf-8")
    document, run = play(configure(model=f"scripted:{silent}"), tmp_path / "run")
    records = run.artifacts["iteration1-sessions"].rows("train.jsonl")
    assert {row["status"] for row in records} == {"failed"}
    assert any("No session of iteration 1 taught anything" in verdict.text for verdict in document.verdicts)
    assert write_report(document, tmp_path / "report").is_file()


def test_what_is_to_be_trained_needs_weights(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its weights are not on this machine"):
        play(configure(train={"learning_rate": 1e-4, "epochs": 1}), tmp_path / "run")


def test_a_judge_without_a_certificate_is_refused(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="qualif"):
        play(configure(judge__allow_unqualified=False), tmp_path / "run")


def test_a_second_iteration_needs_a_training(configure: Configure) -> None:
    with pytest.raises(ValueError, match="'train' is null"):
        configure(iterations=2)


def test_calls_of_a_session_by_hand() -> None:
    """Published settings: 1 opening, 4 x 2 turns, 5 probes, 3 for the diagnosis, 2 x 2 for plans make 21 of the player.

    At most 5 rounds of 2 turns and 5 probes, and 7 plans of each kind, come on top: 14 + 5 x 7 + 3 + 2 x 2 x 7 = 80.
    The judge picks a group and scores two plans, 3 at least; at most 1 + 5 x 2 + 14 = 25.
    """
    calls = session_calls(SessionSettings())
    assert calls.player == Range(21, 80)
    assert calls.judge == Range(3, 25)


def test_a_run_stays_within_its_plan(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    planned = plan(config, workspace=tmp_path)
    _, run = play(config, tmp_path / "run")
    with closing(sqlite3.connect(run.store.path)) as connection:
        ((asked,),) = connection.execute("SELECT count(*) FROM calls")
    assert 5 * session_calls(config.session).player.low <= asked <= planned.total.calls


def test_a_pilot_is_paid_for_once(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    piloted = with_pilot(plan(config, workspace=tmp_path), config, workspace=tmp_path, pilot=2, quiet=True)
    assert any("2 sessions took" in note for note in piloted.notes)
    again = with_pilot(plan(config, workspace=tmp_path), config, workspace=tmp_path, pilot=2, quiet=True)
    assert any("held before" in note for note in again.notes)
    _, run = play(config, tmp_path / "run")
    assert run.artifacts["iteration1-sessions"].rows("train.jsonl")


def test_the_doctor_finds_a_sound_set_up_sound(configure: Configure) -> None:
    findings = {finding.name: finding for finding in examine_recipe(configure())}
    assert findings["roles"].status == "ok", findings["roles"].value
    assert findings["judge: scores"].status == "ok"
    assert findings["training set"].status == "ok"
    assert findings["the judge"].status == "warn", "it has no certificate"
