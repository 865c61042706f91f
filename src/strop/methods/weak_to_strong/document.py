"""The report of a weak-to-strong run: what `results.json` says, for people.

Every number names the artifact that it was computed from, so that `strop trace` can follow it back to the calls.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.results import EQUAL_WITHIN, Experiment
from strop.records.document import (
    Answer,
    Bar,
    Bars,
    Curve,
    Document,
    Estimate,
    Fact,
    Figure,
    Line,
    Number,
    Reference,
    Sample,
    SampleGroup,
    Selection,
    SelectionRound,
    Table,
    Unit,
    Verdict,
)
from strop.runs import Artifact

Row = Mapping[str, Any]

LABELS = {
    "floor": "weak floor",
    "icl": "weak in-context learning",
    "naive": "naive: all weak labels",
    "self_labels": "strong model's own labels",
    "zero_shot": "strong model, zero-shot",
    "shuffled": "shuffled weak labels",
    "ceiling": "strong ceiling",
}
SHOWN_SAMPLES = 3


def label(arm: str) -> str:
    """Return what a person reads for an arm."""
    if arm.startswith("iteration"):
        number, _, source = arm.removeprefix("iteration").partition("_")
        return f"Stage I, iteration {number}: {source}"
    return LABELS.get(arm, f"Stage II: {arm.upper()}")


def document(config: WeakToStrongConfig, results: Artifact, experiments: Sequence[Experiment]) -> Document:
    """Return the report of a finished run."""
    told = json.loads(results.path("results.json").read_text(encoding="utf-8"))
    return compose(config, told, results, experiments)


def compose(config: WeakToStrongConfig, told: Row, results: Artifact, experiments: Sequence[Experiment]) -> Document:
    """Compose the report from the results of a run."""
    return Document(
        title=f"{_name(config.weak.model.model)} teaches {_name(config.strong.model)}",
        method="Weak-to-strong reasoning",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        verdicts=_verdicts(told),
        numbers=_numbers(told, results.name),
        figures=_figures(told),
        tables=_tables(told),
        samples=_samples(experiments[0]),
        warnings=_warnings(config, told),
        provenance=_provenance(config, results),
    )


def _name(model: str) -> str:
    return model.rsplit(":", 1)[-1].rsplit("/", 1)[-1]


def _estimate(row: Row, unit: Unit = "share") -> Estimate:
    return Estimate(row.get("value"), row.get("low"), row.get("high"), row.get("n"), unit)


def _passes(row: Row) -> Estimate:
    return Estimate(row["unbiased"], row["low"], row["high"], row["n"])


def _verdicts(told: Row) -> tuple[Verdict, ...]:
    final = told["gap_recovered"].get(told["final"])
    verdicts = []
    if final is not None:
        tone = {"recovers": "good", "does not recover": "bad"}.get(final["verdict"], "unclear")
        verdicts.append(Verdict(_recovery_sentence(told, final), tone))  # type: ignore[arg-type]
    for claim in told["claims"]:
        tone = {"shown": "good", "refuted": "bad"}.get(claim["verdict"], "unclear")
        points = f"{100 * claim['value']:+.1f} points ({100 * claim['low']:+.1f} to {100 * claim['high']:+.1f})"
        sentence = f"{claim['claim'][0].upper()}{claim['claim'][1:]}: {claim['verdict']}, {points}."
        verdicts.append(Verdict(sentence, tone))  # type: ignore[arg-type]
    return tuple(verdicts)


def _recovery_sentence(told: Row, final: Row) -> str:
    arms, name = told["arms"], label(told["final"])
    floor, model, ceiling = (arms[arm]["value"] for arm in ("floor", told["final"], "ceiling"))
    course = f"{name} reaches {floor:.1%} -> {model:.1%}, where gold labels reach {ceiling:.1%}"
    if final["value"] is None:
        return f"{course}. Gap recovered: {final['verdict']}{_needed(final)}."
    span = f"{final['low']:.2f} to {final['high']:.2f}"
    return f"{course}: it {_third(final['verdict'])} {final['value']:.2f} of the gap ({span}){_needed(final)}."


def _third(verdict: str) -> str:
    return verdict if verdict != "cannot tell at this n" else "may recover (cannot tell at this n)"


def _needed(row: Row) -> str:
    needed = row.get("needed") or {}
    parts = [f"about {count:,} {what}" for what, count in needed.items() if count]
    return f"; {' or '.join(parts)} would settle it" if parts else ""


def _numbers(told: Row, artifact: str) -> tuple[Number, ...]:
    final, confidence = told["final"], f"{told['confidence']:.0%} bootstrap over seeds and questions"

    def number(name: str, row: Row, text: str, *, unit: Unit = "share", headline: bool = False) -> Number:
        given = _estimate(row, unit)
        return Number(
            name,
            given.value,
            artifact,
            "results.json",
            given.low,
            given.high,
            given.n,
            unit,
            text,
            confidence if given.low is not None else str(row.get("verdict", "")),
            headline,
        )

    rows = [
        number(f"gap_recovered.{arm}", row, f"gap recovered: {label(arm)}", unit="ratio", headline=arm == final)
        for arm, row in told["gap_recovered"].items()
    ]
    rows += [
        number(f"accuracy.{arm}", row, label(arm), headline=arm in ("floor", final, "ceiling"))
        for arm, row in told["arms"].items()
    ]
    for row in told["iterations"]:
        for field, text in (("weak", "weak label accuracy"), ("precision", "kept label precision"), ("lift", "lift")):
            if field in row:
                unit: Unit = "points" if field == "lift" else "share"
                rows.append(
                    number(
                        f"iteration{row['number']}.{field}", row[field], f"iteration {row['number']}: {text}", unit=unit
                    )
                )
    for row in told["pass_at"]:
        rows.append(number(f"pass_at_{row['k']}", {**row, "value": row["unbiased"]}, f"pass@{row['k']}"))
    rows.append(number("most_frequent_answer", told["most_frequent_answer"], "always the most frequent answer"))
    return tuple(rows)


def _path_of(told: Row) -> list[str]:
    wanted = ["floor", "naive", *(arm for arm in told["arms"] if arm.endswith("_hybrid")), told["final"], "ceiling"]
    return [arm for index, arm in enumerate(wanted) if arm in told["arms"] and arm not in wanted[:index]]


def _references(told: Row) -> tuple[Reference, ...]:
    arms = told["arms"]
    return tuple(Reference(LABELS[arm], arms[arm]["value"]) for arm in ("floor", "ceiling") if arm in arms)


def _figures(told: Row) -> tuple[Figure, ...]:
    arms, path = told["arms"], _path_of(told)
    curve = Curve(
        title="From the weak floor to the ceiling",
        caption="Test accuracy along the method, one thin line per seed, the mean with its interval.",
        points=tuple(label(arm) for arm in path),
        value_label="test accuracy",
        lines=tuple(
            Line(f"seed {seed}", tuple(arms[arm]["per_seed"][index] for arm in path))
            for index, seed in enumerate(told["seeds"])
        ),
        mean=tuple(_estimate(arms[arm]) for arm in path),
        references=_references(told),
    )
    bars = Bars(
        title="Every arm",
        caption="Test accuracy with intervals; the final model stands out.",
        value_label="test accuracy",
        bars=tuple(Bar(label(arm), _estimate(row), emphasis=arm == told["final"]) for arm, row in arms.items()),
        references=_references(told),
    )
    rounds = tuple(
        SelectionRound(
            f"iteration {row['number']}",
            row["kept"],
            row["offered"],
            _estimate(row["precision"]),
            _estimate(row["weak"]),
        )
        for row in told["iterations"]
        if "precision" in row
    )
    chosen = Selection(
        title="What agreement selects",
        caption="Share of correct labels among those kept, beside all labels that the weak side offered.",
        rounds=rounds,
    )
    return (curve, bars, chosen) if rounds else (curve, bars)


def _tables(told: Row) -> tuple[Table, ...]:
    arms = Table(
        title="Arms",
        columns=("arm", "test accuracy", "gap recovered", *(f"seed {seed}" for seed in told["seeds"]), "not graded"),
        rows=tuple(
            (
                label(arm),
                _estimate(row),
                _estimate(told["gap_recovered"][arm], "ratio") if arm in told["gap_recovered"] else None,
                *(Estimate(value, n=told["items"]) for value in row["per_seed"]),
                row["not_graded"],
            )
            for arm, row in told["arms"].items()
        ),
        notes=(
            f"Always giving the most frequent gold answer scores {told['most_frequent_answer']['value']:.1%}.",
            "Gap recovered is (arm - weak floor) / (ceiling - weak floor).",
            f"'Not below' counts as shown when the interval lies above -{100 * EQUAL_WITHIN:.0f} points (our choice).",
        ),
        emphasised_rows=tuple(index for index, arm in enumerate(told["arms"]) if arm == told["final"]),
    )
    tables = [arms]
    if told["pairs"]:
        pairs = told["pairs"]
        tables.append(
            Table(
                "Stage II pairs, graded against gold afterwards",
                ("pairs", "chosen correct", "rejected correct"),
                ((pairs["graded"], _estimate(pairs["chosen_correct"]), _estimate(pairs["rejected_correct"])),),
            )
        )
    if told["pass_at"]:
        rows = tuple(
            (f"pass@{row['k']}", _passes(row), Estimate(row["any_of_first"], n=row["n"])) for row in told["pass_at"]
        )
        tables.append(Table("Samples of the Stage I model", ("measure", "unbiased", "as in the paper"), rows))
    return tuple(tables)


def _samples(experiment: Experiment) -> tuple[SampleGroup, ...]:
    if not experiment.iterations:
        return ()
    first = experiment.iterations[0]
    rows = first.labels.rows("labels.jsonl")
    groups = []
    for kept, title, note in (
        (True, "Kept by agreement", "Both models end in the same final answer."),
        (False, "Dropped", "The final answers differ, or one is missing."),
    ):
        chosen = [row for row in rows if row["kept"] is kept][:SHOWN_SAMPLES]
        if chosen:
            groups.append(SampleGroup(f"{title}, seed {experiment.seed}", note, tuple(map(_sample, chosen))))
    return tuple(groups)


def _sample(row: Row) -> Sample:
    answers = (
        Answer("weak model", row["weak"], row["weak_correct"]),
        Answer("strong model in context", row["icl"], row["icl_correct"]),
    )
    return Sample(row["prompt"], answers, "kept" if row["kept"] else "dropped", identifier=str(row["id"]))


def _warnings(config: WeakToStrongConfig, told: Row) -> tuple[str, ...]:
    warnings = []
    if len(told["seeds"]) == 1:
        warnings.append("One seed: the intervals speak about other questions, not about other runs.")
    if config.data.kind == "stories":
        warnings.append("All seeds share the two shipped bases: intervals do not speak about bases pre-trained anew.")
        if config.data.population == "development":
            warnings.append("Development stories: settings may have been chosen on these questions.")
    if config.demonstrations.choice == "first_correct":
        warnings.append("The demonstrations were chosen with gold (first_correct); everything else was not.")
    missing = sum(row["not_graded"] for row in told["arms"].values())
    if missing:
        warnings.append(f"{missing} answers could not be graded and are left out of every comparison.")
    return tuple(warnings)


def _provenance(config: WeakToStrongConfig, results: Artifact) -> tuple[Fact, ...]:
    return (
        Fact("weak model", config.weak.model.model),
        Fact("strong model", config.strong.model),
        Fact("answer key and mode", f"{config.key}, {config.mode}"),
        Fact("seeds", ", ".join(map(str, config.seeds))),
        Fact("results", results.digest),
    )
