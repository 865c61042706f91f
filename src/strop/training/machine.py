"""Where a recipe's models answer and train, and the stage that trains one."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from strop.models.opening import model_folder
from strop.models.placement import Placement
from strop.models.spec import ModelSpec
from strop.runs import Artifact, Stage
from strop.training.job import Kind, TrainingJob
from strop.training.launching import further_steps, train
from strop.training.settings import Launcher, TrainingSettings

Model = ModelSpec | Artifact
"""A model that the configuration names, or an artifact whose folder `model` a stage of the run has trained."""


class Machine(Placement):
    """Where models answer, and how trainings are started."""

    launcher: Launcher = Field(Launcher(), json_schema_extra={"fingerprint": False})
    """How trainings are started; changes speed and memory, not results."""


def weights_of(model: Model) -> Path:
    """Return the folder of a model's weights.

    Raises:
        UserError: The model has none on this machine.
    """
    return model.path("model") if isinstance(model, Artifact) else model_folder(model)


def train_in(
    stage: Stage,
    base: Model,
    rows: Path,
    *,
    kind: Kind,
    settings: TrainingSettings,
    machine: Machine,
    seed: int,
    reference: Model | None = None,
    adapter: Path | None = None,
    development: Path | None = None,
) -> None:
    """Train `base` on a table of rows; the artifact is the folder `model` with `outcome.json`.

    Args:
        stage: Where to write; its work folder keeps checkpoints over kills.
        base: The model to start from.
        rows: The table that the kind of training reads.
        kind: What is learned from the rows.
        settings: How.
        machine: Where.
        seed: Of the row order and of adapters.
        reference: DPO: the reference model where it is not `base`. Plain text: the teacher.
        adapter: LoRA: folder of an adapter on `base` to go on training.
        development: Reward model: table of pairs on which the best state is chosen. Plain text: documents to watch.
    """
    job = TrainingJob(
        kind=kind,
        model=weights_of(base),
        rows=rows,
        out=stage.folder / "model",
        work=stage.work,
        settings=settings,
        seed=seed,
        adapter=adapter,
        **{} if reference is None else {"teacher" if kind == "continue" else "reference": weights_of(reference)},
        development=development,
        device="cpu" if machine.device == "cpu" else "auto",
    )
    with stage.progress(f"{stage.name}: training") as advance:
        outcome = train(job, launcher=machine.launcher, advance=further_steps(advance))
    # Wall time is no part of an artifact: the same training gives the same bytes.
    stage.note(wall_s=outcome.wall_s, resumed_at=outcome.resumed_at, steps=outcome.steps)
    kept = outcome.model_copy(update={"wall_s": 0.0, "resumed_at": 0})
    (stage.folder / "outcome.json").write_text(kept.model_dump_json(indent=1) + "\n", encoding="utf-8")
