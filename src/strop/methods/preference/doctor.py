"""Two-minute checks of a preference-learning set-up: speeches, judge, reward model, policy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from strop.errors import StropError
from strop.judging.contest.answering import addressed
from strop.judging.qualifying.certificate import Standing
from strop.judging.rating import rate
from strop.judging.rubric import load_rubric
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.preflight import preflight
from strop.methods.preference.speeches import Speech, load_speeches
from strop.models.asking import ask
from strop.models.placement import open_placed
from strop.models.protocol import Sampling
from strop.records.rows import Answer
from strop.runs import CallStore
from strop.training import Finding

ASKED = 2
"""Speeches that the policy answers and the judge rates."""
Status = Literal["ok", "warn", "fail"]


def examine_recipe(config: PreferenceConfig) -> Iterator[Finding]:
    """Yield what the checks of a set-up find.

    Args:
        config: The settings of the run.

    Raises:
        UserError: See `preflight`.
    """
    cleared = preflight(config)
    for name, standing in (("that rates", cleared.rater), ("that compares", cleared.judge)):
        if standing is not None:
            yield _standing(name, standing)
    drawn = load_speeches(config.speeches, seed=config.seed)
    left_out = ", ".join(f"{count} {reason}" for reason, count in drawn.left_out.items() if count) or "none"
    counts = ", ".join(f"{count} {split}" for split, count in drawn.splits.items())
    yield Finding(
        name="speeches", status="ok", value=f"{counts}; left out: {left_out}", why="a split must not be empty"
    )
    yield from _rounds(config, drawn.splits["train"])
    with tempfile.TemporaryDirectory() as place, CallStore(Path(place) / "calls.sqlite") as store:
        some = drawn.speeches[:ASKED]
        try:
            answers = _answers(config, some, store)
        except StropError as error:
            yield _answering("fail", str(error))
            return
        empty = sum(not text.strip() for text in answers)
        told = f"{len(answers)} speeches answered, {empty} of them with nothing: {answers[0][:80]!r}"
        yield _answering("warn" if empty else "ok", told)
        if config.ratings is not None:
            yield _rated(config, some, answers, store)


def _standing(name: str, standing: Standing) -> Finding:
    return Finding(
        name=f"the judge {name}",
        status="ok" if standing.qualified else "warn",
        value=standing.text,
        why="an unqualified judge's word is not evidence",
        fix="" if standing.qualified else "strop judge qualify",
    )


def _rounds(config: PreferenceConfig, train: int) -> Iterator[Finding]:
    online = config.policy.online
    if online is None:
        return
    small = train < online.speeches
    yield Finding(
        name="speeches of a round",
        status="warn" if small else "ok",
        value=f"{min(train, online.speeches)} of {train} training speeches, {online.iterations} rounds",
        why="a set that is smaller than a round is taken whole every time: the policy sees the same speeches again",
        fix="lower policy.online.speeches, or give more speeches" if small else "",
    )


def _answers(config: PreferenceConfig, speeches: tuple[Speech, ...], store: CallStore) -> list[str]:
    model = open_placed(config.policy.model, config.machine)
    try:
        sampling = Sampling(max_tokens=min(config.policy.max_tokens, 64))
        prompts = [addressed(speech.text, config.policy.system) for speech in speeches]
        return [texts[0] for texts in ask(model, prompts, sampling, store=store)]
    finally:
        model.close()


def _answering(status: Status, value: str) -> Finding:
    why = "a policy that does not answer cannot be trained on its answers"
    return Finding(
        name="policy: answers", status=status, value=value, why=why, fix="look at policy.model and max_tokens"
    )


def _rated(config: PreferenceConfig, speeches: tuple[Speech, ...], answers: list[str], store: CallStore) -> Finding:
    ratings = config.ratings
    assert ratings is not None
    items = [Answer(speech.id, speech.text, text) for speech, text in zip(speeches, answers, strict=True)]
    never_stop = ratings.judge.model_copy(update={"ceiling": 1.0})
    model = open_placed(ratings.judge.model, config.machine)
    try:
        rubric = load_rubric(ratings.judge.rubric)
        made = rate(model, items, rubric=rubric, store=store, asking=never_stop.asking, mode=ratings.mode)
    except StropError as error:
        return _rating("fail", str(error))
    finally:
        model.close()
    missing = sum(len(one.failures) for one in made)
    wanted = sum(len(one.values) for one in made)
    status: Status = "fail" if missing == wanted else "warn" if missing else "ok"
    return _rating(status, f"{wanted - missing} of {wanted} ratings could be read")


def _rating(status: Status, value: str) -> Finding:
    why = "a rating that cannot be read is missing, and a response without all of them is in no pair"
    fix = "raise ratings.judge.max_tokens, try ratings.judge.form or ratings.mode: each"
    return Finding(name="judge: ratings", status=status, value=value, why=why, fix=fix)
