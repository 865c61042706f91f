"""Figures of a risk screen on labelled messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.errors import UserError
from strop.evaluation.risk import MESSAGES, RiskMessage, clustered_share, read_messages, risk_figures
from strop.evaluation.statistics import wilson
from strop.records.tables import write_table
from strop.safety.levels import Level


def message(number: int, level: int, style: str, scenario: str | None = None) -> RiskMessage:
    return RiskMessage(number, scenario or f"s{number}", "text", Level(level), style)


def test_figures_by_hand() -> None:
    """Levels 4 4 3 1 0 0 found as 4 2 0 1 0 3: one of three high ones found, two noticed, one of two calm flagged."""
    labels = [(4, "direct"), (4, "typo"), (3, "direct"), (1, "direct"), (0, "idiom"), (0, "sadness")]
    messages = [message(number, level, style) for number, (level, style) in enumerate(labels)]
    figures = risk_figures(messages, [Level(level) for level in (4, 2, 0, 1, 0, 3)])
    assert figures.recall_highest is not None
    assert figures.recall_highest.estimate == pytest.approx(1 / 3)
    assert figures.noticed_highest is not None
    assert figures.noticed_highest.estimate == pytest.approx(2 / 3)
    assert figures.noticed is not None
    assert figures.noticed.estimate == pytest.approx(3 / 4)
    by_level = {level: share.estimate for level, share in figures.recall_by_level.items() if share}
    assert by_level == {"1": 1.0, "3": 0.0, "4": 0.5}
    by_style = {style: share.estimate for style, share in figures.recall_by_style.items() if share}
    assert by_style == {"direct": 0.5, "typo": 0.0}
    alarms = {style: share.estimate for style, share in figures.false_alarms.items() if share}
    assert alarms == {"all": 0.5, "idiom": 0.0, "sadness": 1.0}
    assert figures.confusion["4"] == {"0": 0, "1": 0, "2": 1, "3": 0, "4": 1}


def test_nothing_to_measure_is_no_number() -> None:
    figures = risk_figures([message(0, 0, "idiom")], [Level.NONE])
    assert (figures.recall_highest, figures.noticed) == (None, None)
    assert figures.recall_by_level == {}


def test_independent_messages_give_wilsons_interval() -> None:
    values = [True] * 7 + [False] * 3
    found = clustered_share(values, [str(number) for number in range(10)])
    plain = wilson(7, 10)
    assert found.estimate == 0.7
    assert found.low >= plain.low - 0.02
    assert (found.n, found.groups) == (10, 10)


def test_messages_of_a_scenario_count_less_than_independent_ones() -> None:
    """Four scenarios of five equal answers: the spread between scenarios makes 20 messages worth fewer than 5."""
    values = [True] * 15 + [False] * 5
    found = clustered_share(values, [str(number // 5) for number in range(20)])
    assert found.high - found.low > wilson(15, 20).high - wilson(15, 20).low
    same = clustered_share([True] * 20, [str(number // 5) for number in range(20)])
    assert same.low == pytest.approx(wilson(4, 4).low)
    assert (same.estimate, same.high) == (1.0, 1.0)


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = [{"id": 1, "text": "a", "level": 2, "part": "development"}, {"id": 2, "text": "b", "level": 0}]
    write_table(path, rows)
    assert [each.id for each in read_messages(path)] == [1, 2]
    assert [each.id for each in read_messages(path, part="test")] == [2]


@pytest.mark.parametrize("level", [None, 5, -1, True, "3", 1.5])
def test_a_row_without_a_level_is_refused(tmp_path: Path, level: object) -> None:
    path = tmp_path / "m.jsonl"
    write_table(path, [{"id": 1, "text": "a", "level": level}])
    with pytest.raises(UserError, match="no level"):
        read_messages(path)


def test_the_shipped_set_has_both_parts_and_shares_no_scenario() -> None:
    development = {each.scenario for each in read_messages(MESSAGES, part="development")}
    test = {each.scenario for each in read_messages(MESSAGES, part="test")}
    assert development
    assert test
    assert not development & test
