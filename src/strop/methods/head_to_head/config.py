"""The settings of a head-to-head comparison."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from strop.judging.contest.answering import Contestant
from strop.judging.contest.results import Evaluation
from strop.judging.settings import JudgeSettings
from strop.models.placement import Placement
from strop.runs.configuration import Config
from strop.runs.shipped import DataPath


class HeadToHeadConfig(Config):
    """Two models, one judge."""

    recipe: Literal["head_to_head"]
    """The method."""
    prompts: DataPath
    """The prompts: rows of `prompt` (text or messages), optionally `id`; `shipped:PATH` is a file that strop brings."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Wanted field name to the file's."""
    group: str | None = None
    """Field that names prompts which belong together (one client, one topic): intervals resample these groups. Null
    takes each prompt for itself."""
    limit: int | None = Field(None, ge=1)
    """Compare on so many prompts, drawn at random; null takes all."""
    first: Contestant
    """The contestant whose win rate is reported."""
    second: Contestant
    """Its opponent."""
    word_limit: int | None = Field(None, ge=1)
    """The most words that both contestants are asked to keep to, in their instructions; null asks for nothing."""
    judge: JudgeSettings
    """Who compares them."""
    seed: int = 0
    """Of the draw of prompts, of sampled answers, and of which side is which."""
    evaluation: Evaluation = Evaluation()
    """Intervals."""
    machine: Placement = Placement()
    """Where models answer."""
