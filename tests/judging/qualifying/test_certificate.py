"""Certificates: bound to judge, rubric and data, sealed, and asked for at the gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.judging.judge import Comparison, Duel
from strop.judging.pairs import HumanPair
from strop.judging.qualifying.certificate import NO_RUBRIC, Certificate, RubricIdentity, require_qualified
from strop.judging.qualifying.qualification import Qualification, qualify
from strop.judging.qualifying.qualification_report import markdown, write_qualification
from strop.judging.qualifying.verdict import THRESHOLDS, load_thresholds

RUBRIC = RubricIdentity(name="principles-v1", version="1", hash="abc123")


def pairs(count: int = 150) -> list[HumanPair]:
    """Pairs on which "good" is better; lengths and words say nothing."""
    return [
        HumanPair(
            number,
            f"message {number}",
            f"good {'x ' * (number % 7 + 1)}",
            f"bad! {'x ' * ((number + 3) % 7 + 1)}",
            f"g{number}",
            "s",
            None,
            length_matched=number % 2 == 0,
            risk_language=False,
        )
        for number in range(count)
    ]


class Judge:
    """Knows the word."""

    name = "knowing"
    revision = "revision-1"

    def __init__(self, *, right: bool = True) -> None:
        self._right = right

    def compare(self, items: Sequence[Duel]) -> list[Comparison]:
        sides = {True: "first", False: "second"}
        said = [sides[duel.first.startswith("good") == self._right] for duel in items]
        return [Comparison(duel.id, side, side, side) for duel, side in zip(items, said, strict=True)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def qualified() -> Qualification:
    return qualify(Judge(), pairs(), thresholds=load_thresholds(), family=None)


def certify(qualification: Qualification, rubric: RubricIdentity = RUBRIC) -> Certificate:
    return Certificate.of(
        qualification,
        rubric=rubric,
        data_name="pairs.jsonl",
        left_out={"identical sides": 2},
        date="2026-01-31",
        command="strop judge qualify --pairs pairs.jsonl",
    )


@pytest.fixture
def saved(qualified: Qualification, tmp_path: Path) -> Path:
    path = tmp_path / "certificate.json"
    certify(qualified).save(path)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_certificate_comes_back_as_it_was(qualified: Qualification, saved: Path) -> None:
    found = Certificate.load(saved)
    assert found == certify(qualified)
    assert found.decision == "qualified"
    assert found.data.hash == qualified.data_hash
    assert (found.data.rows, found.data.left_out) == (150, {"identical sides": 2})
    accuracy = found.figures["accuracy"]
    assert accuracy is not None
    assert accuracy.estimate == 1.0
    assert found.rules[0].rule == "accuracy at least 0.55"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["figures"]["accuracy"].update(estimate=0.9),
        lambda content: content.update(decision="not qualified"),
        lambda content: content["judge"].update(revision="revision-2"),
        lambda content: content["rules"].pop(),
        lambda content: content["data"].update(rows=1000),
        lambda content: content.update(seal=""),
    ],
)
def test_an_edited_certificate_is_refused(saved: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(saved, change)
    with pytest.raises(UserError, match="changed after it was written"):
        Certificate.load(saved)


def test_layout_is_no_edit(saved: Path) -> None:
    before = Certificate.load(saved)
    edit(saved, lambda _: None)
    assert Certificate.load(saved) == before


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda path: path.write_text("{"), "cannot be read"),
        (lambda path: path.write_text("[]"), "another form"),
        (lambda path: edit(path, lambda content: content.update(schema_version=9)), "another form"),
        (lambda path: edit(path, lambda content: content.pop("judge")), "damaged"),
        (lambda path: edit(path, lambda content: content.update(extra=1)), "damaged"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_one_clear_message(
    saved: Path, write: Callable[[Path], object], says: str
) -> None:
    write(saved)
    with pytest.raises(UserError, match=says):
        require_qualified("revision-1", "abc123", saved)


def test_the_judge_of_the_certificate_passes(saved: Path) -> None:
    standing = require_qualified("revision-1", "abc123", saved)
    assert standing.qualified
    assert standing.text.startswith("qualified judge knowing, agrees with people on 100.0% (")
    assert "thresholds of its own" not in standing.text
    assert standing.to_row()["certificate"]["seal"]


@pytest.mark.parametrize(
    ("revision", "rubric", "says"),
    [("revision-2", "abc123", "another revision"), ("revision-1", "def", "another rubric")],
)
def test_another_judge_or_rubric_is_refused_unless_forced(saved: Path, revision: str, rubric: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        require_qualified(revision, rubric, saved)
    standing = require_qualified(revision, rubric, saved, allow_unqualified=True)
    assert not standing.qualified
    assert standing.status == "unqualified, forced"
    assert says in standing.text


def test_no_certificate_is_refused_unless_forced() -> None:
    with pytest.raises(UserError, match="allow_unqualified") as refused:
        require_qualified("revision-1", NO_RUBRIC, None)
    assert "strop judge qualify" in str(refused.value)
    standing = require_qualified("revision-1", NO_RUBRIC, None, allow_unqualified=True)
    assert standing.certificate is None
    assert standing.text == "unqualified judge, used by allow_unqualified: this judge has no certificate"


@pytest.mark.parametrize(
    ("judge", "count", "says"), [(Judge(right=False), 150, "not qualified"), (Judge(), 12, "cannot tell")]
)
def test_a_verdict_other_than_qualified_is_refused(tmp_path: Path, judge: Judge, count: int, says: str) -> None:
    found = qualify(judge, pairs(count), thresholds=load_thresholds(), family=None)
    path = tmp_path / "certificate.json"
    certify(found).save(path)
    with pytest.raises(UserError, match=f"says: {says}"):
        require_qualified("revision-1", "abc123", path)
    assert says in require_qualified("revision-1", "abc123", path, allow_unqualified=True).text


def test_thresholds_of_ones_own_are_named(tmp_path: Path) -> None:
    lax = tmp_path / "lax.yaml"
    lax.write_text(THRESHOLDS.read_text(encoding="utf-8").replace("name: pairs-v1", "name: lax"), encoding="utf-8")
    found = qualify(Judge(), pairs(), thresholds=load_thresholds(lax), family=None)
    path = tmp_path / "certificate.json"
    certify(found).save(path)
    assert require_qualified("revision-1", "abc123", path).text.endswith("thresholds of its own: lax")


def test_the_report_holds_verdict_rules_slices_and_binding(qualified: Qualification, tmp_path: Path) -> None:
    certificate = certify(qualified)
    text = "\n".join(markdown(qualified, certificate))
    for part in (
        "qualified (n=150)",
        "revision-1",
        "abc123",
        qualified.data_hash,
        "| length-matched | 75 |",
        "flip rate",
    ):
        assert part in text
    write_qualification(qualified, certificate, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "certificate.json",
        "qualification.json",
        "qualification.md",
        "accuracy.svg",
    }
    json.loads((tmp_path / "qualification.json").read_text(encoding="utf-8"))
    assert (tmp_path / "accuracy.svg").read_text(encoding="utf-8").count("<svg") == 1
