"""What happens in one session: who is in it, what was said and found so far, and how its questions are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from strop.methods.selfplay.cards import Card
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.session_record import Decoding, Discarded, Ended, PlanTry, Speaker, Turn
from strop.methods.selfplay.similarity import Matcher
from strop.models.asking import Answered
from strop.models.episodes import Ask
from strop.records.rows import Prompt
from strop.runs.calls import FailedCall, StoredCall

MESSAGE_SHOWN = 200
"""Characters of a failed call's message that a record keeps."""


class SessionFailed(Exception):
    """The session cannot go on; what it has brought so far stands."""

    def __init__(self, kind: str, message: str) -> None:
        """Name the kind of failure, which is counted, and say what happened."""
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


@dataclass(slots=True)
class Consultation:
    """One patient's session as it goes on.

    Attributes:
        card: The patient's card.
        settings: How the session is held.
        matcher: Compares what is understood with the card.
        seed: Of everything that is sampled in it.
        encoding: The behaviour group, as JSON; None without an encoder.
        principles: The patient's manner, empty without an encoder.
        turns: The dialogue so far.
        ledger: What was discarded so far.
        rounds: The rounds of the decoder so far.
        exchanges: How often the therapist has asked and the patient answered.
        stopped: What ended the dialogue.
        dropped: Most exchanges that a request left out.
        diagnoses: The names of the candidates.
        reasons: Why each of them.
        chosen: Which of them the patient chose.
        treatments: What was tried.
        medicines: What was tried.
    """

    card: Card
    settings: SessionSettings
    matcher: Matcher
    seed: int
    encoding: Mapping[str, Any] | None = None
    principles: tuple[str, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    ledger: list[Discarded] = field(default_factory=list)
    rounds: list[Decoding] = field(default_factory=list)
    exchanges: int = 0
    stopped: Ended = "failed"
    dropped: int = 0
    diagnoses: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    chosen: int | None = None
    treatments: list[PlanTry] = field(default_factory=list)
    medicines: list[PlanTry] = field(default_factory=list)

    @property
    def illness(self) -> str:
        """The name of the chosen diagnosis, or empty."""
        return "" if self.chosen is None else self.diagnoses[self.chosen]

    def ask(self, to: Speaker, prompt: Prompt, *, attempt: int = 0) -> Ask:
        """Return a question to patient or therapist; another `attempt` brings another answer."""
        return Ask(to, prompt, self.settings.sampling(seed=self.seed), sample=attempt)

    def ask_judge(self, prompt: Prompt, *, attempt: int = 0) -> Ask:
        """Return a question to the judge; another `attempt` brings another answer."""
        return Ask("judge", prompt, self.settings.judge.sampling(seed=self.seed, repeat=attempt), sample=attempt)

    def discard(self, speaker: str, why: str, text: str, *, in_dialogue: bool = False) -> None:
        """Keep what was not used, and why."""
        self.ledger.append(Discarded(len(self.turns) if in_dialogue else -1, speaker, why, text))


def answer_of(outcome: Answered) -> StoredCall:
    """Return an answer.

    Raises:
        SessionFailed: The call can have none, such as a prompt that is longer than the model's context.
    """
    if isinstance(outcome, FailedCall):
        raise SessionFailed("call_failed", f"{outcome.model}: {outcome.kind}: {outcome.message}"[:MESSAGE_SHOWN])
    return outcome
