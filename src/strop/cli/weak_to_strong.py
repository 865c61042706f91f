"""``strop weak-to-strong``: the method's steps on files of your own, without a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.options import Fields, parse_fields
from strop.cli.output import AsJson, print_json, print_table
from strop.cli.weak_to_strong_audit import audit
from strop.errors import UserError

if TYPE_CHECKING:
    from strop.methods.weak_to_strong.agreement import AnswerRule
    from strop.methods.weak_to_strong.demonstrations import Demonstration
    from strop.records import Answer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(audit, name="audit")


class RuleMode(StrEnum):
    """How final answers are read and compared."""

    COMPAT = "compat"
    STRICT = "strict"


class Rule(StrEnum):
    """How many pairs a question makes."""

    GSM8K = "gsm8k"
    MATH = "math"


class Choice(StrEnum):
    """How demonstrations are chosen."""

    RANDOM = "random"
    FIRST_CORRECT = "first-correct"
    IDS = "ids"


Key = Annotated[
    str,
    typer.Option(help="What introduces a final answer: gsm8k (####), math (The answer is:), olympicarena, or TEXT."),
]
ModeOption = Annotated[
    RuleMode, typer.Option(help="compat: equal normalised strings, as published; strict: equal values.")
]
Seed = Annotated[int, typer.Option(help="Seed of the random stream; 42 is the published one.")]


def _rule(key: str, mode: RuleMode) -> AnswerRule:
    from strop.methods.weak_to_strong.agreement import AnswerRule

    return AnswerRule.for_key(key, mode.value)


def _show(title: str, report: Mapping[str, Any], as_json: bool) -> None:
    """Print a flat report, or a report of one level of nesting, line by line."""
    if as_json:
        print_json(report)
        return
    lines: list[dict[str, Any]] = []
    for name, value in report.items():
        entries = value if isinstance(value, Mapping) else {name: value}
        lines += [{"what": str(label).replace("_", " "), "value": entry} for label, entry in entries.items()]
    print_table(title, lines)


@app.command()
def select(
    weak: Annotated[Path, typer.Option(help="The weak model's answers.")],
    strong: Annotated[Path, typer.Option(help="The strong model's in-context answers to the same questions.")],
    key: Key,
    out: Annotated[Path, typer.Option(help="Folder for weak.json, icl.json, hybrid.json and report.json.")],
    mode: ModeOption = RuleMode.COMPAT,
    fields: Fields = None,
    gold: Annotated[Path | None, typer.Option(help="Gold answers, for the report's precision and recall only.")] = None,
    top_up: Annotated[int | None, typer.Option(min=1, help="Fill up with disagreeing questions to this many.")] = None,
    allow_empty: Annotated[bool, typer.Option(help="Keep questions without an answer on either side.")] = False,
    seed: Seed = 42,
    as_json: AsJson = False,
) -> None:
    """Stage I: keep the questions on which both models' final answers agree, and write the training sets.

    Example:
        strop weak-to-strong select --weak weak.jsonl --strong icl.jsonl --key gsm8k --out selected
    """
    from random import Random

    from strop.methods.weak_to_strong.algorithm import TopUp
    from strop.methods.weak_to_strong.files import audit_selection, select_files
    from strop.records.tables import atomic_path

    rule, mapping = _rule(key, mode), parse_fields(fields)
    filling = TopUp(top_up, Random(seed)) if top_up else None
    kept = select_files(weak, strong, rule, out=out, fields=mapping, allow_empty=allow_empty, top_up=filling)
    settings = {"key": key, "mode": mode.value, "allow_empty": allow_empty, "top_up": top_up}
    report: dict[str, Any] = {**settings, **({"seed": seed} if top_up else {}), **kept.to_row()}
    if gold:
        same = _same_as_gold(key, mode)
        report["quality"] = audit_selection(weak, out / "weak.json", gold, rule, same=same, fields=mapping).to_row()
    with atomic_path(out / "report.json") as part:
        part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _show(f"{kept.kept:,} of {kept.rows:,} questions kept", report, as_json)


def _same_as_gold(key: str, mode: RuleMode) -> Callable[[str, str], bool | None]:
    from strop.methods.weak_to_strong.agreement import gold_comparison

    return gold_comparison(key, mode.value)


@app.command()
def pairs(
    samples: Annotated[Path, typer.Option(help="The strong model's samples: id, prompt, responses.")],
    weak: Annotated[Path, typer.Option(help="The original weak model's answers to the same questions.")],
    rule: Annotated[Rule, typer.Option(help="gsm8k: one pair a question; math: up to three.")],
    key: Key,
    out: Annotated[Path, typer.Option(help="File for the pairs, .json or .jsonl.")],
    mode: ModeOption = RuleMode.COMPAT,
    seed: Seed = 42,
    keep: Annotated[str, typer.Option(help="Least share of the vote for a question to be used.")] = "0.6",
    reject_weak: Annotated[str, typer.Option(help="Least share for a differing weak answer to be rejected.")] = "0.8",
    fields: Fields = None,
    as_json: AsJson = False,
) -> None:
    """Stage II: contrast the weak model's chains with votes of the strong model, and write preference pairs.

    A second file beside OUT, named ..._chosen_rejected, holds the same pairs in two columns. Gold is never read.

    Example:
        strop weak-to-strong pairs --samples ten.jsonl --weak weak.jsonl --rule gsm8k --key gsm8k --out pairs.json
    """
    from random import Random

    from strop.methods.weak_to_strong.contrast import Thresholds
    from strop.methods.weak_to_strong.files import columns_path, pair_files
    from strop.methods.weak_to_strong.voting import exact

    made = pair_files(
        samples,
        weak,
        _rule(key, mode),
        pairs=rule.value,
        out=out,
        random=Random(seed),
        fields=parse_fields(fields),
        thresholds=Thresholds(exact(keep), exact(reject_weak)),
    )
    if made.different_prompts:
        typer.echo(f"note: {made.different_prompts:,} prompts differ; pairs hold the weak file's", err=True)
    settings = {"key": key, "mode": mode.value, "rule": rule.value, "seed": seed}
    files = {"out": str(out), "columns": str(columns_path(out))}
    _show(f"{made.pairs:,} pairs in {out.name}", {**settings, **files, **made.to_row()}, as_json)


@app.command()
def demonstrations(
    weak: Annotated[Path, typer.Option(help="The weak model's answers.")],
    key: Key = "gsm8k",
    choice: Annotated[Choice, typer.Option(help="Which of its answers.")] = Choice.RANDOM,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 4,
    ids: Annotated[str | None, typer.Option(help="With --choice ids: the questions, for example 434,2772.")] = None,
    gold: Annotated[Path | None, typer.Option(help="With --choice first-correct: gold answers.")] = None,
    mode: ModeOption = RuleMode.COMPAT,
    out: Annotated[Path | None, typer.Option(help="File for the block of text that goes before a prompt.")] = None,
    seed: Seed = 42,
    fields: Fields = None,
    as_json: AsJson = False,
) -> None:
    """Choose demonstrations among the weak model's own answers, as the published helper does.

    Example:
        strop weak-to-strong demonstrations --weak weak.jsonl --key gsm8k --out demonstrations.txt
    """
    from strop.methods.weak_to_strong.data import read_answers
    from strop.methods.weak_to_strong.prompts import demonstration_block
    from strop.records.tables import atomic_path

    answers = list(read_answers(weak, fields=parse_fields(fields)))
    correct = _correct(answers, gold, key, mode) if choice is Choice.FIRST_CORRECT else set()
    chosen = _chosen(answers, choice, key=key, count=count, ids=ids, correct=correct, seed=seed)
    if out:
        with atomic_path(out) as part:
            part.write_text(demonstration_block(chosen), encoding="utf-8")
    if as_json:
        print_json({"ids": [shown.id for shown in chosen], "demonstrations": [_row(shown) for shown in chosen]})
    elif not out:
        typer.echo(demonstration_block(chosen), nl=False)
    else:
        typer.echo(f"{len(chosen)} demonstrations in {out}: {', '.join(str(shown.id) for shown in chosen)}")


def _row(shown: Demonstration) -> dict[str, Any]:
    return {"id": shown.id, "question": shown.question, "answer": shown.answer}


def _correct(answers: Sequence[Answer], gold: Path | None, key: str, mode: RuleMode) -> set[int | str]:
    from strop.methods.weak_to_strong.files import read_gold

    if gold is None:
        raise UserError("--choice first-correct needs --gold", fix="give a file of gold answers, or --choice random")
    rule, known, same = _rule(key, mode), read_gold(gold), _same_as_gold(key, mode)
    return {
        answer.id for answer in answers if answer.id in known and same(rule.extract(answer.response), known[answer.id])
    }


def _chosen(
    answers: Sequence[Answer],
    choice: Choice,
    *,
    key: str,
    count: int,
    ids: str | None,
    correct: set[int | str],
    seed: int,
) -> list[Demonstration]:
    from random import Random

    from strop.methods.weak_to_strong.agreement import answer_mark
    from strop.methods.weak_to_strong.demonstrations import first_correct, given_demonstrations, random_demonstrations

    if (choice is Choice.IDS) != (ids is not None):
        raise UserError("--ids and --choice ids go together")
    if ids is not None:
        by_text = {str(answer.id): answer.id for answer in answers}
        wanted = [text.strip() for text in ids.split(",")]
        return given_demonstrations(answers, ids=[by_text.get(text, text) for text in wanted])
    if choice is Choice.FIRST_CORRECT:
        return first_correct(answers, correct=correct, count=count, random=Random(seed))
    return random_demonstrations(answers, key=answer_mark(key), count=count, random=Random(seed))
