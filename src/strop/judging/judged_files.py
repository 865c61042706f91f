"""Files of responses or pairs in, files of ratings or comparisons out: what ``strop judge rate`` and ``compare`` do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.judging.anchors import FOLDER, Drift, judge_anchors, record_anchors
from strop.judging.asking import Asking
from strop.judging.expected import expected_ratings, require_local
from strop.judging.judge import Comparison, Duel, PairJudge
from strop.judging.llm import LlmJudge
from strop.judging.opening import open_judge
from strop.judging.pairs import prompt_group
from strop.judging.parsing import ParseFailure
from strop.judging.qualifying.certificate import NO_RUBRIC, Standing, require_qualified
from strop.judging.rating import Mode
from strop.judging.rubric import Rubric, load_rubric
from strop.judging.summary import (
    ComparisonSummary,
    ExpectedSummary,
    RatingSummary,
    summarise_comparisons,
    summarise_expected,
    summarise_ratings,
)
from strop.models.asking import Advance
from strop.models.placement import Placement
from strop.records.rows import Answer, SampledAnswers, prompt_from_json
from strop.records.tables import iter_table, table_kind, write_table
from strop.runs.budget import UNLIMITED, Budget
from strop.runs.manifest import now
from strop.runs.progress import Reporter
from strop.runs.workspace import open_calls

SIDES = (("first", "second"), ("better", "worse"), ("chosen", "rejected"))
"""The fields that may hold the two responses of a pair."""


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """Whom to ask and how.

    Attributes:
        judge: A model, or the folder of a fitted judge.
        rubric: A shipped rubric or a file; None for a fitted judge.
        out: Where the rows go.
        fields: Renames of the input's fields.
        asking: How a model is asked; by default in the form that suits its kind.
        certificate: The judge's certificate; None where it has none.
        seed: Of shuffled criteria and of intervals.
        placement: Where a model answers.
        budget: The most that may be spent.
    """

    judge: str
    rubric: str | None
    out: Path
    fields: Mapping[str, str] = field(default_factory=dict)
    asking: Asking | None = None
    certificate: Path | None = None
    seed: int = 0
    placement: Placement = field(default_factory=Placement)
    budget: Budget = UNLIMITED


@dataclass(frozen=True, slots=True)
class Judged:
    """What a file came to.

    Attributes:
        judge: The judge's name.
        revision: What identifies the judge.
        standing: Whether it has earned trust.
        summary: The figures.
        drift: How the verdicts on the anchors changed; None where they were judged for the first time, or not at all.
    """

    judge: str
    revision: str
    standing: Standing
    summary: RatingSummary | ComparisonSummary | ExpectedSummary
    drift: Drift | None = None


def read_answers(path: Path, fields: Mapping[str, str]) -> list[Answer]:
    """Read responses; several samples of one prompt (``responses``) get the ids ``ID#0``, ``ID#1``, ...

    Raises:
        UserError: A field is missing or mistyped, an id repeats, or the file is empty.
    """
    answers: list[Answer] = []
    for row in iter_table(path, fields=fields):
        if "responses" in row and "response" not in row:
            sampled = SampledAnswers.from_row(row)
            answers += [Answer(f"{sampled.id}#{n}", sampled.prompt, text) for n, text in enumerate(sampled.responses)]
        else:
            answers.append(Answer.from_row(row))
    _check_ids([answer.id for answer in answers], path)
    return answers


def read_duels(path: Path, fields: Mapping[str, str]) -> list[Duel]:
    """Read pairs: ``prompt`` with ``first`` and ``second``, or with the two sides of a labelled pair in that order.

    Raises:
        UserError: A field is missing or mistyped, an id repeats, or the file is empty.
    """
    duels: list[Duel] = []
    for number, row in enumerate(iter_table(path, fields=fields), 1):
        sides = next((names for names in SIDES if all(isinstance(row.get(name), str) for name in names)), None)
        if sides is None or "prompt" not in row:
            raise UserError(
                f"{path}, row {number}: a pair holds a prompt and two responses as text",
                value=sorted(row),
                fix="map its fields with --fields first=YOURS --fields second=YOURS",
                alternatives=[" and ".join(names) for names in SIDES],
            )
        duels.append(Duel(row.get("id", number), prompt_from_json(row["prompt"]), row[sides[0]], row[sides[1]]))
    _check_ids([duel.id for duel in duels], path)
    return duels


def _check_ids(ids: Sequence[object], path: Path) -> None:
    if not ids:
        raise UserError(f"{path}: nothing to judge in this file")
    seen: set[object] = set()
    for identifier in ids:
        if identifier in seen:
            raise UserError(f"{path}: an id occurs more than once", value=identifier, fix="give every row its own id")
        seen.add(identifier)


def rate_file(
    answers: Path, request: JudgeRequest, *, workspace: Path, reporter: Reporter, mode: Mode = "all", expected: bool
) -> Judged:
    """Rate a file of responses and write one row for each.

    Args:
        answers: The responses.
        request: Whom to ask and how.
        workspace: Its call store keeps the replies.
        reporter: Shows progress.
        mode: See `strop.judging.rating.Mode`.
        expected: Read expected ratings off a local model's probabilities instead of asking for words.

    Raises:
        UserError: A fitted judge was given, which rates nothing; or see `read_answers` and `open_judge`.
        Stopped: See `strop.judging.asking.ask_judge`.
    """
    table_kind(request.out)
    items, rubric = read_answers(answers, request.fields), _rubric(request)
    groups = [prompt_group(item.prompt) for item in items]
    calls = len(items) * (len(rubric.criteria) if rubric and (expected or mode == "each") else 1)
    with reporter.progress("rating", total=calls) as advance, _opened(request, rubric, workspace, advance) as judge:
        if not isinstance(judge, LlmJudge):
            raise UserError("a fitted judge compares and does not rate", value=request.judge, fix="use compare")
        standing = _standing(judge, request)
        if expected:
            local = require_local(judge.model)
            expectations = expected_ratings(local, items, rubric=judge.rubric, advance=advance)
            write_table(request.out, ({**rating.to_row(), "judge": judge.revision} for rating in expectations))
            told = summarise_expected(expectations, rubric=judge.rubric, groups=groups, seed=request.seed)
            return Judged(judge.name, judge.revision, standing, told)
        ratings = judge.rate(items, mode=mode, seed=request.seed)
    write_table(request.out, ({**rating.to_row(), "judge": judge.revision} for rating in ratings))
    summary = summarise_ratings(ratings, rubric=judge.rubric, groups=groups, seed=request.seed)
    return Judged(judge.name, judge.revision, standing, summary)


def compare_file(
    pairs: Path,
    request: JudgeRequest,
    *,
    workspace: Path,
    reporter: Reporter,
    per_criterion: bool = False,
    anchors: bool = True,
) -> Judged:
    """Compare a file of pairs in both orders and write one row for each.

    Args:
        pairs: The pairs.
        request: Whom to ask and how.
        workspace: Its call store keeps the replies, its anchors the earlier verdicts on them.
        reporter: Shows progress.
        per_criterion: Ask by each criterion as well.
        anchors: Judge the anchors first and compare with the last time.

    Raises:
        UserError: See `read_duels` and `open_judge`.
        Stopped: See `strop.judging.asking.ask_judge`.
    """
    table_kind(request.out)
    duels, rubric = read_duels(pairs, request.fields), _rubric(request)
    aspects = 1 + (len(rubric.criteria) if rubric and per_criterion else 0)
    with (
        reporter.progress("comparing", total=2 * aspects * len(duels)) as advance,
        _opened(request, rubric, workspace, advance, per_criterion=per_criterion) as judge,
    ):
        standing = _standing(judge, request)
        drift = _judge_anchors(judge, workspace) if anchors else None
        comparisons = judge.compare(duels)
    write_table(request.out, (comparison_row(each, judge.revision) for each in comparisons))
    groups = [prompt_group(duel.prompt) for duel in duels]
    summary = summarise_comparisons(comparisons, groups=groups, seed=request.seed)
    return Judged(judge.name, judge.revision, standing, summary, drift=drift)


def comparison_row(comparison: Comparison, revision: str) -> dict[str, Any]:
    """Return a comparison as a row; a missing verdict is null, and ``failures`` says why."""
    orders = {"forward": comparison.forward, "backward": comparison.backward}
    return {
        "id": comparison.id,
        "verdict": comparison.verdict,
        **{name: None if isinstance(order, ParseFailure) else order for name, order in orders.items()},
        "strength": comparison.strength,
        "criteria": dict(comparison.criteria),
        "failures": {name: str(order) for name, order in orders.items() if isinstance(order, ParseFailure)},
        "judge": revision,
    }


def _rubric(request: JudgeRequest) -> Rubric | None:
    return None if request.rubric is None else load_rubric(request.rubric)


def _standing(judge: PairJudge, request: JudgeRequest) -> Standing:
    """Say where the judge stands; a certificate that was given must be its own."""
    rubric_hash = judge.rubric.hash if isinstance(judge, LlmJudge) else NO_RUBRIC
    forced = request.certificate is None
    return require_qualified(judge.revision, rubric_hash, request.certificate, allow_unqualified=forced)


def _judge_anchors(judge: PairJudge, workspace: Path) -> Drift | None:
    name = "".join(character for character in now() if character.isalnum())
    calls = workspace / FOLDER / f"calls-{name}.sqlite"
    calls.parent.mkdir(parents=True, exist_ok=True)
    return record_anchors(workspace, judge_anchors(judge, calls=calls))


@contextmanager
def _opened(
    request: JudgeRequest, rubric: Rubric | None, workspace: Path, advance: Advance, *, per_criterion: bool = False
) -> Iterator[PairJudge]:
    workspace.mkdir(parents=True, exist_ok=True)
    with (
        open_calls(workspace, "judge", str(request.out.resolve()), budget=request.budget) as store,
        open_judge(
            request.judge,
            rubric=rubric,
            store=store,
            asking=request.asking,
            per_criterion=per_criterion,
            placement=request.placement,
            advance=advance,
        ) as judge,
    ):
        yield judge
