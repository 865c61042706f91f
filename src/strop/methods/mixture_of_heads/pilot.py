"""A plan with a pilot: some micro-batches are trained on and thrown away, and the plan tells time."""

from __future__ import annotations

import time
from pathlib import Path

from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.plan import plan
from strop.models.forecasting import TIME_SPREAD
from strop.models.opening import model_folder
from strop.runs.progress import Reporter
from strop.training.planning import Plan
from strop.training.settings import ContinueSettings


def with_pilot(
    planned: Plan, config: MixtureOfHeadsConfig, *, workspace: Path, pilot: int, quiet: bool = False
) -> Plan:
    """Return the plan with the time of its trainings.

    Args:
        planned: The plan without a pilot.
        config: The settings that it was made from.
        workspace: As for `plan`.
        pilot: Micro-batches to train on.
        quiet: Whether to keep progress to itself.
    """
    if config.model is None or config.train is None:
        return Plan(planned.stages, planned.total, (*planned.notes, "There is no model to pilot."))
    with Reporter(quiet=quiet).progress("pilot: micro-batches", pilot) as advance:
        speed = tokens_per_second(model_folder(config.model), config, config.train, batches=pilot, advance=advance)
    timed = config.model_copy(
        update={"planning": config.planning.model_copy(update={"tokens_per_second": (speed / TIME_SPREAD, speed)})}
    )
    again = plan(timed, workspace=workspace)
    note = f"{pilot} micro-batches of the dense model went at {speed:,.0f} tokens a second, forward and backward."
    return Plan(again.stages, again.total, (*again.notes, note))


def tokens_per_second(
    folder: Path, config: MixtureOfHeadsConfig, settings: ContinueSettings, *, batches: int, advance: object
) -> float:
    """Return how fast the dense model goes forward and backward on this machine; its weights stay as they are."""
    import torch

    from strop.methods.mixture_of_heads.stages import loaded

    model = loaded(folder, config.machine).train()
    size = (settings.micro_batch_size, settings.max_length)
    ids = torch.randint(0, model.config.vocab_size, size, device=model.device, generator=None)
    half = settings.precision == "bf16"
    started = time.monotonic()
    for number in range(batches + 1):
        if number == 1:
            started = time.monotonic()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        if number and callable(advance):
            advance(1)
    return batches * ids.numel() / (time.monotonic() - started)
