"""A reward model from a file of pairs, outside of any run: what `strop reward train` does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

from strop.errors import UserError
from strop.models.opening import model_folder
from strop.models.rewards.facts import RewardFacts, is_reward_folder, measured
from strop.models.rewards.folder import FolderReward
from strop.models.spec import parse_base
from strop.records.tables import atomic_path, iter_table, read_table, write_table
from strop.runs.progress import Reporter
from strop.training.job import TrainingJob, TrainingOutcome
from strop.training.launching import further_steps, train
from strop.training.mixing import Mix, general_pairs, mixed
from strop.training.settings import RewardSettings


def train_reward_model(
    pairs: Path,
    *,
    model: str,
    out: Path,
    settings: RewardSettings,
    development: Path | None = None,
    general: Path | None = None,
    share: float = 0.5,
    seed: int = 0,
    device: Literal["auto", "cpu"] = "auto",
    quiet: bool = False,
) -> TrainingOutcome:
    """Train a reward model and measure the scale of its rewards; a call that was killed is continued.

    Args:
        pairs: Rows of `prompt`, `chosen`, `rejected`, with an `id` or without.
        model: What to start from.
        out: Folder to write; beside it ``OUT.work`` keeps checkpoints until the end.
        settings: How to train.
        development: Pairs on which the best state is chosen and the scale is measured; without, the training pairs
            give the scale.
        general: General pairs to mix in.
        share: Share of general pairs.
        seed: Of the order of pairs, of the mixture and of adapters.
        device: `auto` is the GPU where there is one.
        quiet: Whether to keep progress to itself.

    Raises:
        UserError: The folder holds a reward model already, or the pairs or the model do not allow the training.
    """
    if is_reward_folder(out):
        raise UserError("this folder holds a reward model already", value=str(out), fix="remove it, or name another")
    spec = parse_base(model)
    spec.check()
    work = out.with_name(out.name + ".work")
    rows = _numbered(pairs)
    if general is not None:
        rows = [dict(row) for row in mixed(rows, general_pairs(Mix(file=general)), share=share, total=None, seed=seed)]
    write_table(work / "pairs.jsonl", rows)
    chosen_on = None if development is None else work / "development.jsonl"
    if development is not None and chosen_on is not None:
        write_table(chosen_on, _numbered(development))
    job = TrainingJob(
        kind="reward",
        model=model_folder(spec),
        rows=work / "pairs.jsonl",
        out=out,
        work=work,
        settings=settings,
        seed=seed,
        development=chosen_on,
        device=device,
    )
    with Reporter(quiet=quiet).progress("training", None) as advance:
        outcome = train(job, advance=further_steps(advance))
    measure_scale(out, chosen_on or job.rows, base=spec.model, device=device)
    shutil.rmtree(work)
    return outcome


def _numbered(pairs: Path) -> list[dict[str, object]]:
    return [{"id": number, **row} for number, row in enumerate(read_table(pairs))]


def measure_scale(folder: Path, pairs: Path, *, base: str, device: str = "auto", dtype: str = "auto") -> None:
    """Write into a reward model's facts what it started from, and the scale of its rewards of some responses.

    Args:
        folder: The reward model.
        pairs: Rows whose responses are scored.
        base: What the training started from, as a person names it.
        device: Where to score.
        dtype: Precision.
    """
    facts = RewardFacts.read(folder).model_copy(update={"base": base})
    facts.write(folder)
    model = FolderReward(folder, device=device, dtype=dtype)
    try:
        items = [(row["prompt"], row[side]) for row in iter_table(pairs) for side in ("chosen", "rejected")]
        rewards = model.score(items)
    finally:
        model.close()
    told = measured(facts, rewards)
    told.write(folder)
    if told.normalisation is not None:
        _name_scale(folder, mean=told.normalisation.mean, std=told.normalisation.std)


def _name_scale(folder: Path, *, mean: float, std: float) -> None:
    """Write the scale where OpenRLHF looks for it: ``mean`` and ``std`` in the model's configuration."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    with atomic_path(file) as part:
        part.write_text(json.dumps({**config, "mean": mean, "std": std}, indent=2) + "\n", encoding="utf-8")
