"""The dialogue as each side sees it, and the speaking of a turn.

Both sides see the same turns; the card stands in the patient's instructions only, once, and a note to one side is in
no request of the other. (In the released code both share one list of messages, into which the whole card is put again
at every patient turn.) Every request has one system message, then user and assistant in turn, as strict chat templates
want it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from strop.methods.selfplay import prompts
from strop.methods.selfplay.consultation import Consultation, SessionFailed, answer_of
from strop.methods.selfplay.integrity import Checked, check_turn
from strop.methods.selfplay.session_record import CUT, KEPT, Speaker, Turn
from strop.models.episodes import Episode
from strop.records.rows import Message

BYTES_PER_TOKEN = 3
"""Fewer than a token of English has (about 4), so that an estimate is rather too high than too low."""
TOKENS_PER_MESSAGE = 5
"""What a chat template adds to each message."""

Estimate = Callable[[str], int]
"""How many tokens a text has, about."""


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, without a tokenizer; rather too many than too few."""
    return ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class View:
    """A request of one side: its messages, and how many exchanges had to be left out of it."""

    messages: tuple[Message, ...]
    dropped: int


def view(
    system: str,
    turns: Sequence[Turn],
    *,
    side: Speaker,
    note: str,
    budget: int,
    estimate: Estimate = estimate_tokens,
) -> View:
    """Return what one side sees of the dialogue, with a note behind the last thing that the other side said.

    Args:
        system: Its instructions.
        turns: The dialogue; the patient opens it.
        side: Whose view it is: its own turns are the assistant's.
        note: What only this side is told now.
        budget: Most tokens of the request. Exchanges are left out, the oldest first, until it is kept; the opening and
            the last turn stay.
        estimate: Counts tokens.

    Raises:
        SessionFailed: The instructions, the opening and the last turn are longer than the budget.
    """
    spoken = [Message("assistant" if turn.speaker == side else "user", turn.text) for turn in turns]
    if side == "patient":
        spoken.insert(0, Message("user", prompts.CUE))
    # What always stays in front: the therapist's "user" is the opening, the patient's is the cue and its own opening.
    kept = min(1 if side == "therapist" else 2, len(spoken) - 1)
    head, tail = [Message("system", system), *spoken[:kept]], spoken[kept:]
    last = Message("user", f"{tail[-1].content}\n\n{note}" if note else tail[-1].content)
    tail = [*tail[:-1], last]

    def size(messages: Sequence[Message]) -> int:
        return sum(estimate(message.content) + TOKENS_PER_MESSAGE for message in messages)

    room, dropped = budget - size(head), 0
    while size(tail) > room and len(tail) > 2:
        tail, dropped = tail[2:], dropped + 1
    if size(tail) > room:
        needed = budget - room + size(tail)
        message = f"the {side}'s shortest request has about {needed} tokens and {budget} are left for it"
        raise SessionFailed("context_too_small", message)
    return View((*head, *tail), dropped)


def seen_by(consultation: Consultation, side: Speaker, note: str) -> tuple[Message, ...]:
    """Return one side's request now, and count what it had to leave out."""
    settings = consultation.settings
    if side == "patient":
        system = prompts.patient_system(consultation.card, consultation.principles)
    else:
        system = prompts.therapist_system()
    budget = settings.context_tokens - settings.max_tokens
    seen = view(system, consultation.turns, side=side, note=note, budget=budget)
    consultation.dropped = max(consultation.dropped, seen.dropped)
    return seen.messages


def open_dialogue(consultation: Consultation) -> Episode[None]:
    """Let the patient say what brings it here."""
    note = prompts.disclosure_note(0, consultation.settings.exchanges)
    yield from speak(consultation, "patient", note)


def exchange(consultation: Consultation, feedback: str = "") -> Episode[None]:
    """Let the therapist ask and the patient answer, once.

    Args:
        consultation: The session.
        feedback: The judge's questions; the therapist hears them in this request, and nobody else does.
    """
    number, planned = consultation.exchanges + 1, consultation.settings.exchanges
    yield from speak(consultation, "therapist", prompts.turn_note(number, planned, feedback))
    yield from speak(consultation, "patient", prompts.disclosure_note(number, planned))
    consultation.exchanges = number


def speak(consultation: Consultation, speaker: Speaker, note: str) -> Episode[None]:
    """Let one side speak: a turn that breaks its role is asked for again, and the least bad one is taken in the end.

    Raises:
        SessionFailed: No answer can be said.
    """
    prompt = seen_by(consultation, speaker, note)
    # The cue is the patient's only: its answer must not be the cue said back.
    heard = [Turn("therapist", prompts.CUE), *consultation.turns] if speaker == "patient" else consultation.turns
    blemished: list[tuple[Checked, str, int]] = []
    tries = consultation.settings.turn_tries
    for attempt in range(tries):
        (outcome,) = yield [consultation.ask(speaker, prompt, attempt=attempt)]
        answer = answer_of(outcome)
        checked = check_turn(
            answer.text,
            speaker=speaker,
            earlier=heard,
            name=consultation.card.name,
            finished=answer.finish != "length",
            english=consultation.settings.english,
        )
        if not checked.faults:
            _say(consultation, speaker, checked, finish=answer.finish, tries=attempt + 1)
            return
        if checked.usable:
            blemished.append((checked, answer.finish, len(consultation.ledger)))
        consultation.discard(speaker, checked.faults[0], answer.text, in_dialogue=True)
    if not blemished:
        raise SessionFailed(
            "role_not_kept", f"no answer of the {speaker} in turn {len(consultation.turns)} can be said"
        )
    best, finish, entry = min(blemished, key=lambda tried: tried[0].severity)
    consultation.ledger[entry] = replace(consultation.ledger[entry], why=KEPT + best.faults[0])
    _say(consultation, speaker, best, finish=finish, tries=tries)


def _say(consultation: Consultation, speaker: Speaker, checked: Checked, *, finish: str, tries: int) -> None:
    if checked.cut:
        consultation.discard(speaker, CUT + checked.cut_why, checked.cut, in_dialogue=True)
    consultation.turns.append(Turn(speaker, checked.text, finish, tries))
