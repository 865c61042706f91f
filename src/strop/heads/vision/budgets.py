"""The published budgets of the vision models: how many heads of each layer are shared, routed and active.

Counts of heads and of router weights hold for every model with these layers. Totals of parameters do not: the published
ones belong to TransNeXt and to the authors' fork of DiT, and are repeated here as theirs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strop.errors import UserError
from strop.heads.layout import ActiveShare, HeadLayout, active_share


@dataclass(frozen=True, kw_only=True)
class Block:
    """Layers that follow each other and are alike.

    Attributes:
        layers: How many.
        width: Of the layer's input, D.
        heads: Heads of each layer, every one with keys of its own.
        shared: Heads that every token uses, the first ones.
        active: Routed heads that a token uses; 0 where all heads are shared.
    """

    layers: int
    width: int
    heads: int
    shared: int
    active: int = 0

    @property
    def layout(self) -> HeadLayout:
        """The heads of one layer."""
        return first_shared(self.heads, shared=self.shared, active=self.active)

    @property
    def router_parameters(self) -> int:
        """Router weights of one layer, weighted full attention included (MoH, released code)."""
        from strop.heads.routers import router_parameters

        return router_parameters(self.layout, self.width, weigh_all=True)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The heads of a published model.

    Attributes:
        name: As published.
        family: ``vit`` (TransNeXt, four stages of rising width) or ``dit``.
        head_width: Width of one head, the same in all layers.
        blocks: Early layers first.
        published_parameters: Of the authors' model, in millions; not of ours.
    """

    name: str
    family: str
    head_width: int
    blocks: tuple[Block, ...]
    published_parameters: float

    @property
    def layers(self) -> tuple[HeadLayout, ...]:
        """The heads of every layer."""
        return tuple(block.layout for block in self.blocks for _ in range(block.layers))

    @property
    def share(self) -> ActiveShare:
        """Active heads of the model; weighted full layers count as fully active, as in the paper."""
        return active_share(self.layers)

    @property
    def router_parameters(self) -> int:
        """Router weights of the model."""
        return sum(block.layers * block.router_parameters for block in self.blocks)

    def describe(self) -> str:
        """Say the heads of every block: shared + active of all, and how many layers have them."""
        return ", ".join(f"{one.shared}+{one.active}/{one.heads} x{one.layers}" for one in self.blocks)


def first_shared(heads: int, *, shared: int, active: int) -> HeadLayout:
    """Lay out a layer as the authors do: the first heads shared, a free choice among the others.

    Raises:
        UserError: More heads are shared or active than there are.
    """
    if not 0 <= shared <= heads:
        raise UserError("a layer cannot share that many heads", value=f"{shared} of {heads}")
    return HeadLayout(query_heads=heads, kv_groups=heads, shared=tuple(range(shared)), active=active)


def _vit(name: str, size: str, budget: Sequence[tuple[int, int]]) -> Budget:
    """Build the four stages of a TransNeXt (released code: transnext.py)."""
    base = size == "B"
    depths, width, heads = ((5, 5, 23, 5), 96, 4) if base else ((5, 5, 22, 5), 72, 3)
    blocks = tuple(
        Block(layers=depth, width=width << stage, heads=heads << stage, shared=shared, active=active)
        for stage, (depth, (shared, active)) in enumerate(zip(depths, budget, strict=True))
    )
    return Budget(name=name, family="vit", head_width=24, blocks=blocks, published_parameters=90.0 if base else 49.9)


_DIT_SIZES = {"XL": (1152, 72, 675.7), "L": (1024, 64, 458.5), "B": (768, 64, 130.6), "S": (384, 64, 33.0)}
"""Width, head width and published parameters in millions."""


def _dit(name: str, size: str, budget: Iterable[tuple[int, int, int, int]]) -> Budget:
    """Build a DiT from layers, heads, shared and active heads of each block (released code: models.py)."""
    width, head_width, parameters = _DIT_SIZES[size]
    blocks = tuple(
        Block(layers=layers, width=width, heads=heads, shared=shared, active=active)
        for layers, heads, shared, active in budget
    )
    return Budget(name=name, family="dit", head_width=head_width, blocks=blocks, published_parameters=parameters)


BUDGETS: dict[str, Budget] = {
    budget.name: budget
    for budget in (
        _vit("ViT-B-75", "B", [(4, 0), (8, 0), (4, 8), (5, 16)]),
        _vit("ViT-B-50", "B", [(2, 2), (2, 4), (2, 6), (4, 8)]),
        _vit("ViT-S-80", "S", [(3, 0), (6, 0), (3, 6), (8, 12)]),
        _vit("ViT-S-75", "S", [(3, 0), (6, 0), (3, 6), (4, 12)]),
        _dit("DiT-XL/2-90", "XL", [(9, 8, 8, 0), (10, 16, 16, 0), (9, 24, 16, 3)]),
        _dit("DiT-XL/2-75", "XL", [(9, 8, 8, 0), (10, 16, 10, 2), (9, 24, 14, 2)]),
        _dit("DiT-L/2-90", "L", [(8, 8, 8, 0), (8, 16, 16, 0), (8, 24, 16, 3)]),
        _dit("DiT-L/2-75", "L", [(8, 8, 8, 0), (8, 16, 8, 4), (8, 24, 12, 4)]),
        _dit("DiT-B/2-90", "B", [(5, 12, 6, 4), (5, 12, 7, 4), (2, 12, 12, 0)]),
        _dit("DiT-B/2-75", "B", [(2, 12, 4, 2), (8, 12, 6, 3), (2, 12, 12, 0)]),
        _dit("DiT-S/2-90", "S", [(8, 6, 3, 2), (4, 6, 6, 0)]),
        _dit("DiT-S/2-75", "S", [(2, 6, 2, 1), (4, 6, 3, 1), (4, 6, 3, 2), (2, 6, 6, 0)]),
    )
}
"""By published name."""


def budget_named(name: str) -> Budget:
    """Return a published budget.

    Raises:
        UserError: There is none of that name.
    """
    if name not in BUDGETS:
        raise UserError("there is no published head budget of that name", value=name, alternatives=tuple(BUDGETS))
    return BUDGETS[name]


def budget_table(budgets: Iterable[Budget] | None = None) -> str:
    """Print budgets as a Markdown table: heads of each block, both means of the active share, router weights."""
    lines = [
        "| model | shared + active of heads x layers | active heads (mean over heads) | (mean over layers) "
        "| shared of active | layers that route | router weights |",
        "|---|---|---|---|---|---|---|",
    ]
    for budget in BUDGETS.values() if budgets is None else budgets:
        share = budget.share
        lines.append(
            f"| {budget.name} | {budget.describe()} | {share.over_heads:.2%} | {share.over_layers:.2%} "
            f"| {share.shared_among_active:.1%} | {share.routing_layers} of {share.layers} "
            f"| {budget.router_parameters:,} |"
        )
    return "\n".join(lines)
