"""Labelled pairs from a file to a reward model's figures, beside "longer wins", which needs no model.

Rows are those of the pairs stage (`prompt`, `chosen`, `rejected`, `gap`, ratings, ...) or human pairs (`better`,
`worse`); see docs/formats.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strop.errors import UserError
from strop.evaluation.rewards import RewardQuality, ScoredPair, reward_quality
from strop.evaluation.statistics import SHARE, Interval, cluster_bootstrap, items_needed, paired_cluster_difference
from strop.models.rewards import Item, RewardModel
from strop.records.rows import Identifier, Prompt, Row, identifier, prompt_from_json, prompt_to_json
from strop.records.tables import atomic_path, iter_table
from strop.runs.seeds import derive_seed

SIDES = (("chosen", "rejected"), ("better", "worse"))
GAPS = ((7, "1 to 6"), (14, "7 to 13"), (21, "14 to 20"))
"""Buckets of the difference of the sums of seven ratings: below the first number the name, and so on."""
LAST_GAP = "21 and more"
SLICES = ("source", "topic", "kind", "split")
"""Fields of a row whose values make slices."""
LENGTH_MATCHED = 0.2
"""Two responses are length-matched when their word counts differ by at most this share of the longer one."""


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two responses to a prompt, and which one is to be preferred.

    Attributes:
        id: Of the row, or its number.
        prompt: What the client said.
        chosen: The response that the label prefers.
        rejected: The other one.
        group: What is resampled as a whole.
        slices: By kind the slice that the pair belongs to.
        leanings: By principle 1 where it rates the chosen response higher, -1 where lower; ties are left out.
    """

    id: Identifier
    prompt: Prompt
    chosen: str
    rejected: str
    group: str
    slices: Mapping[str, str]
    leanings: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RewardReport:
    """What a reward model is worth on a file of pairs.

    Attributes:
        reward: The model's name.
        revision: What identifies it.
        quality: Its figures.
        longer: Accuracy of "longer wins" on the same pairs.
        over_longer: The model's accuracy minus that, paired.
        needed: About how many pairs would tell the two apart, were the difference as measured; None without one.
    """

    reward: str
    revision: str
    quality: RewardQuality
    longer: Interval
    over_longer: Interval
    needed: int | None

    def to_row(self) -> dict[str, Any]:
        """Return the report as JSON, its plain words with it."""
        return {**asdict(self), "quality": self.quality.to_row(), "findings": list(self.findings())}

    def findings(self) -> Iterator[str]:
        """Say in plain words what the figures show."""
        yield self.quality.finding()
        low, middle, high = (
            100 * end for end in (self.over_longer.low, self.over_longer.estimate, self.over_longer.high)
        )
        said = f"{middle:+.1f} points ({low:+.1f} to {high:+.1f}) against 'longer wins' at {self.longer.estimate:.1%}"
        if self.over_longer.excludes(0):
            yield f"{said}: {'better' if middle > 0 else 'worse'}, beyond chance"
        else:
            needed = f"; a difference as measured needs about {self.needed:,} pairs" if self.needed else ""
            yield f"{said}: not distinguishable at this n{needed}"


def read_labelled(
    path: Path, *, fields: Mapping[str, str] | None = None, split: str | None = None
) -> list[LabelledPair]:
    """Read labelled pairs.

    Args:
        path: The table.
        fields: Renames, wanted name to the file's name.
        split: Only the rows whose ``split`` is this; None takes all.

    Raises:
        UserError: A field is missing or mistyped, an id occurs twice, or no row is left.
    """
    pairs: list[LabelledPair] = []
    seen: set[Identifier] = set()
    for number, row in enumerate(iter_table(path, fields=fields), 1):
        if split is not None and row.get("split") != split:
            continue
        pair = _labelled(row, number, f"{path}, row {number}")
        if pair.id in seen:
            raise UserError(f"{path}: an id occurs more than once", value=pair.id, fix="give every pair its own id")
        seen.add(pair.id)
        pairs.append(pair)
    if not pairs:
        raise UserError(f"{path}: no pairs" + (f" of split {split!r}" if split else ""))
    return pairs


def _labelled(row: Row, number: int, where: str) -> LabelledPair:
    sides = next((names for names in SIDES if all(isinstance(row.get(name), str) for name in names)), None)
    if sides is None or "prompt" not in row:
        raise UserError(
            f"{where}: a pair needs 'prompt' with 'chosen' and 'rejected', or with 'better' and 'worse'",
            value=sorted(map(str, row)),
            fix="map the file's fields with --fields chosen=YOURS",
        )
    prompt = prompt_from_json(row["prompt"])
    chosen, rejected = row[sides[0]], row[sides[1]]
    given = row.get("group") if row.get("group") is not None else row.get("ID")
    slices = {name: str(row[name]) for name in SLICES if row.get(name) not in (None, "")}
    gap = row.get("gap")
    if isinstance(gap, (int, float)) and not isinstance(gap, bool):
        slices["gap"] = gap_bucket(gap)
    slices["length"] = length_bucket(chosen, rejected)
    return LabelledPair(
        id=identifier(row) if row.get("id") is not None else number,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        group=str(prompt_to_json(prompt)) if given is None else str(given),
        slices=slices,
        leanings=_leanings(row, where),
    )


def _leanings(row: Row, where: str) -> dict[str, int]:
    ratings = row.get("chosen_ratings"), row.get("rejected_ratings")
    if ratings == (None, None):
        return {}
    if not all(isinstance(of, Mapping) for of in ratings):
        raise UserError(f"{where}: ratings must be given for both responses, by principle", value=ratings)
    higher, lower = ratings
    assert higher is not None
    assert lower is not None
    known = [key for key in higher if higher[key] is not None and lower.get(key) is not None]
    return {key: 1 if higher[key] > lower[key] else -1 for key in known if higher[key] != lower[key]}


def gap_bucket(gap: float) -> str:
    """Return the bucket of a difference of rating sums."""
    return next((name for below, name in GAPS if gap < below), LAST_GAP)


def length_bucket(chosen: str, rejected: str) -> str:
    """Return ``matched``, or whether the preferred response is the ``longer`` or the ``shorter`` one."""
    first, second = len(chosen.split()), len(rejected.split())
    if abs(first - second) <= LENGTH_MATCHED * max(first, second):
        return "matched"
    return "longer one preferred" if first > second else "shorter one preferred"


def examine_pairs(
    pairs: Sequence[LabelledPair],
    reward: RewardModel,
    *,
    seed: int,
    advance: Callable[[int], None] | None = None,
) -> RewardReport:
    """Score labelled pairs and return what the reward model is worth on them.

    Args:
        pairs: At least one.
        reward: An open reward model.
        seed: Of orientations and intervals.
        advance: Told the number of further responses scored, of two a pair.

    Raises:
        UserError: A response is longer than the model's window, or a reward is no number.
    """
    items: list[Item] = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    rewards = reward.score(items, advance=advance)
    return report_on(pairs, rewards[::2], rewards[1::2], name=reward.name, revision=reward.revision, seed=seed)


def report_on(
    pairs: Sequence[LabelledPair],
    chosen: Sequence[float],
    rejected: Sequence[float],
    *,
    name: str,
    revision: str,
    seed: int,
) -> RewardReport:
    """Return the report on pairs whose responses have been scored; see `examine_pairs`.

    Args:
        pairs: At least one.
        chosen: Reward of each preferred response.
        rejected: Reward of each other response.
        name: The reward model's.
        revision: The reward model's.
        seed: Of orientations and intervals.
    """
    scored = [
        ScoredPair(pair.id, first, second, pair.group, pair.slices)
        for pair, first, second in zip(pairs, chosen, rejected, strict=True)
    ]
    principles = dict.fromkeys(key for pair in pairs for key in pair.leanings)
    turned = {
        key: [
            _turned(each, pair.leanings[key]) for pair, each in zip(pairs, scored, strict=True) if key in pair.leanings
        ]
        for key in principles
    }
    quality = reward_quality(scored, principles=turned, seed=seed)
    groups = [pair.group for pair in pairs]
    right = (np.sign([pair.margin for pair in scored]) + 1) / 2
    lengths = [len(pair.chosen.split()) - len(pair.rejected.split()) for pair in pairs]
    longer = (np.sign(lengths) + 1) / 2
    over = paired_cluster_difference(right, longer, groups, _generator(seed, "over longer"))
    alone = cluster_bootstrap(longer, groups, _generator(seed, "longer"), bounds=SHARE)
    return RewardReport(name, revision, quality, alone, over, items_needed(over, 0.0))


def write_report(report: RewardReport, path: Path) -> None:
    """Write a report as JSON, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(report.to_row(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def refuse_equal_scores(report: RewardReport) -> None:
    """Raise a `UserError` where the model gives both responses of every pair the same reward.

    Raises:
        UserError: It does.
    """
    if report.quality.verdict == "equal scores":
        raise UserError(
            "the reward model gives equal scores",
            value=report.reward,
            why="both responses of every pair have the same reward: whatever is ranked by it is ranked by nothing",
            fix="train longer or with a higher learning rate; look at the findings of its training",
        )


def _turned(pair: ScoredPair, leaning: int) -> ScoredPair:
    """Return the pair as a principle sees it: the side that it rates higher is the chosen one."""
    first, second = (pair.chosen, pair.rejected) if leaning > 0 else (pair.rejected, pair.chosen)
    return ScoredPair(pair.id, first, second, pair.group, {})


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "reward report", name))
