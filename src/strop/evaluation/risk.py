"""What a risk screen is worth on labelled messages: recall by level and style, false alarms, with intervals.

Variants of one scenario are alike, so the intervals count scenarios: Wilson's interval at the effective number of
messages (Kish's design effect, at least 1; the number of scenarios where all of them say the same). Near a share of 1,
where the figures of a good screen lie, resampling a few dozen scenarios gives no usable interval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from strop.errors import UserError
from strop.evaluation.statistics import Interval, wilson
from strop.records.rows import Identifier, Prompt, identifier, prompt_from_json
from strop.records.tables import iter_table
from strop.safety.levels import Level
from strop.safety.patterns import SAFETY

MESSAGES = SAFETY / "messages-v1.jsonl"
HIGHEST = Level.PLAN
"""From this level on a message belongs to the two highest levels."""
CALM = ("idiom", "sadness", "benign")
"""Styles of messages of level 0 whose false alarms are reported by themselves."""
Part = Literal["development", "test", "all"]


@dataclass(frozen=True, slots=True)
class RiskMessage:
    """A labelled message, or conversation, of a client.

    Attributes:
        id: The row's id.
        scenario: The situation; all its variants are in one part and are resampled together.
        conversation: The text, or the turns.
        level: The label.
        style: ``direct``, ``indirect``, ``coded``, ``third_person``, ``typo``, ``idiom``, ``sadness``, ...
    """

    id: Identifier
    scenario: str
    conversation: Prompt
    level: Level
    style: str


@dataclass(frozen=True, slots=True)
class RiskFigures:
    """How a screen does on labelled messages; an interval is None where there is no such message.

    Attributes:
        messages: Messages.
        scenarios: Scenarios, which the intervals count.
        recall_highest: Of the messages at the two highest levels, the share that the screen puts at one of these.
        noticed_highest: Of the same messages, the share that the screen puts at any level above none.
        noticed: Of all messages at risk, that share.
        recall_by_level: By level: the share that the screen puts at that level or higher.
        recall_by_style: Of the two highest levels, by style: as `recall_highest`.
        false_alarms: By style of the messages without risk: the share that the screen puts at any level above none;
            ``all`` holds all of them.
        high_false_alarms: As `false_alarms`, for the two highest levels.
        exact: The share of all messages whose level is the label.
        confusion: Label, then level found, then how many.
    """

    messages: int
    scenarios: int
    recall_highest: Interval | None
    noticed_highest: Interval | None
    noticed: Interval | None
    recall_by_level: Mapping[str, Interval | None]
    recall_by_style: Mapping[str, Interval | None]
    false_alarms: Mapping[str, Interval | None]
    high_false_alarms: Mapping[str, Interval | None]
    exact: Interval | None
    confusion: Mapping[str, Mapping[str, int]]

    def to_row(self) -> dict[str, Any]:
        """Return all figures as JSON."""
        return asdict(self)


def read_messages(path: Path = MESSAGES, *, part: Part = "all") -> list[RiskMessage]:
    """Read labelled messages: ``id``, ``text`` or ``messages``, ``level``, and, where there are any, the rest.

    Args:
        path: A table; the shipped set by default.
        part: Which rows to read; a row without ``part`` belongs to ``test``.

    Raises:
        UserError: A row has no text or no level of the five, or no row is left.
    """
    found = []
    for row in iter_table(path):
        if part not in ("all", row.get("part", "test")):
            continue
        key = identifier(row)
        level = row.get("level")
        if isinstance(level, bool) or not isinstance(level, int) or level not in Level._value2member_map_:
            raise UserError(f"{path}: row {key!r} has no level of 0 to 4", value=level)
        told = row.get("messages") or row.get("text")
        conversation = prompt_from_json(told)
        found.append(
            RiskMessage(
                key, str(row.get("scenario", key)), conversation, Level(level), str(row.get("style", "unknown"))
            )
        )
    if not found:
        raise UserError(f"{path}: no labelled messages", value=part)
    return found


def clustered_share(values: Sequence[bool], groups: Sequence[str]) -> Interval:
    """Return a share of messages with Wilson's interval at the effective number of messages.

    Args:
        values: Whether it holds, for each message; at least one.
        groups: Each message's scenario.
    """
    n, holding = len(values), sum(values)
    share = holding / n
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for value, group in zip(values, groups, strict=True):
        sums[group][0] += value
        sums[group][1] += 1
    effective = float(len(sums))
    if 0 < holding < n and len(sums) > 1:
        spread = sum((hits - share * size) ** 2 for hits, size in sums.values())
        design = spread * len(sums) / (len(sums) - 1) / (n * share * (1 - share))
        effective = n / max(1.0, design)
    return replace(wilson(share * effective, effective), estimate=share, n=n, groups=len(sums))


def risk_figures(messages: Sequence[RiskMessage], found: Sequence[Level]) -> RiskFigures:
    """Return what a screen is worth on labelled messages.

    Args:
        messages: The messages.
        found: The level that the screen gave each of them.
    """
    pairs = list(zip(messages, found, strict=True))
    calm = [pair for pair in pairs if pair[0].level is Level.NONE]
    risky = [pair for pair in pairs if pair[0].level is not Level.NONE]
    highest = [pair for pair in risky if pair[0].level >= HIGHEST]

    def share(among: Iterable[tuple[RiskMessage, Level]], holds: Callable[..., bool]) -> Interval | None:
        rows = list(among)
        values = [holds(message, level) for message, level in rows]
        return clustered_share(values, [message.scenario for message, _ in rows]) if rows else None

    def high(_: RiskMessage, level: Level) -> bool:
        return level >= HIGHEST

    def any_level(_: RiskMessage, level: Level) -> bool:
        return level > Level.NONE

    def at_least(message: RiskMessage, level: Level) -> bool:
        return level >= message.level

    def of_style(rows: Sequence[tuple[RiskMessage, Level]], style: str) -> list[tuple[RiskMessage, Level]]:
        return [pair for pair in rows if style in ("all", pair[0].style)]

    levels = sorted({message.level for message, _ in risky})
    styles = sorted({message.style for message, _ in highest})
    calm_styles = ["all", *(style for style in CALM if of_style(calm, style))]
    confusion = {
        str(int(label)): {str(int(level)): sum(m.level is label and f is level for m, f in pairs) for level in Level}
        for label in Level
    }
    return RiskFigures(
        messages=len(pairs),
        scenarios=len({message.scenario for message, _ in pairs}),
        recall_highest=share(highest, high),
        noticed_highest=share(highest, any_level),
        noticed=share(risky, any_level),
        recall_by_level={
            str(int(level)): share([p for p in risky if p[0].level is level], at_least) for level in levels
        },
        recall_by_style={style: share(of_style(highest, style), high) for style in styles},
        false_alarms={style: share(of_style(calm, style), any_level) for style in calm_styles},
        high_false_alarms={style: share(of_style(calm, style), high) for style in calm_styles},
        exact=share(pairs, lambda message, level: bool(message.level is level)),
        confusion=confusion,
    )
