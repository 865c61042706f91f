"""All checks of a converted model's folder, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.modeling import load
from strop.heads.verification import checks
from strop.heads.verification.dropping import RULES, drops
from strop.heads.verification.report import Check, Verification
from strop.heads.verification.running import logits_of
from strop.heads.verification.texts import MEASURING, WEIGHING

ROWS, LENGTH, LONGEST = 3, 40, 256
PADDING_ROOM = checks.PADDING + checks.GENERATED
"""Places that checks need besides the tokens."""
STEPS = 9 + 2 + len(RULES)
"""How often `verify` tells that it has come further."""


def verify(
    folder: Path,
    original: Path | None = None,
    *,
    advance: Callable[[str], None] = lambda done: None,
) -> Verification:
    """Check a converted model on this machine, in float32.

    Args:
        folder: The converted model.
        original: The dense model that it was made from; without it the identity is checked against transformers' own
            model on the converted model's weights.
        advance: Told what was done, `STEPS` times.

    Returns:
        Every check with its difference, and the loss before training for several choices of shared heads.

    Raises:
        UserError: There is no converted model in the folder, or the original has another vocabulary.
    """
    model: Any = load(folder, dtype=torch.float32).eval()
    if not hasattr(model, "moh_settings"):
        raise UserError(
            "this model was not converted: all of its heads run for every token",
            value=str(folder),
            fix=f"convert it first: strop heads convert {folder} --active 0.75 --out DIR",
        )
    weighing, measuring, texts = _tokens(folder, model)
    ids_bn = torch.cat([ids_1n[:, :LENGTH] for ids_1n in measuring])
    found: list[Check] = []

    def add(done: str, *some: Check) -> None:
        found.extend(some)
        advance(done)

    add("identity", *_identity(folder, model, ids_bn, original))
    full, limit = logits_of(model, ids_bn), checks.rounding_limit(model, ids_bn)
    add("cache", *checks.cached(model, ids_bn, full, limit=limit))
    add("padding", checks.padded(model, ids_bn, full, limit=limit))
    add("batch", checks.independent(model, ids_bn, full, limit=limit))
    add("gates", *checks.gates(model, ids_bn))
    add("backends", *checks.backends(model, ids_bn, limit=limit))
    add("reload", checks.reloaded(folder, model, ids_bn, full))
    add("transformers alone", checks.stock_fails(folder))
    advance("texts")
    losses = drops(model, weighing, measuring, advance=lambda: advance("loss"))
    return Verification(folder=folder, checks=tuple(found), drops=losses, texts=texts)


def _identity(folder: Path, model: Any, ids_bn: Tensor, original: Path | None) -> list[Check]:
    own = checks.identity(model, ids_bn, None)
    if original is None:
        return [own]
    kept = checks.weights_kept(folder, original)
    if not kept.passed:
        return [own, kept]
    return [own, kept, checks.identity(model, ids_bn, load(original, dtype=torch.float32).eval())]


def _tokens(folder: Path, model: Any) -> tuple[list[Tensor], list[Tensor], str]:
    """Return token ids (1, n), at least `LENGTH`, of texts to weigh heads by and to measure on, and what they are."""
    longest = min(LONGEST, int(getattr(model.config, "max_position_embeddings", LONGEST)) - PADDING_ROOM)
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError):
        return (
            _drawn(model, longest, seed=0),
            _drawn(model, longest, seed=1),
            "random tokens: the folder has no tokenizer",
        )
    both = [_encoded(tokenizer, texts, longest) for texts in (WEIGHING, MEASURING)]
    if any(ids_1n.shape[1] < LENGTH or int(ids_1n.max()) >= model.config.vocab_size for ids in both for ids_1n in ids):
        raise UserError("the tokenizer does not belong to the model", value=str(folder))
    tokens = sum(ids_1n.shape[1] for ids_1n in both[1])
    return both[0], both[1], f"{len(MEASURING)} short English texts, {tokens} tokens"


def _encoded(tokenizer: Any, texts: Sequence[str], longest: int) -> list[Tensor]:
    return [tokenizer(text, return_tensors="pt").input_ids[:, :longest] for text in texts]


def _drawn(model: Any, longest: int, *, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = (1, min(2 * LENGTH, longest))
    return [torch.randint(3, model.config.vocab_size, size, generator=generator) for _ in range(ROWS)]
