"""The authors' MoH-LLaMA3 checkpoint, whose config says `llama`, as a model type that says what it is.

Its heads are constants of the code beside it: the first half of the heads of every layer is shared, half of the others
are active, chosen by the norm of their queries before rotary embedding, and gates are 0 and 1. Without that code every
version of transformers loads it as a dense Llama, silently. Here the choice is made in float32; the published code
rounds its scores to the model's type first and so picks another set for some tokens.
"""

from __future__ import annotations

import json
from pathlib import Path

from strop.errors import UserError
from strop.heads.conversion import CONFIG, Converted, convert, read_dense
from strop.heads.layout import HeadLayout
from strop.heads.modeling.settings import MoHSettings, StraightThrough

PUBLISHED_VOCABULARY = 160_896
"""Of MoH-LLaMA3-8B; a checkpoint with another one is imported too."""


def authors_layout(query_heads: int, kv_groups: int) -> HeadLayout:
    """Return the heads of every layer of the authors' LLaMA: 16 shared and 8 of 16 for 32 heads.

    Raises:
        UserError: The heads are no multiple of four, with which the published code crashes or divides by zero.
    """
    if query_heads % 4:
        raise UserError(
            "the authors' layout needs a multiple of four heads",
            value=query_heads,
            why="half of the heads are shared, and half of the others active",
        )
    return HeadLayout(
        query_heads=query_heads, kv_groups=kv_groups, shared=tuple(range(query_heads // 2)), active=query_heads // 4
    )


def import_authors(
    source: Path, out: Path, *, straight_through: StraightThrough = "exact", named_code: bool = True
) -> Converted:
    """Write the authors' checkpoint as a folder that strop loads; the weights stay as they are.

    Args:
        source: Folder of the checkpoint, its weights in safetensors.
        out: Folder to write; must not exist.
        straight_through: How the router learns in further training; the paper's own training code is not published.
        named_code: Refuse a folder whose config names no code of its own: it may be a dense Llama.

    Raises:
        UserError: It is no Llama, names no code, or cannot be converted.
    """
    dense = read_dense(source)
    if dense.family != "llama":
        raise UserError(
            "the authors published a Llama", value=dense.family, fix="convert other models without --from-authors"
        )
    told = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    if named_code and "AutoModelForCausalLM" not in told.get("auto_map", {}):
        raise UserError(
            "this config names no code of its own, as the authors' does",
            value=str(source),
            why="it may be a dense Llama: its weights look the same",
            fix="convert a dense one without --from-authors",
        )
    layout = authors_layout(dense.heads, dense.groups)
    settings = MoHSettings(layers=(layout,) * dense.layers, router="query_norm", straight_through=straight_through)
    return convert(source, settings, out)
