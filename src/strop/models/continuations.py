"""Log-probabilities of several continuations of one prompt, by lm-evaluation-harness's convention.

A prompt is plain text, a continuation follows it behind one space, no end of sequence is scored, and the continuation's
tokens are those of the whole text behind as many as the prompt alone has. The last token of a continuation is only
predicted, never read: continuations that differ in it alone, as letters do, share one pass.

Shape legend: B rows of a batch, L tokens with padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from strop.models.local import LocalModel
from strop.models.render import JOINT, encode_prompts
from strop.models.scoring import LOGITS_BYTES


@dataclass(slots=True)
class _Pass:
    """One row for the model, and who waits for what: (prompt, continuation) to its tokens."""

    ids: tuple[int, ...]
    wanted: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)


def continuation_log_probs(
    model: LocalModel,
    prompts: Sequence[str],
    continuations: Sequence[Sequence[str]],
    *,
    batch_size: int = 64,
    advance: Callable[[int], object] | None = None,
) -> list[tuple[float, ...] | None]:
    """Return the log-probability of each continuation of each prompt.

    Args:
        model: A loaded model.
        prompts: What is continued, plain text.
        continuations: Of each prompt, the texts that may follow it, without the space between.
        batch_size: Most rows at a time; it changes no number by more than rounding.
        advance: Told how many prompts are done.

    Returns:
        For each prompt the natural logarithms, one a continuation; None where one of them does not fit into the model's
        context, as nothing is cut.
    """
    passes, unfit = _passes(model, prompts, continuations)
    found: dict[tuple[int, int], float] = {}
    waiting = {place: len(options) for place, options in enumerate(continuations) if place not in unfit}
    if advance is not None:
        advance(len(unfit))
    start = 0
    while start < len(passes):
        fitting = LOGITS_BYTES // (4 * len(passes[start].ids) * model.model.config.vocab_size)
        batch = passes[start : start + max(1, min(batch_size, fitting))]
        for place, option, total in _score(model, batch):
            found[place, option] = total
            waiting[place] -= 1
            if advance is not None and not waiting[place]:
                advance(1)
        start += len(batch)
    return [
        None if place in unfit else tuple(found[place, option] for option in range(len(options)))
        for place, options in enumerate(continuations)
    ]


def _passes(
    model: LocalModel, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
) -> tuple[list[_Pass], set[int]]:
    """Return the rows to run, longest first, and the prompts that do not fit."""
    starts = encode_prompts(model.tokenizer, prompts)
    texts = [prompt + JOINT + each for prompt, of in zip(prompts, continuations, strict=True) for each in of]
    wholes = iter(encode_prompts(model.tokenizer, texts))
    passes: list[_Pass] = []
    unfit = set()
    for place, (start, options) in enumerate(zip(starts, continuations, strict=True)):
        rows: dict[tuple[int, ...], _Pass] = {}
        for option in range(len(options)):
            tokens = tuple(next(wholes)[len(start) :])
            ids = (*start, *tokens[:-1])
            rows.setdefault(ids, _Pass(ids)).wanted.append((place, option, tokens))
        if max(map(len, rows)) > model.context:
            unfit.add(place)
        else:
            passes += rows.values()
    return sorted(passes, key=lambda row: -len(row.ids)), unfit


def _score(model: LocalModel, batch: Sequence[_Pass]) -> list[tuple[int, int, float]]:
    import torch

    longest = len(batch[0].ids)
    device = model.model.device
    ids_bl = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in batch], device=device)
    mask_bl = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in batch], device=device)
    scored = []
    with torch.inference_mode():
        logits_blv = model.model(input_ids=ids_bl, attention_mask=mask_bl, use_cache=False).logits
        for slot, row in enumerate(batch):
            # Those who share a row have as many tokens: they differ in the last one only.
            answer = len(row.wanted[0][2])
            answer_lv = torch.log_softmax(logits_blv[slot, len(row.ids) - answer : len(row.ids)].float(), dim=-1).cpu()
            for place, option, tokens in row.wanted:
                total = sum(float(answer_lv[step, token]) for step, token in enumerate(tokens))
                scored.append((place, option, total))
    return scored
