"""From a file of human pairs to one table: reward models, tuned and frozen, beside what needs no model.

Every figure is out of fold, groups kept whole, and every arm has the same folds. Arms that choose a setting choose it
inside the training part of each fold; the tuned arm has one setting that was fixed beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from strop.judging.fitting.curve_figure import draw_curve
from strop.judging.fitting.fitting import merged_groups
from strop.judging.fitting.label_pool import Preference, preference_of
from strop.judging.fitting.learning_curve import DRAWS, LearningCurve
from strop.judging.pairs import PairFile, data_hash, read_pair_file
from strop.judging.qualifying.baselines import BASELINES, correctness, out_of_fold
from strop.judging.qualifying.folds import Folds, group_folds
from strop.models.opening import model_folder
from strop.models.spec import parse_model
from strop.records.tables import atomic_path
from strop.runs.progress import Reporter
from strop.training.human_pairs.frozen import FrozenArm, encoder_describer, frozen_arm, model_describer
from strop.training.human_pairs.report import ArmFigures, ComparisonReport, arm_figures
from strop.training.human_pairs.settings import (
    COMPARISON_FILE,
    ENCODER,
    LANGUAGE_MODEL,
    ComparisonSettings,
    load_settings,
)
from strop.training.human_pairs.tuned import tuned_arm
from strop.training.settings import Launcher

REPORT_NAME = "comparison.json"
TUNED, STATES, VECTORS, JUDGE = "tuned reward model", "frozen language model", "frozen encoder", "judge fit"

Which = Literal["all", "frozen", "tuned"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """What to compare.

    Attributes:
        pairs: The file of human pairs.
        out: Folder for the report, the learning curves and the tuned arm's folds.
        arms: ``frozen`` ones (minutes), the ``tuned`` one (an hour or more), or all. A tuned arm that has been computed
            in `out` before is in the report in any case.
        fields: Renames of the file's fields, wanted name to the file's name.
        model: The language model that is tuned, and frozen.
        encoder: The frozen encoder.
        settings: The grids and the training.
        seed: Of folds, trainings, draws and intervals.
        draws: Draws of labels for each point of the learning curves; 0 leaves them out.
        device: Where to train.
        launcher: How to start the trainings.
        cache: Where vectors are kept; the user's cache folder by default.
    """

    pairs: Path
    out: Path
    arms: Which = "all"
    fields: Mapping[str, str] | None = None
    model: str = LANGUAGE_MODEL
    encoder: str = ENCODER
    settings: Path = COMPARISON_FILE
    seed: int = 0
    draws: int = DRAWS
    device: str = "auto"
    launcher: Launcher | None = None
    cache: Path | None = None


def compare_rewards(request: ComparisonRequest, *, reporter: Reporter) -> ComparisonReport:
    """Compare reward models on human pairs and write ``comparison.json`` and the learning curves.

    The same command continues a comparison that was stopped: folds that are done and vectors are kept.

    Args:
        request: What to compare.
        reporter: Shows progress.

    Raises:
        UserError: The file, the settings or a model is not usable, or the pairs are too few.
    """
    settings = load_settings(request.settings)
    read = read_pair_file(request.pairs, request.fields)
    own = [preference_of(pair) for pair in read.pairs]
    groups = merged_groups(own)
    folds = group_folds(groups, seed=request.seed)
    baselines = {name: out_of_fold(name, read.pairs, folds) for name in BASELINES}
    right: dict[str, Floats | None] = {TUNED: None, STATES: None, VECTORS: None, JUDGE: None}
    frozen: dict[str, FrozenArm] = {}
    request.out.mkdir(parents=True, exist_ok=True)
    if request.arms != "tuned":
        frozen = _frozen(request, settings, own, baselines["longer wins"], reporter)
        right |= {name: correctness(arm.found.margins) for name, arm in frozen.items()}
    margins = _tuned(request, settings, read, folds, reporter)
    if margins is not None:
        right[TUNED] = correctness(margins)
    for name, arm in frozen.items():
        if arm.curve is not None and arm.curve.points:
            accuracies = {name: float(values.mean()) for name, values in baselines.items()}
            draw_curve(arm.curve, accuracies, request.out / f"{name.replace(' ', '_')}.svg")
    report = ComparisonReport(
        pairs=len(own),
        groups=len(set(groups)),
        left_out=dict(read.left_out),
        arms=_figures(read, groups, right, baselines, frozen, request),
        settings_hash=settings.hash,
        model=request.model,
        encoder=request.encoder,
        seed=request.seed,
        data_hash=data_hash(read.pairs),
    )
    with atomic_path(request.out / REPORT_NAME) as part:
        part.write_text(json.dumps(report.to_row(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def _frozen(
    request: ComparisonRequest,
    settings: ComparisonSettings,
    own: Sequence[Preference],
    longer: Floats,
    reporter: Reporter,
) -> dict[str, FrozenArm]:
    arms: dict[str, FrozenArm] = {}
    for name, grid, describer, draws in (
        (STATES, settings.states, model_describer(request.model, request.cache), request.draws),
        (VECTORS, settings.vectors, encoder_describer(request.encoder, request.cache), request.draws),
        (JUDGE, settings.judge, encoder_describer(request.encoder, request.cache), 0),
    ):
        arms[name] = frozen_arm(
            own, describer, grid, longer, name=name, seed=request.seed, draws=draws, reporter=reporter
        )
    return arms


def _tuned(
    request: ComparisonRequest, settings: ComparisonSettings, read: PairFile, folds: Folds, reporter: Reporter
) -> Floats | None:
    """Return the tuned arm's margins; None where it was not asked for and is not there."""
    folder = request.out / "tuned"
    if request.arms == "frozen" and len(list(folder.glob("fold-*/margins.json"))) < len(np.unique(folds)):
        return None
    return tuned_arm(
        read.pairs,
        folds,
        start=model_folder(parse_model(request.model)),
        settings=settings.tuned,
        folder=folder,
        seed=request.seed,
        device=request.device,
        launcher=request.launcher,
        tell=reporter.say,
    )


def _figures(
    read: PairFile,
    groups: Sequence[str],
    right: Mapping[str, Floats | None],
    baselines: Mapping[str, Floats],
    frozen: Mapping[str, FrozenArm],
    request: ComparisonRequest,
) -> tuple[ArmFigures, ...]:
    """Return the figures of every arm: those that learn first, each beside every other one's, then the baselines."""
    judge = right[JUDGE]
    against = dict(baselines) | ({JUDGE: judge} if judge is not None else {})
    every: dict[str, Floats | None] = {**right, **baselines}
    arms = []
    for name, values in every.items():
        others = {key: theirs for key, theirs in against.items() if key != name and name not in baselines}
        curve: LearningCurve | None = frozen[name].curve if name in frozen else None
        chosen = tuple(setting.shown() for setting in frozen[name].found.chosen) if name in frozen else ()
        arms.append(
            arm_figures(name, read.pairs, groups, values, others, chosen=chosen, curve=curve, seed=request.seed)
        )
    return tuple(arms)
