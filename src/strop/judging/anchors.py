"""Anchors: a small fixed set of pairs that is judged again in every run, so that a judge that changed is noticed.

A hosted model can change behind its name. The verdicts on anchors are kept in the workspace, one file a judge; each run
adds its own and prints how many changed since the last.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from strop.errors import UserError, nearest
from strop.evaluation.statistics import Interval, wilson
from strop.judging.judge import Duel, PairJudge
from strop.judging.llm import LlmJudge
from strop.judging.panel import Panel
from strop.judging.parsing import Verdict
from strop.records.tables import atomic_path
from strop.runs.configuration import Config, validate
from strop.runs.manifest import now
from strop.runs.seeds import stream
from strop.runs.store import CallStore
from strop.runs.yaml_files import read_yaml

ANCHORS = Path(__file__).resolve().parent.parent / "data" / "anchors"
DEFAULT_ANCHORS = "counselling-v1"
FOLDER = "anchors"
KEPT = 100
"""Results that a judge's file keeps, the latest ones."""


class AnchorPair(Config):
    """Two replies to one message, of clearly different quality or nearly tied."""

    id: str
    kind: Literal["clear", "near_tie"]
    prompt: str
    better: str
    worse: str


class AnchorSet(Config):
    """The anchors of one file."""

    name: str
    pairs: tuple[AnchorPair, ...]

    @property
    def hash(self) -> str:
        """Hash of the set's content."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    def duels(self) -> list[Duel]:
        """Return the pairs as duels; which side comes first is drawn once and for all from the pair's id."""
        return [
            duel if _better_first(pair) else duel.swapped()
            for pair in self.pairs
            for duel in [Duel(pair.id, pair.prompt, pair.better, pair.worse)]
        ]


@dataclass(frozen=True, slots=True)
class AnchorResult:
    """One judge's verdicts on a set of anchors.

    Attributes:
        judge: The judge's name.
        revision: What identifies the judge.
        anchors: Name of the set.
        anchors_hash: Hash of the set.
        verdicts: By pair: ``better``, ``worse``, ``tie``, or None where the judge failed.
        flipped: Pairs on which the two orders disagreed.
        made: When, as an ISO date and time.
    """

    judge: str
    revision: str
    anchors: str
    anchors_hash: str
    verdicts: Mapping[str, str | None]
    flipped: tuple[str, ...]
    made: str


@dataclass(frozen=True, slots=True)
class Drift:
    """How two results on the same anchors differ.

    Attributes:
        changed: Pairs whose verdict changed, failures that came or went among them.
        n: Pairs of the set.
        share: Share of changed pairs with its interval.
        same_revision: Whether both come from the same revision of the judge.
    """

    changed: tuple[str, ...]
    n: int
    share: Interval
    same_revision: bool

    def __str__(self) -> str:
        """Say it in one line, for a report or a terminal."""
        line = f"anchors: {len(self.changed)} of {self.n} verdicts changed since the last run"
        line += f" ({self.share.estimate:.0%}, 95 % interval {self.share.low:.0%} to {self.share.high:.0%})"
        if self.changed and self.same_revision:
            line += "; the judge's revision is the same: the model behind its name may have changed"
        elif not self.same_revision:
            line += "; the judge's revision changed: figures from before cannot be compared with these"
        return line


def load_anchors(anchors: str | Path = DEFAULT_ANCHORS) -> AnchorSet:
    """Read a set of anchors: the name of a shipped one, or a YAML file.

    Raises:
        UserError: There is no such set, it has problems, or its ids repeat.
    """
    shipped = {path.stem: path for path in ANCHORS.glob("*.yaml")}
    path = shipped.get(str(anchors), Path(anchors))
    if not path.is_file():
        close = nearest(str(anchors), list(shipped))
        hint = f"did you mean {close!r}?" if close else None
        raise UserError("there is no such set of anchors", value=str(anchors), fix=hint, alternatives=sorted(shipped))
    found = validate(AnchorSet, read_yaml(path), where=str(path))
    assert isinstance(found, AnchorSet)
    ids = [pair.id for pair in found.pairs]
    if not ids or len(set(ids)) < len(ids):
        raise UserError(f"{path}: a set of anchors needs pairs with ids of their own", value=ids)
    return found


def judge_anchors(judge: PairJudge, *, calls: Path, anchors: AnchorSet | None = None) -> AnchorResult:
    """Return a judge's verdicts on the anchors.

    Args:
        judge: The judge.
        calls: Call store of these judgements alone, a new file in every run: the workspace's store would answer from
            last time, and a model that changed behind its name would go unnoticed. A continued run gives its own again.
        anchors: The set; the shipped one by default.
    """
    anchors = anchors or load_anchors()
    with CallStore(calls) as store:
        comparisons = _storing_in(store, judge).compare(anchors.duels())
    verdicts = {
        pair.id: _named(pair, comparison.verdict) for pair, comparison in zip(anchors.pairs, comparisons, strict=True)
    }
    return AnchorResult(
        judge=judge.name,
        revision=judge.revision,
        anchors=anchors.name,
        anchors_hash=anchors.hash,
        verdicts=verdicts,
        flipped=tuple(str(comparison.id) for comparison in comparisons if comparison.flipped),
        made=now(),
    )


def _storing_in(store: CallStore, judge: PairJudge) -> PairJudge:
    """Return the same judge with its replies kept in `store`; failures are verdicts here and stop nothing."""
    if isinstance(judge, LlmJudge):
        return replace(judge, store=store, asking=replace(judge.asking, ceiling=1.0), advance=None)
    if isinstance(judge, Panel):
        return Panel(tuple(_storing_in(store, member) for member in judge.judges))
    return judge


def drift(after: AnchorResult, before: AnchorResult) -> Drift:
    """Return how the verdicts changed.

    Raises:
        UserError: The two were made on different anchors.
    """
    if after.anchors_hash != before.anchors_hash:
        raise UserError(
            "results on different anchors cannot be compared",
            value=f"{after.anchors} and {before.anchors}",
            why="the set or one of its texts changed",
            fix="judge one set twice",
        )
    changed = tuple(pair for pair, verdict in after.verdicts.items() if before.verdicts.get(pair) != verdict)
    n = len(after.verdicts)
    return Drift(changed, n, wilson(len(changed), n), after.revision == before.revision)


def anchor_history(workspace: Path, judge: str) -> list[AnchorResult]:
    """Return the results that a workspace keeps of the judge with this name, the oldest first.

    Raises:
        UserError: The file is damaged.
    """
    path = _history_path(workspace, judge)
    if not path.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [AnchorResult(**{**row, "flipped": tuple(row["flipped"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            "the anchors' earlier results cannot be read",
            value=str(path),
            why=str(error),
            fix="move the file away: the next run starts a new one",
        ) from None


def record_anchors(workspace: Path, result: AnchorResult) -> Drift | None:
    """Keep a result and return the drift since the last one on the same anchors; None where this is the first."""
    history = anchor_history(workspace, result.judge)
    before = [earlier for earlier in history if earlier.anchors_hash == result.anchors_hash]
    path = _history_path(workspace, result.judge)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(each) for each in [*history, result][-KEPT:]]
    with atomic_path(path) as part:
        part.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return drift(result, before[-1]) if before else None


def _history_path(workspace: Path, judge: str) -> Path:
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", judge).strip("-.")[:60]
    return workspace / FOLDER / f"{readable}-{hashlib.sha256(judge.encode()).hexdigest()[:8]}.json"


def _better_first(pair: AnchorPair) -> bool:
    return stream(0, "anchors", pair.id).random() < 0.5


def _named(pair: AnchorPair, verdict: Verdict | None) -> str | None:
    if verdict is None or verdict == "tie":
        return verdict
    return "better" if (verdict == "first") == _better_first(pair) else "worse"
