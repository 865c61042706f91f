"""What the verbs of ``strop safety`` share: the second opinion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from strop.judging.risk_opinion import ModelOpinion
    from strop.training.risk_model import RiskModel

SecondOption = Annotated[
    str | None,
    typer.Option("--second", metavar="M", help="A second opinion: a folder of strop safety fit, or a model."),
]
Timeout = Annotated[float, typer.Option(help="Seconds that a second opinion may take; a late one raises the level.")]


def open_second(second: str | None) -> RiskModel | ModelOpinion | None:
    """Open a second opinion: a folder that holds a risk model, or any model by its name."""
    if second is None:
        return None
    from strop.judging.risk_opinion import ModelOpinion
    from strop.models.opening import open_model
    from strop.models.spec import parse_model
    from strop.training.risk_model import HEAD, open_risk_model

    if (Path(second) / HEAD).is_file():
        return open_risk_model(Path(second))
    return ModelOpinion(open_model(parse_model(second)))
