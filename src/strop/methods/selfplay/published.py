"""The released code's pattern of calls, with the record of a session: for comparison, not for use.

Both roles write into one list of messages. Each patient turn puts the whole card into it, each probe of the decoder
stays in it, the judge's feedback reaches nobody, every plan starts from the card, and the illness is what a model makes
of an argument in which the two diagnoses may not be named. What differs from the release: it finishes (the released
runner stops with a NameError), the wording is ours, the patient's instructions hold core beliefs and style as in a
session, and messages alternate as chat templates want it. A score that is no number is null; the release takes 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from strop.methods.selfplay import prompts
from strop.methods.selfplay.cards import Card, symptom_text
from strop.methods.selfplay.consultation import Consultation, SessionFailed, answer_of
from strop.methods.selfplay.decoding import BEHAVIOUR, COGNITION, compared, true_fields
from strop.methods.selfplay.encoding import Candidate
from strop.methods.selfplay.plans import Kind, best_plan
from strop.methods.selfplay.session import encoded, record_of
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.session_record import Decoding, Failure, PlanTry, SessionRecord, Speaker, Turn
from strop.methods.selfplay.similarity import Matcher
from strop.models.episodes import Episode
from strop.records.rows import Message, Prompt
from strop.runs import derive_seed

_THERAPIST = (
    "You are an experienced psychiatrist. Find out what illness the patient has and how severe it is. You may ask "
    "about personal data, emotional, cognitive, behavioural and bodily symptoms and their causes. Continue the "
    "conversation."
)
_REDUCE = (
    "Here is an argument about two diagnoses.\n{argument}\nName the more accurate diagnosis, without an explanation."
)
_EXTRACT = (
    "Restate the following in four lines that begin Treatment:, Explanation:, Medicine: and Explanation:\n{plans}"
)
_FIRST_INTEGER = re.compile(r"-?\d+")
_PART = re.compile(r"^[ \t]*(treatment|medicine|explanation)[ \t]*:[ \t]*(.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass(slots=True)
class _Shared:
    """The one list of messages that both roles read and write."""

    consultation: Consultation
    messages: list[Message] = field(default_factory=list)

    def ask(self, to: Speaker, text: str, *, sample: int = 0) -> Episode[str]:
        """Put a question into the list, and the answer behind it."""
        self.messages.append(Message("user", text))
        answer = yield from _ask(self.consultation, to, tuple(self.messages), sample=sample)
        self.messages.append(Message("assistant", f"{_NAMES[to]}: {answer}"))
        return answer


_NAMES = {"patient": "Patient", "therapist": "Doctor"}


def published_session(
    card: Card,
    candidates: Sequence[Candidate],
    *,
    settings: SessionSettings,
    matcher: Matcher,
    seed: int,
    pass_: int = 0,
    iteration: int = 0,
) -> Episode[SessionRecord]:
    """Play one session as released; see `session` for the arguments.

    Of the settings, what bounds dialogue, decoder and plans counts, and how models are sampled. With 4 exchanges, 5
    further rounds and 7 tries a patient takes 26 calls at least and 109 at most.
    """
    settings = settings.model_copy(update={"treatment_state": "restart", "no_progress": None})
    consultation = Consultation(card, settings, matcher, derive_seed(seed, "session", card.id, pass_))
    shared = _Shared(consultation)
    failure, illness = None, ""
    parts = ("", "", "", "")
    try:
        yield from encoded(consultation, candidates)
        yield from _talk(shared)
        yield from _decode(shared)
        illness = yield from _diagnose(shared)
        yield from _try_plans(shared, "treatment", illness)
        yield from _try_plans(shared, "medicine", illness)
        parts = yield from _extract(consultation)
    except SessionFailed as failed:
        failure = Failure(failed.kind, failed.message)
    record = record_of(consultation, failure, pass_=pass_, iteration=iteration)
    treatment, explain_t, medicine, explain_m = parts
    return replace(
        record,
        symptom=symptom_text(card, emotions="repr"),
        illness=illness,
        status="complete" if failure is None and illness and treatment and medicine else record.status,
        treatment=treatment,
        explain_t=explain_t,
        medicine=medicine,
        explain_m=explain_m,
    )


def _ask(consultation: Consultation, to: Speaker, prompt: Prompt, *, sample: int = 0) -> Episode[str]:
    (outcome,) = yield [consultation.ask(to, prompt, attempt=sample)]
    return answer_of(outcome).text


def _judge(consultation: Consultation, prompt: Prompt, *, sample: int = 0) -> Episode[str]:
    (outcome,) = yield [replace(consultation.ask_judge(prompt), sample=sample)]
    return answer_of(outcome).text


def _talk(shared: _Shared) -> Episode[None]:
    consultation = shared.consultation
    yield from _patient_turn(shared)
    for _ in range(consultation.settings.exchanges):
        yield from _exchange(shared)


def _patient_turn(shared: _Shared) -> Episode[None]:
    """Let the patient speak, with its whole card put into the shared list again."""
    consultation = shared.consultation
    card = prompts.patient_system(consultation.card, consultation.principles)
    text = yield from shared.ask("patient", card)
    consultation.turns.append(Turn("patient", text))


def _exchange(shared: _Shared) -> Episode[None]:
    text = yield from shared.ask("therapist", _THERAPIST)
    shared.consultation.turns.append(Turn("therapist", text))
    yield from _patient_turn(shared)
    shared.consultation.exchanges += 1


def _decode(shared: _Shared) -> Episode[None]:
    """Probe inside the shared list; feedback is asked for, also after the last round, and given to nobody."""
    consultation = shared.consultation
    truth = true_fields(consultation.card, consultation.principles)
    for number in range(consultation.settings.extra_rounds + 1):
        if number:
            yield from _exchange(shared)
        answers: dict[str, str] = {}
        for name in truth:
            answers[name] = yield from shared.ask("therapist", prompts.probe_note(name))
        similarities, passed = compared(consultation.matcher, truth, answers)
        feedback = ""
        for group in (COGNITION, BEHAVIOUR):
            failed = {name: truth[name] for name in group if not passed.get(name, True)}
            if failed:
                feedback += yield from _judge(consultation, prompts.feedback_prompt(failed, answers), sample=number)
        consultation.rounds.append(Decoding(number, answers, similarities, passed, feedback))
        consultation.stopped = "cap" if feedback else "converged"
        if not feedback:
            return


def _diagnose(shared: _Shared) -> Episode[str]:
    """Return what a model makes of the patient's argument for one of two diagnoses."""
    consultation = shared.consultation
    for first in (False, True):
        note = prompts.diagnosis_note(consultation.diagnoses[0] if first else "")
        text = yield from shared.ask("therapist", note)
        consultation.diagnoses.append(text)
        consultation.reasons.append("")
    candidates = [(text, "") for text in consultation.diagnoses]
    argument = yield from _ask(consultation, "patient", prompts.choice_prompt(consultation.card, candidates))
    reduced = yield from _ask(consultation, "patient", (Message("user", _REDUCE.replace("{argument}", argument)),))
    return reduced.strip()


def _try_plans(shared: _Shared, kind: Kind, illness: str) -> Episode[None]:
    consultation = shared.consultation
    tried = consultation.treatments if kind == "treatment" else consultation.medicines
    card, settings = consultation.card, consultation.settings
    while len(tried) < settings.tries and max((plan.score or 0 for plan in tried), default=0) < settings.good_enough:
        told = [plan.plan for plan in tried] if any(plan.score for plan in tried) else []
        proposal = yield from shared.ask("therapist", prompts.plan_note(kind, illness, told[-1:]), sample=len(tried))
        outcome = prompts.outcome_prompt(card, proposal, "", state="", principles=consultation.principles)
        # Every try asks a fresh patient: equal plans need another sample, or they would share their answer.
        state = yield from _ask(consultation, "patient", outcome, sample=len(tried))
        score = yield from _judge(consultation, prompts.score_prompt(card, state), sample=len(tried))
        tried.append(PlanTry(proposal, "", state, first_integer(score)))


def first_integer(reply: str) -> int | None:
    """Return the first whole number of a reply, as the released code takes it: "on a scale of 1 to 10, 8" is 1."""
    found = _FIRST_INTEGER.search(reply)
    return int(found[0]) if found else None


def _extract(consultation: Consultation) -> Episode[tuple[str, str, str, str]]:
    """Let the judge restate the best plans as treatment, explanation, medicine and explanation.

    Raises:
        SessionFailed: No plan was scored; the released code crashes there.
    """
    best = best_plan(consultation.treatments), best_plan(consultation.medicines)
    if best[0] is None or best[1] is None:
        raise SessionFailed("no_score", "no plan was scored")
    plans = f"{consultation.treatments[best[0]].plan}\n{consultation.medicines[best[1]].plan}"
    reply = yield from _judge(consultation, (Message("user", _EXTRACT.replace("{plans}", plans)),))
    return _four_parts(reply)


def _four_parts(reply: str) -> tuple[str, str, str, str]:
    """Read the labelled lines; the first explanation is the treatment's, the second the medicine's, as released."""
    found: dict[str, list[str]] = {"treatment": [], "medicine": [], "explanation": []}
    for label, text in _PART.findall(reply):
        found[label.lower()].append(text.strip())
    explanations = [*found["explanation"], "", ""]
    return (
        next(iter(found["treatment"]), ""),
        explanations[0],
        next(iter(found["medicine"]), ""),
        explanations[1],
    )
