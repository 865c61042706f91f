"""Two-minute checks of a self-play set-up: one short session, and what of it could be read and learned."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from strop.errors import StropError
from strop.methods.selfplay.config import SelfplayConfig
from strop.methods.selfplay.preflight import preflight
from strop.methods.selfplay.session_record import SessionRecord
from strop.methods.selfplay.stages import Clinic, cards_of, cast, sessions
from strop.methods.selfplay.training_set import split_cards, training_set
from strop.models.episodes import run_episodes
from strop.runs import CallStore
from strop.training import Finding

EXCHANGES, TRIES, TOKENS = 2, 1, 96
"""What the tried session is cut to."""
FAULTY = 0.5
"""Share of discarded turns above which a model is said not to keep its roles."""


def examine_recipe(config: SelfplayConfig) -> Iterator[Finding]:
    """Yield what the checks of a set-up find.

    Args:
        config: The settings of the run.

    Raises:
        UserError: See `preflight`.
    """
    cleared = preflight(config)
    yield Finding(
        name="the judge",
        status="ok" if cleared.judge.qualified else "warn",
        value=cleared.judge.text,
        why="an unqualified judge's scores are not evidence",
        fix="" if cleared.judge.qualified else "strop judge qualify",
    )
    cards = cards_of(config.patients)
    sides = Counter(
        split_cards([card.id for card in cards], seed=config.seed, development=config.patients.development).values()
    )
    yield Finding(
        name="patients",
        status="ok",
        value=f"{sides['train']} to train on, {sides['development']} for development",
        why="iterations are compared on patients whom no training has seen",
    )
    try:
        record = _try_session(config)
    except StropError as error:
        why = "a model that does not answer cannot play"
        yield Finding(name="session", status="fail", value=str(error), why=why, fix="look at model and judge")
        return
    yield from _roles(record)
    yield from _readings(record)
    learned = training_set([record], config.training_set)
    left_out = {name: count for name, count in learned.counts.items() if name.startswith("removed") and count}
    yield Finding(
        name="training set",
        status="ok" if learned.examples else "warn",
        value=f"{len(learned.examples)} examples of one session; removed: {left_out or 'none'}",
        why="a run without an example stops",
        fix="" if learned.examples else "a stronger model, or a higher session.max_tokens",
    )


def _try_session(config: SelfplayConfig) -> SessionRecord:
    short = config.session.model_copy(
        update={
            "exchanges": min(EXCHANGES, config.session.exchanges),
            "extra_rounds": 0,
            "tries": TRIES,
            "max_tokens": min(TOKENS, config.session.max_tokens),
        }
    )
    card = cards_of(config.patients)[:1]
    with tempfile.TemporaryDirectory() as place, CallStore(Path(place) / "calls.sqlite") as store, ExitStack() as stack:
        episodes = sessions(card, replace(Clinic.of(config), session=short), iteration=1, seed=config.seed)
        models = cast(config.model, config.judge.model, config.machine, stack)
        (record,) = run_episodes(episodes, models, store=store)
    return record


def _roles(record: SessionRecord) -> Iterator[Finding]:
    discarded = [entry.why for entry in record.ledger if entry.turn >= 0]
    written = len(discarded) + len(record.dialogue)
    reasons = ", ".join(f"{count} {why}" for why, count in Counter(discarded).most_common()) or "none"
    bad = written == 0 or len(discarded) / written > FAULTY
    yield Finding(
        name="roles",
        status="warn" if bad else "ok",
        value=f"{len(record.dialogue)} turns said, {len(discarded)} discarded: {reasons}",
        why="a model that leaves its role teaches itself to",
        fix="look at the ledger of the sessions; take an instruction-tuned model" if bad else "",
    )


def _readings(record: SessionRecord) -> Iterator[Finding]:
    if record.failure is not None:
        yield Finding(
            name="session",
            status="warn",
            value=f"{record.failure.kind}: {record.failure.message}",
            why="a session that fails teaches nothing, and is counted",
            fix="raise session.turn_tries, or take a stronger model",
        )
    tried = [*record.treatments, *record.medicines]
    unread = sum(plan.score is None for plan in tried)
    yield Finding(
        name="judge: scores",
        status="warn" if unread or not tried else "ok",
        value=f"{len(tried) - unread} of {len(tried)} plans have a score that could be read",
        why="a plan without a score is never the best one",
        fix="raise session.judge.again or take another judge" if unread else "",
    )
