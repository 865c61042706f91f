"""Many sessions side by side, and through a server that fails: the same records as one after the other."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "models"))
from openai_server import Fault, OpenAIServer
from players import CANDIDATES, CARD, DEFAULTS, Asked, Player, Rule, Table
from strop.errors import Stopped
from strop.methods.selfplay.session import session
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.session_record import SessionRecord
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.episodes import Episode, run_episodes
from strop.models.protocol import Call, TextModel
from strop.models.scripted import prompt_text
from strop.models.spec import parse_model
from strop.runs.store import CallStore


def word_of(call: Call) -> str:
    """Return a word that depends on what is asked alone: a server is told neither sample nor key."""
    return hashlib.sha256(prompt_text(call.prompt).encode()).hexdigest()[:6]


SERVED: dict[tuple[str, str], Rule] = {
    **DEFAULTS,
    ("therapist", "treatment"): lambda call: f"Treatment: Therapy {word_of(call)}\nExplanation: It helps.",
    ("therapist", "medicine"): lambda call: f"Medicine: Drug {word_of(call)}\nExplanation: It calms.",
    ("patient", "outcome"): lambda call: f"I sleep better and check less, {word_of(call)} times a day.",
    ("judge", "score"): lambda call: str(4 + int(word_of(call), 16) % 6),
}


def sessions(cards: int, passes: int = 1) -> list[Episode[SessionRecord]]:
    settings = SessionSettings(exchanges=2, extra_rounds=1, tries=2)
    made = [replace(CARD, id=f"card{number}", name=f"Mira {number}") for number in range(cards)]
    return [
        session(card, CANDIDATES, settings=settings, matcher=Table({"Checks": 0.2}), seed=3, pass_=pass_)
        for pass_ in range(passes)
        for card in made
    ]


def players(rules: Mapping[tuple[str, str], Rule] = SERVED) -> dict[str, TextModel]:
    shared: list[Asked] = []
    return {name: Player(name, rules, shared) for name in ("patient", "therapist", "judge")}


def run(folder: Path, models: Mapping[str, TextModel], *, at_once: int, **options: Any) -> list[SessionRecord]:
    with CallStore(folder / "calls.sqlite") as store:
        return run_episodes(sessions(**options), models, store=store, at_once=at_once)


def test_one_at_a_time_and_eight_bring_the_same_records(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "eight"]
    for folder in folders:
        folder.mkdir()
    alone, together = (
        run(folder, players(DEFAULTS), at_once=count, cards=3, passes=2)
        for folder, count in zip(folders, (1, 8), strict=True)
    )
    assert alone == together
    ids = [record.id for record in together]
    assert len(set(ids)) == 6
    assert {record.pass_ for record in together} == {0, 1}
    assert len({tuple(plan.plan for plan in record.treatments) for record in together}) == 6, "passes differ"


def endpoint(server: OpenAIServer, name: str) -> EndpointModel:
    return EndpointModel(parse_model({"model": f"{server.url}#{name}", "retries": 4, "timeout": 20}))


FAULTS = (
    Fault(429, headers={"Retry-After": "0"}),
    Fault(500),
    Fault(body="{broken"),
    Fault(body='{"choices": []}'),
)


def test_a_server_that_fails_now_and_then_brings_the_same_records(tmp_path: Path) -> None:
    """Refusals, broken answers and answers without a choice are asked again; none of them is ever said."""
    (tmp_path / "direct").mkdir()
    (tmp_path / "served").mkdir()
    expected = run(tmp_path / "direct", players(), at_once=4, cards=2)
    own = players()
    servers = {name: OpenAIServer(model) for name, model in own.items()}
    with servers["patient"] as patient, servers["therapist"] as therapist, servers["judge"] as judge:
        for server in (patient, therapist, judge):
            server.faults.extend(FAULTS)
        models = {name: endpoint(server, name) for name, server in servers.items()}
        served = run(tmp_path / "served", models, at_once=4, cards=2)
        for model in models.values():
            model.close()
    assert served == expected


def test_a_server_that_stays_away_stops_the_run_which_goes_on_later(tmp_path: Path) -> None:
    (tmp_path / "direct").mkdir()
    (tmp_path / "served").mkdir()
    expected = run(tmp_path / "direct", players(), at_once=4, cards=2)
    servers = {name: OpenAIServer(model) for name, model in players().items()}
    with servers["patient"] as patient, servers["therapist"], servers["judge"]:
        patient.faults.extend([Fault(500)] * 100)
        models = {name: endpoint(server, name) for name, server in servers.items()}
        with pytest.raises(Stopped):
            run(tmp_path / "served", models, at_once=4, cards=2)
        patient.faults.clear()
        again = {name: endpoint(server, name) for name, server in servers.items()}
        assert run(tmp_path / "served", again, at_once=4, cards=2) == expected
        for model in (*models.values(), *again.values()):
            model.close()
