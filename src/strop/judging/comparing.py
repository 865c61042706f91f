"""Comparing two responses: always in both orders, and an answer that depends on the order is a tie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strop.judging.asking import Asking, Read, ask_judge
from strop.judging.judge import Comparison, Duel, OrderVerdict, mirrored, settled
from strop.judging.parsing import ParseFailure, Verdict, parse_verdict
from strop.judging.prompts import comparison_prompt, comparison_schema
from strop.judging.rubric import Criterion, Rubric
from strop.models.asking import Advance
from strop.models.protocol import TextModel
from strop.runs.store import CallStore

_VERDICT = "verdict"


@dataclass(frozen=True, slots=True)
class _Question:
    """One call: a duel in one order, by all criteria or by one."""

    duel: Duel
    criteria: tuple[Criterion, ...]


def compare(
    model: TextModel,
    duels: Sequence[Duel],
    *,
    rubric: Rubric,
    store: CallStore,
    asking: Asking | None = None,
    per_criterion: bool = False,
    advance: Advance | None = None,
) -> list[Comparison]:
    """Return one comparison for each duel, in their order.

    Args:
        model: The judge.
        duels: The pairs of responses.
        rubric: What to compare by.
        store: Keeps the replies.
        asking: How to ask; `Asking()` by default.
        per_criterion: Whether to ask by each criterion as well, in calls of their own; the verdict itself always comes
            from the question by all of them.
        advance: Told how many replies have come.

    Raises:
        Stopped: See `ask_judge`.
        UserError: The rubric has no criteria.
    """
    rubric.require_criteria()
    asking = asking or Asking()
    aspects = [rubric.criteria, *((criterion,) for criterion in rubric.criteria if per_criterion)]
    questions = [
        _Question(shown, criteria) for duel in duels for criteria in aspects for shown in (duel, duel.swapped())
    ]
    prompts = [
        comparison_prompt(
            asked.duel.prompt,
            asked.duel.first,
            asked.duel.second,
            asked.criteria,
            rubric=rubric,
            form=asking.form,
        )
        for asked in questions
    ]
    schemas = [comparison_schema()] * len(prompts) if asking.form == "json" else ()
    readers: list[Read[OrderVerdict]] = [_read] * len(prompts)
    replies = ask_judge(model, prompts, readers, asking=asking, schemas=schemas, store=store, advance=advance)
    verdicts: list[OrderVerdict] = [reply[_VERDICT] for reply in replies]
    width = 2 * len(aspects)
    return [
        _comparison(duel, verdicts[start : start + width], rubric.keys if per_criterion else ())
        for duel, start in zip(duels, range(0, len(verdicts), width), strict=True)
    ]


def _read(reply: str | ParseFailure) -> Mapping[str, OrderVerdict]:
    return {_VERDICT: reply if isinstance(reply, ParseFailure) else parse_verdict(reply)}


def _comparison(duel: Duel, verdicts: Sequence[OrderVerdict], keys: Sequence[str]) -> Comparison:
    """Put the orders together: the overall question's two first, then those of each criterion."""
    forward, backward = verdicts[0], mirrored(verdicts[1])
    criteria: dict[str, Verdict | None] = {
        key: settled(verdicts[place], mirrored(verdicts[place + 1]))
        for key, place in zip(keys, range(2, len(verdicts), 2), strict=True)
    }
    return Comparison(
        id=duel.id, verdict=settled(forward, backward), forward=forward, backward=backward, criteria=criteria
    )
