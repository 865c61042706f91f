"""One patient's session, from the card to the record (MentalArena, section 3 and figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

from strop.methods.selfplay.cards import Card, symptom_text
from strop.methods.selfplay.consultation import Consultation, SessionFailed
from strop.methods.selfplay.decoding import decode, decoded_text
from strop.methods.selfplay.dialogue import exchange, open_dialogue
from strop.methods.selfplay.encoding import Candidate, encode
from strop.methods.selfplay.plans import best_plan, diagnose, medicate, treat
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.session_record import Failure, SessionRecord, Status
from strop.methods.selfplay.similarity import Matcher
from strop.models.episodes import Episode
from strop.runs import derive_seed


def session(
    card: Card,
    candidates: Sequence[Candidate],
    *,
    settings: SessionSettings,
    matcher: Matcher,
    seed: int,
    pass_: int = 0,
    iteration: int = 0,
) -> Episode[SessionRecord]:
    """Play one session with one patient; asks the models ``patient``, ``therapist`` and ``judge``.

    Args:
        card: The patient's card; only the patient and the judge are shown it.
        candidates: The behaviour groups that fit the card best, best first; not read without the encoder.
        settings: How the session is held.
        matcher: Compares what the therapist understands with the card.
        seed: The run's; the session's own derives from it, the card and the pass.
        pass_: Which pass over the cards: another one is another session.
        iteration: Which round of self-play, for the record.

    Returns:
        The record, whatever happened: a session that cannot go on is a record that says why.
    """
    own_seed = derive_seed(seed, "session", card.id, pass_)
    consultation = Consultation(card, settings, matcher, own_seed)
    failure = None
    try:
        yield from encoded(consultation, candidates)
        yield from _talk(consultation)
        yield from decode(consultation)
        yield from diagnose(consultation)
        yield from treat(consultation)
        yield from medicate(consultation)
    except SessionFailed as failed:
        failure = Failure(failed.kind, failed.message)
    return record_of(consultation, failure, pass_=pass_, iteration=iteration)


def encoded(consultation: Consultation, candidates: Sequence[Candidate]) -> Episode[None]:
    """Give the patient a manner: the judge picks one of the behaviour groups that fit its coping strategies."""
    if not consultation.settings.encoder:
        return
    again = consultation.settings.judge.again
    encoding = yield from encode(consultation.card, candidates, ask=consultation.ask_judge, again=again)
    consultation.encoding, consultation.principles = encoding.to_json(), encoding.principles


def _talk(consultation: Consultation) -> Episode[None]:
    """Let the patient open, then hold the planned exchanges."""
    yield from open_dialogue(consultation)
    for _ in range(consultation.settings.exchanges):
        yield from exchange(consultation)


def record_of(consultation: Consultation, failure: Failure | None, *, pass_: int, iteration: int) -> SessionRecord:
    """Return the record of a session that has ended, of its own or by a failure."""
    done, card = consultation, consultation.card
    treatment, medicine = best_plan(done.treatments), best_plan(done.medicines)
    return SessionRecord(
        id=f"{card.id}#{pass_}",
        card=card.id,
        pass_=pass_,
        iteration=iteration,
        status=_status(done, failure),
        failure=failure,
        encoding=done.encoding,
        dialogue=tuple(done.turns),
        ledger=tuple(done.ledger),
        decoding=tuple(done.rounds),
        exchanges=done.exchanges,
        stopped=done.stopped,
        dropped=done.dropped,
        diagnoses=tuple(done.diagnoses),
        chosen=done.chosen,
        illness=done.illness,
        treatments=tuple(done.treatments),
        medicines=tuple(done.medicines),
        best_treatment=treatment,
        best_medicine=medicine,
        symptom=symptom_text(card),
        decoded=decoded_text(done),
        treatment="" if treatment is None else done.treatments[treatment].plan,
        explain_t="" if treatment is None else done.treatments[treatment].explanation,
        medicine="" if medicine is None else done.medicines[medicine].plan,
        explain_m="" if medicine is None else done.medicines[medicine].explanation,
    )


def _status(consultation: Consultation, failure: Failure | None) -> Status:
    """Return how much came of the parts that were switched on: all of them, some, or none."""
    settings = consultation.settings
    wanted = {
        "diagnosis": (settings.diagnosis, consultation.chosen is not None),
        "treatment": (settings.treatment, best_plan(consultation.treatments) is not None),
        "medicine": (settings.medicine, best_plan(consultation.medicines) is not None),
    }
    there = [found for switched_on, found in wanted.values() if switched_on]
    if failure is None and all(there):
        return "complete"
    return "partial" if any(there) else "failed"
