"""Anchors: a changed judge is noticed, a call store does not hide the change, and histories survive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from strop.errors import UserError
from strop.judging.anchors import AnchorResult, anchor_history, drift, judge_anchors, load_anchors, record_anchors
from strop.judging.judge import require_same_revision
from strop.judging.llm import LlmJudge
from strop.judging.rubric import load_rubric
from strop.models.scripted import ScriptedModel
from strop.runs.store import CallStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CallStore]:
    with CallStore(tmp_path / "calls.sqlite") as opened:
        yield opened


class Alias(ScriptedModel):
    """A hosted model that may change behind its name: its revision stays."""

    @property
    def revision(self) -> str:
        return "alias"


def judge(folder: Path, store: CallStore, reply: str) -> LlmJudge:
    path = folder / "alias.yaml"
    path.write_text(yaml.safe_dump({"default": reply}), encoding="utf-8")
    return LlmJudge(Alias(path), load_rubric("principles-v1"), store)


def result(verdicts: dict[str, str | None], *, revision: str = "r", anchors_hash: str = "h") -> AnchorResult:
    return AnchorResult("j", revision, "a", anchors_hash, verdicts, (), "2026-01-01T00:00:00")


def test_the_shipped_set() -> None:
    anchors = load_anchors()
    kinds = [pair.kind for pair in anchors.pairs]
    assert (kinds.count("clear"), kinds.count("near_tie")) == (8, 2)
    assert anchors.duels() == load_anchors("counselling-v1").duels()
    firsts = [duel.first == pair.better for duel, pair in zip(anchors.duels(), anchors.pairs, strict=True)]
    assert 0 < sum(firsts) < len(firsts)


def test_a_position_bound_judge_ties_and_flips_everywhere(tmp_path: Path, store: CallStore) -> None:
    found = judge_anchors(judge(tmp_path, store, "Verdict: A"), calls=tmp_path / "a.sqlite")
    assert set(found.verdicts.values()) == {"tie"}
    assert len(found.flipped) == 10


def test_a_model_that_changes_behind_its_name_is_noticed(tmp_path: Path, store: CallStore) -> None:
    first = record_anchors(tmp_path, judge_anchors(judge(tmp_path, store, "Verdict: A"), calls=tmp_path / "1.sqlite"))
    again = record_anchors(tmp_path, judge_anchors(judge(tmp_path, store, "Verdict: A"), calls=tmp_path / "2.sqlite"))
    later = record_anchors(tmp_path, judge_anchors(judge(tmp_path, store, "no idea"), calls=tmp_path / "3.sqlite"))
    assert first is None
    assert again is not None
    assert later is not None
    assert (again.changed, again.n, again.same_revision) == ((), 10, True)
    assert (len(later.changed), later.share.estimate) == (10, 1.0)
    assert "the model behind its name may have changed" in str(later)
    assert store.sizes().calls == 0
    assert len(anchor_history(tmp_path, "scripted:alias.yaml with principles-v1")) == 3


def test_drift_by_hand() -> None:
    """Of four verdicts one turned and one failed: 2 of 4, Wilson .15 to .85."""
    before = result({"a": "better", "b": "better", "c": "tie", "d": "worse"})
    after = result({"a": "better", "b": "worse", "c": None, "d": "worse"}, revision="s")
    found = drift(after, before)
    assert (found.changed, found.n, found.same_revision) == (("b", "c"), 4, False)
    assert found.share.low == pytest.approx(0.150, abs=0.001)
    assert found.share.high == pytest.approx(0.850, abs=0.001)
    assert "cannot be compared" in str(found)


def test_other_anchors_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="different anchors"):
        drift(result({}, anchors_hash="x"), result({}))
    assert record_anchors(tmp_path, result({"a": "tie"})) is None
    assert record_anchors(tmp_path, result({"a": "tie"}, anchors_hash="x")) is None
    assert record_anchors(tmp_path, result({"a": "tie"})) is not None


def test_a_damaged_history_is_told(tmp_path: Path) -> None:
    record_anchors(tmp_path, result({"a": "tie"}))
    (path,) = (tmp_path / "anchors").glob("*.json")
    path.write_text("[{]", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        record_anchors(tmp_path, result({"a": "tie"}))


def test_judges_of_one_name_differ_by_their_file(tmp_path: Path) -> None:
    record_anchors(tmp_path, result({"a": "tie"}))
    record_anchors(tmp_path, replace(result({"a": "tie"}), judge="j/"))
    assert len(list((tmp_path / "anchors").glob("*.json"))) == 2


def test_revisions_are_not_mixed() -> None:
    require_same_revision("a", "a")
    with pytest.raises(UserError, match="two judge revisions"):
        require_same_revision("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\npairs: []\n", "needs pairs"),
        ("name: x\nparis: []\n", "did you mean 'pairs'"),
        ("name: x\n", "pairs: missing"),
    ],
)
def test_a_set_with_a_mistake(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_anchors(tmp_path / "a.yaml")
    with pytest.raises(UserError, match="did you mean 'counselling-v1'"):
        load_anchors("counseling-v1")
