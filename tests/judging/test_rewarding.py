"""A reward model as a judge: by score, the same in both orders, opened, qualified and used like any other judge."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from strop.cli.main import run
from strop.errors import StropError, UserError
from strop.judging.judge import Duel
from strop.judging.opening import has_learned, is_fitted, open_judge
from strop.judging.rewarding import RewardJudge, open_reward_judge
from strop.judging.settings import JudgeSettings, standing_of
from strop.models.placement import Placement
from strop.models.rewards import Item
from strop.models.rewards.protocol import Advance
from strop.models.rewards.words import WordsReward
from strop.runs.store import CallStore

CPU = Placement(device="cpu")
TEXTS = (
    "i feel sad and alone",
    "what do you need ?",
    "you should work more",
    "how was the night ?",
    "talk with family",
)


def duels() -> list[Duel]:
    return [
        Duel(number, f"i am tired , {first}", first, second) for number, (first, second) in enumerate(pairwise(TEXTS))
    ]


def test_words_decide_by_length() -> None:
    """Three words against two, two against three, two against two; sigma(1) is 0.7311."""
    judge = RewardJudge(WordsReward())
    found = judge.compare([Duel(1, "p", "a b c", "a b"), Duel(2, "p", "a b", "a b c"), Duel(3, "p", "a b", "c d")])
    assert [comparison.verdict for comparison in found] == ["first", "second", "tie"]
    assert [comparison.strength for comparison in found] == pytest.approx([0.7310586, 0.2689414, 0.5])
    assert not any(comparison.flipped or comparison.failed for comparison in found)


def test_the_order_of_sides_and_of_duels_changes_nothing(tiny_reward: Path) -> None:
    judge = open_reward_judge(tiny_reward, CPU)
    forward = judge.compare(duels())
    swapped = judge.compare([duel.swapped() for duel in duels()])
    mirror = {"first": "second", "second": "first", "tie": "tie"}
    assert [mirror[str(one.verdict)] for one in forward] == [one.verdict for one in swapped]
    assert [one.strength for one in forward] == pytest.approx([1 - (one.strength or 0) for one in swapped], abs=1e-6)
    again = {one.id: one.strength for one in judge.compare(duels()[::-1])}
    assert [one.strength for one in forward] == pytest.approx([again[one.id] for one in forward], abs=1e-5)
    assert len({one.strength for one in forward}) == len(forward)


def test_equal_texts_tie(tiny_reward: Path) -> None:
    judge = open_reward_judge(tiny_reward, CPU)
    (found,) = judge.compare([Duel(1, "i feel sad", TEXTS[0], TEXTS[0])])
    assert (found.verdict, found.strength) == ("tie", 0.5)


@dataclass
class Overflowing:
    name: str = "broken"
    revision: str = "1"

    def score(self, items: Sequence[Item], *, advance: Advance | None = None) -> list[float]:
        return [math.nan for _ in items]

    def close(self) -> None:
        return


def test_a_reward_that_is_no_number_is_no_verdict() -> None:
    with pytest.raises(StropError, match="not a number"):
        RewardJudge(Overflowing()).compare(duels())


def test_a_text_over_the_window_is_refused(tiny_reward: Path) -> None:
    with pytest.raises(UserError, match="too long"):
        open_reward_judge(tiny_reward, CPU).compare([Duel(1, "sad", "very " * 80, "sad")])


def test_a_folder_is_recognised_and_opened(tiny_reward: Path, tmp_path: Path) -> None:
    assert has_learned(str(tiny_reward))
    assert not is_fitted(str(tiny_reward))
    told: list[int] = []
    with (
        CallStore(tmp_path / "calls.sqlite") as store,
        open_judge(str(tiny_reward), rubric=None, store=store, placement=CPU, advance=told.append) as judge,
    ):
        assert isinstance(judge, RewardJudge)
        assert len(judge.compare(duels())) == 4
    assert told == [8]


def test_settings_take_it_without_a_rubric(tiny_reward: Path) -> None:
    settings = JudgeSettings.model_validate({"model": str(tiny_reward), "allow_unqualified": True})
    assert settings.fitted
    standing = standing_of(settings, CPU)
    assert not standing.qualified
    assert standing.judge_revision == open_reward_judge(tiny_reward, CPU).revision


def test_it_can_be_qualified_and_compare_files(
    tiny_reward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"i feel sad {n}", "better": TEXTS[n % 5], "worse": TEXTS[(n + 2) % 5], "group": f"g{n % 12}"}
        for n in range(24)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = ["--judge", str(tiny_reward), "--device", "cpu", "--workspace", str(tmp_path / "ws"), "--json"]
    assert run(["judge", "qualify", "--pairs", str(pairs), "--out", str(tmp_path / "q"), *common]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["certificate"]["judge"]["revision"] == open_reward_judge(tiny_reward, CPU).revision
    assert run(["judge", "compare", str(pairs), "--no-anchors", "--out", str(tmp_path / "c.jsonl"), *common]) == 0
    written = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(written) == 24
    assert all(row["forward"] == row["backward"] for row in written)
