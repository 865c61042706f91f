"""What a run, a plan and the doctor look at first, so that nothing is spent on a run that nobody could believe."""

from __future__ import annotations

from dataclasses import dataclass

from strop.errors import UserError
from strop.judging.qualifying.certificate import Standing
from strop.judging.qualifying.slices import model_family
from strop.judging.settings import standing_of
from strop.methods.selfplay.config import SelfplayConfig
from strop.methods.selfplay.similarity import open_matcher

TRAINABLE = ("local", "builtin", "hf")


@dataclass(frozen=True, slots=True)
class Cleared:
    """What the report must say about the judge.

    Attributes:
        judge: Its standing.
        warnings: What it was allowed in spite of.
    """

    judge: Standing
    warnings: tuple[str, ...]


def preflight(config: SelfplayConfig) -> Cleared:
    """Make sure, as far as that is free, that the run can start and that its judge may judge.

    Raises:
        UserError: A file or a model is missing, the judge is not qualified, or what is to be trained has no weights
            here.
    """
    for path in config.files:
        if not path.is_file():
            raise UserError(
                "no such file", value=str(path), fix="correct the recipe; `shipped:PATH` is a file of strop"
            )
    config.model.check()
    if config.train is not None and config.model.kind not in TRAINABLE:
        raise UserError(
            "'model' is to be trained, and its weights are not on this machine",
            value=config.model.model,
            fix="give a local folder, hf:ORG/NAME or a builtin; or set train: null and iterations: 1, and train on the "
            "files that the run leaves",
        )
    open_matcher(config.matcher)
    standing = standing_of(config.judge, config.machine)
    warnings = [] if standing.qualified else [f"{standing.text[:1].upper()}{standing.text[1:]}."]
    family = model_family(config.judge.model.model)
    if family is not None and family == model_family(config.model.model):
        warnings.append(
            f"The judge is of the player's own family, {family!r}: it scores plans that its like has written."
        )
    return Cleared(standing, tuple(warnings))
