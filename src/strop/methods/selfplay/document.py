"""The report of a self-play run: what its artifacts say, for people.

Every number names the artifact that it was computed from, so that `strop trace` can follow it back to the calls.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from strop.methods.selfplay.benchmarking import benchmark_numbers, benchmark_tables, benchmark_verdicts
from strop.methods.selfplay.config import SelfplayConfig
from strop.methods.selfplay.evidence import BASE, Evidence
from strop.methods.selfplay.looking import CHOSEN, MONITORS, WATCH
from strop.methods.selfplay.preflight import Cleared
from strop.methods.selfplay.session_record import SessionRecord
from strop.methods.selfplay.stages import COUNTS, EXAMPLES, PREFERENCES, records_in
from strop.records.document import (
    Answer,
    Cell,
    Curve,
    Document,
    Estimate,
    Fact,
    Line,
    Number,
    Product,
    Sample,
    SampleGroup,
    Table,
    Unit,
    Verdict,
)
from strop.runs import Artifact, Run

Row = Mapping[str, Any]
Tone = Literal["plain", "good", "bad", "unclear"]
INTENDED_USE = (
    "Synthetic patients and drafts for people who are trained: to practise on, to test pipelines with, to study how "
    "a model changes when it learns from itself.",
    "No therapy, no diagnosis of anybody: illnesses, treatments and medicines were written by a model about invented "
    "patients, and nobody has checked them.",
)
SHOWN_SESSIONS = 3
CURVES: Mapping[str, tuple[str, Unit]] = {
    "similarity": ("similarity of the last decoding to the card", "ratio"),
    "converged": ("share of sessions in which every field passes", "share"),
    "discarded_share": ("share of turns that broke their role", "share"),
    "illness_entropy": ("entropy of the named illnesses, bits", "ratio"),
    "distinct_2_patient": ("share of different word pairs, patients", "share"),
    "distinct_2_therapist": ("share of different word pairs, therapists", "share"),
    "best_treatment": ("mean best score of a treatment, 1 to 10", "ratio"),
}
"""The monitors of a round that are drawn over the rounds."""


def document(config: SelfplayConfig, run: Run, cleared: Cleared, evidence: Evidence) -> Document:
    """Return the report of a finished run."""
    return Document(
        title=f"{config.model.model} plays patient and therapist",
        method="Self-play",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        verdicts=tuple(_verdicts(evidence)),
        numbers=tuple(_numbers(evidence)),
        figures=tuple(_curves(evidence)),
        tables=tuple(_tables(evidence)),
        samples=tuple(_samples(evidence)),
        warnings=(*cleared.warnings, *_warnings(evidence)),
        provenance=tuple(_provenance(config, cleared, evidence)),
        products=tuple(_products(config, evidence)),
        intended_use=INTENDED_USE,
    )


def _estimate(row: Row | None, unit: Unit = "share") -> Estimate:
    if row is None or row.get("estimate") is None:
        return Estimate(None, unit=unit)
    return Estimate(row["estimate"], row["low"], row["high"], row["n"], unit)


def _verdicts(evidence: Evidence) -> Iterator[Verdict]:
    yield _roles_verdict(evidence)
    for one in evidence.iterations:
        if not one.examples.json(COUNTS)["counts"]["pairs"]:
            yield Verdict(
                f"No session of iteration {one.number} taught anything: every one failed, or the filter removed what "
                "came of it. Self-play ends there; take a stronger model.",
                "bad",
            )
    if evidence.choice is not None:
        yield _choice_verdict(evidence.choice)
    yield from benchmark_verdicts(evidence.compared)


def _roles_verdict(evidence: Evidence) -> Verdict:
    rounds = [one.looked.json(MONITORS)["sessions"] for one in evidence.iterations]
    sessions = sum(one["sessions"] for one in rounds)
    failed = sum(one["failed"] for one in rounds)
    said, discarded = (sum(one[name] for one in rounds) for name in ("said", "discarded"))
    reasons: Counter[str] = Counter()
    for one in rounds:
        reasons.update(one["reasons"])
    common = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in reasons.most_common(3))
    text = f"{sessions} sessions, {failed} of them failed; {said:,} turns were said, {discarded:,} discarded"
    share = discarded / (discarded + said) if said + discarded else 0.0
    tone: Tone = "good" if share < 0.1 and not failed else "unclear" if share < 1 / 3 else "bad"
    return Verdict(f"{text}{f' ({common})' if common else ''}.", tone)


def _choice_verdict(choice: Artifact) -> Verdict:
    found = choice.json(CHOSEN)
    chosen, means = found["chosen"], found["means"]
    if chosen == BASE:
        return Verdict(
            f"No iteration understands development patients better than the base ({means[BASE]:.3f} mean similarity): "
            "the base is kept.",
            "bad",
        )
    gain = found["gains"][chosen]
    ends = f"{gain['estimate']:+.3f} ({_signed(gain['low'])} to {_signed(gain['high'])})"
    text = f"{_spoken(chosen)} understands {found['sessions']} development patients best: similarity {ends}"
    if gain["low"] is not None and gain["low"] > 0:
        return Verdict(f"{text} over the base.", "good")
    return Verdict(f"{text} over the base, not distinguishable.", "unclear")


def _signed(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:+.3f}"


def _spoken(name: str) -> str:
    return "The base" if name == BASE else f"Iteration {name.removeprefix('iteration')}"


def _numbers(evidence: Evidence) -> Iterator[Number]:
    for one in evidence.iterations:
        monitors = one.looked.json(MONITORS)
        for name, (label, unit) in CURVES.items():
            value = monitors["sessions"][name]
            yield Number(
                f"{one.name}.{name}",
                value,
                one.looked.name,
                MONITORS,
                n=monitors["sessions"]["sessions"],
                unit=unit,
                label=f"iteration {one.number}: {label}",
                note="" if value is not None else "nothing was there to measure",
            )
        for name in ("perplexity", "diversity_gain"):
            row = monitors[name]
            yield Number(
                f"{one.name}.{name}",
                None if row is None else row["estimate"],
                one.looked.name,
                MONITORS,
                low=None if row is None else row["low"],
                high=None if row is None else row["high"],
                n=None if row is None else row["n"],
                unit="ratio",
                label=f"iteration {one.number}: {name.replace('_', ' ')}",
                note="95 % interval, resampling cards" if row is not None else "there is nothing to compare with",
            )
    if evidence.choice is not None:
        for name, gain in evidence.choice.json(CHOSEN)["gains"].items():
            yield Number(
                f"{name}.understanding",
                gain["estimate"],
                evidence.choice.name,
                CHOSEN,
                low=gain["low"],
                high=gain["high"],
                n=gain["n"],
                unit="ratio",
                label=f"{_spoken(name)}: development similarity, more than the base",
                note="95 % interval, resampling cards",
                headline=True,
            )
    yield from benchmark_numbers(evidence.compared)


def _curves(evidence: Evidence) -> Iterator[Curve]:
    rounds = [one.looked.json(MONITORS)["sessions"] for one in evidence.iterations]
    points = tuple(f"iteration {one.number}" for one in evidence.iterations)
    for name, (label, unit) in CURVES.items():
        values = tuple(one[name] for one in rounds)
        if any(value is not None for value in values):
            yield Curve(
                title=f"{label[:1].upper()}{label[1:]}",
                caption="Sessions of the training patients, round by round.",
                points=points,
                value_label=label,
                lines=(Line(name.replace("_", " "), values),),
                mean=tuple(Estimate(value, unit=unit) for value in values),
            )
    for name in ("perplexity", "diversity_gain"):
        estimates = [_estimate(one.looked.json(MONITORS)[name], "ratio") for one in evidence.iterations]
        if any(one.value is not None for one in estimates):
            spoken = name.replace("_", " ")
            yield Curve(
                title=f"{spoken.capitalize()} of what is learned",
                caption="The paper's definitions (appendix D); intervals over cards.",
                points=points,
                value_label=spoken,
                lines=(Line(spoken, tuple(one.value for one in estimates)),),
                mean=tuple(estimates),
            )


def _tables(evidence: Evidence) -> Iterator[Table]:
    yield _sessions_table(evidence)
    yield _ledger_table(evidence)
    yield _learned_table(evidence)
    watched = [one for one in evidence.iterations if one.watched is not None]
    if watched:
        rows = tuple(
            (f"iteration {one.number}", each["measure"].replace("_", " "), _watched(each), each["limit"])
            for one in watched
            if one.watched is not None
            for each in one.watched.json(WATCH)["watched"]
        )
        note = "Beside the first iteration, on the same cards; a limit is broken where the interval shows a change too."
        yield Table("The collapse watch", ("round", "measure", "value", "limit"), rows, (note,))
    yield from benchmark_tables(evidence.compared)


def _watched(row: Row) -> Estimate:
    return Estimate(row["value"], row["low"], row["high"], row["n"], "ratio")


def _sessions_table(evidence: Evidence) -> Table:
    measures = ("sessions", "failed", "exchanges", "converged", "similarity", "named", "illnesses", "unread_scores")
    rounds = [one.looked.json(MONITORS)["sessions"] for one in evidence.iterations]
    rows: list[tuple[Cell, ...]] = [(name.replace("_", " "), *(one[name] for one in rounds)) for name in measures]
    return Table(
        "Sessions of the training patients",
        ("", *(f"iteration {one.number}" for one in evidence.iterations)),
        tuple(rows),
        ("`named`: diagnoses that are one illness; `unread scores`: plans without a score, which are never the best.",),
    )


def _ledger_table(evidence: Evidence) -> Table:
    rounds = [one.looked.json(MONITORS)["sessions"]["reasons"] for one in evidence.iterations]
    reasons = list(dict.fromkeys(reason for one in rounds for reason in one))
    rows = tuple((reason.replace("_", " "), *(one.get(reason, 0) for one in rounds)) for reason in reasons)
    return Table(
        "The integrity ledger: turns that were discarded, by fault",
        ("fault", *(f"iteration {one.number}" for one in evidence.iterations)),
        rows,
        ("Every discarded text is in the session records, with its turn and its speaker.",),
    )


def _learned_table(evidence: Evidence) -> Table:
    counts = [one.examples.json(COUNTS)["counts"] for one in evidence.iterations]
    names = list(dict.fromkeys(name for one in counts for name in one))
    rows = tuple((name, *(one.get(name, 0) for one in counts)) for name in names)
    columns = ("", *(f"iteration {one.number}" for one in evidence.iterations))
    return Table("What is learned, and what was left out", columns, rows)


def _samples(evidence: Evidence) -> Iterator[SampleGroup]:
    patients = {row["id"]: row for row in evidence.patients.rows()}
    for one in (*evidence.iterations[:1], *evidence.iterations[1:][-1:]):
        records = records_in(one.played)[:SHOWN_SESSIONS]
        samples = tuple(_transcript(record, patients[record.card]) for record in records)
        yield SampleGroup(
            f"Sessions of iteration {one.number}",
            "The first of them, not chosen, turn by turn.",
            samples,
        )


def _transcript(record: SessionRecord, patient: Row) -> Sample:
    turns = tuple(Answer(turn.speaker, turn.text) for turn in record.dialogue)
    outcome = {"illness": record.illness, "treatment": record.treatment, "medicine": record.medicine}
    ends = tuple(Answer(name, text) for name, text in outcome.items() if text)
    told_of = f"{patient['name']}, {patient['condition'] or 'no condition named'} ({', '.join(patient['styles'])})"
    reason = f"{record.status}; the dialogue ended: {record.stopped.replace('_', ' ')}"
    if record.failure is not None:
        reason += f"; {record.failure.kind}: {record.failure.message}"
    kept: Literal["kept", "dropped"] = "dropped" if record.status == "failed" else "kept"
    return Sample(told_of, (*turns, *ends), kept, reason=reason, identifier=record.id)


def _warnings(evidence: Evidence) -> Iterator[str]:
    yield "All sessions are synthetic: patients are invented, and no clinician has read what the model says of them."
    unread = sum(one.looked.json(MONITORS)["sessions"]["unread_scores"] for one in evidence.iterations)
    if unread:
        yield f"The judge gave no readable score to {unread:,} plans; they count as not scored, never as bad."


def _provenance(config: SelfplayConfig, cleared: Cleared, evidence: Evidence) -> Iterator[Fact]:
    yield Fact("judge", config.judge.model.model)
    yield Fact("standing of the judge", cleared.judge.text)
    yield Fact("matcher", config.matcher.embedder)
    yield Fact("seed", str(config.seed))
    yield Fact("patients", evidence.patients.digest)


def _products(config: SelfplayConfig, evidence: Evidence) -> Iterator[Product]:
    chosen = None if evidence.choice is None else evidence.choice.json(CHOSEN)["chosen"]
    base = config.model.model
    for one in evidence.iterations:
        final = one.name == chosen
        if one.model is not None:
            note = f"iteration {one.number} of self-play"
            yield Product(one.name, "model", one.model.name, "model", base=base, final=final, note=note)
            base = one.model.name
        last = one is evidence.iterations[-1]
        yield Product(
            f"{one.name}-examples", "examples", one.examples.name, EXAMPLES, final=final or last, note="what is learned"
        )
        if one.examples.json(COUNTS)["counts"]["preference pairs"]:
            note = "the best plan against the worst, beyond the paper"
            yield Product(f"{one.name}-plans", "pairs", one.examples.name, PREFERENCES, note=note)
