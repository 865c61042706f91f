"""Files of talks or of answers under a judge's question: do they pass for people's, are they reasonable.

Where rows say who wrote them (``author``), the share is told for each author: a judge that calls every talk human says
so of the AI's as well, and only the difference between the two means anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from strop.errors import UserError
from strop.evaluation.statistics import Interval, wilson
from strop.judging.judged_files import JudgeRequest, read_answers
from strop.methods.selfplay.judgements import TURNS, judge_authenticity, judge_validity
from strop.methods.selfplay.session_record import Turn
from strop.models.placement import open_placed
from strop.models.scripted import prompt_text
from strop.models.spec import parse_model
from strop.records.tables import iter_table, table_kind, write_table
from strop.runs.progress import Reporter
from strop.runs.workspace import open_calls

Question = Literal["authenticity", "validity"]
WANTED: dict[Question, str] = {"authenticity": "human", "validity": "yes"}
"""The verdict whose share is of interest."""


@dataclass(frozen=True, slots=True)
class JudgedTexts:
    """What a judge said about the rows of a file.

    Attributes:
        question: What it was asked.
        judge: The judge's revision.
        authors: Who wrote each row; empty where the file does not say.
        verdicts: One a row; None where no reply could be read.
    """

    question: Question
    judge: str
    authors: tuple[str, ...]
    verdicts: tuple[str | None, ...]

    def shares(self) -> dict[str, tuple[int, int, Interval | None]]:
        """Return, for every author and for all: rows, rows without a verdict, and the share of the wanted verdict."""
        wanted, found = WANTED[self.question], {}
        for author in (*sorted(Counter(self.authors)), "all"):
            verdicts = [v for v, by in zip(self.verdicts, self.authors, strict=True) if author in (by, "all")]
            read = [verdict for verdict in verdicts if verdict is not None]
            share = wilson(read.count(wanted), len(read)) if read else None
            if author:
                found[author] = (len(verdicts), len(verdicts) - len(read), share)
        return found

    def to_row(self) -> dict[str, Any]:
        """Return the shares as JSON."""
        return {
            "question": self.question,
            "judge": self.judge,
            "verdict": WANTED[self.question],
            "shares": {
                author: {
                    "rows": rows,
                    "unread": unread,
                    "share": None if share is None else share.estimate,
                    "low": None if share is None else share.low,
                    "high": None if share is None else share.high,
                }
                for author, (rows, unread, share) in self.shares().items()
            },
        }


def judge_texts(
    path: Path, request: JudgeRequest, *, question: Question, workspace: Path, reporter: Reporter
) -> JudgedTexts:
    """Put one question about every row of a file to a judge, and write one row for each.

    Args:
        path: For ``authenticity``, session records (``dialogue``) or rows of ``id`` and ``turns``; for ``validity``,
            answers: ``id``, ``prompt`` and ``response``. Both may hold ``author``.
        request: Whom to ask and how.
        question: What to ask.
        workspace: Its call store keeps the replies.
        reporter: Shows progress.

    Raises:
        UserError: A row lacks a field, an id repeats, or the file is empty.
        Stopped: More replies than the ceiling allows cannot be read, or a budget is used up.
    """
    table_kind(request.out)
    if request.asking is None:
        raise UserError("a judge needs to be told how to reply", fix="give the request its asking")
    ids, authors, talks, pairs = _read(path, request, question)
    command = f"selfplay judge {question}"
    model = open_placed(parse_model(request.judge), request.placement)
    try:
        with (
            open_calls(workspace, command, str(request.out.resolve()), budget=request.budget) as store,
            reporter.progress(question, total=len(ids)) as advance,
        ):
            if question == "authenticity":
                judged = judge_authenticity(model, talks, asking=request.asking, store=store, advance=advance)
            else:
                judged = judge_validity(model, pairs, asking=request.asking, store=store, advance=advance)
        revision = model.revision
    finally:
        model.close()
    found = JudgedTexts(question, revision, tuple(authors), judged.verdicts)
    rows = zip(ids, authors, judged.verdicts, strict=True)
    write_table(
        request.out,
        ({"id": id_, "author": author or None, "verdict": verdict, "judge": revision} for id_, author, verdict in rows),
    )
    return found


def _read(
    path: Path, request: JudgeRequest, question: Question
) -> tuple[list[str], list[str], list[tuple[Turn, ...]], list[tuple[str, str]]]:
    """Return ids, authors (empty where unknown), and what the question is about: talks, or questions with answers."""
    rows = list(iter_table(path, fields=request.fields))
    authors = [str(row.get("author") or "") for row in rows]
    if question == "validity":
        answers = read_answers(path, request.fields)
        if len(answers) != len(rows):
            raise UserError(
                f"{path}: a row holds several responses, and each needs its own verdict",
                fix="write one response a row, as strop generate does with --n 1",
            )
        pairs = [(prompt_text(answer.prompt), answer.response) for answer in answers]
        return [str(answer.id) for answer in answers], authors, [], pairs
    talks = [_talk(row, number, path) for number, row in enumerate(rows, 1)]
    ids = [str(row.get("id", number)) for number, row in enumerate(rows, 1)]
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated or not ids:
        raise UserError(
            f"{path}: an id occurs more than once" if repeated else f"{path}: nothing to judge in this file",
            value=repeated[0] if repeated else None,
            fix="give every talk its own id" if repeated else None,
        )
    return ids, authors, talks, []


def _talk(row: Mapping[str, Any], number: int, path: Path) -> tuple[Turn, ...]:
    turns: Sequence[Any] | None = row.get("dialogue", row.get("turns"))
    try:
        talk = tuple(Turn(turn["speaker"], turn["text"]) for turn in turns or ())
    except (KeyError, TypeError):
        talk = ()
    if len(talk) < TURNS:
        raise UserError(
            f"{path}, row {number}: a talk needs at least {TURNS} turns, each with speaker and text",
            value=None if turns is None else len(turns),
            why="the question is about the first four turns; shorter talks are easier to mistake",
            fix="leave shorter talks out, or map the field with --fields dialogue=YOURS",
        )
    return talk
