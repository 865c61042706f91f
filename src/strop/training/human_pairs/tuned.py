"""The arm that is trained: one reward model a fold, on the pairs of the others; what is done of it is kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.judging.pairs import HumanPair, data_hash
from strop.judging.qualifying.folds import Folds
from strop.models.placement import Placement
from strop.models.rewards import open_reward
from strop.records.rows import PreferencePair
from strop.records.tables import atomic_path, write_table
from strop.runs.seeds import derive_seed
from strop.training.job import TrainingJob
from strop.training.launching import train
from strop.training.settings import Launcher, RewardSettings
from strop.training.weights import start_revision

SCORES, ROWS, WORK, MODEL = "margins.json", "rows.jsonl", "work", "model"

Margins = NDArray[np.float64]


def tuned_arm(
    pairs: Sequence[HumanPair],
    folds: Folds,
    *,
    start: Path,
    settings: RewardSettings,
    folder: Path,
    seed: int,
    device: str = "auto",
    launcher: Launcher | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Margins:
    """Return the margin of every pair by a model that was trained on the other folds.

    The folder keeps checkpoints and the margins of every fold that is done: the same call goes on after a kill. A
    fold's model is removed once its pairs are scored.

    Args:
        pairs: The pairs.
        folds: The fold of each.
        start: Folder of the model to start from.
        settings: How to train.
        folder: Where folds are kept.
        seed: Each fold's is derived from it.
        device: Where to train and to score: ``auto``, ``cpu``, ``cuda``.
        launcher: How to start the trainings.
        tell: Told what is going on, a line at a time.

    Raises:
        UserError: The pairs or the settings do not allow the training.
    """
    found = np.full(len(pairs), np.nan)
    for fold in np.unique(folds).tolist():
        tested = np.flatnonzero(folds == fold)
        part = folder / f"fold-{fold}"
        job = _job(start, settings, part, derive_seed(seed, "fold", fold), device)
        key = _key(job, pairs, folds, fold)
        margins = _kept(part, key, len(tested))
        if margins is None:
            tell(f"fold {fold}: training on {len(pairs) - len(tested)} pairs")
            margins = _fold(job, pairs, folds, fold, launcher, tell)
            with atomic_path(part / SCORES) as file:
                file.write_text(json.dumps({"key": key, "margins": margins}) + "\n", encoding="utf-8")
            for name in (MODEL, WORK):
                shutil.rmtree(part / name, ignore_errors=True)
        right = float(np.mean((np.sign(margins) + 1) / 2))
        tell(f"fold {fold}: {right:.1%} of {len(tested)} held-out pairs")
        found[tested] = margins
    return found


def _job(start: Path, settings: RewardSettings, part: Path, seed: int, device: str) -> TrainingJob:
    return TrainingJob.model_validate(
        {
            "kind": "reward",
            "model": start,
            "rows": part / ROWS,
            "out": part / MODEL,
            "work": part / WORK,
            "settings": settings,
            "seed": seed,
            "device": device,
        }
    )


def _key(job: TrainingJob, pairs: Sequence[HumanPair], folds: Folds, fold: int) -> str:
    """Return what a fold's margins depend on."""
    settings = job.settings.model_dump(mode="json", exclude={"save_steps", "micro_batch_size"})
    content: list[Any] = [start_revision(job.model), settings, job.seed, data_hash(pairs), folds.tolist(), fold]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _kept(part: Path, key: str, count: int) -> list[float] | None:
    file = part / SCORES
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    if found.get("key") != key or len(found["margins"]) != count:
        return None
    return [float(margin) for margin in found["margins"]]


def _fold(
    job: TrainingJob,
    pairs: Sequence[HumanPair],
    folds: Folds,
    fold: int,
    launcher: Launcher | None,
    tell: Callable[[str], None],
) -> list[float]:
    learnt = [pair for pair, place in zip(pairs, folds, strict=True) if place != fold]
    tested = [pair for pair, place in zip(pairs, folds, strict=True) if place == fold]
    job.rows.parent.mkdir(parents=True, exist_ok=True)
    write_table(job.rows, (PreferencePair(pair.id, pair.prompt, pair.better, pair.worse).to_row() for pair in learnt))
    told = 0

    def advance(done: int, steps: int) -> None:
        nonlocal told
        if done == steps or done >= told + max(1, steps // 10):
            told = done
            tell(f"fold {fold}: step {done} of {steps}")

    outcome = train(job, launcher=launcher, advance=advance)
    tell(f"fold {fold}: trained in {outcome.wall_s:.0f} s, loss {outcome.losses[0]:.3f} to {outcome.losses[-1]:.3f}")
    reward = open_reward(job.out, Placement(device="cpu" if job.device == "cpu" else "auto"))
    try:
        scores = reward.score([(pair.prompt, text) for pair in tested for text in (pair.better, pair.worse)])
    finally:
        reward.close()
    return [first - second for first, second in zip(scores[::2], scores[1::2], strict=True)]
