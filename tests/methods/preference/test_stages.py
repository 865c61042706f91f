"""Stages between speeches and policies: whose rated files count, when pairs are too few, what is mixed in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.methods.preference.config import PreferenceConfig, RewardModel
from strop.methods.preference.pairing import PairSettings
from strop.methods.preference.ratings import PRINCIPLES
from strop.methods.preference.stages import (
    build_pairs,
    draw_speeches,
    examine_reward,
    held_out,
    optimise,
    take_rated,
    train_reward,
)
from strop.models.rewards.facts import RewardFacts
from strop.records.tables import read_table, write_table
from strop.runs import Artifact, Config, Run, Stage

Configure = Callable[..., PreferenceConfig]


class NoSettings(Config):
    """A run without settings of its own."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", config=NoSettings(), origins={}, seed=0, workspace=tmp_path, quiet=True) as opened:
        yield opened


def put(stage: Stage, **tables: list[dict[str, Any]]) -> None:
    """Write tables."""
    for name, rows in tables.items():
        stage.write_rows(rows, f"{name}.jsonl")


def rated_row(speech: dict[str, Any], levels: dict[str, int]) -> dict[str, Any]:
    responses = [
        {"id": name, "text": f"{name} and so", "model": name, "ratings": dict.fromkeys(PRINCIPLES, level)}
        for name, level in levels.items()
    ]
    return {"id": speech["id"], "speech": speech["speech"], "responses": responses}


def speeches(run: Run, config: PreferenceConfig) -> Artifact:
    return run.stage(draw_speeches, config.speeches, seed=0, name="speeches")


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"{number}/0", "prompt": "how many", "chosen": "apples and books", "rejected": "stop", **more}


def test_a_table_for_each_split(run: Run, configure: Configure) -> None:
    made = speeches(run, configure())
    tables = {split: made.rows(f"{split}.jsonl") for split in ("train", "development", "test")}
    assert {split: len(rows) for split, rows in tables.items()} == {"train": 24, "development": 6, "test": 10}
    assert all(row["split"] == split for split, rows in tables.items() for row in rows)
    assert sorted(row["id"] for rows in tables.values() for row in rows) == sorted(row["id"] for row in made.rows())


def test_rated_speeches_that_are_not_the_runs_are_left_out(run: Run, configure: Configure, tmp_path: Path) -> None:
    """A foreign id, and a known id with another speech behind it, are not the run's; blanks do not count."""
    made = speeches(run, configure())
    known = made.rows()
    mine = [rated_row({**row, "speech": f" {row['speech']}\n"}, {"a": 5, "b": 1}) for row in known[:5]]
    foreign = [
        rated_row({"id": "z1", "speech": "nobody's"}, {"a": 5, "b": 1}),
        rated_row({"id": known[6]["id"], "speech": "another speech"}, {"a": 5, "b": 1}),
    ]
    write_table(tmp_path / "one.jsonl", [*mine[:2], foreign[0]])
    write_table(tmp_path / "two.jsonl", [foreign[1], *mine[2:]])
    rows = run.stage(take_rated, [tmp_path / "one.jsonl", tmp_path / "two.jsonl"], made, name="rated").rows()
    splits = {row["id"]: row["split"] for row in known}
    assert [row["id"] for row in rows] == [row["id"] for row in known[:5]]
    assert all(row["split"] == splits[row["id"]] for row in rows)


def test_rated_files_of_other_speeches_are_refused(run: Run, configure: Configure, tmp_path: Path) -> None:
    write_table(tmp_path / "rated.jsonl", [rated_row({"id": "z1", "speech": "nobody's"}, {"a": 5, "b": 1})])
    made = speeches(run, configure())
    with pytest.raises(UserError, match=r"none of the rated speeches is among the run's(?s:.*)1 rows"):
        run.stage(take_rated, [tmp_path / "rated.jsonl"], made, name="rated")


@pytest.mark.parametrize("without", ["train", "development"])
def test_a_split_without_pairs_is_refused_with_the_counts(run: Run, without: str) -> None:
    """Equal ratings make no pair; the error says of which split, and what the others gave."""
    rows = [
        {**rated_row({"id": f"s{number}", "speech": f"speech {number}"}, levels), "split": split}
        for number, split in enumerate(["train", "development", "test"] * 3)
        for levels in [{"a": 4, "b": 4} if split == without else {"a": 5, "b": 1}]
    ]
    made = run.stage(put, rows=rows, name="rated")
    with pytest.raises(UserError, match=f"no pair of the split '{without}'(?s:.*)min_gap"):
        run.stage(build_pairs, made, settings=PairSettings(gate=False), seed=0, name="pairs")


def test_pairs_are_split_by_their_speech(run: Run) -> None:
    """5, 4 and 2 sum to 35, 28 and 14: three pairs 7, 14 and 21 apart; of a test speech the best against the worst."""
    rows = [
        {**rated_row({"id": f"s{number}", "speech": f"speech {number}"}, {"a": 5, "b": 4, "c": 2}), "split": split}
        for number, split in enumerate(["train", "development", "test"])
    ]
    made = run.stage(put, rows=rows, name="rated")
    pairs = run.stage(build_pairs, made, settings=PairSettings(gate=False), seed=0, name="pairs")
    found = {split: pairs.rows(f"{split}.jsonl") for split in ("train", "development", "test")}
    assert {split: len(each) for split, each in found.items()} == {"train": 3, "development": 3, "test": 1}
    assert sorted(row["gap"] for row in found["train"]) == [7, 14, 21]
    counts = json.loads(pairs.path("report.json").read_text(encoding="utf-8"))["pairs"]
    assert counts["test"] == {"gap": 0, "extreme": 1, "close": 0}


def reward_model(policy: Path, **more: Any) -> RewardModel:
    train = {"learning_rate": 1e-3, "max_steps": 2, "batch_size": 4, "micro_batch_size": 4, "max_length": 128}
    return RewardModel.model_validate({"model": str(policy), "train": train, **more})


def test_a_reward_model_learns_from_the_mixture_and_is_measured_on_development_pairs(
    run: Run, tiny_policy: Path, configure: Configure, tmp_path: Path
) -> None:
    """12 domain and 20 general pairs, a quarter general: 12 + 4; the scale is that of domain pairs alone."""
    pairs = run.stage(put, train=[pair(n) for n in range(12)], development=[pair(n) for n in range(3)], name="pairs")
    general = [{"q": "go", "chosen": "has books", "rejected": "go"} for _ in range(20)]
    write_table(tmp_path / "general.jsonl", general)
    mix = {"file": tmp_path / "general.jsonl", "fields": {"prompt": "q"}, "share": 0.25}
    made = run.stage(
        train_reward,
        pairs,
        reward=reward_model(tiny_policy, mix=mix),
        machine=configure().machine,
        seed=3,
        name="model",
    )
    rows = made.rows("mixture.jsonl")
    assert Counter(row["source"] for row in rows) == {"domain": 12, "general": 4}
    assert len({row["id"] for row in rows}) == 16
    facts = RewardFacts.read(made.path("model"))
    assert facts.base == str(tiny_policy)
    assert facts.normalisation is not None
    assert facts.normalisation.n == 6


def test_quality_is_told_by_kind_and_a_kind_without_pairs_has_none(
    run: Run, tiny_policy: Path, configure: Configure
) -> None:
    machine = configure().machine
    test = [pair(n, kind="extreme", gap=28) for n in range(4)]
    train = [pair(n) for n in range(8)]
    pairs = run.stage(put, train=train, development=train, test=test, name="pairs")
    model = run.stage(train_reward, pairs, reward=reward_model(tiny_policy), machine=machine, seed=3, name="model")
    quality = run.stage(examine_reward, model, pairs, seed=0, placement=machine, name="quality")
    told = json.loads(quality.path("quality.json").read_text(encoding="utf-8"))
    assert told["extreme"]["quality"]["overall"]["pairs"] == 4
    assert told["close"] is None


def test_dpo_learns_under_the_policys_instructions(run: Run, configure: Configure, tiny_policy: Path) -> None:
    config = configure()
    assert config.policy.dpo is not None
    pairs = run.stage(put, train=[pair(n) for n in range(4)], name="pairs")
    made = run.stage(
        optimise,
        config.policy.model,
        pairs,
        system="apples",
        settings=config.policy.dpo.model_copy(update={"max_steps": 1}),
        machine=config.machine,
        seed=0,
        name="dpo",
    )
    asked = [row["prompt"] for row in read_table(made.path("pairs.jsonl"))]
    assert asked[0] == [{"role": "system", "content": "apples"}, {"role": "user", "content": "how many"}]
    assert any(made.path("model").glob("*.safetensors"))


@pytest.mark.parametrize(("limit", "count"), [(None, 10), (3, 3)])
def test_only_test_speeches_are_compared_on(run: Run, configure: Configure, limit: int | None, count: int) -> None:
    made = speeches(run, configure())
    rows = run.stage(held_out, made, limit=limit, name="prompts").rows()
    test = made.rows("test.jsonl")
    expected = [{"id": row["id"], "prompt": row["speech"], "group": row["id"]} for row in test[:count]]
    assert rows == expected
