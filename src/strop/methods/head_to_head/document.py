"""The report of a head-to-head comparison: who wins how often, how sure that is, and what the judge is worth."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from strop.judging.anchors import anchor_history, drift
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.methods.head_to_head.preflight import Cleared
from strop.methods.head_to_head.stages import Side
from strop.records.document import (
    Answer,
    Bar,
    Bars,
    Document,
    Estimate,
    Fact,
    Figure,
    Number,
    Reference,
    Sample,
    SampleGroup,
    Table,
    Verdict,
)
from strop.runs import Artifact, Run

Row = Mapping[str, Any]
RESULTS = "results.json"
SHOWN_SAMPLES = 3
COIN = Reference("no difference", 0.5)


def document(
    config: HeadToHeadConfig, run: Run, cleared: Cleared, *, results: Artifact, comparisons: Artifact
) -> Document:
    """Return the report of a finished comparison."""
    told: Row = json.loads(results.path(RESULTS).read_text(encoding="utf-8"))
    return Document(
        title=f"{config.first.label} against {config.second.label}",
        method="Head to head",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        verdicts=tuple(_verdicts(config, told)),
        numbers=tuple(_numbers(told, results.name)),
        figures=tuple(_figures(told)),
        tables=tuple(_tables(config, told)),
        samples=tuple(_samples(config, run, comparisons)),
        warnings=(*cleared.warnings, *_warnings(told)),
        provenance=tuple(_provenance(config, run, cleared, told)),
    )


def _estimate(row: Row | None) -> Estimate:
    if row is None or "estimate" not in row:
        return Estimate(None)
    return Estimate(row["estimate"], row["low"], row["high"], row["n"])


def _number(name: str, row: Row | None, artifact: str, label: str, *, headline: bool = False) -> Number:
    told = _estimate(row)
    note = row["reason"] if row is not None and "reason" in row else ""
    return Number(
        name, told.value, artifact, RESULTS, told.low, told.high, told.n, label=label, note=note, headline=headline
    )


def _numbers(told: Row, artifact: str) -> Iterator[Number]:
    rate: Row = told["win_rate"] or {"raw": None, "length_controlled": None}
    yield _number("win_rate.raw", rate["raw"], artifact, "win rate of the first, ties half", headline=True)
    label = "win rate at equal length"
    yield _number("win_rate.length_controlled", rate["length_controlled"], artifact, label, headline=True)
    summary: Row = told["summary"]
    yield _number("judge.flips", summary["flips"], artifact, "verdicts that change with the order", headline=True)
    yield _number("judge.failures", summary["failures"], artifact, "replies without a verdict")
    yield _number("judge.shown_first", summary["shown_first"], artifact, "verdicts for the side shown first")
    for criterion in told["criteria"]:
        yield _number(f"win_rate.{criterion['key']}", criterion["win_rate"], artifact, f"by {criterion['key']}")


def _verdicts(config: HeadToHeadConfig, told: Row) -> Iterator[Verdict]:
    first, second = config.first.label, config.second.label
    if told["win_rate"] is None:
        yield Verdict("The judge gave no verdict at all: nothing can be said.", "bad")
        return
    raw, controlled = told["win_rate"]["raw"], told["win_rate"]["length_controlled"]
    yield Verdict(*_compared(first, second, raw, "", told["needed"]))
    if "reason" in controlled:
        yield Verdict(f"No rate at equal length: {controlled['reason']}.", "plain")
    else:
        yield Verdict(*_compared(first, second, controlled, "At equal length, ", None))
    sign = told["sign"]
    counted = f"{sign['wins']} wins, {sign['losses']} losses and {sign['ties']} ties"
    yield Verdict(f"{counted}; exact sign test p = {sign['p_value']:.3g}.")


def _compared(first: str, second: str, rate: Row, lead: str, needed: int | None) -> tuple[str, Any]:
    share = f"{rate['estimate']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}, n={rate['n']})"
    if rate["low"] > 0.5:
        return f"{lead}{first} is preferred to {second}: {share}.", "good"
    if rate["high"] < 0.5:
        return f"{lead}{second} is preferred to {first}: {first} wins {share}.", "bad"
    more = f" About {needed:,} comparisons would tell, were this the true rate." if needed else ""
    return f"{lead}{first} and {second} are not distinguishable: {first} wins {share}.{more}", "unclear"


def _figures(told: Row) -> Iterator[Figure]:
    if told["win_rate"] is None:
        return
    rate = told["win_rate"]
    bars = [Bar("all criteria", _estimate(rate["raw"]), emphasis=True)]
    if "estimate" in rate["length_controlled"]:
        bars.append(Bar("at equal length", _estimate(rate["length_controlled"])))
    bars += [Bar(one["key"], _estimate(one["win_rate"])) for one in told["criteria"] if one["win_rate"]]
    yield Bars(
        "How often the first is preferred",
        "Ties count half; intervals resample groups of prompts.",
        "win rate of the first",
        tuple(bars),
        (COIN,),
    )


def _tables(config: HeadToHeadConfig, told: Row) -> Iterator[Table]:
    counts, summary = told["counts"], told["summary"]
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
    yield Table(
        "The judge",
        ("figure", "value"),
        (
            ("verdicts that change with the order (ties)", _estimate(summary["flips"])),
            ("verdicts for the side shown first", _estimate(summary["shown_first"])),
            ("replies without a verdict", _estimate(summary["failures"])),
            ("comparisons without a verdict", summary["failed"]),
        ),
        ("A comparison without a verdict counts for nobody: it is missing, not a tie.",),
    )


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


def _warnings(told: Row) -> Iterator[str]:
    if told["win_rate"] is not None and told["win_rate"]["one_sided"]:
        yield "One contestant's answers are never the shorter ones: the rate at equal length is an extrapolation."
    failed = told["summary"]["failed"]
    if failed:
        yield f"{failed} comparisons have no verdict; were all of them losses or wins, the rate would move accordingly."


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
