"""The record of a session: everything that was said, tried, scored and discarded, and the parts that are learned from.

A score or a similarity that could not be read is null, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from strop.errors import UserError
from strop.records.rows import Row

Speaker = Literal["patient", "therapist"]
Status = Literal["complete", "failed", "partial"]
"""`complete`: every part that was switched on has its outcome. `partial`: an illness was found, something after it is
missing. `failed`: the session ended before there was anything to learn from."""
Ended = Literal["converged", "cap", "no_progress", "off", "failed"]
"""What ended the dialogue: every field passed, the rounds were used up, nothing more was understood, there was no
decoder, or the session failed."""


KEPT, CUT = "kept:", "cut:"
"""How the ledger marks the fault of a turn that was taken for want of a better one, and a part that was cut off one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a session ended early: the kind, and what happened."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that was said.

    Attributes:
        speaker: Who said it.
        text: What the other side hears.
        finish: ``stop``, or ``length`` where the token limit cut it.
        tries: How many answers it took.
    """

    speaker: Speaker
    text: str
    finish: str = "stop"
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Discarded:
    """Something that was not said after all.

    Attributes:
        turn: The number of the turn it was meant for, from 0; -1 outside the dialogue.
        speaker: Who wrote it.
        why: The fault; behind `KEPT` or `CUT` where the turn was said all the same, or without this part.
        text: What was discarded.
    """

    turn: int
    speaker: str
    why: str
    text: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """One round of the decoder.

    Attributes:
        round: 0 after the planned exchanges, then 1, 2, ...
        answers: What the therapist says about each field.
        similarities: How near that is to the card; null where the therapist gave no answer.
        passed: Whether it is near enough.
        feedback: The questions for the therapist's next turn, empty where there are none.
        leaked: Sentences that were taken out of the feedback because they give the card away.
    """

    round: int
    answers: Mapping[str, str]
    similarities: Mapping[str, float | None]
    passed: Mapping[str, bool]
    feedback: str = ""
    leaked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanTry:
    """One plan that was tried: what is proposed and why, how the patient is after it, and the score of that, 1 to 10.

    The score is null where the judge gave none, or where there was no plan to score.
    """

    plan: str
    explanation: str
    state: str
    score: int | None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What became of one patient in one pass.

    Attributes:
        id: ``CARD#PASS``.
        card: The id of the card.
        pass_: Which pass over the cards, from 0.
        iteration: Which round of self-play.
        status: See `Status`.
        failure: Why the session ended early, or None.
        encoding: The behaviour group of the patient, as JSON; None without an encoder.
        dialogue: What was said, the patient's opening first.
        ledger: What was discarded.
        decoding: The rounds of the decoder.
        exchanges: How often the therapist asked and the patient answered.
        stopped: See `Ended`.
        dropped: Most exchanges that a request had to leave out to stay within its budget.
        diagnoses: The names of the candidates; one where the therapist had no second.
        chosen: Which of them the patient chose; None where no choice could be read.
        illness: The chosen name, or empty.
        treatments: The treatments that were tried.
        medicines: The medicines that were tried.
        best_treatment: Which treatment scored highest, the earlier one of equals; None where no score could be read.
        best_medicine: The same for medicine.
        symptom: S0: the card as text.
        decoded: Sd: what the therapist understood, as text.
        treatment: The best treatment, or empty.
        explain_t: Why.
        medicine: The best medicine, or empty.
        explain_m: Why.
    """

    id: str
    card: str
    pass_: int
    iteration: int
    status: Status
    failure: Failure | None = None
    encoding: Mapping[str, Any] | None = None
    dialogue: tuple[Turn, ...] = ()
    ledger: tuple[Discarded, ...] = ()
    decoding: tuple[Decoding, ...] = ()
    exchanges: int = 0
    stopped: Ended = "off"
    dropped: int = 0
    diagnoses: tuple[str, ...] = ()
    chosen: int | None = None
    illness: str = ""
    treatments: tuple[PlanTry, ...] = ()
    medicines: tuple[PlanTry, ...] = ()
    best_treatment: int | None = None
    best_medicine: int | None = None
    symptom: str = ""
    decoded: str = ""
    treatment: str = ""
    explain_t: str = ""
    medicine: str = ""
    explain_m: str = ""

    def to_row(self) -> dict[str, Any]:
        """Return the record as JSON, ``pass_`` under the key ``pass``."""
        row: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            row[name.rstrip("_")] = _plain(getattr(self, name))
        return row

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Read a record.

        Raises:
            UserError: A field is missing or is none of a session's.
        """
        try:
            values = {name: row[name.rstrip("_")] for name in cls.__dataclass_fields__}
            failure = values["failure"]
            values |= {name: tuple(map(read, values[name])) for name, read in _LISTS.items()}
            values |= {"failure": None if failure is None else Failure(**failure)}
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise UserError(f"row {row.get('id')!r} is no record of a session", why=str(error)) from None


def _plain(value: Any) -> Any:
    """Return dataclasses as mappings and tuples as lists, all the way down."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (tuple, list)) else value


def _decoding(row: Row) -> Decoding:
    return Decoding(**{**row, "leaked": tuple(row["leaked"])})


_LISTS: dict[str, Callable[[Any], Any]] = {
    "dialogue": lambda row: Turn(**row),
    "ledger": lambda row: Discarded(**row),
    "decoding": _decoding,
    "diagnoses": str,
    "treatments": lambda row: PlanTry(**row),
    "medicines": lambda row: PlanTry(**row),
}
