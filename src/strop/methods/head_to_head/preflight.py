"""What a run and a plan look at first, so that nothing is spent on a comparison that nobody could believe."""

from __future__ import annotations

from dataclasses import dataclass

from strop.errors import UserError
from strop.judging.qualifying.certificate import Standing
from strop.judging.settings import require_other_family, standing_of
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.records.tables import iter_table


@dataclass(frozen=True, slots=True)
class Cleared:
    """What the report must say about the judge.

    Attributes:
        standing: Whether it is qualified.
        warnings: What it was allowed in spite of.
    """

    standing: Standing
    warnings: tuple[str, ...]


def preflight(config: HeadToHeadConfig) -> Cleared:
    """Make sure, as far as that is free, that the run can start and that its judge may judge.

    Raises:
        UserError: A model or the file of prompts is missing, or the judge is not qualified or of a contestant's family.
    """
    if next(iter_table(config.prompts, fields=config.fields), None) is None:
        raise UserError("there is no prompt in this file", value=str(config.prompts))
    contestants = {"first": config.first, "second": config.second}
    for contestant in contestants.values():
        contestant.model.check()
    family = require_other_family(config.judge, {name: one.model for name, one in contestants.items()})
    standing = standing_of(config.judge, config.machine)
    warnings = [] if standing.qualified else [standing.text[:1].upper() + standing.text[1:] + "."]
    return Cleared(standing, (*warnings, *([family] if family else [])))
