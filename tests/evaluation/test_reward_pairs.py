"""Labelled pairs from files to a reward model's report, with the model that counts words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.evaluation.reward_pairs import examine_pairs, gap_bucket, length_bucket, read_labelled, report_on
from strop.models.rewards import open_reward

KEYS = ("empathy", "safety")


def row(number: int, *, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}/0",
        "ID": f"r{number}",
        "prompt": f"speech {number}",
        "chosen": chosen,
        "rejected": rejected,
        **more,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        row(
            number,
            chosen="one two three" if number % 4 else "one",
            rejected="one two",
            gap=7 + number % 8,
            split="train" if number < 12 else "test",
            chosen_ratings={"empathy": 5, "safety": 2},
            rejected_ratings={"empathy": 3, "safety": 4 if number % 2 else 2},
        )
        for number in range(16)
    ]
    return write(tmp_path / "rows.jsonl", rows)


def test_words_as_a_reward_is_longer_wins(pairs: Path) -> None:
    """The chosen text is longer in 12 of 16 pairs; safety prefers the rejected one in the 8 odd ones, all shorter."""
    report = examine_pairs(read_labelled(pairs), open_reward("words"), seed=0)
    assert report.quality.overall.accuracy.estimate == 0.75
    assert report.longer.estimate == 0.75
    assert report.over_longer.estimate == 0.0
    assert report.needed is None
    safety = report.quality.slices["principle"]["safety"]
    assert (safety.pairs, safety.accuracy.estimate) == (8, 0.0)
    assert report.quality.slices["principle"]["empathy"].pairs == 16
    assert set(report.quality.slices["split"]) == {"train", "test"}
    assert set(report.quality.slices["gap"]) == {"7 to 13", "14 to 20"}
    row = json.loads(json.dumps(report.to_row()))
    assert "not distinguishable" in row["findings"][1]


def test_only_one_split(pairs: Path) -> None:
    assert len(read_labelled(pairs, split="test")) == 4
    with pytest.raises(UserError, match="split 'development'"):
        read_labelled(pairs, split="development")


def test_human_pairs_are_read_too(tmp_path: Path) -> None:
    file = write(tmp_path / "h.jsonl", [{"prompt": "p", "better": "yes", "worse": "no", "group": "g", "source": "s"}])
    (found,) = read_labelled(file)
    assert (found.chosen, found.group, found.id) == ("yes", "g", 1)
    assert found.slices == {"source": "s", "length": "matched"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"prompt": "p", "chosen": "a"}], "a pair needs 'prompt'"),
        ([row(0, chosen="a", rejected="b"), row(0, chosen="a", rejected="b")], "more than once"),
        ([row(0, chosen="a", rejected="b", chosen_ratings={"empathy": 1})], "ratings must be given"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_labelled(write(tmp_path / "b.jsonl", rows))


def test_a_missing_rating_takes_part_in_no_principle(tmp_path: Path) -> None:
    ratings = {"chosen_ratings": {"empathy": None, "safety": 5}, "rejected_ratings": {"empathy": 3, "safety": 4}}
    (found,) = read_labelled(write(tmp_path / "m.jsonl", [row(0, chosen="a", rejected="b", **ratings)]))
    assert found.leanings == {"safety": 1}


def test_buckets() -> None:
    assert [gap_bucket(gap) for gap in (1, 6, 7, 13.5, 14, 28)] == [
        "1 to 6", "1 to 6", "7 to 13", "7 to 13", "14 to 20", "21 and more",
    ]  # fmt: skip
    assert length_bucket("a b c d e", "a b c d") == "matched"
    assert length_bucket("a b", "a b c") == "shorter one preferred"


def test_the_report_of_a_better_model(pairs: Path) -> None:
    labelled = read_labelled(pairs)
    report = report_on(labelled, [1.0] * 16, [0.0] * 16, name="oracle", revision="1", seed=0)
    assert report.quality.verdict == "ranks"
    assert report.over_longer.estimate == 0.25
    assert report.needed is not None
