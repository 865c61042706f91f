"""What of the sessions is learned."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from strop.methods.selfplay.cleaning import PARTS, Filter, Part
from strop.runs.configuration import Config


class TrainingSetSettings(Config):
    """Which pairs are made of a session, and which of them are kept."""

    input: Literal["decoded", "encoded"] = "decoded"
    """What the model is told of the patient: what the therapist understood (Sd, the paper), or the card (S0, as
    released), which no therapist ever sees."""
    chained: bool = False
    """Tell the diagnosis when the treatment is asked for, and both when the medicine is: the paper's ablation."""
    rule: Filter = "strict"
    """Which filter: ours, or the released code's, which sees medicines alone."""
    parts: tuple[Part, ...] = PARTS
    """Which questions are learned; leaving one out is the paper's ablation."""
    score_gap: int = Field(1, ge=1, le=9)
    """Least difference of two plans' scores, 1 to 10, that makes a preference pair."""
    on_overlap: Literal["drop", "stop"] = "drop"
    """What to do with a pair that shares eight words in a row with a benchmark."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise ValueError("'parts' names one or more of diagnosis, treatment and medication, each once")
        return self
