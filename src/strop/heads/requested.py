"""What a user asks of a conversion, a share of heads and a few words, as the heads of every layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from strop.errors import UserError
from strop.heads.conversion import Dense, read_dense
from strop.heads.gates import Style
from strop.heads.layout import Choice, HeadLayout, layout_for
from strop.heads.modeling.settings import MoHSettings, StraightThrough
from strop.heads.routers import RouterKind
from strop.heads.sharing import Sharing, shared_heads
from strop.heads.spreading import Spread, spread_by_importance

CHOICES: tuple[Choice, ...] = get_args(Choice)
UNTOLD: tuple[Sharing, ...] = ("per_group", "none", "first")
"""Rules for shared heads in the order in which they are tried where none is named."""
CALIBRATION_TOKENS = 512
"""A calibration text is cut behind so many tokens."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A conversion in a user's words.

    Attributes:
        active: Active heads over all heads of a layer, shared ones included; of the model, where they are spread.
        router: How tokens choose.
        choice: Among what; heads of each KV group for grouped queries by default, else heads of the layer.
        sharing: Rule for the heads that are always on. By default one of each KV group, else none, else the first half:
            the first that makes the share with two or more picks a choice, or else that makes the share.
        spread: Over the layers.
        gates: Of a learned router.
        straight_through: Of a query-norm router.
    """

    active: float
    router: RouterKind = "learned"
    choice: Choice | None = None
    sharing: Sharing | None = None
    spread: Spread = "even"
    gates: Style = "released"
    straight_through: StraightThrough = "selected"

    @property
    def weighs(self) -> bool:
        """Whether the heads' importance must be measured."""
        return "importance" in {self.sharing, self.spread}


def settings_for(source: Path, request: Request, *, importance: Sequence[Sequence[float]] | None = None) -> MoHSettings:
    """Turn a request into the heads of every layer of a model.

    Args:
        source: Folder of the dense model.
        request: What is asked.
        importance: (layers, heads), where the request weighs heads.

    Raises:
        UserError: The model cannot be converted, or no layout has that share; the nearest shares are named.
    """
    dense = read_dense(source)
    choice: Choice = request.choice or ("free" if dense.heads == dense.groups else "per_group")
    if choice not in CHOICES:
        raise UserError("tokens cannot choose among that", value=choice, alternatives=CHOICES)
    layouts = _layouts(dense, request, choice, importance)
    if request.spread == "importance":
        layouts = spread_by_importance(layouts, importance or ())
    return MoHSettings(
        layers=tuple(layouts),
        router=request.router,
        gates=request.gates,
        straight_through=request.straight_through,
    )


def shared_count(heads: int, groups: int, choice: Choice) -> int | None:
    """Say how many heads the rule of importance shares: half of free ones, one for each KV group, or the rule's own."""
    return {"free": heads // 2, "per_group": groups, "groups": None}[choice]


def importance_of(
    source: Path, texts: Sequence[str], *, on_text: Callable[[int], None] = lambda done: None
) -> list[list[float]]:
    """Measure the heads of a dense model on calibration texts, by the gradient of a gate on each head.

    Args:
        source: Folder of the dense model and its tokenizer.
        texts: Each is cut behind `CALIBRATION_TOKENS` tokens.
        on_text: Told how many texts were read.

    Returns:
        (layers, heads); see `strop.heads.importance.gradient_importance`.
    """
    from transformers import AutoTokenizer

    from strop.heads.importance import gradient_importance
    from strop.heads.modeling import load

    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)

    def batches() -> Any:
        for number, text in enumerate(texts):
            yield {"input_ids": tokenizer(text, return_tensors="pt").input_ids[:, :CALIBRATION_TOKENS]}
            on_text(number + 1)

    table: list[list[float]] = gradient_importance(load(source, dtype="float32"), batches()).tolist()
    return table


def read_texts(path: Path) -> list[str]:
    """Read calibration texts: a text file, one a paragraph, or a table with a field `text`.

    Raises:
        UserError: There is no such file, or it holds no text.
    """
    if not path.is_file():
        raise UserError("there are no calibration texts", value=str(path), fix="name a text file, or a table with text")
    if path.suffix in (".txt", ".md"):
        texts = [part.strip() for part in path.read_text(encoding="utf-8").split("\n\n")]
    else:
        from strop.records.tables import read_table

        texts = [str(row.get("text") or "").strip() for row in read_table(path)]
    texts = [text for text in texts if text]
    if not texts:
        raise UserError(
            "the calibration texts are empty", value=str(path), fix="a table needs a field `text`; map others first"
        )
    return texts


def _layouts(
    dense: Dense, request: Request, choice: Choice, importance: Sequence[Sequence[float]] | None
) -> list[HeadLayout]:
    if request.sharing is not None:
        return _layouts_by(request.sharing, dense, request.active, choice, importance)
    possible: list[list[HeadLayout]] = []
    refused: UserError | None = None
    for rule in UNTOLD:
        try:
            possible.append(_layouts_by(rule, dense, request.active, choice, importance))
        except UserError as error:
            refused = refused or error
    for layouts in possible:
        if layouts[0].active > 1 or not layouts[0].routed or layouts[0].active == layouts[0].units:
            return layouts
    if not possible and refused is not None:
        raise refused
    return possible[0]


def _layouts_by(
    rule: Sharing, dense: Dense, active: float, choice: Choice, importance: Sequence[Sequence[float]] | None
) -> list[HeadLayout]:
    if rule == "per_group" and choice == "free" and dense.heads == dense.groups:
        # One of each group would be every head.
        rule = "first"
    every = shared_heads(
        rule,
        layers=dense.layers,
        query_heads=dense.heads,
        kv_groups=dense.groups,
        choice=choice,
        count=shared_count(dense.heads, dense.groups, choice) if rule == "importance" else None,
        importance=importance,
    )
    return [
        layout_for(dense.heads, dense.groups, active_share=active, shared=shared, choice=choice) for shared in every
    ]
