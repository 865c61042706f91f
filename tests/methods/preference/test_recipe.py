"""The whole method on models that take seconds: what is made, what is told, what a second run does again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.recipe import preference
from strop.records.document import Document
from strop.report import write_report
from strop.runs import Run
from strop.runs.content import hash_tree

Configure = Callable[..., PreferenceConfig]


def play(config: PreferenceConfig, folder: Path) -> tuple[Document, Run]:
    with Run.open(folder, config=config, origins={}, seed=0, workspace=folder.parent, quiet=True) as run:
        return preference(config, run), run


def test_every_stage_in_the_papers_order(configure: Configure, tmp_path: Path) -> None:
    """Great, fair, poor and bad sum to 35, 28, 14 and 7, and every neighbour is 7 apart.

    Poor and bad fail the safety gate and win nothing: great over fair, poor and bad, and fair over poor and bad make
    five pairs a speech.
    """
    document, run = play(configure(), tmp_path / "run")
    names = list(run.artifacts)
    assert names[:4] == ["speeches", "candidates", "rated", "pairs"]
    assert names.index("reward-model") < names.index("dpo") < names.index("online1-samples") < names.index("gains")
    counts = json.loads(run.artifacts["pairs"].path("report.json").read_text())
    splits = json.loads(run.artifacts["speeches"].path("report.json").read_text())["splits"]
    assert counts["pairs"]["train"]["gap"] == 5 * splits["train"]
    assert counts["pairs"]["test"]["extreme"] == splits["test"]
    assert counts["responses"]["gate"] == {"passed": 80, "failed": 80, "unknown": 0}
    known = {number.name: number for number in document.numbers}
    assert known["pairs.train"].value == 5 * splits["train"]
    assert {"reward.extreme.accuracy", "second.extreme.auc", "gain.dpo.reward", "dpo.win_rate.raw"} <= known.keys()
    assert all(number.artifact in run.artifacts for number in document.numbers)
    assert write_report(document, tmp_path / "report").is_file()


def _repeated(run: Run) -> int:
    """Return how many questions to the judge were the same as an earlier one."""
    asked = [(row["speech"], one["text"]) for row in run.artifacts["rated"].rows() for one in row["responses"]]
    return len(asked) - len(set(asked))


def test_the_judge_is_not_told_who_wrote(configure: Configure, tmp_path: Path) -> None:
    _, run = play(configure(policy__dpo=None, policy__online=None, comparison=None), tmp_path / "run")
    with closing(sqlite3.connect(run.store.path)) as connection:
        asked = [row[0] for row in connection.execute("SELECT request FROM calls") if "Rate this response" in row[0]]
    assert len(asked) == 4 * len(run.artifacts["rated"].rows()) - _repeated(run)
    assert not any(f'"{name}"' in text or f"{name}.yaml" in text for text in asked for name in ("great", "fair"))
    rows = run.artifacts["rated"].rows()
    assert {one["model"] for row in rows for one in row["responses"]} == {"great", "fair", "poor", "bad"}
    assert all({one["id"] for one in row["responses"]} == set("abcd") for row in rows)


def test_run_again_does_nothing_again(configure: Configure, tmp_path: Path) -> None:
    first, run = play(configure(), tmp_path / "run")
    digests = {name: hash_tree(artifact.folder) for name, artifact in run.artifacts.items()}
    second, again = play(configure(), tmp_path / "run")
    assert {name: hash_tree(artifact.folder) for name, artifact in again.artifacts.items()} == digests
    assert first.numbers == second.numbers


def test_repeated_ratings_tell_the_noise_of_the_labels(configure: Configure, tmp_path: Path) -> None:
    """A scripted judge says the same every time: no repeat turns a pair."""
    config = configure(ratings__repeats=2, policy__online=None, policy__dpo=None, comparison=None)
    _, run = play(config, tmp_path / "run")
    assert {row["noise"] for row in run.artifacts["pairs"].rows()} == {0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratings": None}, "candidates"),
        ({"second_reward": None}, "second_reward"),
        ({"candidates__per_speech": 5}, "per_speech"),
    ],
)
def test_settings_that_do_not_fit(configure: Configure, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configure(**changes)


def test_an_unqualified_judge_is_refused(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    assert config.ratings is not None
    judge = config.ratings.judge.model_copy(update={"allow_unqualified": False})
    strict = config.model_copy(update={"ratings": config.ratings.model_copy(update={"judge": judge})})
    with pytest.raises(UserError, match=r"certificate|qualif"):
        play(strict, tmp_path / "run")
