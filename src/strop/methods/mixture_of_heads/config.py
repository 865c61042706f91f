"""The settings of a run on mixture-of-head attention; `docs/paper-index.md` tells where each default comes from."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from strop.methods.mixture_of_heads.images import ImageTraining
from strop.models.spec import ModelField
from strop.runs.configuration import Config
from strop.runs.shipped import DataPath
from strop.training.machine import Machine
from strop.training.settings import ContinueSettings

Choice = Literal["free", "per_group", "groups"]
SharedBy = Literal["first", "per_group", "importance"]

SHARE_NAME = re.compile(r"^[a-z0-9][a-z0-9_]*$")


def _share(value: Any) -> Any:
    """Read a share as people write it: 0.75, 75 % or 7/9."""
    if not isinstance(value, str):
        return value
    plain = value.strip()
    try:
        return float(Fraction(plain.removesuffix("%").strip())) / (100 if plain.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"a share is written as 0.75, 75% or 7/9, not {value!r}") from None


ActiveShare = Annotated[float, BeforeValidator(_share), Field(gt=0, le=1)]


class TextSettings(Config):
    """What is learned from, and what perplexity is measured on."""

    files: tuple[DataPath, ...] | None = None
    """Tables of `id` and `text`, a document a row. Null reads the documentation that comes with Python itself, which
    every machine has: more than a megabyte, fixed by the Python version, its hash in the report."""
    limit: int | None = Field(None, ge=3)
    """So many documents, drawn at random; null takes all."""
    held_back: float = Field(0.2, gt=0, lt=1)
    """Share of the documents that no training sees. What training text shares with them is taken out of it."""
    held_back_blocks: int | None = Field(2, ge=1)
    """Blocks of each held-back document that are read for perplexity, from its start; null reads all."""


class Heads(Config):
    """One way to use fewer heads; it is trained as MoH and, at the same share, as static pruning."""

    active: ActiveShare
    """Active heads over all heads of a layer, as 0.75, 75 % or 7/9."""
    choice: Choice = "per_group"
    """Among what a token chooses: all routed heads of a layer (the paper), those inside each KV group (ours, the shape
    that stock kernels run fast), or whole KV groups (ours, what decoding can save)."""
    shared: int = Field(0, ge=0)
    """Heads of each layer that are always on; with `groups` they make whole KV groups."""
    shared_by: SharedBy = "importance"
    """Which heads are always on, and which ones pruning keeps: the first of the layer (the paper), the first of each
    KV group, or those that one calibration pass finds to matter most (ours)."""
    spread: Literal["even", "importance"] = "even"
    """Whether every layer uses as many heads (the paper's language models), or those give up more of them whose heads
    matter less (ours; at most one unit more than evenly). `active` is the share of the whole model either way."""
    router: Literal["learned", "query_norm"] = "learned"
    """Weights on the layer's input (the paper's models from scratch), or the norms of the queries (its LLaMA3-8B)."""
    start: Literal["zero", "fitted"] = "fitted"
    """A learned router's first weights: zero (the paper), or a linear fit to what each head contributed to each token
    in the calibration pass (ours), small enough to leave the gates near 1."""
    gates: Literal["released", "paper"] = "released"
    """Scale of a learned router's gates: as in the released code, or the paper's equations literally."""
    straight_through: Literal["exact", "selected", "off"] = "exact"
    """Gradient of a query-norm router: through all heads' outputs, through those of the chosen heads, or none."""
    backend: Literal["auto", "reference", "gathered", "native", "triton", "flex"] = "gathered"
    """What computes attention; the model keeps it. `auto` takes the fastest on the machine, and two machines may then
    differ in the last bits."""


class FromScratch(Config):
    """Small models that never were dense: the same tokens for dense attention and for MoH."""

    shares: tuple[ActiveShare, ...] = (0.75, 0.5)
    """Active heads over all heads, one MoH model each."""
    layers: int = Field(6, ge=1)
    """Decoder layers."""
    width: int = Field(192, ge=8)
    """Of the hidden states."""
    heads: int = Field(8, ge=2)
    """Query heads, each with keys of its own."""
    shared: int = Field(2, ge=0)
    """Heads that are always on, the first of each layer."""
    vocabulary: int = Field(2048, ge=300)
    """Entries of a byte-level BPE vocabulary that is made from the training text."""
    train: ContinueSettings
    """How they are trained."""


class Examination(Config):
    """Benchmarks of lm-evaluation-harness, which downloads its own; the paper's tasks are in `paper_llama3_8b`."""

    tasks: dict[str, int] = Field(default_factory=dict)
    """Task name of the harness to the number of shots; empty asks nothing."""
    limit: int | None = Field(None, ge=1)
    """Items of each task; null takes all."""
    include: Path | None = None
    """A folder of further tasks in the harness's format, such as `strop benchmark --write-harness` makes."""


class Planning(Config):
    """What a plan assumes where nothing was measured; a run reads none of it."""

    tokens_per_second: tuple[float, float] | None = None
    """Slowest and fastest training of `model`; null tells no time."""


class MixtureOfHeadsConfig(Config):
    """A model whose tokens choose their heads, beside what it must beat (MoH, arXiv 2410.11842)."""

    recipe: Literal["mixture_of_heads"]
    """The method."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """Each seed trains every arm once, on blocks in an order of its own; the split of the text is the first seed's."""
    model: ModelField | None
    """The dense model that is converted; null converts none, and only `from_scratch` is trained."""
    text: TextSettings = TextSettings()
    """The text."""
    calibration: int = Field(32, ge=1)
    """Training blocks of the one pass that measures what each head contributes."""
    heads: dict[str, Heads] = Field(default_factory=dict)
    """The settings that are compared, by name."""
    stage_one: ContinueSettings | None = None
    """Training of the dense model before it is converted, where its own data are unknown (the paper's first stage)."""
    train: ContinueSettings | None
    """Training of every arm: dense control, static pruning, MoH. `balance` counts for MoH alone."""
    teacher: Literal["start", "control"] = "control"
    """Whose predictions are learned where `train` says `distillation`: the dense model as it is, or the dense control
    of the same seed. The control itself learns from the text alone."""
    first_choices: bool = True
    """Also measure the jump of perplexity at step 0 under each choice of shared heads and each router."""
    from_scratch: FromScratch | None = None
    """Small models from scratch beside it; null trains none."""
    images: ImageTraining | None = None
    """A published model of images, for reading and planning alone; see `paper_vit_b75` and `paper_dit_xl90`."""
    examination: Examination = Examination()
    """Benchmarks of the trained models."""
    planning: Planning = Field(Planning(), json_schema_extra={"fingerprint": False})
    """What `strop plan` assumes."""
    machine: Machine = Machine()
    """Where the run takes place."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if (self.model is None) != (not self.heads):
            raise ValueError("'model' and 'heads' belong together: give both, or neither and 'from_scratch'")
        if (self.model is None) != (self.train is None):
            raise ValueError("'train' says how the arms of 'model' are trained: give both or neither")
        if self.images is not None and (self.model is not None or self.from_scratch is not None):
            raise ValueError("'images' is planned alone: a run cannot train it")
        if self.model is None and self.from_scratch is None and self.images is None:
            raise ValueError("nothing to do: give 'model' and 'heads', or 'from_scratch'")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("each seed may stand once")
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        wrong = [name for name in self.heads if not SHARE_NAME.match(name)]
        if wrong:
            raise ValueError(f"names under 'heads' are made of a-z, 0-9 and _: {wrong[0]!r} is not")
        return self
