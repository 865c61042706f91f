"""Two-minute checks of a set-up: the text, the heads, and what leaving some of them out does before any training."""

from __future__ import annotations

import math
from collections.abc import Iterator

from strop.errors import StropError
from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.preflight import check_settings, preflight, shape_of
from strop.methods.mixture_of_heads.stages import held_back_rows, loaded, split_of
from strop.methods.mixture_of_heads.text import Split
from strop.models.opening import model_folder
from strop.training import Finding

TRIED_BLOCKS, TRIED_LENGTH, TRIED_DOCUMENTS = 4, 256, 40
FEW_DOCUMENTS = 20


def examine_recipe(config: MixtureOfHeadsConfig) -> Iterator[Finding]:
    """Yield what the checks of a set-up find.

    Args:
        config: The settings of the run.

    Raises:
        UserError: See `preflight`.
    """
    preflight(config)
    made = split_of(config.text, seed=config.seeds[0])
    yield _text(made)
    seeds = len(config.seeds)
    yield Finding(
        name="seeds",
        status="ok" if seeds >= 3 else "warn",
        value=f"{seeds}",
        why="a difference between arms that one seed shows may be that seed's",
        fix="" if seeds >= 3 else "give at least three",
    )
    if config.model is None:
        return
    try:
        folder = model_folder(config.model)
        shape = shape_of(folder)
        check_settings(config, shape)
        yield Finding(
            name="heads",
            status="ok",
            value=f"{shape.kind}: {shape.layers} layers of {shape.query_heads} heads in {shape.kv_groups} KV groups",
            why="shares must divide them",
        )
        yield from _step_zero(config, made)
    except StropError as error:
        yield Finding(name="heads", status="fail", value=str(error), why="the run would end there", fix="see above")


def _text(made: Split) -> Finding:
    few = len(made.held_back) < FEW_DOCUMENTS
    return Finding(
        name="text",
        status="warn" if few else "ok",
        value=f"{len(made.train)} documents to learn from, {len(made.held_back)} held back, {made.removed} passages "
        f"removed; sha256 {made.digest[:16]}",
        why="intervals resample held-back documents",
        fix="more documents, or a larger text.held_back" if few else "",
    )


def _step_zero(config: MixtureOfHeadsConfig, made: Split) -> Iterator[Finding]:
    """Calibrate on a few blocks and tell the perplexity of the dense model and of each arm before training."""
    from strop.methods.mixture_of_heads.arms import ARMS, arm_name
    from strop.methods.mixture_of_heads.calibration import calibrate
    from strop.methods.mixture_of_heads.jumps import gated_heads, routers_of
    from strop.training.blocks import block_ids, packed
    from strop.training.probe import response_log_probs, supervised_loss
    from strop.training.weights import load_tokenizer

    assert config.model is not None
    folder = model_folder(config.model)
    tokenizer, model = load_tokenizer(folder), loaded(folder, config.machine)
    length = TRIED_LENGTH if config.train is None else min(TRIED_LENGTH, config.train.max_length)
    some = [(one.name, one.text) for one in made.train[:TRIED_DOCUMENTS]]
    whole = [block_ids(row) for row in packed(tokenizer, some, length=length).rows[:TRIED_BLOCKS]]
    held = [(one.name, one.text) for one in made.held_back]
    rows = held_back_rows(tokenizer, held, length=length, blocks=1)[:TRIED_BLOCKS]
    found = calibrate(model, whole)
    pad, groups = tokenizer.pad_token_id, shape_of(folder).kv_groups
    dense = supervised_loss(response_log_probs(model, rows, pad=pad), rows)
    told = [f"dense {math.exp(dense):.1f}"]
    for name, heads in config.heads.items():
        for arm in ARMS:
            _, routers = routers_of(heads, arm, found.importance, found.sums, kv_groups=groups)
            with gated_heads(model, [router.to(model.device) for router in routers]):
                loss = supervised_loss(response_log_probs(model, rows, pad=pad), rows)
            told.append(f"{arm_name(name, arm)} {math.exp(loss):.1f}")
    yield Finding(
        name="perplexity at step 0",
        status="ok",
        value=", ".join(told),
        why=f"on {len(rows)} held-back blocks, heads ranked on {len(whole)}: what training has to make good",
    )
