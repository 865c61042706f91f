"""From sessions to what is learned: two or three questions a session with their answers, and plans that scored apart.

The answer to each question carries the loss, the patient's story does not (`strop.training.rendering`). Everything here
is a pure function of session records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from strop.errors import UserError
from strop.evaluation.contamination import Contamination, contamination
from strop.methods.selfplay.cleaning import FILTERS, PARTS, Outcome, Part, broken_rules, kept_parts
from strop.methods.selfplay.session_record import PlanTry, SessionRecord
from strop.methods.selfplay.training_config import TrainingSetSettings
from strop.records.rows import Identifier, Message, PreferencePair, SupervisedExample
from strop.runs import stream

Side = Literal["train", "development"]


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked of a trained model, in our words.

    Attributes:
        system: The role, the same for every question.
        diagnosis: Asks for the illness.
        treatment: Asks for a treatment and its reason.
        medication: Asks for a medicine and its reason.
    """

    system: str = "You are an expert in psychiatry."
    diagnosis: str = "Which illness does this patient most likely have? Name one."
    treatment: str = "Which treatment would help this patient most? Name it, then give the reason."
    medication: str = "Which medicine would help this patient most? Name it, then give the reason."

    def of(self, part: Part) -> str:
        """Return the question for a part."""
        return {"diagnosis": self.diagnosis, "treatment": self.treatment, "medication": self.medication}[part]


QUESTIONS = Questions()


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What a set of sessions teaches.

    Attributes:
        examples: The pairs to learn, each different from every other.
        preferences: A better and a worse plan for one patient.
        counts: What became of everything; see `training_set`.
    """

    examples: tuple[SupervisedExample, ...]
    preferences: tuple[PreferencePair, ...]
    counts: Mapping[str, int]


def training_set(
    records: Iterable[SessionRecord], settings: TrainingSetSettings, *, questions: Questions = QUESTIONS
) -> TrainingSet:
    """Make the training set of sessions (MentalArena, section 3.5).

    Differs from the paper in the filter, and in the preference pairs, which the paper does not make.

    Args:
        records: Sessions of the training cards, in order.
        settings: What is asked, with what the model is told, and what is kept.
        questions: The words of the questions.

    Returns:
        Pairs without exact duplicates (the first one stays), and counts: ``sessions``, ``failed`` sessions, ``without
        input`` (the therapist's understanding is empty), pairs ``removed: PART: RULE`` by the first rule that each
        breaks, ``removed: PART: what it is told`` (chained, and an earlier part was removed), ``duplicates`` and
        ``pairs``; ``preference pairs`` and ``close plans``, which scored too near each other.
    """
    counts: Counter[str] = Counter(dict.fromkeys(("sessions", "failed", "without input", "duplicates", "pairs"), 0))
    counts.update({"preference pairs": 0, "close plans": 0})
    examples: dict[tuple[object, str], SupervisedExample] = {}
    preferences: dict[tuple[object, str, str], PreferencePair] = {}
    for record in records:
        counts["sessions"] += 1
        if record.status == "failed":
            counts["failed"] += 1
        elif not story(record, settings).strip():
            counts["without input"] += 1
        else:
            for example in supervised_pairs(record, settings, counts, questions=questions):
                counts["duplicates"] += (example.prompt, example.response) in examples
                examples.setdefault((example.prompt, example.response), example)
            for pair in preference_pairs(record, settings, counts, questions=questions):
                preferences.setdefault((pair.prompt, pair.chosen, pair.rejected), pair)
    counts["pairs"], counts["preference pairs"] = len(examples), len(preferences)
    return TrainingSet(tuple(examples.values()), tuple(preferences.values()), dict(counts))


def story(record: SessionRecord, settings: TrainingSetSettings) -> str:
    """Return what the model is told of the patient."""
    return record.decoded if settings.input == "decoded" else record.symptom


def outcome_of(record: SessionRecord) -> Outcome:
    """Return how a session ended."""
    return Outcome(record.illness, record.treatment, record.explain_t, record.medicine, record.explain_m)


def answer_of(outcome: Outcome, part: Part) -> str:
    """Return the answer that is learned: the illness; or the plan, a full stop, and its reason."""
    if part == "diagnosis":
        return outcome.illness.strip()
    plan, reason = (
        (outcome.treatment, outcome.explain_t) if part == "treatment" else (outcome.medicine, outcome.explain_m)
    )
    return f"{plan.strip().rstrip('.')}. {reason.strip()}".strip()


def question_of(
    told: str, outcome: Outcome, part: Part, *, chained: bool, questions: Questions = QUESTIONS
) -> tuple[Message, ...]:
    """Return the prompt of a part: the patient's story and the question; chained, with what was decided before."""
    known = {"diagnosis": (), "treatment": (f"Diagnosis: {outcome.illness.strip()}",)}
    known["medication"] = (*known["treatment"], f"Treatment: {outcome.treatment.strip()}")
    pieces = [told.strip(), *(("\n".join(known[part]),) if chained and known[part] else ()), questions.of(part)]
    return (Message("system", questions.system), Message("user", "\n\n".join(pieces)))


def supervised_pairs(
    record: SessionRecord,
    settings: TrainingSetSettings,
    counts: Counter[str] | None = None,
    *,
    questions: Questions = QUESTIONS,
) -> Iterator[SupervisedExample]:
    """Yield the pairs of one session that the filter keeps, at most one a part.

    Args:
        record: A session that did not fail.
        settings: See `training_set`.
        counts: Is told what was removed and by which rule.
        questions: The words of the questions.
    """
    outcome = outcome_of(record)
    broken = broken_rules(outcome, FILTERS[settings.rule])
    kept = kept_parts(broken)
    first = {rule.part: rule.name for rule in reversed(broken)}
    for part in settings.parts:
        needs = PARTS[: PARTS.index(part)] if settings.chained else ()
        why = first.get(part) or ("what it is told" if not set(needs) <= set(kept) else None)
        if why is None:
            prompt = question_of(story(record, settings), outcome, part, chained=settings.chained, questions=questions)
            yield SupervisedExample(f"{record.id}/{part}", prompt, answer_of(outcome, part))
        elif counts is not None:
            counts[f"removed: {part}: {why}"] += 1


def preference_pairs(
    record: SessionRecord,
    settings: TrainingSetSettings,
    counts: Counter[str] | None = None,
    *,
    questions: Questions = QUESTIONS,
) -> Iterator[PreferencePair]:
    """Yield the best against the worst treatment, and the same for medicines; ours, beyond the paper.

    Only plans that pass the strict filter and whose score was read take part: what cannot be read says nothing about a
    plan. Of equals, the earlier one stands for all.
    """
    told = story(record, settings)
    for part, tried in (("treatment", record.treatments), ("medication", record.medicines)):
        if part not in settings.parts or (settings.chained and not _chain_holds(record, part)):
            continue
        scored = [(plan, _with_plan(record, part, plan)) for plan in tried if plan.score is not None]
        sound = [(plan.score or 0, outcome) for plan, outcome in scored if _is_sound(outcome, part)]
        if len(sound) < 2:
            continue
        better, worse = max(sound, key=lambda pair: pair[0]), min(sound, key=lambda pair: pair[0])
        if better[0] - worse[0] < settings.score_gap:
            if counts is not None:
                counts["close plans"] += 1
            continue
        prompt = question_of(told, outcome_of(record), part, chained=settings.chained, questions=questions)
        yield PreferencePair(f"{record.id}/{part}", prompt, answer_of(better[1], part), answer_of(worse[1], part))


def _chain_holds(record: SessionRecord, part: Part) -> bool:
    kept = kept_parts(broken_rules(outcome_of(record), FILTERS["strict"]))
    return set(PARTS[: PARTS.index(part)]) <= set(kept)


def _with_plan(record: SessionRecord, part: Part, plan: PlanTry) -> Outcome:
    outcome = outcome_of(record)
    if part == "treatment":
        return replace(outcome, treatment=plan.plan, explain_t=plan.explanation)
    return replace(outcome, medicine=plan.plan, explain_m=plan.explanation)


def _is_sound(outcome: Outcome, part: Part) -> bool:
    return part in kept_parts(broken_rules(outcome, FILTERS["strict"]))


def split_cards(cards: Iterable[str], *, seed: int, development: float) -> dict[str, Side]:
    """Put each card on one side, so that no patient is on both.

    Args:
        cards: The ids of all cards of the run, those of failed sessions among them, so that every iteration splits
            alike; their order does not matter.
        seed: Of the split.
        development: Share of the cards for development, rounded, at least one where it is above 0.

    Raises:
        UserError: A side would be empty.
    """
    order = sorted(set(cards))
    stream(seed, "selfplay", "split").shuffle(order)
    held = max(1, round(development * len(order))) if development else 0
    if held >= len(order):
        raise UserError(
            "no card is left to train on", value=f"{len(order)} cards, {held} for development", fix="give more cards"
        )
    return {card: "development" if place < held else "train" for place, card in enumerate(order)}


def without_overlap(
    made: TrainingSet, items: Sequence[tuple[Identifier, str]], settings: TrainingSetSettings
) -> tuple[TrainingSet, Contamination]:
    """Take out the pairs that share words with a benchmark, or stop.

    Args:
        made: The training set.
        items: Id and text of each benchmark item.
        settings: Whether hits are dropped or stop.

    Returns:
        The set without the hits, its counts with ``overlaps``, and what was found.

    Raises:
        UserError: There is a hit, and hits stop.
    """
    texts = [(("pair", one.id), _text(one.prompt, one.response)) for one in made.examples]
    plans = [(("preference", one.id), _text(one.prompt, one.chosen, one.rejected)) for one in made.preferences]
    found = contamination([(f"{kind}:{name}", text) for (kind, name), text in texts + plans], items)
    hit = set(found.texts_hit)
    if hit and settings.on_overlap == "stop":
        raise UserError(
            f"{len(hit)} training pairs share {found.words} words in a row with a benchmark",
            value=sorted(map(str, hit))[:5],
            why="a model must not be trained on what it is measured by",
            fix="take the cards that they come from out, or set on_overlap: drop",
        )
    examples = tuple(one for one in made.examples if f"pair:{one.id}" not in hit)
    preferences = tuple(one for one in made.preferences if f"preference:{one.id}" not in hit)
    counts = {**made.counts, "overlaps": len(hit), "pairs": len(examples), "preference pairs": len(preferences)}
    return TrainingSet(examples, preferences, counts), found


def _text(prompt: Any, *answers: str) -> str:
    turns = [prompt] if isinstance(prompt, str) else [message.content for message in prompt if message.role == "user"]
    return "\n".join((*turns, *answers))
