"""The checks of a converted model, each a function of the loaded model that returns what it found.

Shapes: b batch rows, n tokens, h query heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.attention import BACKENDS, using
from strop.heads.conversion import weight_files
from strop.heads.modeling.settings import MoHSettings
from strop.heads.modeling.variants import dense_twin, with_layouts
from strop.heads.routing import Routing
from strop.heads.verification.report import Check
from strop.heads.verification.running import apart, cached_logits, load_without_strop, logits_of, reload_elsewhere

LIMIT = 1e-5
"""Largest difference of logits that rounding may make, over the largest logit, in float32."""
ROUNDINGS, LARGEST = 4.0, 1e-4
"""Depth amplifies rounding, and heads that are left out before any training more so: the limit is this many times what
separates the model's own logits in float32 and in float64, where that is more, and never above the second."""
RELOADED = 1e-6
GATE = 1e-4
PADDING = 5
GENERATED = 8


def identity(model: Any, ids_bn: Tensor, original: Any | None) -> Check:
    """With every head on, the logits are those of transformers' own model on the same weights."""
    dense = dense_twin(model) if original is None else original
    all_on = [replace(layout, active=layout.units) for layout in model.moh_settings.layers]
    with with_layouts(model, all_on):
        found = apart(logits_of(model, ids_bn), logits_of(dense, ids_bn))
    with_what = f"stock {type(dense).__name__}" + (" on these weights" if original is None else ", the original")
    return _compared("every head on equals the dense model", found, f"against {with_what}")


def weights_kept(folder: Path, original: Path) -> Check:
    """Every weight of the original is there, byte for byte; else the model was trained since."""
    from safetensors import safe_open

    own: dict[str, Path] = {}
    for shard in weight_files(folder):
        with safe_open(shard, framework="pt") as weights:
            own |= dict.fromkeys(list(weights.keys()), shard)
    missing, changed, total = [], 0, 0
    for shard in weight_files(original):
        with safe_open(shard, framework="pt") as weights:
            for name in list(weights.keys()):
                total += 1
                if name not in own:
                    missing.append(name)
                    continue
                with safe_open(own[name], framework="pt") as kept:
                    first, second = kept.get_tensor(name), weights.get_tensor(name)
                same = first.dtype == second.dtype and torch.equal(first, second)
                changed += not same
    name = "the original's weights are kept"
    if missing:
        return Check(name=name, passed=False, detail=f"{len(missing)} of {total} missing, such as {missing[0]}")
    if changed:
        return Check(name=name, passed=None, detail=f"{changed} of {total} differ: trained since, or of another type")
    return Check(name=name, passed=True, detail=f"{total} tensors equal")


def rounding_limit(model: Any, ids_bn: Tensor) -> float:
    """Return the largest difference that rounding explains in this model; its weights are float32 again afterwards."""
    single = logits_of(model, ids_bn)
    model.double()
    try:
        double = logits_of(model, ids_bn)
    finally:
        model.float()
    return min(max(LIMIT, ROUNDINGS * apart(single, double)), LARGEST)


def cached(model: Any, ids_bn: Tensor, full: Tensor, *, limit: float = LIMIT) -> list[Check]:
    """Chunks of 1, 3 and all tokens behind a cache give the full pass's logits, and greedy tokens are its likeliest."""
    checks = []
    for chunk in (1, 3, ids_bn.shape[1]):
        found = apart(cached_logits(model, ids_bn, chunk=chunk), full)
        how = "all at once" if chunk == ids_bn.shape[1] else f"chunks of {chunk}"
        checks.append(
            _compared(f"with a cache, {how}, equals the full pass", found, f"{ids_bn.shape[1]} tokens a row", limit)
        )
    length = ids_bn.shape[1]
    with torch.no_grad():
        made_bn = model.generate(
            ids_bn,
            attention_mask=torch.ones_like(ids_bn),
            max_new_tokens=GENERATED,
            do_sample=False,
            num_beams=1,
            eos_token_id=None,
            pad_token_id=0,
            repetition_penalty=1.0,
        )
    likeliest_bn = logits_of(model, made_bn)[:, length - 1 : -1].argmax(-1)
    equal = torch.equal(made_bn[:, length:], likeliest_bn)
    detail = f"{GENERATED} greedy tokens a row against the likeliest of the full pass"
    return [*checks, Check(name="generation with a cache equals the full pass", passed=equal, detail=detail)]


def padded(model: Any, ids_bn: Tensor, full: Tensor, *, limit: float = LIMIT) -> Check:
    """Padding on the left changes no real token."""
    padding_bp = torch.zeros(ids_bn.shape[0], PADDING, dtype=ids_bn.dtype)
    mask_bn = torch.cat([padding_bp, torch.ones_like(ids_bn)], 1)
    places_bn = (mask_bn.cumsum(1) - 1).clamp(min=0)
    found = logits_of(model, torch.cat([padding_bp, ids_bn], 1), attention_mask=mask_bn, position_ids=places_bn)
    return _compared("left padding changes nothing", apart(found[:, PADDING:], full), f"{PADDING} places", limit)


def independent(model: Any, ids_bn: Tensor, full: Tensor, *, limit: float = LIMIT) -> Check:
    """Each row alone gives what it gives in the batch."""
    found = max(apart(logits_of(model, row[None])[0], whole) for row, whole in zip(ids_bn, full, strict=True))
    return _compared("rows of a batch are independent", found, f"{ids_bn.shape[0]} rows", limit)


def reloaded(folder: Path, model: Any, ids_bn: Tensor, full: Tensor) -> Check:
    """A fresh process loads the folder as the same class with the same logits."""
    name = "a fresh process loads the same model"
    try:
        class_name, logits = reload_elsewhere(folder, ids_bn)
    except RuntimeError as error:
        return Check(name=name, passed=False, detail=str(error).splitlines()[-1])
    found = apart(logits, full)
    same = class_name == type(model).__name__ and found <= RELOADED
    return Check(name=name, passed=same, difference=found, limit=RELOADED, detail=f"{class_name}, no remote code")


def stock_fails(folder: Path) -> Check:
    """Transformers without strop refuses the folder, instead of loading a dense model."""
    found = load_without_strop(folder)
    detail = found.get("message") or f"it loaded as {found.get('loaded')}"
    return Check(name="transformers alone refuses the folder", passed="error" in found, detail=detail[:160])


def gates(model: Any, ids_bn: Tensor) -> list[Check]:
    """Every token uses exactly the heads that its layout allows, with gates as its router promises."""
    with routings(model) as seen:
        logits_of(model, ids_bn)
    wrong_count = wrong_gate = 0
    for layer, layout in enumerate(model.moh_settings.layers):
        mask_bnh = seen[layer].mask_bnh
        bad_bn = mask_bnh.sum(-1) != layout.active_heads
        if layout.shared:
            bad_bn = bad_bn | ~mask_bnh[..., list(layout.shared)].all(-1)
        if layout.rows_per_group is not None:
            by_group = mask_bnh.unflatten(-1, (layout.kv_groups, -1)).sum(-1)  # type: ignore[no-untyped-call]
            bad_bn = bad_bn | (by_group != layout.rows_per_group).any(-1)
        wrong_count += int(bad_bn.sum())
        wrong_gate += int(_wrong_gates(seen[layer], layer, model.moh_settings).sum())
    tokens = f"{ids_bn.numel()} tokens in each of {len(model.moh_settings.layers)} layers"
    return [
        Check(
            name="every token uses exactly its number of heads", passed=not wrong_count, detail=_of(wrong_count, tokens)
        ),
        Check(name="gates have the values that they must have", passed=not wrong_gate, detail=_of(wrong_gate, tokens)),
    ]


def backends(model: Any, ids_bn: Tensor, *, limit: float = LIMIT) -> list[Check]:
    """Every backend that can run here gives the reference's logits."""
    with using("reference"):
        wanted = logits_of(model, ids_bn)
    checks = []
    for name in BACKENDS[1:]:
        title = f"{name} equals the reference"
        try:
            with using(name):
                found = apart(logits_of(model, ids_bn), wanted)
        except UserError as error:
            checks.append(Check(name=title, passed=None, detail=error.why or error.what))
            continue
        except ImportError as error:
            checks.append(Check(name=title, passed=None, detail=str(error)))
            continue
        checks.append(_compared(title, found, "", limit))
    return checks


@contextmanager
def routings(model: Any) -> Iterator[list[Routing]]:
    """Collect what the routers of all layers decide while the context lasts, in order of the layers."""
    seen: list[Routing] = []

    def keep(_module: Any, _given: Any, routing: Routing) -> None:
        seen.append(routing)

    handles = [layer.self_attn.router.register_forward_hook(keep) for layer in model.model.layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _wrong_gates(routing: Routing, layer: int, settings: MoHSettings) -> Tensor:
    """Say for which tokens gates are not what they must be; (b, n)."""
    gate_bnh, mask_bnh, layout = routing.gate_bnh, routing.mask_bnh, settings.layers[layer]
    if gate_bnh is None:
        return torch.zeros(mask_bnh.shape[:2], dtype=torch.bool)
    wrong_bn = ~gate_bnh.isfinite().all(-1) | (gate_bnh < 0).any(-1) | ((gate_bnh != 0) & ~mask_bnh).any(-1)
    if settings.router == "query_norm":
        return wrong_bn | (gate_bnh != mask_bnh).any(-1)
    shared_bn = gate_bnh[..., list(layout.shared)].sum(-1)
    routed_bn = gate_bnh[..., list(layout.routed)].sum(-1)
    if layout.choice == "groups":
        routed_bn = routed_bn / layout.heads_per_group
    if settings.gates == "paper":
        return wrong_bn | (shared_bn + routed_bn / layout.choices > 1 + GATE)
    # Released gates: each stage's mean over its active units is twice the stage's weight, and the two weights sum to 1.
    picks = layout.active * layout.choices
    routed_bn = routed_bn / picks
    whole_bn = routed_bn if not layout.shared else (routed_bn + shared_bn / len(layout.shared)) / 2
    return wrong_bn | ((whole_bn - 1).abs() > GATE)


def _compared(name: str, found: float, detail: str, limit: float = LIMIT) -> Check:
    return Check(name=name, passed=found <= limit, difference=found, limit=limit, detail=detail)


def _of(wrong: int, tokens: str) -> str:
    return f"{wrong} wrong, {tokens}" if wrong else tokens
