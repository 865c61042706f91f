"""The doctor passes on a sane set-up and names what is broken in others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.doctor import examine_recipe
from strop.methods.preference.ratings import PRINCIPLES
from strop.training import Finding

Configure = Callable[..., PreferenceConfig]


def examine(config: PreferenceConfig) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine_recipe(config)}


def rates(folder: Path, reply: str) -> None:
    (folder / "judge.yaml").write_text(f"default: {reply!r}")


def test_a_sane_set_up(configure: Configure, tmp_path: Path) -> None:
    """40 speeches split 24, 6, 10; a round of 6; two answers with seven ratings each."""
    rates(tmp_path, ", ".join(f"{key}: 4" for key in PRINCIPLES))
    found = examine(configure())
    assert found["the judge that rates"].status == "warn"
    assert found["speeches"].value.startswith("24 train, 6 development, 10 test; left out: ")
    assert (found["speeches of a round"].status, found["speeches of a round"].fix) == ("ok", "")
    assert found["judge: ratings"].status == "ok"
    assert found["judge: ratings"].value == "14 of 14 ratings could be read"
    assert "policy: answers" in found


def test_a_judge_that_cannot_be_read(configure: Configure, tmp_path: Path) -> None:
    rates(tmp_path, "how lovely")
    found = examine(configure())["judge: ratings"]
    assert (found.status, found.value) == ("fail", "0 of 14 ratings could be read")
    assert "max_tokens" in found.fix


def test_a_judge_that_leaves_something_out(configure: Configure, tmp_path: Path) -> None:
    rates(tmp_path, ", ".join(f"{key}: 4" for key in PRINCIPLES if key != "safety"))
    found = examine(configure())["judge: ratings"]
    assert (found.status, found.value) == ("warn", "12 of 14 ratings could be read")


def test_a_round_larger_than_the_training_set(configure: Configure, tmp_path: Path) -> None:
    rates(tmp_path, ", ".join(f"{key}: 4" for key in PRINCIPLES))
    online = configure().policy.online
    assert online is not None
    found = examine(configure(policy__online={**online.model_dump(), "speeches": 100}))["speeches of a round"]
    assert found.status == "warn"
    assert found.value == "24 of 24 training speeches, 2 rounds"
    assert "policy.online.speeches" in found.fix


def test_what_is_left_out_is_not_looked_at(configure: Configure, tmp_path: Path) -> None:
    rated = tmp_path / "rated.jsonl"
    rated.touch()
    found = examine(configure(candidates=None, ratings=None, rated=[rated], policy__online=None))
    assert not {"judge: ratings", "speeches of a round", "the judge that rates"} & found.keys()


def test_a_missing_file_is_refused_before_anything_is_loaded(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        examine(configure(speeches__files=[tmp_path / "nowhere.jsonl"]))
