"""From files of human labels to a fitted judge, its report and its learning curve in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strop import __version__
from strop.errors import UserError
from strop.judging.fitting.curve_figure import draw_curve
from strop.judging.fitting.fit_report import ExtraFile, FitReport, figures
from strop.judging.fitting.fitted import Description, FittedJudge, Vector, weights_hash
from strop.judging.fitting.fitting import Labels, fit_all, gather, nested, without_copies
from strop.judging.fitting.grid import Grid, Setting, load_grid
from strop.judging.fitting.label_pool import Preference, preference_of, read_labels
from strop.judging.fitting.learning_curve import DRAWS, curve_sizes, learning_curve
from strop.judging.pairs import PairFile, data_hash, read_pair_file
from strop.judging.qualifying.baselines import BASELINES, correctness, out_of_fold
from strop.judging.qualifying.folds import FOLDS
from strop.models.embedding import Embedder, open_embedder
from strop.records.tables import atomic_path
from strop.runs.progress import Reporter

REPORT_NAME = "fit.json"
CURVE_NAME = "learning_curve.svg"


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What to fit.

    Attributes:
        pairs: The file of human pairs to fit to and to report on.
        out: Folder for the judge and its report.
        encoder: ``builtin:minilm`` or an encoder's folder.
        extra: Files of further human labels that may be learnt from.
        fields: Renames for `pairs`, wanted name to the file's name.
        extra_fields: Renames for `extra`; each applies to the files that have the field.
        across: Match rated responses of different contexts too.
        grid: Name of the grid of settings.
        name: What to call the judge.
        seed: Of folds, draws and intervals.
        draws: How many draws of labels the learning curve takes.
    """

    pairs: Path
    out: Path
    encoder: str = "builtin:minilm"
    extra: tuple[Path, ...] = ()
    fields: Mapping[str, str] | None = None
    extra_fields: Mapping[str, str] | None = None
    across: bool = False
    grid: str = "standard"
    name: str = "fitted"
    seed: int = 0
    draws: int = DRAWS


def fit_files(request: FitRequest, *, reporter: Reporter, cache: Path | None = None) -> FitReport:
    """Fit a judge and write ``judge.json``, ``weights.safetensors``, ``fit.json`` and ``learning_curve.svg``.

    Args:
        request: What to fit.
        reporter: Shows progress.
        cache: Where vectors are kept; the user's cache folder by default.

    Raises:
        UserError: A file, a field, the grid or the encoder is not usable, or the pairs are too few.
    """
    read = read_pair_file(request.pairs, request.fields)
    own = [preference_of(pair) for pair in read.pairs]
    extra, extra_files = _read_extra(request, own)
    grid = load_grid(request.grid) if extra else load_grid(request.grid).without_extra()
    embedder = open_embedder(request.encoder, cache=cache)
    try:
        with reporter.progress("embedding texts") as advance:
            labels = gather(own, extra, grid.blocks(), embedder, advance=advance)
        report, judge = _fit(request, read, labels, grid, embedder, extra_files, own + extra, reporter)
    finally:
        embedder.close()
    judge.save(request.out)
    if report.curve.points:
        baselines = {name: versus.baseline.estimate for name, versus in report.slices[0].versus.items()}
        draw_curve(report.curve, baselines, request.out / CURVE_NAME)
    with atomic_path(request.out / REPORT_NAME) as part:
        part.write_text(json.dumps(report.to_row(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def _read_extra(request: FitRequest, own: Sequence[Preference]) -> tuple[list[Preference], list[ExtraFile]]:
    extra: list[Preference] = []
    files: list[ExtraFile] = []
    unused = dict(request.extra_fields or {})
    for path in request.extra:
        read = read_labels(path, fields=request.extra_fields, across=request.across, seed=request.seed)
        new = without_copies(read.preferences, own)
        copies = len(read.preferences) - len(new)
        files.append(ExtraFile(str(path), read.rows, len(new), copies, read.left_out))
        extra += new
        unused = {wanted: given for wanted, given in unused.items() if wanted not in read.renamed}
    if unused:
        raise UserError("no file of extra labels has this field", value=", ".join(unused.values()))
    return extra, files


def _fit(
    request: FitRequest,
    read: PairFile,
    labels: Labels,
    grid: Grid,
    embedder: Embedder,
    extra_files: Sequence[ExtraFile],
    rows: Sequence[Preference],
    reporter: Reporter,
) -> tuple[FitReport, FittedJudge]:
    choices = (min(FOLDS, len(set(labels.groups))) + 1) * len(grid.settings)
    with reporter.progress("choosing settings", total=choices) as advance:
        found = nested(labels, grid, seed=request.seed, advance=advance)
        setting, weights = fit_all(labels, grid, seed=request.seed, advance=advance)
    baselines = {name: out_of_fold(name, read.pairs, found.folds) for name in BASELINES}
    points = len(curve_sizes(found.folds)) * len(found.chosen) * request.draws
    with reporter.progress("learning curve", total=points) as advance:
        longer = baselines["longer wins"]
        curve = learning_curve(
            labels, grid, found.folds, longer, seed=request.seed, draws=request.draws, advance=advance
        )
    judge = _judge(request, labels, grid, setting, weights, embedder, rows)
    report = FitReport(
        pairs=labels.own,
        groups=len(set(labels.groups)),
        left_out=read.left_out,
        computed=read.computed,
        extra=extra_files,
        extra_used=found.extra_used,
        texts=embedder.texts,
        divided=embedder.divided,
        grid=grid.name,
        tried=len(grid.settings),
        chosen=found.chosen,
        setting=setting,
        slices=figures(read.pairs, labels.groups, correctness(found.margins), baselines, seed=request.seed),
        curve=curve,
        seed=request.seed,
        encoder=embedder.name,
        revision=judge.revision,
        data_hash=data_hash(read.pairs),
    )
    return report, judge


def _judge(
    request: FitRequest,
    labels: Labels,
    grid: Grid,
    setting: Setting,
    weights: Vector,
    embedder: Embedder,
    rows: Sequence[Preference],
) -> FittedJudge:
    learnt = rows if setting.extra_weight else rows[: labels.own]
    description = Description(
        name=request.name,
        features=setting.features,
        c=setting.c,
        extra_weight=setting.extra_weight,
        encoder=request.encoder if request.encoder.startswith("builtin:") else str(Path(request.encoder).resolve()),
        encoder_revision=embedder.revision,
        weights_hash=weights_hash(weights),
        pairs=labels.own,
        groups=len(set(labels.groups)),
        extra=len(learnt) - labels.own,
        grid=grid.name,
        grid_hash=grid.hash,
        seed=request.seed,
        strop=__version__,
        # The setting was chosen by all rows, so all of them are known to the judge, whichever it learnt from.
        trained_on=tuple(sorted(frozenset().union(*(row.text_hashes() for row in rows)))),
    )
    return FittedJudge(description, weights, embedder)
