"""Files of sessions under a filter: what each rule removes, and how many illnesses are the name of a doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.evaluation.statistics import Interval, wilson
from strop.methods.selfplay.cleaning import FILTERS, Cleaned, Filter, Outcome, clean, names_doctor, names_illness
from strop.records.tables import iter_table


@dataclass(frozen=True, slots=True)
class CleanedFile:
    """What a filter makes of one file.

    Attributes:
        path: The file.
        cleaned: What each rule finds and removes.
        illnesses: Different illness fields, as they are written.
        doctor: Share of illness fields that name Doctor 1 or 2, with or without an illness.
        doctor_alone: Share that name a doctor and no illness at all.
    """

    path: Path
    cleaned: Cleaned
    illnesses: int
    doctor: Interval
    doctor_alone: Interval

    def to_row(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        shares = {"doctor": self.doctor, "doctor_alone": self.doctor_alone}
        return {
            "file": str(self.path),
            **self.cleaned.to_row(),
            "distinct_illnesses": self.illnesses,
            **{
                name: {"share": found.estimate, "low": found.low, "high": found.high, "n": found.n}
                for name, found in shares.items()
            },
        }


def clean_file(path: Path, rule: Filter = "strict") -> CleanedFile:
    """Apply a filter to a file of session records, or of rows as MentalArena releases them.

    Args:
        path: A table with illness, treatment, explain_t, medicine and explain_m.
        rule: ``strict`` or ``published``.

    Raises:
        UserError: The file is missing, broken or empty, or a row is no session; file and row are named.
    """
    outcomes = read_outcomes(path)
    if not outcomes:
        raise UserError("the file holds no session", value=str(path), fix="leave it out")
    doctors = [outcome.illness for outcome in outcomes if names_doctor(outcome.illness)]
    alone = sum(not names_illness(illness) for illness in doctors)
    return CleanedFile(
        path=path,
        cleaned=clean(outcomes, FILTERS[rule]),
        illnesses=len({outcome.illness for outcome in outcomes}),
        doctor=wilson(len(doctors), len(outcomes)),
        doctor_alone=wilson(alone, len(outcomes)),
    )


def read_outcomes(path: Path) -> list[Outcome]:
    """Read how the sessions of a file ended.

    Raises:
        UserError: The file is missing or broken, or a row is no session; file and row are named.
    """
    outcomes = []
    for number, row in enumerate(iter_table(path), 1):
        try:
            outcomes.append(Outcome.from_row(row))
        except UserError as error:
            raise UserError(f"{path}, row {number}: {error.what}", value=error.value, fix=error.fix) from None
    return outcomes


def rule_table(files: Sequence[CleanedFile]) -> list[dict[str, Any]]:
    """Return one row a rule and file: how many it finds, and how many of those it removes first."""
    return [
        {
            "file": file.path.name,
            "part": part,
            "rule": rule,
            "found": found,
            "removed": file.cleaned.removed[part, rule],
        }
        for file in files
        for (part, rule), found in file.cleaned.found.items()
        if found
    ]


def share_table(files: Sequence[CleanedFile]) -> list[dict[str, Any]]:
    """Return one row a file: its sessions, the pairs that are left, and its illnesses."""
    return [
        {
            "file": file.path.name,
            "rows": file.cleaned.rows,
            **{str(part): left for part, left in file.cleaned.kept.items()},
            "pairs": file.cleaned.pairs,
            "different illnesses": file.illnesses,
            "names a doctor": _share(file.doctor),
            "a doctor, no illness": _share(file.doctor_alone),
        }
        for file in files
    ]


def _share(found: Interval) -> str:
    return f"{found.estimate:.1%} [{found.low:.1%}, {found.high:.1%}]"
