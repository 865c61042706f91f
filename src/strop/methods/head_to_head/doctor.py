"""Two-minute checks of a head-to-head set-up: do both contestants answer, and can the judge's replies be read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from strop.errors import StropError
from strop.judging.contest.answering import Contestant, addressed
from strop.judging.judge import Duel
from strop.judging.settings import open_configured
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.methods.head_to_head.plan import contestants, prompts_of
from strop.methods.head_to_head.preflight import preflight
from strop.models.asking import ask
from strop.models.placement import open_placed
from strop.models.protocol import Sampling
from strop.records.rows import Prompt
from strop.runs import CallStore
from strop.training import Finding

ASKED = 3
"""Prompts that each contestant answers and the judge compares."""


def examine_recipe(config: HeadToHeadConfig) -> Iterator[Finding]:
    """Yield what the checks of a set-up find.

    Args:
        config: The settings of the run.

    Raises:
        UserError: See `preflight`.
    """
    cleared = preflight(config)
    yield Finding(
        name="judge: standing",
        status="ok" if cleared.standing.qualified else "warn",
        value=cleared.standing.text,
        why="an unqualified judge's verdicts are not evidence",
        fix="strop judge qualify",
    )
    prompts = list(islice(prompts_of(config), ASKED))
    with tempfile.TemporaryDirectory() as place, CallStore(Path(place) / "calls.sqlite") as store:
        answers = {}
        for side, contestant in contestants(config).items():
            try:
                answers[side] = _answers(config, contestant, prompts, store)
            except StropError as error:
                yield _answering(side, "fail", str(error))
                return
            empty = sum(not text.strip() for text in answers[side])
            told = f"{len(prompts)} prompts answered, {empty} of them with nothing: {answers[side][0][:80]!r}"
            yield _answering(side, "warn" if empty else "ok", told)
        yield _verdicts(config, prompts, answers, store)


def _answering(side: str, status: Literal["ok", "warn", "fail"], value: str) -> Finding:
    why = "a contestant that does not answer cannot be compared"
    return Finding(name=f"{side}: answers", status=status, value=value, why=why, fix="look at its model and max_tokens")


def _judging(status: Literal["ok", "warn", "fail"], value: str) -> Finding:
    why = "a reply that cannot be read is no verdict"
    fix = "raise judge.max_tokens, try judge.form, or use a judge that keeps to the form"
    return Finding(name="judge: verdicts", status=status, value=value, why=why, fix=fix)


def _answers(config: HeadToHeadConfig, contestant: Contestant, prompts: list[Prompt], store: CallStore) -> list[str]:
    asked = [addressed(prompt, contestant.system, word_limit=config.word_limit) for prompt in prompts]
    model = open_placed(contestant.model, config.machine)
    try:
        sampling = Sampling(contestant.temperature, max_tokens=contestant.max_tokens)
        return [texts[0] for texts in ask(model, asked, sampling, store=store)]
    finally:
        model.close()


def _verdicts(
    config: HeadToHeadConfig, prompts: list[Prompt], answers: dict[str, list[str]], store: CallStore
) -> Finding:
    sides = zip(prompts, answers["first"], answers["second"], strict=True)
    duels = [Duel(number, prompt, first, second) for number, (prompt, first, second) in enumerate(sides)]
    never_stop = config.judge.model_copy(update={"ceiling": 1.0})
    try:
        with open_configured(never_stop, config.machine, store=store) as judge:
            made = judge.compare(duels)
    except StropError as error:
        return _judging("fail", str(error))
    failed, flipped = sum(one.failed for one in made), sum(one.flipped for one in made)
    told = f"{len(made)} comparisons, {failed} without a verdict, {flipped} that changed with the order"
    return _judging("fail" if failed == len(made) else "warn" if failed else "ok", told)
