"""What a self-play run needs, before anything is spent: calls, tokens, optimiser steps, in bounds.

How many rounds a session takes and how many plans are tried is known only once it is held; the bounds are those of a
session in which everything goes well at once and of one in which nothing does. Turns that are asked for again come on
top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

from strop.methods.selfplay.cards import Card, symptom_text
from strop.methods.selfplay.config import SelfplayConfig
from strop.methods.selfplay.preflight import preflight
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.stages import cards_of
from strop.methods.selfplay.training_set import split_cards
from strop.models.forecasting import Expected
from strop.models.lengths import Range
from strop.models.spec import ModelSpec
from strop.training.planning import Plan, PlannedStage, Totals, training_steps

PROBES = 5
FEEDBACKS = 2
DIAGNOSES = 2
CALLS_PER_PLAN = 2
"""Of the player: the plan and the state after it; the judge's score is one more."""
CHARACTERS_PER_TOKEN = 4
SHORT_ANSWER = 12
"""Tokens of a turn that says little."""


@dataclass(frozen=True, slots=True)
class SessionCalls:
    """Calls of one session: those of the model that plays, and those of the judge."""

    player: Range
    judge: Range


def session_calls(settings: SessionSettings) -> SessionCalls:
    """Return the calls of a session, from one that converges and finds a good plan at once to one that never does.

    A turn, a choice or a reply that is asked for again is not counted.
    """
    # The patient opens; an exchange is a turn of each side.
    talk = 1 + 2 * settings.exchanges
    rounds = settings.extra_rounds if settings.decoder else 0
    probes = PROBES if settings.decoder else 0
    diagnosing = DIAGNOSES + 1 if settings.diagnosis else 0
    kinds = settings.treatment + settings.medicine
    player = Range(
        talk + probes + diagnosing + kinds * CALLS_PER_PLAN,
        talk + probes + rounds * (2 + PROBES) + diagnosing + kinds * CALLS_PER_PLAN * settings.tries,
    )
    encoder = int(settings.encoder)
    judge = Range(encoder + kinds, encoder + rounds * FEEDBACKS + kinds * settings.tries)
    return SessionCalls(player, judge)


def plan(config: SelfplayConfig, *, workspace: Path) -> Plan:
    """Return what a run of `config` needs.

    Args:
        config: The settings of the run.
        workspace: Where its calls would be stored; nothing is read or changed there.

    Raises:
        UserError: See `preflight`.
    """
    cleared = preflight(config)
    cards = cards_of(config.patients)
    stages = tuple(Planner(config, tuple(cards)).stages())
    total = Totals.of(stages)
    return Plan(stages, total, (*_notes(config, cards, total), *cleared.warnings))


@dataclass(frozen=True, slots=True)
class Planner:
    """Counts a run's stages in the recipe's order."""

    config: SelfplayConfig
    cards: tuple[Card, ...]

    def stages(self) -> Iterator[PlannedStage]:
        """Yield what each stage needs."""
        c = self.config
        sides = split_cards([card.id for card in self.cards], seed=c.seed, development=c.patients.development)
        development = sum(side == "development" for side in sides.values())
        train = (len(sides) - development) * c.patients.passes
        yield PlannedStage("patients")
        player = c.model.model
        for number in range(1, c.iterations + 1):
            yield from self._sessions(f"iteration{number}-sessions", player, train + development)
            if c.train is not None:
                steps = training_steps(c.train, Range(1, len(c.training_set.parts) * train))
                pace = c.planning.seconds_per_step
                seconds = None if pace is None else Range(floor(steps.low * pace[0]), ceil(steps.high * pace[1]))
                yield PlannedStage(f"iteration{number}-model", player, steps=steps, seconds=seconds, base=c.model.model)
                player = f"iteration{number}-model"
        if c.train is not None:
            yield from self._sessions("last-sessions", player, development)

    def _sessions(self, name: str, player: str, sessions: int) -> Iterator[PlannedStage]:
        calls = session_calls(self.config.session)
        longest = self.config.session.max_tokens
        yield self._calls(name, player, calls.player.times(sessions), longest, price_of=self.config.model)
        judge = self.config.judge.model
        limit = self.config.session.judge.max_tokens
        yield self._calls(f"{name}: judge", judge.model, calls.judge.times(sessions), limit, price_of=judge)

    def _calls(self, stage: str, model: str, calls: Range, longest: int, *, price_of: ModelSpec) -> PlannedStage:
        card = floor(sum(len(symptom_text(card)) for card in self.cards) / len(self.cards) / CHARACTERS_PER_TOKEN)
        context = self.config.session.context_tokens
        prompt = Range(calls.low * min(card, context), calls.high * max(card, context - longest))
        written = Range(calls.low * min(SHORT_ANSWER, longest), calls.high * longest)
        price = price_of.known_price
        money = None
        if price is not None:
            low, high = (
                price.cost(prompt_tokens=read, completion_tokens=wrote)
                for read, wrote in ((prompt.low, written.low), (prompt.high, written.high))
            )
            money = Expected((low + high) / 2, low, high)
        speed = self.config.planning.tokens_per_second
        tokens = prompt.plus(written)
        seconds = None if speed is None else Range(floor(tokens.low / speed[1]), ceil(tokens.high / speed[0]))
        return PlannedStage(
            stage,
            model,
            calls.high,
            prompt_tokens=prompt,
            completion_tokens=written,
            seconds=seconds,
            base=price_of.model,
            money=money,
        )


def _notes(config: SelfplayConfig, cards: list[Card], total: Totals) -> Iterator[str]:
    calls = session_calls(config.session)
    yield (
        f"{len(cards)} cards, {config.patients.passes} passes, {config.iterations} iterations. A session takes "
        f"{calls.player} calls of the player and {calls.judge} of the judge; repeated turns come on top."
    )
    yield "Calls are the most of each stage; the fewest tokens are those of sessions in which all goes well at once."
    yield f"All: {total}."
