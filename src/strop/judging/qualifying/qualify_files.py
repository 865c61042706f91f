"""From a judge and a file of human pairs to a certificate and a report in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from strop.judging.anchors import FOLDER, judge_anchors, record_anchors
from strop.judging.asking import Asking
from strop.judging.judge import PairJudge
from strop.judging.opening import has_learned, open_judge, reply_form
from strop.judging.pairs import PairFile, few_of, read_pair_file
from strop.judging.qualifying.certificate import Certificate, DataIdentity, RubricIdentity
from strop.judging.qualifying.qualification import Qualification, qualify, refuse_seen
from strop.judging.qualifying.qualification_report import write_qualification
from strop.judging.qualifying.rated import RatedFile, RatingFigures, Scale, measure_ratings, ratings_by, read_rated
from strop.judging.qualifying.slices import model_family
from strop.judging.qualifying.verdict import THRESHOLDS, Thresholds, load_thresholds
from strop.judging.rubric import Rubric, load_rubric
from strop.models.placement import Placement
from strop.models.spec import parse_model
from strop.runs.budget import Budget
from strop.runs.progress import Reporter
from strop.runs.workspace import open_calls

NEVER_STOP = 1.0
"""Unreadable replies are what is measured here: they count against the judge instead of stopping."""


@dataclass(frozen=True, slots=True)
class QualifyRequest:
    """What to qualify, on what.

    Attributes:
        judge: A model, or the folder of a fitted judge.
        pairs: The file of human pairs.
        out: Folder for the certificate and the report.
        rubric: A shipped rubric or a file; None for a fitted judge.
        fields: Renames for `pairs`, wanted name to the file's name.
        ratings: A file of rated responses to measure as well; None for none.
        ratings_fields: Renames for `ratings`.
        scale: The ends of people's scores there; None for the rubric's own 1 to 5.
        limit: Take only so many pairs; None takes all.
        thresholds: A file of thresholds; None takes the shipped one.
        asking: How a model is asked; its form follows the kind of model, its ceiling is lifted.
        seed: Of the order of responses, folds and intervals.
        anchors: Also judge the anchors and keep the verdicts: later runs then tell whether the judge has drifted.
        placement: Where a model answers.
        command: The command that makes the certificate.
    """

    judge: str
    pairs: Path
    out: Path
    rubric: str | None = None
    fields: Mapping[str, str] | None = None
    ratings: Path | None = None
    ratings_fields: Mapping[str, str] | None = None
    scale: Scale | None = None
    limit: int | None = None
    thresholds: Path | None = None
    asking: Asking = field(default_factory=Asking)
    seed: int = 0
    anchors: bool = False
    placement: Placement = field(default_factory=Placement)
    command: str = ""


def qualify_file(
    request: QualifyRequest, *, workspace: Path, budget: Budget, reporter: Reporter
) -> tuple[Qualification, Certificate]:
    """Qualify a judge on a file and write ``certificate.json``, the report and its picture.

    Args:
        request: What to qualify.
        workspace: Holds the store of the judge's replies.
        budget: Limits what a model may spend.
        reporter: Shows progress.

    Raises:
        UserError: The file, the judge, the rubric or the thresholds are not usable.
        Stopped: Calls failed in a way that may pass, or the budget is spent; the same command continues.
    """
    read = read_pair_file(request.pairs, request.fields)
    rated = None if request.ratings is None else read_rated(request.ratings, request.ratings_fields)
    thresholds = load_thresholds(request.thresholds or THRESHOLDS)
    rubric = None if request.rubric is None or has_learned(request.judge) else load_rubric(request.rubric)
    qualification = _qualify(request, read, rated, rubric, thresholds, workspace, budget, reporter)
    certificate = Certificate.of(
        qualification,
        rubric=RubricIdentity()
        if rubric is None
        else RubricIdentity(name=rubric.name, version=str(rubric.version), hash=rubric.hash),
        data_name=request.pairs.name,
        left_out=dict(read.left_out),
        ratings=None if rated is None or request.ratings is None else _rated_identity(request.ratings, rated),
        date=datetime.now(UTC).date().isoformat(),
        command=request.command,
    )
    request.out.mkdir(parents=True, exist_ok=True)
    write_qualification(qualification, certificate, request.out)
    return qualification, certificate


def _qualify(
    request: QualifyRequest,
    read: PairFile,
    rated: RatedFile | None,
    rubric: Rubric | None,
    thresholds: Thresholds,
    workspace: Path,
    budget: Budget,
    reporter: Reporter,
) -> Qualification:
    pairs = read.pairs if request.limit is None else few_of(read.pairs, request.limit)
    family, asking = None, request.asking
    if not has_learned(request.judge):
        spec = parse_model(request.judge)
        family = model_family(spec.model)
        asking = replace(asking, form=reply_form(spec), ceiling=NEVER_STOP)
    workspace.mkdir(parents=True, exist_ok=True)
    with (
        open_calls(workspace, "judge qualify", str(request.out.resolve()), budget=budget) as store,
        reporter.progress("judging", total=2 * len(pairs)) as advance,
        open_judge(
            request.judge,
            rubric=rubric,
            store=store,
            asking=asking,
            placement=request.placement,
            advance=advance,
        ) as judge,
    ):
        refuse_seen(judge, pairs)
        ratings = None if rated is None else _ratings(judge, rated, request, thresholds.level)
        found = qualify(judge, pairs, thresholds=thresholds, family=family, ratings=ratings, seed=request.seed)
        if request.anchors:
            calls = workspace / FOLDER / f"calls-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.sqlite"
            calls.parent.mkdir(parents=True, exist_ok=True)
            drift = record_anchors(workspace, judge_anchors(judge, calls=calls))
            reporter.say("anchors judged for the first time" if drift is None else str(drift))
        return found


def _ratings(judge: PairJudge, rated: RatedFile, request: QualifyRequest, level: float) -> RatingFigures:
    stepped = not has_learned(request.judge)
    ratings = ratings_by(judge, rated.rows)
    return measure_ratings(rated.rows, ratings, stepped=stepped, scale=request.scale, level=level, seed=request.seed)


def _rated_identity(path: Path, rated: RatedFile) -> DataIdentity:
    groups = len({row.group for row in rated.rows})
    return DataIdentity(
        name=path.name, hash=rated.hash, rows=len(rated.rows), groups=groups, left_out=dict(rated.left_out)
    )
