"""Levels of risk, in the order of the Columbia scale (C-SSRS): what a reply, a pair and an escalation depend on."""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """How serious a risk is; of two possible levels the screen takes the higher one."""

    NONE = 0
    """Nothing that points to risk."""
    PASSIVE = 1
    """A wish to be dead or not to wake up, without a thought of doing something."""
    ACTIVE = 2
    """Thoughts of suicide without a plan; self-harm, abuse, psychosis and other serious risk that is not imminent."""
    PLAN = 3
    """A plan, means or intent; a recent attempt."""
    IMMINENT = 4
    """Now or tonight, in progress, or with the means in hand."""


KINDS = (
    "passive_ideation",
    "active_ideation",
    "plan",
    "means",
    "intent",
    "past_attempt",
    "self_harm",
    "harm_to_others",
    "minor_abuse",
    "psychosis",
    "intoxication",
    "eating_disorder",
    "domestic_violence",
)
"""What a risk can be of."""
