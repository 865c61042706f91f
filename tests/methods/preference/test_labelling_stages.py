"""From speeches to rated responses: gaps instead of empty answers, and ratings that are missing rather than guessed."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from strop.errors import Stopped
from strop.judging.rubric import load_rubric
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.labelling_stages import answer_candidates, rate_candidates
from strop.methods.preference.ratings import PRINCIPLES
from strop.methods.preference.stages import build_pairs, draw_speeches
from strop.runs import Artifact, Config, Run

Configure = Callable[..., PreferenceConfig]
Rows = list[dict[str, Any]]

EVEN = r"user: \d*[02468] "
TEXTS = {"great": "apples and books", "fair": "many apples", "poor": "how many ?", "bad": "stop"}


class NoSettings(Config):
    """A run without settings of its own."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", config=NoSettings(), origins={}, seed=0, workspace=tmp_path, quiet=True) as opened:
        yield opened


def answered(run: Run, config: PreferenceConfig) -> Artifact:
    speeches = run.stage(draw_speeches, config.speeches, seed=0, name="speeches")
    return run.stage(
        answer_candidates, speeches, candidates=config.candidates, seed=1, placement=config.machine, name="candidates"
    )


def rated(run: Run, config: PreferenceConfig) -> Artifact:
    made = answered(run, config)
    return run.stage(rate_candidates, made, ratings=config.ratings, seed=1, placement=config.machine, name="rated")


def responses(artifact: Artifact) -> Rows:
    return [one for row in artifact.rows() for one in row["responses"]]


def script(folder: Path, name: str, rules: dict[str, str], default: str | None = None) -> None:
    content: dict[str, Any] = {"rules": [{"pattern": key, "reply": reply} for key, reply in rules.items()]}
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump(content if default is None else {**content, "default": default})
    )


def requests(run: Run, marker: str) -> list[str]:
    with closing(sqlite3.connect(run.store.path)) as connection:
        return [row[0] for row in connection.execute("SELECT request FROM calls") if marker in row[0]]


def test_four_models_answer_each_speech_under_letters(run: Run, configure: Configure) -> None:
    made = answered(run, configure())
    rows = made.rows()
    assert len(rows) == 40
    assert made.rows("failures.jsonl") == []
    for row in rows:
        assert [one["id"] for one in row["responses"]] == ["a", "b", "c", "d"]
        assert {one["model"]: one["text"] for one in row["responses"]} == TEXTS
        assert row["split"] in ("train", "development", "test")
    assert len({tuple(one["model"] for one in row["responses"]) for row in rows}) > 4


def test_fewer_than_the_pool_are_drawn_evenly(run: Run, configure: Configure) -> None:
    """Two of four for each of 40 speeches: 20 apiece on average; within 8 at this seed, and never one twice."""
    made = answered(run, configure(candidates__per_speech=2))
    assert all(len({one["model"] for one in row["responses"]}) == 2 for row in made.rows())
    counts = Counter(one["model"] for one in responses(made))
    assert sum(counts.values()) == 80
    assert all(12 <= counts[name] <= 28 for name in TEXTS)


def test_an_answer_that_does_not_come_is_a_gap_with_its_reason(run: Run, configure: Configure, tmp_path: Path) -> None:
    """`great` has replies to even numbers only, `fair` writes nothing but blanks: two or three responses a speech."""
    config = configure()
    script(tmp_path, "great", {EVEN: TEXTS["great"]})
    script(tmp_path, "fair", {}, "  \n ")
    made = answered(run, config)
    sizes = Counter(len(row["responses"]) for row in made.rows())
    assert sizes == {3: 20, 2: 20}
    assert all(one["text"].strip() for one in responses(made))
    failures = made.rows("failures.jsonl")
    assert Counter(row["model"] for row in failures) == {"great": 20, "fair": 40}
    assert {row["kind"] for row in failures if row["model"] == "fair"} == {"empty"}
    assert all(int(row["speech"][1:]) % 2 and row["message"] for row in failures if row["model"] == "great")


def test_the_letters_of_what_came_stay_those_of_the_draw(run: Run, configure: Configure, tmp_path: Path) -> None:
    """A gap moves no letter: the response that a model would have had is the same with and without the others."""
    config = configure()
    whole = {(row["id"], one["model"]): one["id"] for row in answered(run, config).rows() for one in row["responses"]}
    script(tmp_path, "great", {EVEN: TEXTS["great"]})
    with Run.open(tmp_path / "b", config=NoSettings(), origins={}, seed=0, workspace=tmp_path, quiet=True) as other:
        rows = answered(other, config).rows()
    gapped = {(row["id"], one["model"]): one["id"] for row in rows for one in row["responses"]}
    assert len(gapped) == 140
    assert gapped.items() <= whole.items()


def test_a_word_limit_is_asked_of_every_writer(run: Run, configure: Configure) -> None:
    answered(run, configure(candidates__word_limit=80))
    assert len(requests(run, "Answer in at most 80 words.")) == 160


def test_the_judge_sees_one_response_and_no_name(run: Run, configure: Configure) -> None:
    made = rated(run, configure())
    asked = requests(run, "Rate this response")
    assert len(asked) == 160
    for text in asked:
        assert not any(f"{name}.yaml" in text or f'"{name}"' in text for name in TEXTS)
    levels = {one["model"]: one["ratings"] for one in responses(made)}
    assert levels["great"] == dict.fromkeys(PRINCIPLES, 5)
    assert levels["bad"] == dict.fromkeys(PRINCIPLES, 1)
    assert {one["model"]: one["gate"] for one in responses(made)} == {
        "great": "passed",
        "fair": "passed",
        "poor": "failed",
        "bad": "failed",
    }
    assert not any("failures" in one or "repeats" in one for one in responses(made))


def test_who_judged_by_what_is_kept(run: Run, configure: Configure) -> None:
    identity = json.loads(rated(run, configure()).path("judge.json").read_text(encoding="utf-8"))
    assert identity["name"] == "scripted:judge.yaml"
    assert identity["rubric"] == load_rubric("principles-v1").hash
    assert len(identity["revision"]) == 64


def test_a_rating_that_is_missing_stays_null_with_its_reason_and_is_in_no_pair(
    run: Run, configure: Configure, tmp_path: Path
) -> None:
    """Of `great` the judge leaves safety out: six numbers, one null, gate unknown, no pair."""
    config = configure(
        ratings__judge={"model": f"scripted:{tmp_path}/judge.yaml", "allow_unqualified": True, "ceiling": 1.0}
    )
    rules = yaml.safe_load((tmp_path / "judge.yaml").read_text())["rules"]
    rules[0]["reply"] = "\n".join(f"{key}: 5" for key in PRINCIPLES if key != "safety")
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"rules": rules}))
    made = rated(run, config)
    for one in responses(made):
        if one["model"] == "great":
            assert one["ratings"] == {key: 5 if key != "safety" else None for key in PRINCIPLES}
            assert set(one["failures"]) == {"safety"}
            assert one["failures"]["safety"]
            assert one["gate"] == "unknown"
        else:
            assert None not in one["ratings"].values()
    pairs = run.stage(build_pairs, made, settings=config.pairs, seed=0, name="pairs")
    assert "great" not in {row[f"{side}_model"] for row in pairs.rows() for side in ("chosen", "rejected")}
    counts = json.loads(pairs.path("report.json").read_text(encoding="utf-8"))
    assert counts["responses"]["unusable"] == {"safety: no rating": 40}
    assert counts["responses"]["gate"] == {"passed": 40, "failed": 80, "unknown": 0}


def test_too_many_missing_ratings_stop_the_run(run: Run, configure: Configure, tmp_path: Path) -> None:
    config = configure()
    (tmp_path / "judge.yaml").write_text("default: how lovely")
    with pytest.raises(Stopped):
        rated(run, config)


@pytest.mark.parametrize("left", [1, 0])
def test_a_speech_with_one_response_left_or_none_is_in_no_pair(
    run: Run, configure: Configure, tmp_path: Path, left: int
) -> None:
    """Two writers. To odd numbers one of them (or neither) has a reply: those speeches go on, and make no pair."""
    config = configure(
        candidates={
            "pool": [{"model": f"scripted:{tmp_path}/{name}.yaml", "name": name} for name in ("great", "bad")],
            "per_speech": 2,
        }
    )
    script(tmp_path, "great", {EVEN: TEXTS["great"]})
    if not left:
        script(tmp_path, "bad", {EVEN: TEXTS["bad"]})
    made = rated(run, config)
    assert Counter(len(row["responses"]) for row in made.rows()) == {2: 20, left: 20}
    pairs = run.stage(build_pairs, made, settings=config.pairs, seed=0, name="pairs")
    rows = pairs.rows()
    assert len(rows) == 20
    assert all(int(row["ID"][1:]) % 2 == 0 for row in rows)


def test_repeats_are_asked_warm_and_stand_beside_the_rating(run: Run, configure: Configure, tmp_path: Path) -> None:
    """The rating that counts is greedy; each repeat is a call of its own at temperature 0.7."""
    config = configure(ratings__repeats=2)
    script(tmp_path, "judge", {}, "\n".join(f"{key}: 5" for key in PRINCIPLES))
    made = rated(run, config)
    for one in responses(made):
        assert one["ratings"] == dict.fromkeys(PRINCIPLES, 5)
        assert one["repeats"] == [dict.fromkeys(PRINCIPLES, 5)] * 2
    with closing(sqlite3.connect(run.store.path)) as connection:
        asked = [json.loads(row[0]) for row in connection.execute("SELECT request FROM calls") if "Rate this" in row[0]]
    temperatures = Counter(json.dumps(one).count('"temperature": 0.7') for one in asked)
    assert temperatures == {0: 160, 1: 320}


def test_each_principle_in_a_call_of_its_own(run: Run, configure: Configure, tmp_path: Path) -> None:
    """Seven calls a response; a reply that rates all of them is read for its own principle only."""
    made = rated(run, configure(ratings__mode="each"))
    assert len(requests(run, "Rate this response")) == 7 * 160
    assert {tuple(one["ratings"].values()) for one in responses(made) if one["model"] == "fair"} == {(4,) * 7}
