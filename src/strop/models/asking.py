"""Store first: every finished call is read from the store, every new one is stored before it is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from strop.errors import Stopped, StropError, UserError
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling, TextModel
from strop.records.rows import Prompt
from strop.runs.store import CallStore, FailedCall, StoredCall

FAILURES_SHOWN = 200
"""Characters of the first failure's message that a stop shows."""


def ask(
    model: TextModel,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    samples: int = 1,
    store: CallStore,
    advance: Callable[[int], None] | None = None,
    use: Callable[[Sequence[str]], None] | None = None,
) -> list[list[str]]:
    """Return `samples` responses to each prompt, in the order of `prompts`.

    Calls that the store holds are not asked again. The model is handed the whole list of calls with a mark on the
    finished ones, so that a continued run computes the same batches, and the same bytes, as an unbroken one.

    Args:
        model: Answers the calls.
        prompts: What to ask; equal prompts are asked once and share their answers.
        sampling: How to draw; sample `i` of a prompt is its call with index `i`.
        samples: Responses for each prompt.
        store: Keeps every answer and every failure, batch by batch, before any of it is used.
        advance: Told how many responses have come, as they come; those from the store at once.
        use: Told the keys of all calls that the result rests on.

    Raises:
        Stopped: Calls failed in a way that may pass; all other answers are stored and the same command continues.
        UserError: Calls failed in a way that asking again does not help.
    """
    calls = [Call(prompt, sampling, sample) for prompt in prompts for sample in range(samples)]
    keys = [call.key(model.revision) for call in calls]
    repeats = Counter(keys)
    unique = dict(zip(keys, calls, strict=True))
    texts = {key: stored.text for key, stored in store.get_many(list(unique)).items()}
    if advance is not None and texts:
        advance(sum(repeats[key] for key in texts))
    if len(texts) < len(unique):
        _ask_missing(model, unique, texts, store=store, answered=lambda key: advance and advance(repeats[key]))
    if use is not None:
        use(list(unique))
    return [[texts[key] for key in keys[start : start + samples]] for start in range(0, len(keys), samples)]


def _ask_missing(
    model: TextModel,
    calls: dict[str, Call],
    texts: dict[str, str],
    *,
    store: CallStore,
    answered: Callable[[str], object],
) -> None:
    """Ask what `texts` lacks, and add it there once it is stored."""
    keys = list(calls)
    done = frozenset(index for index, key in enumerate(keys) if key in texts)
    failures: list[tuple[Call, CallFailure]] = []
    for batch in model.complete(list(calls.values()), done=done):
        fresh = [(keys[index], outcome) for index, outcome in batch if index not in done]
        stored = store.put_many([_record(model, key, calls[key], outcome) for key, outcome in fresh])
        for key, outcome in fresh:
            if isinstance(outcome, CallFailure):
                failures.append((calls[key], outcome))
            else:
                texts[key] = stored[key].text
                answered(key)
    if failures:
        raise _failed(model, failures, asked=len(keys) - len(done))


def _record(model: TextModel, key: str, call: Call, outcome: Outcome) -> StoredCall | FailedCall:
    if isinstance(outcome, Completion):
        return StoredCall(
            key=key,
            model=model.name,
            revision=model.revision,
            request=call.request(),
            sample=call.sample,
            text=outcome.text,
            finish=outcome.finish,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            latency_s=outcome.latency_s,
        )
    return FailedCall(
        key=key,
        model=model.name,
        revision=model.revision,
        request=call.request(),
        sample=call.sample,
        kind=outcome.kind,
        message=outcome.message,
        transient=outcome.transient,
        latency_s=outcome.latency_s,
    )


def _failed(model: TextModel, failures: Sequence[tuple[Call, CallFailure]], *, asked: int) -> StropError:
    kinds = Counter(failure.kind for _, failure in failures)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    permanent = [pair for pair in failures if not pair[1].transient]
    call, failure = (permanent or failures)[0]
    what = f"{len(failures)} of {asked} calls to {model.name} failed ({counted})"
    why = f"{failure.message[:FAILURES_SHOWN]} (prompt: {str(call.request()['prompt'])[:80]!r})"
    if permanent:
        return UserError(what, why=why, fix="change what the message names; the answered calls are kept")
    return Stopped(what, why=why, fix="run the same command again: it asks only what is missing")
