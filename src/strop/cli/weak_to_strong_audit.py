"""``strop weak-to-strong audit``: what is wrong with splits, selections and pair sets, in numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from strop.cli.output import AsJson, print_json, print_table
from strop.cli.verbs import help_text
from strop.errors import UserError

audit = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Audit splits, selections and pair sets: leakage, duplicates, true supervisors, precision and recall.",
)


def _show(title: str, report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        print_table(title, [{"what": name.replace("_", " "), "value": value} for name, value in report.items()])


@audit.command()
def splits(
    first: Annotated[Path, typer.Argument(help="One split, for example the gold data of the weak model.")],
    second: Annotated[Path, typer.Argument(help="The other, for example the questions for both models.")],
    as_json: AsJson = False,
) -> None:
    """Count questions that two splits share, and repetitions inside each.

    Example:
        strop weak-to-strong audit splits train_1.jsonl train_2.jsonl
    """
    from strop.methods.weak_to_strong.audit import leakage, repetition
    from strop.methods.weak_to_strong.data import read_questions

    left, right = list(read_questions(first)), list(read_questions(second))
    shared, inside = leakage(left, right), (repetition(left), repetition(right))
    report: dict[str, Any] = {
        "first_rows": inside[0].rows,
        "second_rows": inside[1].rows,
        "first_duplicates": inside[0].surplus,
        "second_duplicates": inside[1].surplus,
        "shared_questions": shared.shared,
    }
    ids = {"first_ids": shared.first_ids, "second_ids": shared.second_ids}
    _show(f"{first.name} and {second.name}", {**report, **(ids if as_json else {})}, as_json)


@audit.command()
def supervisor(
    pairs: Annotated[Path, typer.Argument(help="A file of preference pairs.")],
    weak: Annotated[list[str], typer.Option(help="A candidate supervisor's answers, FILE or NAME=FILE; repeatable.")],
    as_json: AsJson = False,
) -> None:
    """Tell whose responses the weak side of a pair set are: the true supervisor's share is 1.

    Example:
        strop weak-to-strong audit supervisor pairs.json --weak gemma=gemma.jsonl --weak mistral=mistral.jsonl
    """
    from strop.methods.weak_to_strong.audit import supervisor as check
    from strop.methods.weak_to_strong.data import read_answers, read_pairs

    found = []
    for candidate in weak:
        name, equals, file = candidate.rpartition("=")
        responses = {answer.id: answer.response for answer in read_answers(Path(file))}
        found.append(check(read_pairs(pairs), name if equals else file, responses).to_row())
    if as_json:
        print_json(found)
    else:
        print_table(f"who supervised {pairs.name}", found)


@audit.command("pairs")
def pair_set(
    pairs: Annotated[Path, typer.Argument(help="A file of preference pairs.")],
    key: Annotated[str, typer.Option(help="What introduces a final answer: gsm8k, math, olympicarena, or TEXT.")],
    as_json: AsJson = False,
) -> None:
    """Count pairs with equal answers, without an answer on a side, and repeated ones.

    Example:
        strop weak-to-strong audit pairs pairs.json --key gsm8k
    """
    from strop.methods.weak_to_strong.agreement import AnswerRule
    from strop.methods.weak_to_strong.audit import pair_sides
    from strop.methods.weak_to_strong.data import read_pairs

    _show(pairs.name, asdict(pair_sides(read_pairs(pairs), AnswerRule.for_key(key))), as_json)


@audit.command()
def selection(
    weak: Annotated[Path, typer.Option(help="All answers of the weak model.")],
    kept: Annotated[Path, typer.Option(help="The kept ones: a training set of weak chains.")],
    gold: Annotated[Path, typer.Option(help="Gold answers: id (or line number) and gold or answer.")],
    key: Annotated[str, typer.Option(help="What introduces a final answer: gsm8k, math, olympicarena, or TEXT.")],
    mode: Annotated[str, typer.Option(help="compat, strict or lenient.")] = "compat",
    as_json: AsJson = False,
) -> None:
    """Compute precision and recall of a selection of weak answers, and how many kept rows state no answer.

    Example:
        strop weak-to-strong audit selection --weak weak.jsonl --kept weak.json --gold test.jsonl --key gsm8k
    """
    from strop.evaluation.answers import parse_mode
    from strop.methods.weak_to_strong.agreement import AnswerRule, gold_comparison
    from strop.methods.weak_to_strong.audit import without_answer
    from strop.methods.weak_to_strong.data import read_answers
    from strop.methods.weak_to_strong.files import audit_selection

    grading = parse_mode(mode)
    rule = AnswerRule.for_key(key, grading)
    quality = audit_selection(weak, kept, gold, rule, same=gold_comparison(key, grading))
    _show(kept.name, {**quality.to_row(), "without_answer": len(without_answer(read_answers(kept), rule))}, as_json)


@audit.command()
def demonstrations(
    weak: Annotated[Path, typer.Option(help="The file that demonstrations were taken from.")],
    ids: Annotated[str, typer.Option(help="Their ids, for example 434,2772,3401,173.")],
    questions: Annotated[Path, typer.Option(help="The questions that are asked after them.")],
    as_json: AsJson = False,
) -> None:
    """Find demonstrations whose own question is asked as well.

    Example:
        strop weak-to-strong audit demonstrations --weak weak.jsonl --ids 434,2772 --questions train_2.jsonl
    """
    from strop.methods.weak_to_strong.audit import demonstrations_among
    from strop.methods.weak_to_strong.data import read_questions

    wanted = [text.strip() for text in ids.split(",")]
    shown = {str(question.id): question for question in read_questions(weak)}
    missing = [text for text in wanted if text not in shown]
    if missing:
        raise UserError(f"{weak} has no question with the id of a demonstration", value=missing)
    among = demonstrations_among([shown[text] for text in wanted], read_questions(questions))
    report = {"demonstrations": len(wanted), "asked_as_well": len({first for first, _ in among})}
    _show(questions.name, {**report, **({"pairs": among} if as_json else {})}, as_json)


for registered in audit.registered_commands:
    if registered.callback is not None:
        registered.help = help_text(registered.callback)
