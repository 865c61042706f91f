"""The symptom decoder: what the therapist has understood, how near it is to the card, and what it should ask next.

The probes and the judge's replies stand outside the dialogue. The judge knows the card; what it writes reaches the
therapist only after a leak test, as questions, in the request for the next turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from strop.evaluation.surface import refuses, words_of
from strop.judging.replies import cleaned
from strop.methods.selfplay import prompts
from strop.methods.selfplay.cards import Card, hidden_fields
from strop.methods.selfplay.consultation import Consultation, answer_of
from strop.methods.selfplay.dialogue import exchange, seen_by
from strop.methods.selfplay.session_record import Decoding, Ended
from strop.methods.selfplay.similarity import Matcher, compared_text, passes, threshold_for
from strop.models.episodes import Ask, Episode

COGNITION = ("intermediate_belief", "intermediate_belief_depression", "coping_strategies", "situation")
"""Fields whose failures go to the judge together."""
BEHAVIOUR = ("principles",)
"""The field whose failure goes to the judge by itself."""
LEAK_RUN = 7
"""Words in a row of the card that must not stand in the feedback."""
SHORTEST_SECRET = 4
"""Words of a hidden text that is shorter than `LEAK_RUN`, from which on saying the whole of it is a leak."""

_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+[\"'\u201d\u2019)]*|(?=\n)|\Z)")
_LABEL = re.compile(
    r"\A\s*(?:\*\*)?(?:therapist|psychiatrist|doctor|answer|response)(?:\*\*)?[ \t]*:(?:\*\*)?\s*", re.IGNORECASE
)
_BULLET = re.compile(r"\A\s*(?:\d{1,2}[.)]|[-*\u2022])\s+")


def true_fields(card: Card, principles: Sequence[str]) -> dict[str, str]:
    """Return what the decoder is to find out, by field; a field that the card leaves empty is not asked about.

    The fourth field is the labelled thoughts, emotions and behaviour, and the fifth the principles, as released.
    """
    emotions = ", ".join(card.emotions)
    fields = {
        "intermediate_belief": card.intermediate_belief,
        "intermediate_belief_depression": card.intermediate_belief_depression,
        "coping_strategies": card.coping_strategies,
        "situation": f"Automatic Thoughts: {card.automatic_thought}\nEmotions: {emotions}\nBehavior: {card.behavior}",
        "principles": " ".join(principles),
    }
    return {name: text for name, text in fields.items() if text.strip()}


def decode(consultation: Consultation) -> Episode[None]:
    """Decode, and go on with the dialogue as long as something is not understood and progress is made.

    At most `extra_rounds` further rounds; each is one exchange with the judge's questions, and one decoding. Nobody is
    asked for questions that no further turn would hear (the released code asks).
    """
    settings = consultation.settings
    if not settings.decoder:
        consultation.stopped = "off"
        return
    truth = true_fields(consultation.card, consultation.principles)
    while True:
        decoding = yield from _read_patient(consultation, truth)
        consultation.rounds.append(decoding)
        ended = _ended(consultation)
        if ended is not None:
            consultation.stopped = ended
            return
        feedback, leaked = yield from _feedback(consultation, truth, decoding)
        consultation.rounds[-1] = replace(decoding, feedback=feedback, leaked=leaked)
        yield from exchange(consultation, feedback)


def _ended(consultation: Consultation) -> Ended | None:
    settings, rounds = consultation.settings, consultation.rounds
    if all(rounds[-1].passed.values()):
        return "converged"
    if len(rounds) > settings.extra_rounds:
        return "cap"
    stale = rounds_without_progress(rounds, least=settings.least_progress)
    return "no_progress" if settings.no_progress is not None and stale >= settings.no_progress else None


def rounds_without_progress(rounds: Sequence[Decoding], *, least: float) -> int:
    """Return how many rounds at the end brought nothing.

    A round brings something when more fields pass than ever before, or their mean similarity is higher by `least` than
    ever before; fields without an answer are not in the mean.
    """
    stale, most, highest = 0, -1, -1.0
    for decoding in rounds:
        read = [value for value in decoding.similarities.values() if value is not None]
        mean = sum(read) / len(read) if read else -1.0
        passed = sum(decoding.passed.values())
        stale = 0 if passed > most or (mean >= highest + least and mean > highest) else stale + 1
        most, highest = max(most, passed), max(highest, mean)
    return stale


def _read_patient(consultation: Consultation, truth: Mapping[str, str]) -> Episode[Decoding]:
    """Ask the therapist about every field at once, and compare its answers with the card."""
    answers = yield from _probe(consultation, list(truth))
    similarities, passed = compared(consultation.matcher, truth, answers)
    return Decoding(len(consultation.rounds), answers, similarities, passed)


def compared(
    matcher: Matcher, truth: Mapping[str, str], answers: Mapping[str, str]
) -> tuple[dict[str, float | None], dict[str, bool]]:
    """Return how near each answer is to the card and whether that is near enough; no answer has no similarity.

    Both are compared without labels (the released code compares with them).
    """
    texts = {field: (compared_text(answers[field]), compared_text(true)) for field, true in truth.items()}
    said = [field for field, (answer, true) in texts.items() if answer and true]
    found = matcher.similarities([texts[field] for field in said]) if said else []
    similarities: dict[str, float | None] = {**dict.fromkeys(truth), **dict(zip(said, map(float, found), strict=True))}
    limits = {field: threshold_for(matcher, field) for field in truth}
    passed = {field: value is not None and passes(value, limits[field]) for field, value in similarities.items()}
    return similarities, passed


def _probe(consultation: Consultation, fields: Sequence[str]) -> Episode[dict[str, str]]:
    """Return the therapist's answer about each field; empty where it gave none in as many tries as a turn has."""
    wanted = {field: seen_by(consultation, "therapist", prompts.probe_note(field)) for field in fields}
    answers = dict.fromkeys(fields, "")
    for attempt in range(consultation.settings.turn_tries):
        open_fields = [field for field in fields if not answers[field]]
        if not open_fields:
            break
        outcomes = yield [consultation.ask("therapist", wanted[field], attempt=attempt) for field in open_fields]
        for field, outcome in zip(open_fields, outcomes, strict=True):
            text = _LABEL.sub("", answer_of(outcome).text).strip()
            if text and not refuses(text):
                answers[field] = text
            else:
                consultation.discard("therapist", "refuses" if text else "empty", text)
    return answers


@dataclass(frozen=True, slots=True)
class Screened:
    """Feedback after the leak test: what may be told, and the sentences that were taken out."""

    text: str
    leaked: tuple[str, ...]


def _feedback(
    consultation: Consultation, truth: Mapping[str, str], decoding: Decoding
) -> Episode[tuple[str, tuple[str, ...]]]:
    """Return the judge's questions about the failed fields, and what was taken out of them.

    One call for cognition, one for behaviour; a reply that leaks or says nothing is asked for once more.
    """
    failed = [field for field, passed in decoding.passed.items() if not passed]
    groups = [[field for field in failed if field in group] for group in (COGNITION, BEHAVIOUR)]
    earlier = [before.feedback for before in consultation.rounds[:-1] if before.feedback]
    asked = [
        prompts.feedback_prompt({field: truth[field] for field in group}, decoding.answers, earlier)
        for group in groups
        if group
    ]
    secrets = [*hidden_fields(consultation.card).values(), *consultation.principles]
    screened: dict[int, Screened] = {}
    leaked: list[str] = []
    open_places = list(range(len(asked)))
    for attempt in range(2):
        asks: list[Ask] = [consultation.ask_judge(asked[place], attempt=attempt) for place in open_places]
        outcomes = yield asks
        for place, outcome in zip(open_places, outcomes, strict=True):
            found = screen_feedback(answer_of(outcome).text, secrets)
            leaked += found.leaked
            # The second reply counts where it says anything; a first one with its leaks taken out is better than none.
            if found.text or place not in screened:
                screened[place] = found
        open_places = [place for place in open_places if screened[place].leaked or not screened[place].text]
        if not open_places:
            break
    texts = [screened[place].text for place in range(len(asked)) if screened[place].text]
    return "\n".join(texts), tuple(leaked)


def screen_feedback(reply: str, secrets: Iterable[str]) -> Screened:
    """Return the part of a judge's reply that the therapist may be told: no leaks, questions where there are any.

    Args:
        reply: What the judge wrote.
        secrets: The hidden texts.
    """
    runs = secret_runs(secrets)
    sentences = [_BULLET.sub("", found[0]).strip() for found in _SENTENCE.finditer(cleaned(reply))]
    sentences = [sentence for sentence in sentences if words_of(sentence)]
    clean: list[str] = []
    leaked: list[str] = []
    # A run may cross from one sentence into the next: each is looked at together with what is kept before it.
    for sentence in sentences:
        gives_away = leaks(" ".join([*clean, sentence]), runs)
        (leaked if gives_away else clean).append(sentence)
    questions = [sentence for sentence in clean if sentence.rstrip("\"'\u201d\u2019)").endswith("?")]
    # Questions that have lost the sentences between them may stand beside each other as a new run.
    kept: list[str] = []
    for sentence in questions or clean:
        gives_away = leaks(" ".join([*kept, sentence]), runs)
        (leaked if gives_away else kept).append(sentence)
    return Screened("\n".join(kept), tuple(leaked))


def secret_runs(secrets: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Return the runs of words that give a hidden text away: every `LEAK_RUN` of its words, or all of a short text."""
    runs: set[tuple[str, ...]] = set()
    for secret in secrets:
        words = tuple(words_of(secret))
        size = min(LEAK_RUN, len(words))
        if size >= SHORTEST_SECRET:
            runs.update(words[place : place + size] for place in range(len(words) - size + 1))
    return frozenset(runs)


def leaks(text: str, runs: frozenset[tuple[str, ...]]) -> bool:
    """Say whether a text holds one of the `runs`, whatever its case and punctuation."""
    words = tuple(words_of(text))
    sizes = {len(run) for run in runs}
    return any(words[place : place + size] in runs for size in sizes for place in range(len(words) - size + 1))


def decoded_text(consultation: Consultation) -> str:
    """Return Sd: what the therapist understood in the last round, labelled by field; empty without a decoder."""
    if not consultation.rounds:
        return ""
    answers = consultation.rounds[-1].answers
    return "\n".join(f"{prompts.FIELD_NAMES[field]}: {answer}" for field, answer in answers.items() if answer)
