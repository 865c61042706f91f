"""What a run, a plan and the doctor look at first, so that nothing is spent on a run that cannot end."""

from __future__ import annotations

from strop.errors import UserError
from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.models.spec import ModelSpec


def preflight(config: WeakToStrongConfig) -> None:
    """Make sure, as far as that is free, that the run can start: models are there, and those to train have weights.

    Raises:
        UserError: What is missing.
    """
    _with_weights(config.strong, "strong")
    if config.weak.train:
        _with_weights(config.weak.model, "weak.model")
    for model in (config.weak.model, config.strong):
        model.check()
    accelerate = config.machine.launcher.accelerate_config
    if accelerate is not None and not accelerate.is_file():
        raise UserError("no such accelerate configuration", value=str(accelerate), fix="see machine.launcher")


def _with_weights(model: ModelSpec, key: str) -> None:
    if model.kind not in ("local", "builtin", "hf"):
        raise UserError(
            f"'{key}' is to be trained, and its weights are not on this machine",
            value=model.model,
            fix="give a local folder, hf:ORG/NAME or a builtin",
        )
