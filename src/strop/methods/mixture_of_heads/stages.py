"""The stages: the text and its split, what each head matters, the converted arms, their training, held-back text."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.methods.mixture_of_heads.arms import Arm
from strop.methods.mixture_of_heads.config import Heads, TextSettings
from strop.methods.mixture_of_heads.text import Document, Split, read_files, split, standard_library
from strop.records.rows import Identifier
from strop.runs import Artifact, Stage, stream
from strop.training.blocks import Document as NamedText
from strop.training.blocks import block_ids, cut, packed
from strop.training.continuing import read_documents
from strop.training.machine import Machine, Model, train_in, weights_of
from strop.training.probe import response_log_probs, supervised_loss
from strop.training.rendering import TokenisedRow
from strop.training.settings import ContinueSettings
from strop.training.weights import load_start, load_tokenizer

if TYPE_CHECKING:
    from strop.methods.mixture_of_heads.fitting import LayerSums

TRAIN, HELD_BACK, COUNTS = "train.jsonl", "held_back.jsonl", "counts.json"
IMPORTANCE, SUMS, LAYOUTS = "importance.json", "sums.safetensors", "layouts.json"
LOSSES, USE, JUMPS, OUTCOME = "losses.jsonl", "use.json", "jumps.json", "outcome.json"
READ_AT_ONCE, WATCHED, JUMP_BLOCKS = 8, 64, 16
"""Blocks in a forward pass, blocks on which the use of heads is counted, and blocks on which jumps are measured."""


def documents_of(settings: TextSettings, *, seed: int) -> list[Document]:
    """Return the documents of a run, in the order of their source.

    Raises:
        UserError: See `read_files`.
    """
    documents = standard_library() if settings.files is None else read_files(settings.files)
    if settings.limit is None or settings.limit >= len(documents):
        return documents
    drawn = stream(seed, "documents").sample(range(len(documents)), settings.limit)
    return [documents[place] for place in sorted(drawn)]


def split_of(settings: TextSettings, *, seed: int) -> Split:
    """Return the split of a run's documents; see `split`."""
    return split(documents_of(settings, seed=seed), held_back=settings.held_back, seed=seed)


def draw_text(stage: Stage, settings: TextSettings, *, seed: int) -> None:
    """Write the documents to learn from and those that are held back: rows of `id` and `text`."""
    made = split_of(settings, seed=seed)
    for documents, file in ((made.train, TRAIN), (made.held_back, HELD_BACK)):
        stage.write_rows(({"id": one.name, "text": one.text} for one in documents), file)
    counts = {
        "documents": len(made.train) + len(made.held_back),
        "held_back": len(made.held_back),
        "characters": sum(len(one.text) for one in made.train),
        "held_back_characters": sum(len(one.text) for one in made.held_back),
        "removed_passages": made.removed,
        "sha256": made.digest,
    }
    stage.write_json(counts, COUNTS)


def loaded(folder: Path, machine: Machine) -> Any:
    """Return a model in float32, in evaluation mode, on the GPU where there is one and it may be used."""
    import torch

    plain = ContinueSettings(learning_rate=1.0, max_steps=1)
    on_gpu = machine.device != "cpu" and torch.cuda.is_available()
    return load_start(folder, plain).to("cuda" if on_gpu else "cpu").eval()


def measure_heads(stage: Stage, model: Model, text: Artifact, *, blocks: int, length: int, machine: Machine) -> None:
    """Read training blocks once and write what each head matters, and the sums that a router is fitted to."""
    from safetensors.torch import save_file

    from strop.methods.mixture_of_heads.calibration import calibrate

    folder = weights_of(model)
    some = _some_blocks(folder, text, count=blocks, length=length)
    with stage.progress(f"{stage.name}: blocks", len(some)) as advance:
        found = calibrate(loaded(folder, machine), some, advance=advance)
    stage.write_json({"blocks": len(some), "importance": [list(layer) for layer in found.importance]}, IMPORTANCE)
    tensors = {}
    for layer, sums in enumerate(found.sums):
        tensors[f"{layer}.gram"], tensors[f"{layer}.cross"] = sums.gram_DD, sums.cross_Dh
    save_file(tensors, stage.folder / SUMS, metadata={"tokens": str(found.sums[0].tokens)})


def _some_blocks(folder: Path, text: Artifact, *, count: int, length: int) -> list[list[int]]:
    """Return blocks spread evenly over the training text."""
    rows = packed(load_tokenizer(folder), read_documents(text.path(TRAIN)), length=length).rows
    step = max(1, len(rows) // count)
    return [block_ids(row) for row in rows[::step][:count]]


def convert_heads(stage: Stage, model: Model, measured: Artifact, *, heads: Heads, arm: Arm, beta: float) -> None:
    """Write the model with routed or pruned heads: the folder `model`, and `layouts.json`."""
    from strop.methods.mixture_of_heads.converting import convert_arm

    made = convert_arm(
        weights_of(model),
        heads=heads,
        arm=arm,
        importance=importance_in(measured),
        sums=sums_in(measured),
        beta=beta,
        out=stage.folder / "model",
    )
    stage.write_json({"layers": [{"shared": list(one.shared), "active": one.active} for one in made]}, LAYOUTS)


def sums_in(measured: Artifact) -> list[LayerSums]:
    """Return what routers are fitted to, a layer each."""
    from safetensors import safe_open

    from strop.methods.mixture_of_heads.fitting import LayerSums

    with safe_open(measured.path(SUMS), framework="pt") as stored:
        tokens = int(stored.metadata()["tokens"])
        return [
            LayerSums(stored.get_tensor(f"{layer}.gram"), stored.get_tensor(f"{layer}.cross"), tokens)
            for layer in range(len(list(stored.keys())) // 2)
        ]


def importance_in(measured: Artifact) -> list[list[float]]:
    """Return what each head of each layer matters."""
    found: list[list[float]] = measured.json(IMPORTANCE)["importance"]
    return found


@dataclass(frozen=True, slots=True)
class Reading:
    """How held-back text is read.

    Attributes:
        length: Tokens of a block.
        blocks: Blocks of each document, from its start; None reads all.
    """

    length: int
    blocks: int | None


def train_arm(
    stage: Stage,
    model: Model,
    text: Artifact,
    *,
    settings: ContinueSettings,
    teacher: Model | None,
    reading: Reading,
    keep: bool,
    machine: Machine,
    seed: int,
) -> None:
    """Go on with pre-training on the training documents, then read the held-back ones.

    The artifact holds `outcome.json` with the curve, `losses.jsonl`, `use.json` for a model whose tokens choose, and
    the folder `model` where it is kept.
    """
    if teacher is None:
        settings = settings.model_copy(update={"distillation": None})
    train_in(
        stage,
        model,
        text.path(TRAIN),
        kind="continue",
        settings=settings,
        machine=machine,
        seed=seed,
        reference=teacher,
    )
    folder = stage.folder / "model"
    _read(stage, folder, text, reading=reading, machine=machine)
    if not keep:
        shutil.rmtree(folder)


def read_held_back(stage: Stage, model: Model, text: Artifact, *, reading: Reading, machine: Machine) -> None:
    """Read the held-back documents with a model as it is: `losses.jsonl`, and `use.json` where tokens choose."""
    _read(stage, weights_of(model), text, reading=reading, machine=machine)


def _read(stage: Stage, folder: Path, text: Artifact, *, reading: Reading, machine: Machine) -> None:
    from strop.methods.mixture_of_heads.watching import head_use

    tokenizer, model = load_tokenizer(folder), loaded(folder, machine)
    documents = read_documents(text.path(HELD_BACK))
    rows = held_back_rows(tokenizer, documents, length=reading.length, blocks=reading.blocks)
    losses: list[float] = []
    with stage.progress(f"{stage.name}: blocks of held-back text", len(rows)) as advance:
        for start in range(0, len(rows), READ_AT_ONCE):
            some = rows[start : start + READ_AT_ONCE]
            scores = response_log_probs(model, some, pad=tokenizer.pad_token_id, batch=READ_AT_ONCE)
            losses += [-score[0] for score in scores]
            advance(len(some))
    told = (
        {"document": row.id, "block": number, "tokens": len(row.responses[0]), "nll": loss}
        for number, (row, loss) in enumerate(zip(rows, losses, strict=True))
    )
    stage.write_rows(told, LOSSES)
    used = head_use(model, tokenizer, [block_ids(row) for row in rows[:WATCHED]])
    if used is not None:
        stage.write_json(used, USE)


def held_back_rows(
    tokenizer: Any, documents: Sequence[NamedText], *, length: int, blocks: int | None
) -> list[TokenisedRow]:
    """Return the blocks of held-back documents that perplexity is measured on, the first ones of each document."""
    kept: list[TokenisedRow] = []
    seen: dict[Identifier, int] = {}
    for row in cut(tokenizer, documents, length=length):
        seen[row.id] = seen.get(row.id, 0) + 1
        if blocks is None or seen[row.id] <= blocks:
            kept.append(row)
    return kept


def measure_jumps(
    stage: Stage,
    model: Model,
    text: Artifact,
    measured: Artifact,
    *,
    heads: Heads,
    reading: Reading,
    machine: Machine,
) -> None:
    """Measure perplexity before any training under each choice of heads and router: `jumps.json`."""
    from strop.methods.mixture_of_heads.jumps import gated_heads, routers_of, variants

    folder = weights_of(model)
    tokenizer, dense = load_tokenizer(folder), loaded(folder, machine)
    importance, sums = importance_in(measured), sums_in(measured)
    documents = read_documents(text.path(HELD_BACK))
    rows = held_back_rows(tokenizer, documents, length=reading.length, blocks=1)[:JUMP_BLOCKS]
    query_heads, kv_groups = len(importance[0]), len(importance[0]) // heads_per_group(dense.config)
    ways = variants(heads, query_heads=query_heads, kv_groups=kv_groups)
    found: list[dict[str, Any]] = []
    with stage.progress(f"{stage.name}: ways to begin", 1 + len(ways)) as advance:
        pad, tokens = tokenizer.pad_token_id, sum(len(row.responses[0]) for row in rows)
        found.append({"name": "dense", "nll": supervised_loss(response_log_probs(dense, rows, pad=pad), rows)})
        advance(1)
        for way in ways:
            _, routers = routers_of(way.heads, way.arm, importance, sums, kv_groups=kv_groups)
            with gated_heads(dense, [router.to(dense.device) for router in routers]):
                nll = supervised_loss(response_log_probs(dense, rows, pad=pad), rows)
            found.append({"name": way.name, "nll": nll})
            advance(1)
    stage.write_json({"blocks": len(rows), "tokens": tokens, "ways": found}, JUMPS)


def heads_per_group(config: Any) -> int:
    """Return how many query heads read one KV head."""
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(config.num_attention_heads) // int(groups)
