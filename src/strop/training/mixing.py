"""Two sets of preference pairs in one: those of the domain, and general ones, in a given proportion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from pydantic import Field

from strop.errors import UserError
from strop.records.tables import iter_table
from strop.runs.configuration import Config
from strop.runs.seeds import stream
from strop.runs.shipped import DataPath

DOMAIN, GENERAL = "domain", "general"
Row = Mapping[str, Any]


class Mix(Config):
    """A general preference set to learn from beside the domain's pairs (PsychoCounsel mixes half and half)."""

    file: DataPath
    """Rows of `prompt`, `chosen` and `rejected`."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Wanted field name to the file's."""
    share: float = Field(0.5, gt=0, lt=1)
    """Share of general pairs in the mixture."""
    total: int | None = Field(None, ge=2)
    """Pairs of the mixture; null takes as many as both sets allow."""


def mixed(domain: Sequence[Row], general: Sequence[Row], *, share: float, total: int | None, seed: int) -> list[Row]:
    """Return a mixture of two sets of pairs, in a seeded order, each row with its `source` and an id of its own.

    Args:
        domain: Pairs of the domain.
        general: General pairs.
        share: Share of general pairs, 0 to 1, both ends excluded.
        total: Pairs of the mixture; None takes as many as both sets allow.
        seed: Of the draws and of the order.

    Raises:
        UserError: A set is too small for the mixture, or the share lies outside.
    """
    if not 0 < share < 1:
        raise UserError("a mixture's share of general pairs lies between 0 and 1", value=share, fix="leave one set out")
    most = floor(min(len(domain) / (1 - share), len(general) / share) + 1e-9)
    size = most if total is None else total
    counts = {GENERAL: round(size * share), DOMAIN: size - round(size * share)}
    sets = {DOMAIN: domain, GENERAL: general}
    for name, wanted in counts.items():
        if not 0 < wanted <= len(sets[name]):
            raise UserError(
                f"the mixture needs {wanted} {name} pairs, and there are {len(sets[name])}",
                value=f"{size} pairs with a share of {share:g} general ones",
                fix=f"mix at most {most}, or change the share",
            )
    rows: list[Row] = []
    for name, wanted in counts.items():
        drawn = sorted(stream(seed, "mixture", name).sample(range(len(sets[name])), wanted))
        rows += [{**sets[name][place], "id": f"{name}:{sets[name][place]['id']}", "source": name} for place in drawn]
    stream(seed, "mixture", "order").shuffle(rows)
    return rows


def general_pairs(mix: Mix) -> list[Row]:
    """Return the rows of the general set; a row without an id gets its number."""
    return [{"id": number, **row} for number, row in enumerate(iter_table(mix.file, fields=mix.fields))]
