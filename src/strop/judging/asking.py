"""Asking a judge and reading its replies: what cannot be read is asked again a few times, and too much of it stops.

Every reply is stored before it is read, so the raw text behind a rating or a failure is kept, and a stop loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from strop.errors import Stopped
from strop.evaluation.statistics import wilson
from strop.judging.parsing import ParseFailure
from strop.judging.prompts import ReplyForm
from strop.models.asking import Advance, Answered, ask_each
from strop.models.protocol import Sampling, TextModel
from strop.records.rows import Prompt
from strop.runs.calls import FailedCall
from strop.runs.store import CallStore

PROBE = 64
"""Replies after which a judge that mostly fails is stopped, before the rest is paid for."""
FAILURE_SHOWN = 200
"""Characters of a failed call's message that are kept with a rating."""
AGAIN_TEMPERATURE = 0.7
"""Least temperature of a repeated question: greedily, a model repeats the reply that could not be read."""

Reading = TypeVar("Reading")
"""A value or a `ParseFailure`."""
Read = Callable[[str | ParseFailure], Mapping[str, Reading]]
"""Says what a reply means, by the name of what was asked; given a failure, each name has failed."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How a judge is asked.

    Attributes:
        sampling: How replies are drawn; greedy by default.
        form: Plain lines, or JSON held to a schema where the server can.
        again: How many more times a reply that could not be read is asked for.
        ceiling: Highest share of questions left without a reading, 0 to 1; more of them stop. 1 never stops.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=1024))
    form: ReplyForm = "text"
    again: int = 1
    ceiling: float = 0.2


def ask_judge(
    model: TextModel,
    prompts: Sequence[Prompt],
    read: Sequence[Read[Reading]],
    *,
    asking: Asking,
    schemas: Sequence[str] = (),
    store: CallStore,
    advance: Advance | None = None,
) -> list[dict[str, Reading]]:
    """Return what the judge's reply to each prompt says.

    A repeated question is sample 1, 2, ... of the same prompt; it fills what the earlier replies left open and changes
    nothing that was read already.

    Args:
        model: The judge.
        prompts: What to ask.
        read: Reads the reply to each prompt; names the same things for every reply to it.
        asking: How to ask.
        schemas: The JSON schema of each reply where `asking` wants JSON; none otherwise.
        store: Keeps the replies.
        advance: Told how many replies have come.

    Raises:
        Stopped: More replies than the ceiling allows cannot be read; or see `ask_each`.
    """
    wanted = [replace(asking.sampling, json_schema=schema) for schema in schemas] or [asking.sampling] * len(prompts)
    readings: list[dict[str, Reading]] = []
    for start, end in ((0, PROBE), (PROBE, len(prompts))):
        batch = range(start, min(end, len(prompts)))
        answered = _ask(model, [prompts[i] for i in batch], [wanted[i] for i in batch], store=store, advance=advance)
        readings += [dict(_read(outcome, read[i])) for i, outcome in zip(batch, answered, strict=True)]
        for repeat in range(1, asking.again + 1):
            open_ones = [i for i in batch if _failures(readings[i])]
            outcomes = _ask(
                model,
                [prompts[i] for i in open_ones],
                [_warmer(wanted[i]) for i in open_ones],
                # A warmer question is another question: its samples start at 0.
                sample=repeat if _warmer(asking.sampling) == asking.sampling else repeat - 1,
                store=store,
            )
            for i, outcome in zip(open_ones, outcomes, strict=True):
                fresh = _read(outcome, read[i])
                readings[i].update({name: fresh[name] for name in _failures(readings[i])})
        _check_ceiling(model, readings, asking.ceiling, done=len(readings) == len(prompts))
    return readings


def _ask(
    model: TextModel,
    prompts: Sequence[Prompt],
    samplings: Sequence[Sampling],
    *,
    store: CallStore,
    sample: int = 0,
    advance: Advance | None = None,
) -> Iterator[Answered]:
    """Yield the outcome of one sample of each prompt, in order; prompts of one sampling are asked together."""
    outcomes: dict[int, Answered] = {}
    for sampling in dict.fromkeys(samplings):
        places = [place for place, wanted in enumerate(samplings) if wanted == sampling]
        rows = ask_each(model, [prompts[i] for i in places], sampling, samples=sample + 1, store=store, advance=advance)
        outcomes.update((place, row[sample]) for place, row in zip(places, rows, strict=True))
    return (outcomes[place] for place in range(len(prompts)))


def _warmer(sampling: Sampling) -> Sampling:
    return replace(sampling, temperature=max(sampling.temperature, AGAIN_TEMPERATURE))


def _read(outcome: Answered, read: Read[Reading]) -> Mapping[str, Reading]:
    if isinstance(outcome, FailedCall):
        return read(ParseFailure("call_failed", f"{outcome.kind}: {outcome.message}"[:FAILURE_SHOWN]))
    readings = read(outcome.text)
    if outcome.finish != "length" or not _failures(readings):
        return readings
    cut = read(ParseFailure("truncated", "the reply reached max_tokens before it said what was asked"))
    return {**readings, **{name: cut[name] for name in _failures(readings)}}


def _failures(readings: Mapping[str, object]) -> list[str]:
    return [name for name, value in readings.items() if isinstance(value, ParseFailure)]


def _check_ceiling(model: TextModel, readings: Sequence[Mapping[str, object]], ceiling: float, *, done: bool) -> None:
    failed = [reading for reading in readings if _failures(reading)]
    if not failed:
        return
    share = wilson(len(failed), len(readings))
    # Before the end, chance alone must not stop a judge that would have stayed below the ceiling.
    if (share.estimate if done else share.low) <= ceiling:
        return
    name = _failures(failed[0])[0]
    raise Stopped(
        f"{len(failed)} of {len(readings)} replies of {model.name} could not be read",
        value=f"{share.estimate:.1%}, ceiling {ceiling:.1%}",
        why=f"the first: {name}: {failed[0][name]}",
        fix="use a model that keeps to the form, raise max_tokens, or raise the ceiling; replies are kept",
    )
