"""The report of a run: every number has its origin, and what is missing is told as missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.evidence import LABELS
from strop.methods.preference.recipe import preference
from strop.records.document import Document, Table
from strop.records.tables import write_table
from strop.report import write_report
from strop.runs import Artifact, Run

Configure = Callable[..., PreferenceConfig]


def play(config: PreferenceConfig, folder: Path) -> tuple[Document, dict[str, Artifact]]:
    with Run.open(folder, config=config, origins={}, seed=0, workspace=folder.parent, quiet=True) as run:
        return preference(config, run), dict(run.artifacts)


def titled(document: Document, start: str) -> Iterator[Table]:
    yield from (table for table in document.tables if table.title.startswith(start))


def found(content: Any, value: float | None) -> bool:
    """Say whether a value stands anywhere in a JSON document."""
    if isinstance(content, dict):
        return any(found(one, value) for one in content.values())
    if isinstance(content, list):
        return any(found(one, value) for one in content)
    return not isinstance(content, bool) and content == value


def test_every_number_has_one_name_and_stands_in_the_file_it_names(finished: Any) -> None:
    """Counts of pairs are sums over their kinds; all others are in their file as they are."""
    numbers = finished.document.numbers
    assert len({number.name for number in numbers}) == len(numbers)
    for number in numbers:
        content = json.loads(finished.artifacts[number.artifact].path(number.file).read_text(encoding="utf-8"))
        if number.name.startswith("pairs."):
            assert number.value == sum(content["pairs"][number.name.partition(".")[2]].values())
        else:
            assert number.value is None or found(content, number.value), number.name


def test_every_policy_limit_and_reward_model_is_told(finished: Any) -> None:
    names = {number.name for number in finished.document.numbers}
    for reward in ("reward", "second"):
        assert {f"{reward}.extreme.{figure}" for figure in ("accuracy", "auc", "ece", "brier")} <= names
        assert f"gain.dpo.{reward}" in names
        assert f"gain.initial.{reward}" not in names
    for arm in ("dpo", "tuned_prompt"):
        assert {f"{arm}.win_rate.raw", f"{arm}.20_words.win_rate.raw"} <= names
    assert not any(name.startswith("initial.win_rate") for name in names)


def test_what_a_reader_must_know_is_said(finished: Any) -> None:
    warnings = "\n".join(finished.document.warnings)
    assert "no certificate" in warnings
    assert "drafts for trained people" in warnings
    assert "second reward model compares in a judge's place" in warnings
    facts = {fact.name: fact.value for fact in finished.document.provenance}
    assert facts["comparisons by"] == "the second reward model"
    assert facts["pairs"] == finished.artifacts["pairs"].digest
    (watch,) = titled(finished.document, "The over-optimisation watch")
    assert all(len(row) == 4 for row in watch.rows)


def test_what_the_run_made_is_named_with_one_final_policy(finished: Any) -> None:
    products = {product.name: product for product in finished.document.products}
    assert {"dpo", "reward-model", "second-model", "pairs"} <= products.keys()
    assert sum(one.final for one in products.values() if one.kind == "model") == 1
    assert products["reward-model"].final
    assert not products["second-model"].final
    for product in products.values():
        assert finished.artifacts[product.artifact].path(product.path).exists()


def test_the_report_can_be_written(finished: Any, tmp_path: Path) -> None:
    page = write_report(finished.document, tmp_path / "report").read_text(encoding="utf-8")
    assert all(LABELS[arm] in page for arm in ("initial", "dpo", "tuned_prompt"))


def test_test_speeches_without_a_pair_have_no_figures(configure: Configure, finished: Any, tmp_path: Path) -> None:
    """Ratings as files, in which the test speeches' responses are all equal: no accuracy, and the report says why."""
    rows = finished.artifacts["rated"].rows()
    for row in rows:
        if row["split"] == "test":
            for response in row["responses"]:
                response["ratings"] = dict.fromkeys(response["ratings"], 4)
    write_table(tmp_path / "rated.jsonl", rows)
    config = configure(
        candidates=None,
        ratings=None,
        rated=[tmp_path / "rated.jsonl"],
        policy__online=None,
        policy__dpo=None,
        comparison=None,
        second_reward=None,
    )
    document, artifacts = play(config, tmp_path / "run")
    assert artifacts["pairs"].rows("test.jsonl") == []
    numbers = {number.name: number for number in document.numbers}
    assert numbers["pairs.test"].value == 0
    assert (numbers["reward.extreme.accuracy"].value, numbers["reward.extreme.accuracy"].note) == (
        None,
        "there is no such pair",
    )
    assert {fact.name: fact.value for fact in document.provenance}["ratings by"] == "files"
    assert write_report(document, tmp_path / "report").is_file()


def test_rounds_that_raise_nothing_leave_the_initial_policy(configure: Configure, tmp_path: Path) -> None:
    """A rate of 1e-12 moves no sample: every round's development reward is the start's, which is the earlier one."""
    online = configure().policy.online
    assert online is not None
    train = {**online.train.model_dump(), "learning_rate": 1e-12}
    config = configure(
        policy__dpo=None,
        policy__online={**online.model_dump(), "train": train, "iterations": 1},
        comparison=None,
        second_reward=None,
    )
    document, artifacts = play(config, tmp_path / "run")
    chosen = json.loads(artifacts["online-choice"].path("chosen.json").read_text(encoding="utf-8"))
    assert chosen["chosen"] == "online-start"
    assert (document.verdicts[0].text, document.verdicts[0].tone) == (
        "None of 1 rounds of online DPO raised the development reward.",
        "bad",
    )
    assert "test-online" not in artifacts
    assert not any(number.name.startswith("gain.") for number in document.numbers)
    assert not any(product.kind == "model" for product in document.products)
    with pytest.raises(KeyError):
        artifacts["online-policy"]
