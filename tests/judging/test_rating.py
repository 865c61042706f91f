"""Rating: numbers or failures for each criterion, means only where nothing is missing, gates above all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from strop.errors import UserError
from strop.judging.asking import Asking
from strop.judging.parsing import ParseFailure
from strop.judging.rating import Mode, Rating, gate_of, rate, rated
from strop.judging.rubric import load_rubric
from strop.models.scripted import ScriptedModel
from strop.records.rows import Answer
from strop.runs.store import CallStore

RUBRIC = load_rubric("principles-v1")
KEYS = RUBRIC.keys
LENIENT = Asking(again=0, ceiling=1.0)
ITEM = Answer("r", "I feel lost.", "What weighs on you most?")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CallStore]:
    with CallStore(tmp_path / "calls.sqlite") as opened:
        yield opened


def scripted(folder: Path, *replies: str) -> ScriptedModel:
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump({"default": list(replies)}), encoding="utf-8")
    return ScriptedModel(path)


def rate_one(model: ScriptedModel, store: CallStore, *, mode: Mode = "all", asking: Asking = LENIENT) -> Rating:
    return rate(model, [ITEM], rubric=RUBRIC, store=store, asking=asking, mode=mode)[0]


def lines(*numbers: int) -> str:
    return "\n".join(f"{key}: {number}" for key, number in zip(KEYS, numbers, strict=True))


def test_a_complete_reply(tmp_path: Path, store: CallStore) -> None:
    """Equal weights: (5 + 4 + 3 + 5 + 2 + 4 + 5) / 7 = 4."""
    rating = rate_one(scripted(tmp_path, lines(5, 4, 3, 5, 2, 4, 5)), store)
    assert list(rating.values.values()) == [5, 4, 3, 5, 2, 4, 5]
    assert (rating.mean, rating.total, rating.gate, rating.order) == (4.0, 28, "passed", KEYS)


def test_weights_count_in_the_mean_and_not_in_the_total() -> None:
    """Weights 2, 1, 1, 1 on 5, 1, 2, 3: (10 + 1 + 2 + 3) / 5 = 3.2."""
    reasoning = load_rubric("reasoning-v1")
    values = dict(zip(reasoning.keys, (5, 1, 2, 3), strict=True))
    rating = rated("x", values, rubric=reasoning, order=reasoning.keys)
    assert (rating.mean, rating.total, rating.gate) == (3.2, 11, "passed")


def test_a_missing_rating_is_never_a_number(tmp_path: Path, store: CallStore) -> None:
    rating = rate_one(scripted(tmp_path, lines(5, 4, 3, 5, 2, 4, 5).replace("clarity: 3", "clarity: 10")), store)
    assert rating.values["clarity"] == ParseFailure("out_of_range", "10")
    assert (rating.mean, rating.total) == (None, None)
    row = rating.to_row()
    assert (row["ratings"]["clarity"], row["failures"]) == (None, {"clarity": "out_of_range: 10"})


@pytest.mark.parametrize(("safety", "gate"), [(1, "failed"), (2, "failed"), (3, "passed"), (5, "passed")])
def test_the_gate(safety: int, gate: str) -> None:
    assert gate_of({**dict.fromkeys(KEYS, 5), "safety": safety}, RUBRIC) == gate


def test_a_gate_without_a_rating_is_unknown() -> None:
    assert gate_of({**dict.fromkeys(KEYS, 5), "safety": ParseFailure("missing")}, RUBRIC) == "unknown"


def test_one_call_for_each_criterion(tmp_path: Path, store: CallStore) -> None:
    rating = rate_one(scripted(tmp_path, "It listens.\nRating: 4"), store, mode="each")
    assert dict(rating.values) == dict.fromkeys(KEYS, 4)
    assert store.sizes().calls == len(KEYS)


def test_a_shuffled_order_is_seeded_and_recorded(tmp_path: Path, store: CallStore) -> None:
    model = scripted(tmp_path, lines(5, 4, 3, 5, 2, 4, 5))
    items = [replace(ITEM, id=number) for number in range(30)]
    first = rate(model, items, rubric=RUBRIC, store=store, asking=LENIENT, mode="shuffled", seed=1)
    again = rate(model, items[::-1], rubric=RUBRIC, store=store, asking=LENIENT, mode="shuffled", seed=1)[::-1]
    other = rate(model, items, rubric=RUBRIC, store=store, asking=LENIENT, mode="shuffled", seed=2)
    assert first == again
    assert [rating.order for rating in first] != [rating.order for rating in other]
    assert len({rating.order for rating in first}) > 20
    assert all(sorted(rating.order) == sorted(KEYS) and tuple(rating.values) == KEYS for rating in first)


def test_a_second_reply_fills_what_the_first_left_open(tmp_path: Path, store: CallStore) -> None:
    warm = Asking(again=1, sampling=replace(LENIENT.sampling, temperature=1.0))
    half = lines(5, 4, 3, 5, 2, 4, 5).replace("clarity: 3", "")
    rating = rate_one(scripted(tmp_path, half, lines(1, 1, 2, 1, 1, 1, 1)), store, asking=warm)
    assert list(rating.values.values()) == [5, 4, 2, 5, 2, 4, 5]


def test_a_greedy_judge_is_asked_again_with_some_warmth(tmp_path: Path, store: CallStore) -> None:
    rate_one(scripted(tmp_path, "hm"), store, asking=replace(LENIENT, again=2))
    with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as connection:
        requests = [json.loads(row[0]) for row in connection.execute("SELECT request FROM calls")]
    asked = sorted((request["sampling"]["temperature"], request["sample"]) for request in requests)
    assert asked == [(0.0, 0), (0.7, 0), (0.7, 1)]


def test_a_rubric_of_questions_cannot_rate(tmp_path: Path, store: CallStore) -> None:
    questions = RUBRIC.model_validate(
        {"name": "q", "version": 1, "purpose": "p", "questions": [{"key": "1", "text": "t", "choices": []}]}
    )
    with pytest.raises(UserError, match="rates nothing"):
        rate(scripted(tmp_path, "4"), [ITEM], rubric=questions, store=store)


def test_json_for_all_criteria(tmp_path: Path, store: CallStore) -> None:
    reply = "{" + ", ".join(f'"{key}": {{"reason": "x", "rating": 3}}' for key in KEYS) + "}"
    rating = rate_one(scripted(tmp_path, reply), store, asking=replace(LENIENT, form="json"))
    assert (rating.mean, rating.total) == (3.0, 21)
