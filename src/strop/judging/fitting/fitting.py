"""Fit a judge to a few hundred human pairs, and find out by nested cross-validation how far it can be trusted.

A pair is the difference of two rows of features; a logistic regression without intercept on such differences gives a
score that is a function of one response alone (Bradley and Terry 1952), so exchanging two responses turns the sign.

The outer folds only report: in each of them the setting is chosen by cross-validation inside the other folds. Extra
labels of other files join the training parts, save those that are linked with a row that is held out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError
from strop.judging.fitting.features import Describer, Matrix, block_matrices, block_scale, blocks_of
from strop.judging.fitting.grid import Grid, Setting
from strop.judging.fitting.label_pool import Preference, linked
from strop.judging.qualifying.folds import FOLDS, Folds, group_folds
from strop.runs.seeds import derive_seed

Rows = NDArray[np.int64]
Vector = NDArray[np.float64]

FEWEST_PAIRS = 20
FEWEST_GROUPS = 5
INNER_FOLDS = 5
MOST_STEPS = 5_000
TOLERANCE = 1e-6
"""Of the gradient: tighter than scikit-learn's, so that figures do not hang on where a solver stops."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled rows as matrices: the rows of the file itself, then the extra ones.

    Attributes:
        blocks: By block of features, better minus worse: float64 ``(rows, width)``.
        own: How many rows are the file's own; they alone are reported on.
        groups: The group of each own row: its own, merged with those that share a text with it.
        families: The family of each row, see `strop.judging.fitting.label_pool.linked`.
    """

    blocks: Mapping[str, Matrix]
    own: int
    groups: tuple[str, ...]
    families: Rows

    def extra_rows(self, held_out: Rows) -> Rows:
        """Return the extra rows that may be learnt from while the rows `held_out` are reported on."""
        extra = np.arange(self.own, len(self.families))
        return extra[~np.isin(self.families[extra], self.families[held_out])]

    def group_folds(self, rows: Rows, *, folds: int, seed: int) -> Folds:
        """Return the fold of each of `rows`, groups kept together."""
        return group_folds([self.groups[row] for row in rows], folds=folds, seed=seed)


def gather(
    own: Sequence[Preference],
    extra: Sequence[Preference],
    blocks: Sequence[str],
    embedder: Describer,
    *,
    advance: Callable[[int], None] | None = None,
) -> Labels:
    """Describe labelled rows by their features and their links.

    Args:
        own: The rows to report on.
        extra: Further rows that may be learnt from.
        blocks: The blocks of features to compute.
        embedder: Gives the vectors.
        advance: Told the number of further texts embedded.

    Raises:
        UserError: There are fewer than `FEWEST_PAIRS` own rows, or fewer than `FEWEST_GROUPS` groups of them.
    """
    groups = merged_groups(own)
    if len(own) < FEWEST_PAIRS:
        raise UserError("too few pairs to fit and test a judge", value=len(own), fix=f"give at least {FEWEST_PAIRS}")
    if len(set(groups)) < FEWEST_GROUPS:
        raise UserError(
            "too few groups to fit and test a judge",
            value=len(set(groups)),
            why="pairs of one client or prompt, or with a text in common, must not be in training and test at once",
            fix=f"give pairs of at least {FEWEST_GROUPS} groups, or map the right field: --fields group=YOURS",
        )
    rows = [*own, *extra]
    sides = [each.better for each in rows] + [each.worse for each in rows]
    matrices = block_matrices(sides, blocks, embedder, advance=advance)
    differences = {block: matrix[: len(rows)] - matrix[len(rows) :] for block, matrix in matrices.items()}
    return Labels(differences, len(own), groups, np.array(linked(rows)))


def merged_groups(own: Sequence[Preference]) -> tuple[str, ...]:
    """Return the group of each row, where rows that share a text, directly or through others, share a group too."""
    families = linked(own)
    names: dict[int, str] = {}
    for family, row in zip(families, own, strict=True):
        names[family] = min(names.get(family, row.groups[0]), row.groups[0])
    return tuple(names[family] for family in families)


def fit_weights(labels: Labels, rows: Rows, setting: Setting) -> Vector:
    """Fit a logistic regression without intercept to differences.

    Args:
        labels: All rows.
        rows: Those to learn from; extra ones weigh ``setting.extra_weight``.
        setting: Features, C and weight.

    Returns:
        Weights of the features as they come, float64 ``(width,)``: the scaling is already in them.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    parts = [labels.blocks[block][rows] for block in blocks_of(setting.features)]
    names = blocks_of(setting.features)
    scale = np.concatenate([block_scale(block, part) for block, part in zip(names, parts, strict=True)])
    # Without an intercept a difference and its mirror image have the same loss; half of them are turned round because
    # the estimator asks for two classes.
    signs = np.where(np.arange(len(rows)) % 2 == 0, 1.0, -1.0)
    weights = np.where(rows < labels.own, 1.0, setting.extra_weight)
    model = LogisticRegression(C=setting.c, fit_intercept=False, max_iter=MOST_STEPS, tol=TOLERANCE)
    with warnings.catch_warnings():
        # A model that stopped half-way would be reported as if it were the setting's.
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(np.concatenate(parts, axis=1) / scale * signs[:, None], signs > 0, sample_weight=weights)
    fitted: Vector = model.coef_[0] / scale
    return fitted


def margins(labels: Labels, rows: Rows, setting: Setting, weights: Vector) -> Vector:
    """Return the score of better minus worse of each row, above 0 where the model agrees with people."""
    columns = np.concatenate([labels.blocks[block][rows] for block in blocks_of(setting.features)], axis=1)
    return np.asarray(columns @ weights)


def choose(
    labels: Labels,
    rows: Rows,
    grid: Grid,
    *,
    held_out: Rows,
    seed: int,
    folds: int = INNER_FOLDS,
    advance: Callable[[int], None] | None = None,
) -> Setting:
    """Choose the setting whose held-out log-loss is the least, by cross-validation inside `rows`.

    The log-loss and not the accuracy: at a few hundred pairs accuracies of settings differ by a pair or two, and the
    probabilities are used. Of equal settings the first of the grid wins; with a single group, the first of all.

    Args:
        labels: All rows.
        rows: Own rows to choose by.
        grid: The settings.
        held_out: Rows that nothing may be learnt about, beside the inner folds' own.
        seed: Of the shuffle of groups.
        folds: Number of inner folds.
        advance: Told the number of settings done.
    """
    if len(grid.settings) == 1 or len({labels.groups[row] for row in rows}) < 2:
        return grid.settings[0]
    places = labels.group_folds(rows, folds=folds, seed=seed)
    losses = []
    for setting in grid.settings:
        found = np.zeros(len(rows))
        for fold in np.unique(places):
            tested = rows[places == fold]
            learnt = training_rows(labels, rows[places != fold], setting, np.concatenate([held_out, tested]))
            found[places == fold] = margins(labels, tested, setting, fit_weights(labels, learnt, setting))
        losses.append(float(np.logaddexp(0, -found).mean()))
        if advance:
            advance(1)
    return grid.settings[int(np.argmin(losses))]


def training_rows(labels: Labels, rows: Rows, setting: Setting, held_out: Rows) -> Rows:
    """Return own `rows`, with the extra ones that the setting uses and that no held-out row is linked with."""
    return np.concatenate([rows, labels.extra_rows(held_out)]) if setting.extra_weight else rows


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What nested cross-validation found.

    Attributes:
        margins: Of every own row, from the model that saw neither it nor its group: ``(own,)``.
        folds: The fold of every own row.
        chosen: The setting of each outer fold.
        extra_used: How many extra rows each outer fold could learn from.
    """

    margins: Vector
    folds: Folds
    chosen: tuple[Setting, ...]
    extra_used: tuple[int, ...]


def nested(
    labels: Labels, grid: Grid, *, seed: int, folds: int = FOLDS, advance: Callable[[int], None] | None = None
) -> OutOfFold:
    """Estimate by nested cross-validation what the whole procedure, choice of setting included, brings.

    Args:
        labels: All rows.
        grid: The settings to choose among.
        seed: Of the shuffles of groups.
        folds: Number of outer folds.
        advance: Told the number of settings tried.
    """
    own = np.arange(labels.own)
    places = labels.group_folds(own, folds=folds, seed=seed)
    found, chosen, used = np.zeros(labels.own), [], []
    for fold in np.unique(places):
        learnt, tested = own[places != fold], own[places == fold]
        inner_seed = derive_seed(seed, "inner", int(fold))
        setting = choose(labels, learnt, grid, held_out=tested, seed=inner_seed, advance=advance)
        weights = fit_weights(labels, training_rows(labels, learnt, setting, tested), setting)
        found[tested] = margins(labels, tested, setting, weights)
        chosen.append(setting)
        used.append(len(labels.extra_rows(tested)))
    return OutOfFold(found, places, tuple(chosen), tuple(used))


def fit_all(
    labels: Labels, grid: Grid, *, seed: int, advance: Callable[[int], None] | None = None
) -> tuple[Setting, Vector]:
    """Choose a setting by all own rows and fit it to everything: the judge that is kept."""
    nothing = np.zeros(0, dtype=np.int64)
    own = np.arange(labels.own)
    setting = choose(labels, own, grid, held_out=nothing, seed=derive_seed(seed, "final"), advance=advance)
    return setting, fit_weights(labels, training_rows(labels, own, setting, nothing), setting)


def without_copies(extra: Iterable[Preference], own: Sequence[Preference]) -> list[Preference]:
    """Return the extra rows whose texts are not exactly those of an own row."""
    known = {row.texts() for row in own}
    return [row for row in extra if row.texts() not in known]
