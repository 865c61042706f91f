"""The stages of a round of self-play: who is treated, the sessions, what is learned from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Self

from strop.errors import UserError
from strop.judging.settings import JudgeSettings
from strop.methods.selfplay.behaviours import read_behaviours
from strop.methods.selfplay.benchmarking import benchmark_texts
from strop.methods.selfplay.cards import Card, read_cards
from strop.methods.selfplay.config import Examination, Patients, SelfplayConfig
from strop.methods.selfplay.encoding import candidate_groups
from strop.methods.selfplay.session import session
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.session_record import SessionRecord
from strop.methods.selfplay.similarity import MatcherSettings, open_matcher
from strop.methods.selfplay.training_config import TrainingSetSettings
from strop.methods.selfplay.training_set import Side, split_cards, training_set, without_overlap
from strop.models.episodes import Episode, run_episodes
from strop.models.placement import Placement, open_placed
from strop.models.protocol import TextModel
from strop.models.spec import ModelSpec
from strop.records.rows import SupervisedExample
from strop.runs import Artifact, Stage
from strop.training.machine import Machine, Model, train_in, weights_of
from strop.training.settings import TrainingSettings

COUNTS = "counts.json"
EXAMPLES, PREFERENCES = "examples.jsonl", "preferences.jsonl"


def draw_patients(stage: Stage, settings: Patients, *, seed: int) -> None:
    """Read the cards and put each on one side: rows of `id`, `name`, `condition`, `styles` and `side`."""
    cards = cards_of(settings)
    sides = split_cards([card.id for card in cards], seed=seed, development=settings.development)
    stage.write_rows(
        {
            "id": card.id,
            "name": card.name,
            "condition": card.condition,
            "styles": list(card.styles),
            "side": sides[card.id],
        }
        for card in cards
    )
    stage.write_json({"cards": len(cards), **Counter(sides.values())}, COUNTS)


def cards_of(settings: Patients) -> list[Card]:
    """Return the cards of a run.

    Raises:
        UserError: A card lacks a field, or two cards have one id.
    """
    cards = [card for path in settings.cards for card in read_cards(path)][: settings.limit]
    twice = sorted(name for name, count in Counter(card.id for card in cards).items() if count > 1)
    if twice:
        raise UserError("two cards have one id", value=twice[:5], fix="give each card an id of its own")
    return cards


@dataclass(frozen=True, slots=True)
class Clinic:
    """Where sessions are held, and how.

    Attributes:
        patients: The cards and the library of behaviours.
        judge: Who picks behaviours, writes feedback and scores.
        matcher: Compares what the therapist understands with the card.
        session: How a session is held.
        placement: Where the models answer.
    """

    patients: Patients
    judge: JudgeSettings
    matcher: MatcherSettings
    session: SessionSettings
    placement: Placement

    @classmethod
    def of(cls, config: SelfplayConfig) -> Self:
        """Take the parts of a run's settings."""
        return cls(config.patients, config.judge, config.matcher, config.session, config.machine)


@dataclass(frozen=True, slots=True)
class Holding:
    """Sessions that are to be held.

    Attributes:
        side: Training or development patients.
        passes: Sessions with each patient.
        seed: Of the sessions; development sessions of all rounds share one, so that they differ by the model alone.
    """

    side: Side
    passes: int
    seed: int


def play(
    stage: Stage,
    model: Model,
    drawn: Artifact,
    *,
    clinic: Clinic,
    holding: tuple[Holding, ...],
    iteration: int,
    side_by_side: int,
) -> None:
    """Hold sessions with the patients of one side or of both, in a table each: `train.jsonl`, `development.jsonl`.

    A session that fails is a record too. A killed stage goes on inside each session: what was said is in the store.

    Args:
        stage: Where to write and to ask.
        model: Plays patient and therapist.
        drawn: The sides of the cards.
        clinic: Where the sessions are held.
        holding: With whom, how often, and with which noise.
        iteration: Which round, for the records.
        side_by_side: Sessions at a time.
    """
    sides = {row["id"]: row["side"] for row in drawn.rows()}
    episodes: list[Episode[SessionRecord]] = []
    counts: list[int] = []
    for held in holding:
        cards = [card for card in cards_of(clinic.patients) if sides[card.id] == held.side]
        episodes += sessions(cards, clinic, passes=held.passes, iteration=iteration, seed=held.seed)
        counts.append(len(cards) * held.passes)
    with ExitStack() as stack:
        models = cast(model, clinic.judge.model, clinic.placement, stack)
        advance = stack.enter_context(stage.progress(f"{stage.name}: sessions", len(episodes)))
        records = iter(run_episodes(episodes, models, store=stage.store, at_once=side_by_side, advance=advance))
    ended: Counter[str] = Counter()
    for held, count in zip(holding, counts, strict=True):
        own = list(islice(records, count))
        ended.update(record.status for record in own)
        stage.write_rows((record.to_row() for record in own), f"{held.side}.jsonl")
    stage.note(**ended)


def sessions(
    cards: Sequence[Card], clinic: Clinic, *, iteration: int, seed: int, passes: int = 1
) -> Iterator[Episode[SessionRecord]]:
    """Yield the sessions of all passes over the cards; see `play`."""
    matcher = open_matcher(clinic.matcher)
    behaviours = read_behaviours(clinic.patients.behaviours) if clinic.session.encoder else None
    fitting = {
        card.id: () if behaviours is None else candidate_groups(card.coping_strategies, behaviours, matcher)
        for card in cards
    }
    for pass_ in range(passes):
        for card in cards:
            yield session(
                card,
                fitting[card.id],
                settings=clinic.session,
                matcher=matcher,
                seed=seed,
                pass_=pass_,
                iteration=iteration,
            )


def cast(model: Model, judge: ModelSpec, placement: Placement, stack: ExitStack) -> Mapping[str, TextModel]:
    """Open who plays and who judges; a model that does both is opened once."""
    player = open_placed(model if isinstance(model, ModelSpec) else weights_of(model), placement)
    stack.callback(player.close)
    if judge == model:
        return {"patient": player, "therapist": player, "judge": player}
    other = open_placed(judge, placement)
    stack.callback(other.close)
    return {"patient": player, "therapist": player, "judge": other}


def records_in(played: Artifact, side: Side = "train") -> list[SessionRecord]:
    """Return the session records of a stage, those of one side's patients."""
    return [SessionRecord.from_row(row) for row in played.rows(f"{side}.jsonl")]


def collect_examples(
    stage: Stage, played: Artifact, *, settings: TrainingSetSettings, examination: Examination
) -> None:
    """Make the training set of a round: examples to learn, pairs of plans, and the counts of what was left out.

    No pair may share words with an item of a benchmark that the run asks.

    Where nothing is left to learn from, the tables are empty: what the sessions were like is told all the same.

    Raises:
        UserError: A pair overlaps with a benchmark and that stops the run.
    """
    made = training_set(records_in(played), settings)
    made, found = without_overlap(made, benchmark_texts(examination), settings)
    stage.write_rows((example.to_row() for example in made.examples), EXAMPLES)
    stage.write_rows((pair.to_row() for pair in made.preferences), PREFERENCES)
    stage.write_json({"counts": dict(made.counts), "overlap": found.to_row()}, COUNTS)


def examples_in(collected: Artifact) -> list[SupervisedExample]:
    """Return what is learned from a round."""
    return [SupervisedExample.from_row(row) for row in collected.rows(EXAMPLES)]


def learn(
    stage: Stage, model: Model, examples: Artifact, *, settings: TrainingSettings, machine: Machine, seed: int
) -> None:
    """Fine-tune the model that held the sessions on what came of them; the loss covers the answers alone."""
    rows = examples.path(EXAMPLES)
    train_in(stage, model, rows, kind="sft", settings=settings, machine=machine, seed=seed)
