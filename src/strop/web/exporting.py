"""Marks as human pairs: what ``strop judge fit`` and ``strop judge qualify`` read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop.judging.pairs import HumanPair
from strop.records.rows import prompt_to_json
from strop.web.blinding import Response, pair_key, texts_of
from strop.web.collecting import Collected, MarkedPair, majority
from strop.web.marks import Mark, Verdict


@dataclass(frozen=True, slots=True)
class Exported:
    """Human pairs made of marks.

    Attributes:
        rows: The pairs, in the order of their file.
        left_out: Pairs, or marks where each annotator has rows of their own, that make no row, counted by reason.
    """

    rows: tuple[dict[str, Any], ...]
    left_out: Mapping[str, int]


def export_majority(collected: Collected, pairs: Sequence[HumanPair]) -> Exported:
    """Return a human pair for each pair on which more annotators prefer one response than the other.

    Args:
        collected: The marks, side by side.
        pairs: The pairs that they belong to.
    """
    marked = {pair.key: pair for pair in collected.pairs}
    rows, left_out = [], Counter[str]()
    for pair in pairs:
        found = marked[pair_key(pair.id)]
        winner = majority(found.marks)
        if winner is None:
            left_out[_why_none(found)] += 1
            continue
        votes = Counter(mark.verdict for mark in found.marks.values() if mark.verdict is not None)
        sides = votes["first"] + votes["second"]
        rows.append(
            {
                "id": pair.id,
                **_sides(pair, winner),
                "group": pair.group,
                "source": "annotators",
                "label_strength": f"{votes[winner]} of {sides}",
                "votes": {
                    "better": votes[winner],
                    "worse": sides - votes[winner],
                    "tie": votes["tie"],
                    "cannot": votes["cannot"],
                },
                # Lists, as Parquet knows no empty mapping.
                "notes": [
                    {"annotator": name, "text": mark.note} for name, mark in found.marks.items() if mark.note.strip()
                ],
            }
        )
    return Exported(tuple(rows), dict(left_out))


def export_each(collected: Collected, pairs: Sequence[HumanPair]) -> Exported:
    """Return a human pair for each verdict of each annotator; its id is the pair's and the annotator's.

    Args:
        collected: The marks, side by side.
        pairs: The pairs that they belong to.
    """
    marked = {pair.key: pair for pair in collected.pairs}
    rows, left_out = [], Counter[str]()
    for pair in pairs:
        for name, mark in marked[pair_key(pair.id)].marks.items():
            if mark.verdict in ("first", "second"):
                rows.append(_row_of(pair, name, mark, mark.verdict))
            elif mark.verdict is not None:
                left_out["equally good" if mark.verdict == "tie" else "cannot judge"] += 1
    return Exported(tuple(rows), dict(left_out))


def _why_none(pair: MarkedPair) -> str:
    verdicts = {mark.verdict for mark in pair.marks.values()} - {None}
    if not verdicts:
        return "no verdict"
    return "no majority" if verdicts & {"first", "second"} else "equally good or cannot judge"


def _row_of(pair: HumanPair, name: str, mark: Mark, winner: Response) -> dict[str, Any]:
    return {
        "id": json.dumps([pair.id, name]),
        **_sides(pair, winner),
        "group": pair.group,
        "source": name,
        "principles": [
            {"key": key, "verdict": _seen_from(winner, verdict)} for key, verdict in mark.principles.items()
        ],
        "note": mark.note,
        "seconds": mark.seconds,
        "shown_left": "better" if mark.shown_left == winner else "worse",
        "at": mark.at,
    }


def _seen_from(winner: Response, verdict: Verdict) -> str:
    return "tie" if verdict == "tie" else ("better" if verdict == winner else "worse")


def _sides(pair: HumanPair, winner: Response) -> dict[str, Any]:
    first, second = texts_of(pair)
    better, worse = (first, second) if winner == "first" else (second, first)
    origins = {pair.better: pair.better_origin, pair.worse: pair.worse_origin}
    return {
        "prompt": prompt_to_json(pair.prompt),
        "better": better,
        "worse": worse,
        "better_origin": origins[better],
        "worse_origin": origins[worse],
        "risk_language": pair.risk_language,
        "length_matched": pair.length_matched,
    }
