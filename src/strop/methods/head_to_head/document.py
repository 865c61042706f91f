"""The report of a head-to-head comparison: who wins how often, how sure that is, and what the judge is worth."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from strop.judging.anchors import anchor_history, drift
from strop.judging.contest.duels import Side
from strop.judging.contest.telling import (
    RESULTS,
    judge_table,
    win_rate_figures,
    win_rate_numbers,
    win_rate_verdicts,
    win_rate_warnings,
)
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.methods.head_to_head.preflight import Cleared
from strop.records.document import Answer, Document, Fact, Sample, SampleGroup, Table
from strop.runs import Artifact, Run

Row = Mapping[str, Any]
SHOWN_SAMPLES = 3


def document(
    config: HeadToHeadConfig, run: Run, cleared: Cleared, *, results: Artifact, comparisons: Artifact
) -> Document:
    """Return the report of a finished comparison."""
    told: Row = json.loads(results.path(RESULTS).read_text(encoding="utf-8"))
    labels = (config.first.label, config.second.label)
    return Document(
        title=f"{config.first.label} against {config.second.label}",
        method="Head to head",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        verdicts=tuple(win_rate_verdicts(told, *labels)),
        numbers=tuple(win_rate_numbers(told, results.name)),
        figures=tuple(win_rate_figures(told)),
        tables=tuple(_tables(config, told)),
        samples=tuple(_samples(config, run, comparisons)),
        warnings=(*cleared.warnings, *win_rate_warnings(told)),
        provenance=tuple(_provenance(config, run, cleared, told)),
    )


def _tables(config: HeadToHeadConfig, told: Row) -> Iterator[Table]:
    counts = told["counts"]
    answered: dict[Side, str] = {"first": config.first.label, "second": config.second.label}
    both = f"{counts['compared']} prompts in {counts['groups']} groups were answered by both, and compared twice each."
    yield Table(
        "What was compared",
        ("contestant", "prompts", "without an answer", "cut by max_tokens"),
        tuple(
            (label, counts["prompts"], counts["unanswered"][side], counts["cut"][side])
            for side, label in answered.items()
        ),
        (both,),
    )
    yield judge_table(told["summary"])


def _samples(config: HeadToHeadConfig, run: Run, comparisons: Artifact) -> Iterator[SampleGroup]:
    prompts = {row["id"]: row["prompt"] for row in run.artifacts["prompts"].rows()}
    texts = {
        side: {row["id"]: row["response"] for row in run.artifacts[f"{side}-answers"].rows()}
        for side in ("first", "second")
    }
    titles = {"first": f"{config.first.label} preferred", "second": f"{config.second.label} preferred", "tie": "Ties"}
    rows = comparisons.rows()
    for verdict, title in titles.items():
        shown = [row for row in rows if row["verdict"] == verdict][:SHOWN_SAMPLES]
        if shown:
            samples = tuple(
                Sample(
                    _plain(prompts[row["id"]]),
                    (
                        Answer(config.first.label, texts["first"][row["id"]]),
                        Answer(config.second.label, texts["second"][row["id"]]),
                    ),
                    "dropped" if verdict == "tie" else "kept",
                    "the orders disagree" if verdict == "tie" and row["forward"] != row["backward"] else "",
                    str(row["id"]),
                )
                for row in shown
            )
            yield SampleGroup(title, "The first of the file, not chosen.", samples)


def _plain(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def _provenance(config: HeadToHeadConfig, run: Run, cleared: Cleared, told: Row) -> Iterator[Fact]:
    yield Fact("judge", told["judge"]["name"])
    yield Fact("judge revision", told["judge"]["revision"])
    yield Fact("judge's standing", cleared.standing.text)
    yield Fact("rubric", config.judge.rubric)
    yield Fact("seed", str(config.seed))
    if config.judge.anchors:
        history = anchor_history(run.store.path.parent, told["judge"]["name"])
        comparable = [result for result in history if result.anchors_hash == history[-1].anchors_hash]
        first_time = "anchors: judged for the first time in this workspace"
        yield Fact("drift", str(drift(comparable[-1], comparable[-2])) if len(comparable) > 1 else first_time)
