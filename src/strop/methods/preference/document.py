"""The report of a preference-learning run: what its artifacts say, for people.

Every number names the artifact that it was computed from, so that `strop trace` can follow it back to the calls.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from strop.judging.contest.telling import RESULTS as CONTEST_RESULTS
from strop.judging.contest.telling import judge_table, win_rate_numbers, win_rate_verdicts, win_rate_warnings
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.evidence import INITIAL, LABELS, Contest, Evidence, Online
from strop.methods.preference.online_stages import CHOSEN, MEASURES, WATCH
from strop.methods.preference.preflight import Cleared
from strop.methods.preference.results import GAINS
from strop.methods.preference.stages import COUNTS, KINDS, QUALITY
from strop.records.document import (
    Answer,
    Bar,
    Bars,
    Cell,
    Curve,
    Document,
    Estimate,
    Fact,
    Figure,
    Line,
    Number,
    Product,
    Reference,
    Sample,
    SampleGroup,
    Table,
    Unit,
    Verdict,
)
from strop.runs import Artifact, Run

Row = Mapping[str, Any]
Tone = Literal["plain", "good", "bad", "unclear"]
REWARD_NAMES = {
    "reward": "reward model",
    "second": "second reward model, never trained on",
    "ranking": "what ranked the samples",
}
FIGURES: Mapping[str, Unit] = {"accuracy": "share", "auc": "ratio", "ece": "ratio", "brier": "ratio"}
INTENDED_USE = (
    "Drafts for people who are trained in counselling, who read every one before anybody else does.",
    "No therapy, no crisis service: it makes no diagnosis, replaces no care and must not answer clients by itself.",
)
INTERVALS = "95 % interval, resampling speeches"
SHOWN_SAMPLES = 3
SLICES = ("principle", "gap", "length", "source")
"""Kinds of slices that the report shows; the artifact holds all."""


def document(config: PreferenceConfig, run: Run, cleared: Cleared, evidence: Evidence) -> Document:
    """Return the report of a finished run."""
    return Document(
        title=f"{config.policy.model.model}, aligned by written principles",
        method="Preference learning",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        verdicts=tuple(_verdicts(evidence)),
        numbers=tuple(_numbers(evidence)),
        figures=tuple(_figures(evidence)),
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


def _number(
    name: str, row: Row | None, artifact: Artifact, file: str, label: str, *, unit: Unit, headline: bool = False
) -> Number:
    value = _estimate(row, unit)
    note = str(row.get("reason", "")) if row is not None else "there is no such pair"
    return Number(
        name,
        value.value,
        artifact.name,
        file,
        value.low,
        value.high,
        value.n,
        unit=unit,
        label=label,
        note=note if value.value is None else INTERVALS,
        headline=headline,
    )


def _numbers(evidence: Evidence) -> Iterator[Number]:
    counts = evidence.pairs.json(COUNTS)
    for split, kinds in counts["pairs"].items():
        pairs = float(sum(kinds.values()))
        yield Number(f"pairs.{split}", pairs, evidence.pairs.name, COUNTS, unit="count", label=f"pairs, {split}")
    for name, artifact in evidence.quality.items():
        for kind in KINDS:
            report = artifact.json(QUALITY)[kind]
            overall = report["quality"]["overall"] if report else {}
            for figure, unit in FIGURES.items():
                label = f"{REWARD_NAMES[name]}: {figure} on {kind} pairs"
                top = name == "reward" and kind == KINDS[0] and figure == "accuracy"
                key = f"{name}.{kind}.{figure}"
                yield _number(key, overall.get(figure), artifact, QUALITY, label, unit=unit, headline=top)
    for policy, rewards in evidence.gains.json(GAINS).items():
        for name, gain in rewards.items():
            if policy != INITIAL:
                label = f"{LABELS[policy]}: {REWARD_NAMES[name]}, more than the initial policy"
                key = f"gain.{policy}.{name}"
                yield _number(key, gain["difference"], evidence.gains, GAINS, label, unit="ratio", headline=True)
    for contest in evidence.contests:
        results = contest.results.json(CONTEST_RESULTS)
        yield from win_rate_numbers(results, contest.results.name, prefix=f"{_contest_key(contest)}.", headline=False)


def _contest_key(contest: Contest) -> str:
    return contest.arm + (f".{contest.word_limit}_words" if contest.word_limit else "")


def _verdicts(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.online is not None:
        yield _online_verdict(evidence.online)
    for policy, rewards in evidence.gains.json(GAINS).items():
        if policy != INITIAL:
            yield from (_gain_verdict(policy, name, gain) for name, gain in rewards.items())
    for name, artifact in evidence.quality.items():
        report = artifact.json(QUALITY)[KINDS[0]]
        if report is not None:
            tone: Tone = "good" if report["quality"]["verdict"] == "ranks" else "unclear"
            yield Verdict(f"{REWARD_NAMES[name].capitalize()}, best against worst: {report['findings'][0]}.", tone)
    for contest in evidence.contests:
        results = contest.results.json(CONTEST_RESULTS)
        limit = f", at most {contest.word_limit} words" if contest.word_limit else ""
        names = (f"{LABELS[contest.arm]}{limit}", "its opponent")
        yield from list(win_rate_verdicts(results, *names))[:2]


def _online_verdict(online: Online) -> Verdict:
    rounds = len(online.iterations)
    if not online.chosen:
        return Verdict(f"None of {rounds} rounds of online DPO raised the development reward.", "bad")
    means = online.choice.json(CHOSEN)["means"]
    start, best = next(iter(means.values())), means[online.iterations[online.chosen - 1].policy.name]
    said = (
        f"mean development reward {start:.3f} before, {best:.3f} after round {online.chosen} of {rounds}, chosen by it"
    )
    return Verdict(f"Online DPO: {said}; the watch found no limit broken.", "plain")


def _gain_verdict(policy: str, reward: str, gain: Row) -> Verdict:
    difference = gain["difference"]
    ends = f"{_signed(difference['estimate'])} ({_signed(difference['low'])} to {_signed(difference['high'])})"
    name = LABELS[policy]
    said = f"{name[:1].upper()}{name[1:]}: mean reward on unseen speeches {ends} against the initial policy"
    lead = f"{said}, by the {REWARD_NAMES[reward]}"
    low, high = difference["low"], difference["high"]
    if low is not None and low > 0:
        return Verdict(f"{lead}: it rose.", "good")
    if high is not None and high < 0:
        return Verdict(f"{lead}: it fell.", "bad")
    needed = f" About {gain['needed']:,} speeches would tell." if gain["needed"] else ""
    return Verdict(f"{lead}: not distinguishable.{needed}", "unclear")


def _signed(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:+.3f}"


def _figures(evidence: Evidence) -> Iterator[Figure]:
    if evidence.online is not None:
        yield from _reward_curves(evidence.online)
    bars = [
        Bar(
            f"{LABELS[policy]}, {REWARD_NAMES[name]}", _estimate(gain["difference"], "ratio"), emphasis=name == "reward"
        )
        for policy, rewards in evidence.gains.json(GAINS).items()
        for name, gain in rewards.items()
        if policy != INITIAL
    ]
    if bars:
        caption = "Paired differences of mean rewards on speeches nothing was trained on; intervals over speeches."
        yield Bars(
            "More reward than the initial policy",
            caption,
            "difference of rewards",
            tuple(bars),
            (Reference("none", 0.0),),
        )
    rates = [
        Bar(_contest_key(contest), _estimate(rate["raw"]), emphasis=contest.word_limit is None)
        for contest in evidence.contests
        if (rate := contest.results.json(CONTEST_RESULTS)["win_rate"])
    ]
    if rates:
        caption = "Ties count half; both orders; intervals over speeches."
        yield Bars(
            "Win rate against the opponent", caption, "win rate", tuple(rates), (Reference("no difference", 0.5),)
        )


def _reward_curves(online: Online) -> Iterator[Curve]:
    examined = [online.start, *(one.examined for one in online.iterations)]
    points = ("start", *(f"round {one.number}" for one in online.iterations))
    means = [one.json(MEASURES)["rewards"] for one in examined]
    for name in means[0]:
        values = tuple(each[name] for each in means)
        yield Curve(
            title=f"Development reward: {REWARD_NAMES[name]}",
            caption="Mean over development speeches, one sample each at temperature 1, with the same noise.",
            points=points,
            value_label="mean reward",
            lines=(Line(REWARD_NAMES[name], values),),
            mean=tuple(Estimate(value, unit="ratio") for value in values),
        )


def _tables(evidence: Evidence) -> Iterator[Table]:
    counts = evidence.pairs.json(COUNTS)
    kinds = ("gap", "extreme", "close")
    yield Table(
        "Preference pairs",
        ("split", *kinds),
        tuple((split, *(row[kind] for kind in kinds)) for split, row in counts["pairs"].items()),
        (
            f"{counts['speeches']['read']} speeches, {counts['responses']['read']} responses; gate: "
            + ", ".join(f"{count} {name}" for name, count in counts["responses"]["gate"].items())
            + "; possible pairs left out: "
            + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts["possible_pairs"].items())
            + ".",
        ),
    )
    yield from _quality_tables(evidence)
    if evidence.online is not None:
        yield from _online_tables(evidence.online)
    for contest in evidence.contests:
        yield judge_table(contest.results.json(CONTEST_RESULTS)["summary"])
        break


def _quality_tables(evidence: Evidence) -> Iterator[Table]:
    rows: list[tuple[Cell, ...]] = []
    notes: list[str] = []
    for name, artifact in evidence.quality.items():
        for kind, report in artifact.json(QUALITY).items():
            if report is None:
                continue
            overall = report["quality"]["overall"]
            cells = tuple(_estimate(overall[figure], unit) for figure, unit in FIGURES.items())
            rows.append((f"{REWARD_NAMES[name]}, {kind} pairs", *cells, _estimate(report["longer"])))
            notes += [f"{REWARD_NAMES[name]}, {kind} pairs: {report['findings'][1]}."]
    yield Table(
        "Reward models on test pairs",
        ("model", "accuracy", "AUC", "ECE", "Brier", "longer wins"),
        tuple(rows),
        tuple(notes),
    )
    for name, artifact in evidence.quality.items():
        report = artifact.json(QUALITY)[KINDS[0]]
        slices = report["quality"]["slices"] if report else {}
        parts = tuple(
            (f"{kind}: {part}", figures["pairs"], _estimate(figures["accuracy"]))
            for kind, of in slices.items()
            if kind in SLICES
            for part, figures in of.items()
        )
        if parts:
            yield Table(f"{REWARD_NAMES[name].capitalize()} by slice", ("slice", "pairs", "accuracy"), parts)


def _online_tables(online: Online) -> Iterator[Table]:
    rows: list[tuple[Cell, ...]] = []
    for one in online.iterations:
        picked = one.picked.json("picked.json")
        skipped = ", ".join(f"{count} {why}" for why, count in picked["skipped"].items()) or "none"
        barred = ", ".join(f"{count} {why}" for why, count in picked["barred"].items()) or "none"
        rows.append((f"round {one.number}", picked["pairs"], skipped, barred))
    yield Table(
        "Pairs of every round", ("round", "pairs", "speeches left out", "samples that could not win"), tuple(rows)
    )
    watched = [one.watch.json(WATCH) for one in online.iterations]
    measures = [one["measure"] for one in watched[0]["watched"]]
    yield Table(
        "The over-optimisation watch",
        ("measure", *(f"round {one.number}" for one in online.iterations), "limit"),
        tuple(
            (
                measure.replace("_", " "),
                *(
                    Estimate(one["value"], one["low"], one["high"], one["n"], "ratio")
                    for each in watched
                    for one in each["watched"]
                    if one["measure"] == measure
                ),
                next(one["limit"] for one in watched[0]["watched"] if one["measure"] == measure),
            )
            for measure in measures
        ),
        ("Beside the initial policy's answers to the same development speeches; intervals over speeches.",),
    )


def _samples(evidence: Evidence) -> Iterator[SampleGroup]:
    answers = {arm: {row["id"]: row for row in one.rows()} for arm, one in evidence.tested.items()}
    shown = list(answers[INITIAL])[:SHOWN_SAMPLES]
    if len(answers) > 1 and shown:
        samples = tuple(
            Sample(
                answers[INITIAL][key]["prompt"],
                tuple(Answer(LABELS[arm], rows[key]["response"]) for arm, rows in answers.items()),
                "kept",
                identifier=str(key),
            )
            for key in shown
        )
        yield SampleGroup("Answers to unseen speeches", "The first of the test speeches, not chosen.", samples)


def _products(config: PreferenceConfig, evidence: Evidence) -> Iterator[Product]:
    base = config.policy.model.model
    final = list(evidence.policies)[-1:]
    for arm, artifact in evidence.policies.items():
        yield Product(arm, "model", artifact.name, "model", base=base, final=arm in final, note=LABELS[arm])
    bases = {"reward": config.reward, "second": config.second_reward}
    for name, artifact in evidence.rewards.items():
        trained = bases[name]
        start = trained.model.model if trained is not None else ""
        final_one, note = name == "reward", REWARD_NAMES[name]
        yield Product(f"{name}-model", "reward_model", artifact.name, "model", base=start, final=final_one, note=note)
    note = "preference pairs in the published columns and in the forms of TRL, LLaMA-Factory and OpenRLHF"
    yield Product("pairs", "pairs", evidence.published.name, final=True, note=note)


def _warnings(evidence: Evidence) -> Iterator[str]:
    yield "What these models write are drafts for trained people; nothing here measures clinical safety."
    for contest in evidence.contests:
        for warning in win_rate_warnings(contest.results.json(CONTEST_RESULTS)):
            yield f"{LABELS[contest.arm]}: {warning}"


def _provenance(config: PreferenceConfig, cleared: Cleared, evidence: Evidence) -> Iterator[Fact]:
    rated = "files" if config.ratings is None else config.ratings.judge.model.model
    yield Fact("ratings by", rated)
    if cleared.rater is not None:
        yield Fact("standing of the judge that rated", cleared.rater.text)
    if config.comparison is not None:
        judge = config.comparison.judge
        yield Fact("comparisons by", "the second reward model" if judge is None else judge.model.model)
    if cleared.judge is not None:
        yield Fact("standing of the judge that compared", cleared.judge.text)
    yield Fact("seed", str(config.seed))
    for name, artifact in (("speeches", evidence.speeches), ("pairs", evidence.pairs)):
        yield Fact(name, artifact.digest)
