"""Cards in the form of the Hugging Face hub: what a model or a data set is, is for, and was measured to be.

Every number of a card comes from the run's report, from the lineage of the artifact or from the files beside the card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined

from strop import __version__
from strop.records.document import Document, Product, showable
from strop.report import numbers
from strop.runs.lineage import Lineage

CARD = "README.md"
LICENCE_UNKNOWN = "unknown"
"""What the hub reads where nobody has chosen a licence."""
GENERAL_USE = (
    "For research, and for drafts that a person who knows the field reads before anybody acts on them.",
    "It was measured on the data named below and nowhere else; other languages, other people and other tasks were not.",
)
"""What holds for everything that strop makes; what a method adds stands before it."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# What begins markup of Markdown or HTML, or ends a table cell.
_MARKUP = re.compile(r"([\\`*_\[\]|#])")


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file beside the card.

    Attributes:
        path: Below the card's folder.
        bytes: Its size.
        sha256: Of its content.
    """

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything that a card says.

    Attributes:
        document: The run's report.
        product: What the card is about.
        lineage: What its artifact was made from.
        files: What lies beside the card.
        counts: The counts of rows that the run has kept, nested by name.
        training: What the training tells of itself, by name.
        notes: What else a person should know about the files.
        licence: The hub's name of a licence; empty where none was chosen.
        datasets: The hub's names of the data sets that it was made from.
        adapter_only: Whether the folder holds an adapter and no whole weights.
    """

    document: Document
    product: Product
    lineage: Lineage
    files: Sequence[FileFact] = ()
    counts: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    licence: str = ""
    datasets: Sequence[str] = ()
    adapter_only: bool = False


def render_card(facts: CardFacts) -> str:
    """Return a card as Markdown with the front matter that the hub reads."""
    document, product = facts.document, facts.product
    text = (
        _environment()
        .get_template("card.md")
        .render(
            document=document,
            product=product,
            title=_plain(product.name),
            # A folder of the machine that trained says nothing elsewhere, and may say whose machine it was.
            base=PurePath(product.base).name if PurePath(product.base).is_absolute() else product.base,
            front_matter=_front_matter(facts),
            licence=facts.licence,
            intended_use=(*document.intended_use, *GENERAL_USE),
            headlines=[number for number in document.numbers if number.headline],
            others=[number for number in document.numbers if not number.headline],
            missing=numbers.MISSING,
            counts=list(_flat(facts.counts or {})),
            facts=document.provenance,
            training=[(name.replace("_", " "), value) for name, value in (facts.training or {}).items()],
            digest=facts.lineage.digest,
            inputs=[(source.name, source.digest) for source in facts.lineage.inputs],
            files=facts.files,
            notes=facts.notes,
            version=__version__,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _front_matter(facts: CardFacts) -> str:
    """Return the YAML that the hub reads; what is no name of the hub is left to the text."""
    product = facts.product
    told: dict[str, Any] = {"license": facts.licence or LICENCE_UNKNOWN}
    base = product.base.removeprefix("hf:")
    if HUB_NAME.fullmatch(base):
        told["base_model"] = base
        told["base_model_relation"] = "adapter" if facts.adapter_only else "finetune"
    if facts.datasets:
        told["datasets"] = list(facts.datasets)
    if not product.is_data:
        told["library_name"] = "peft" if facts.adapter_only else "transformers"
        told["pipeline_tag"] = "text-classification" if product.kind == "reward_model" else "text-generation"
    tags = ["strop", re.sub(r"[^a-z0-9]+", "-", facts.document.method.lower()).strip("-"), product.kind]
    told["tags"] = [tag.replace("_", "-") for tag in tags if tag]
    if product.is_data:
        told["configs"] = _configs(facts.files)
    text: str = yaml.safe_dump(told, sort_keys=False, allow_unicode=True)
    return text


def _configs(held: Sequence[FileFact]) -> list[dict[str, Any]]:
    """Return one configuration of the hub's viewer for each folder of tables: their columns differ."""
    tables: dict[str, list[str]] = {}
    for file in held:
        if file.path.endswith((".jsonl", ".parquet")):
            tables.setdefault(file.path.rpartition("/")[0] or "default", []).append(file.path)
    return [{"config_name": name.replace("/", "-"), "data_files": sorted(paths)} for name, paths in tables.items()]


def _flat(told: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield the whole numbers of nested mappings under their joined names."""
    for key, value in told.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}, ")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, value


def _plain(text: str) -> str:
    """Return text that Markdown and HTML show as it is, on one line: it may come from a model."""
    one_line = " ".join(str(showable(text)).split())
    return _MARKUP.sub(r"\\\1", one_line).replace("<", "&lt;")


def _code(text: str) -> str:
    """Return text that cannot end a block of code."""
    return str(showable(text)).replace("```", "'''")


def _text(name: str) -> str:
    return files("strop.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    # Markdown is no HTML: text is made plain by `md`, where HTML's escapes would stand in the way.
    environment = Environment(
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_text),
    )
    environment.filters.update(
        amount=numbers.amount,
        interval=numbers.interval,
        duration=numbers.duration,
        cell=numbers.cell,
        md=_plain,
        code=_code,
    )
    return environment
