"""Diagnosis by choice between two, then the best of several treatments and of several medicines.

The therapist sees the dialogue; the patient who chooses and who tries plans is a fresh one, which knows its card and
not the dialogue; the judge scores how the patient says it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from strop.methods.selfplay import prompts
from strop.methods.selfplay.consultation import Consultation, SessionFailed, answer_of
from strop.methods.selfplay.dialogue import seen_by
from strop.methods.selfplay.integrity import check_turn
from strop.methods.selfplay.plan_replies import Proposal, read_choice, read_diagnosis, read_plan, read_score
from strop.methods.selfplay.session_record import PlanTry
from strop.models.episodes import Episode

Kind = Literal["treatment", "medicine"]


def diagnose(consultation: Consultation) -> Episode[None]:
    """Let the therapist name two illnesses and the patient choose one of them, by its number.

    The released code lets a model name the better one from an argument alone, and stores "Doctor 2's diagnosis". Where
    the therapist has no second illness, the first one stands without a choice.

    Raises:
        SessionFailed: No illness was named, or no choice could be read.
    """
    if not consultation.settings.diagnosis:
        return
    first = yield from _diagnosis(consultation, "")
    if first is None:
        raise SessionFailed("no_diagnosis", "the therapist named no illness")
    consultation.diagnoses.append(first.name)
    consultation.reasons.append(first.reason)
    second = yield from _diagnosis(consultation, first.name)
    if second is None:
        consultation.chosen = 0
        return
    consultation.diagnoses.append(second.name)
    consultation.reasons.append(second.reason)
    consultation.chosen = yield from _choice(consultation)


def _diagnosis(consultation: Consultation, first: str) -> Episode[Proposal | None]:
    """Return an illness other than `first`, or None where none could be read in as many tries as a turn has."""
    prompt = seen_by(consultation, "therapist", prompts.diagnosis_note(first))
    for attempt in range(consultation.settings.turn_tries):
        (outcome,) = yield [consultation.ask("therapist", prompt, attempt=attempt)]
        reply = answer_of(outcome).text
        found = read_diagnosis(reply)
        if found is not None and found.name.casefold() != first.casefold():
            return found
        consultation.discard("therapist", "no_diagnosis" if found is None else "same_diagnosis", reply)
    return None


def _choice(consultation: Consultation) -> Episode[int]:
    candidates = list(zip(consultation.diagnoses, consultation.reasons, strict=True))
    prompt = prompts.choice_prompt(consultation.card, candidates)
    for attempt in range(consultation.settings.turn_tries):
        (outcome,) = yield [consultation.ask("patient", prompt, attempt=attempt)]
        reply = answer_of(outcome).text
        chosen = read_choice(reply, consultation.diagnoses)
        if chosen is not None:
            return chosen
        consultation.discard("patient", "no_choice", reply)
    raise SessionFailed("no_choice", "the patient chose none of the two diagnoses")


def treat(consultation: Consultation) -> Episode[None]:
    """Try treatments from the state that the card describes."""
    if consultation.settings.treatment:
        yield from _try_plans(consultation, "treatment", consultation.treatments, state="")


def medicate(consultation: Consultation) -> Episode[None]:
    """Try medicines, from the state after the best treatment where states are carried."""
    if not consultation.settings.medicine:
        return
    best = best_plan(consultation.treatments)
    carried = best is not None and consultation.settings.treatment_state == "carried"
    state = consultation.treatments[best].state if best is not None and carried else ""
    yield from _try_plans(consultation, "medicine", consultation.medicines, state=state)


def best_plan(tried: Sequence[PlanTry]) -> int | None:
    """Return which plan scored highest, the earlier one of equals; None where no score could be read."""
    scores = [(plan.score, -place) for place, plan in enumerate(tried) if plan.score is not None]
    return -max(scores)[1] if scores else None


def _try_plans(consultation: Consultation, kind: Kind, tried: list[PlanTry], *, state: str) -> Episode[None]:
    """Propose, live with it, score; until a score is good enough or the tries are used up.

    With `carried` states each plan meets the patient as the one before it left it (the paper's S1 .. Sk); a plan whose
    state could not be told leaves the patient as it was.
    """
    settings = consultation.settings
    while len(tried) < settings.tries and not any((plan.score or 0) >= settings.good_enough for plan in tried):
        plan = yield from _try_one(consultation, kind, tried, state=state)
        tried.append(plan)
        if settings.treatment_state == "carried" and plan.state:
            state = plan.state


def _try_one(consultation: Consultation, kind: Kind, tried: Sequence[PlanTry], *, state: str) -> Episode[PlanTry]:
    earlier = tuple(dict.fromkeys(plan.plan for plan in tried if plan.plan))
    note = prompts.plan_note(kind, consultation.illness, earlier)
    # A try that brought no new plan leaves the request as it was: another answer needs another sample.
    repeat = len(tried) - len(earlier)
    prompt = seen_by(consultation, "therapist", note)
    (outcome,) = yield [consultation.ask("therapist", prompt, attempt=repeat)]
    reply = answer_of(outcome).text
    found = read_plan(reply, kind)
    if found is None:
        consultation.discard("therapist", f"no_{kind}", reply)
        return PlanTry("", "", "", None)
    after = yield from _live(consultation, found, state)
    score = (yield from _score(consultation, after)) if after else None
    return PlanTry(found.name, found.reason, after, score)


def _live(consultation: Consultation, plan: Proposal, state: str) -> Episode[str]:
    """Return how the patient says it is after a plan; empty where it does not say in as many tries as a turn has."""
    card = consultation.card
    prompt = prompts.outcome_prompt(card, plan.name, plan.reason, state=state, principles=consultation.principles)
    for attempt in range(consultation.settings.turn_tries):
        (outcome,) = yield [consultation.ask("patient", prompt, attempt=attempt)]
        answer = answer_of(outcome)
        checked = check_turn(
            answer.text,
            speaker="patient",
            earlier=(),
            name=card.name,
            finished=answer.finish != "length",
            english=consultation.settings.english,
        )
        if checked.usable:
            return checked.text
        consultation.discard("patient", checked.faults[0], answer.text)
    return ""


def _score(consultation: Consultation, state: str) -> Episode[int | None]:
    prompt = prompts.score_prompt(consultation.card, state)
    for attempt in range(consultation.settings.judge.again + 1):
        (outcome,) = yield [consultation.ask_judge(prompt, attempt=attempt)]
        reply = answer_of(outcome).text
        score = read_score(reply)
        if score is not None:
            return score
        consultation.discard("judge", "no_score", reply)
    return None
