"""The folder of one exported product: its files, their checks, its card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.gguf_file import Weights, check_gguf, verify_gguf, write_gguf
from strop.records.document import Document, Product
from strop.records.rows import PreferencePair, SupervisedExample
from strop.records.tables import iter_table, write_table
from strop.records.training_forms import CHAT_FORMS, LLAMA_FACTORY, TrainerForm, llama_factory_entry
from strop.report.cards import CARD, CardFacts, FileFact, render_card
from strop.runs.content import files_of, hash_file
from strop.runs.lineage import Lineage
from strop.training.weights import ADAPTER_CONFIG, ADAPTER_FOLDER, merged_folder, plain_model

RECORD = "export.json"
OUTCOME = "outcome.json"
TOLD_OF_TRAINING = ("rows", "steps", "dropped", "truncated", "supervised_tokens", "tokens")


@dataclass(frozen=True, slots=True)
class Request:
    """One product and how it is to be exported.

    Attributes:
        product: What it is.
        document: The run's report.
        lineage: What its artifact was made from.
        source: The folder or file to take.
        origin: What decides the bytes of the result.
        counts: The run's counts of rows, for the card.
        gguf: Precision of the GGUF file; None writes none.
        check: Whether llama.cpp must write what the safetensors write.
        licence: For the card.
        datasets: For the card.
    """

    product: Product
    document: Document
    lineage: Lineage
    source: Path
    origin: Mapping[str, Any]
    counts: Mapping[str, Any]
    gguf: Weights | None
    check: bool
    licence: str
    datasets: tuple[str, ...]


def hashed(folder: Path) -> list[FileFact]:
    """Return the files of a folder with their sizes and hashes, but for the record itself."""
    paths = ((path, path.relative_to(folder).as_posix()) for path in files_of(folder))
    return [FileFact(name, path.stat().st_size, hash_file(path)) for path, name in paths if name != RECORD]


def take_data(request: Request, out: Path) -> list[str]:
    """Write the folder of examples or pairs; a single table comes in the forms that trainers read too.

    Returns:
        What a person should know.
    """
    notes: list[str] = []
    if request.source.is_dir():
        _copy_tree(request.source, out)
    else:
        _copy(request.source, out / request.source.name)
        notes = [note for form in CHAT_FORMS for note in _write_form(request, form, out / form.name)]
    if not (out / CARD).is_file():
        _write_card(request, out, notes=notes)
    return notes


def _write_form(request: Request, form: TrainerForm, folder: Path) -> list[str]:
    """Write the rows that a trainer takes, in the table's order, and say how many it does not take."""
    pairs = request.product.kind == "pairs"
    held = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal held
        for told in iter_table(request.source):
            row = PreferencePair.from_row(told) if pairs else SupervisedExample.from_row(told)
            held += 1
            if form.takes(row.prompt):
                yield form.row(row)

    file = folder / f"{request.source.name.partition('.')[0]}{form.suffix}"
    taken = write_table(file, rows())
    if not taken:
        shutil.rmtree(folder)  # readers refuse files without rows
    elif form.name == LLAMA_FACTORY:
        # The keys are names in LLaMA-Factory's one list of data sets, so that the file's name would say too little.
        text = json.dumps({request.product.name: llama_factory_entry(file.name, ranking=pairs)}, indent=2) + "\n"
        (folder / "dataset_info.json").write_text(text, encoding="utf-8")
    if taken == held:
        return [] if held else [f"No {form.name}: the table has no rows."]
    return [f"{form.name} holds {taken} of {held} rows: its trainer takes {form.wants}."]


def take_model(request: Request, out: Path) -> list[str]:
    """Write the folder of a model: whole weights and tokenizer, the adapter, the GGUF file, the card.

    Returns:
        What a person should know about them.

    Raises:
        UserError: A file is not what its source is, or llama.cpp does not write what the safetensors write.
    """
    notes: list[str] = []
    adapter = adapter_of(request.source)
    if is_whole(request.source):
        _copy_files(request.source, out)
    elif adapter is not None:
        notes += _merge(adapter, out)
    else:
        raise UserError(f"{request.product.name!r} is neither a model nor an adapter", value=str(request.source))
    if adapter is not None:
        _copy_files(adapter, out / ADAPTER_FOLDER)
        notes.append(_name_base(out / ADAPTER_FOLDER / ADAPTER_CONFIG, request.product.base))
    _check_weights(out)
    notes += _add_gguf(request, out)
    _write_card(request, out, notes=notes, adapter_only=not is_whole(out))
    return notes


def is_whole(folder: Path) -> bool:
    """Say whether a folder holds whole weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def adapter_of(folder: Path) -> Path | None:
    """Return the adapter of a trained folder: beside its whole weights, alone in it, or none."""
    places = (folder, folder / ADAPTER_FOLDER)
    return next((place for place in places if (place / ADAPTER_CONFIG).is_file()), None)


def _copy_files(source: Path, out: Path) -> None:
    """Copy the files of one folder without its subfolders; a card is written anew."""
    out.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != CARD:
            _copy(path, out / path.name)


def _copy_tree(source: Path, out: Path) -> None:
    for path in files_of(source):
        target = out / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(path, target)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    if hash_file(source) != hash_file(target):
        raise UserError("a copy is not what was copied", value=str(target), fix="check the disk, and export again")


def _merge(adapter: Path, out: Path) -> list[str]:
    """Write whole weights from an adapter and its base, where the base is on this machine."""
    try:
        base = plain_model(adapter)
    except UserError as error:
        return [f"No whole weights: {error.what}. Merge the adapter into its base to get them."]
    merged = merged_folder(base, adapter, out / "merged")
    for path in sorted(merged.iterdir()):
        path.rename(out / path.name)
    merged.rmdir()
    return []


def _name_base(file: Path, base: str) -> str:
    """Name the adapter's base as the report does, in place of a path of this machine."""
    told = json.loads(file.read_text(encoding="utf-8"))
    told["base_model_name_or_path"] = base.removeprefix("hf:")
    file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return f"The adapter names its base as {base or 'nothing'}: set base_model_name_or_path where yours lies elsewhere."


def _check_weights(folder: Path) -> None:
    """Read every tensor's place back.

    Raises:
        UserError: A weight file is not one.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as stored:
                empty = not stored.keys()
        except (SafetensorError, OSError) as error:
            raise UserError("a weight file cannot be read back", value=str(file), why=str(error)) from error
        if empty:
            raise UserError("a weight file holds no tensor", value=str(file))


def gguf_obstacle(request: Request) -> UserError | None:
    """Return why a model cannot be written as GGUF, as far as its folder tells, or None."""
    adapter = adapter_of(request.source)
    try:
        check_gguf(request.source if adapter is None or is_whole(request.source) else plain_model(adapter))
    except UserError as error:
        return error
    return None


def _add_gguf(request: Request, out: Path) -> list[str]:
    """Write the GGUF file where one is wanted and can be, and read it back; say why where there is none."""
    if request.product.kind == "reward_model":
        return ["No GGUF file: llama.cpp has no place for the output of a reward model."]
    if request.gguf is None or not is_whole(out):
        return []
    try:
        notes = [*check_gguf(out)]
    except UserError as error:
        got = "" if error.value is None else f" ({error.value})"
        return [f"No GGUF file: {error.what}{got}. Instead, {error.fix}."]
    file = write_gguf(out, out / f"{request.product.name}-{request.gguf}.gguf", weights=request.gguf)
    found = verify_gguf(file, out)
    notes.append(f"{file.name} was read back: {found.tensors} tensors, {found.tokens} tokens, {found.architecture}.")
    if request.check:
        notes.append(_check_text(file, out, request.gguf))
    return notes


def _check_text(file: Path, folder: Path, weights: Weights) -> str:
    """Let llama.cpp read and write by the file.

    Raises:
        UserError: It does so in another way than the safetensors do.
    """
    from strop.models.serving.llama_cpp import check_gguf_text
    from strop.models.serving.serving_text import verdict

    found = check_gguf_text(file, folder, weights=weights)
    if not found.same:
        raise UserError(
            "llama.cpp does not write what the safetensors write",
            value=file.name,
            why=verdict(found),
            fix="export another precision with --gguf, or none with --gguf none",
        )
    read = sum(check.evidence == "tokens" for check in found.prompts)
    texts = [check.text for check in found.prompts if check.text is not None]
    gaps = [one.gap for text in texts for one in text.disagreements]
    return (
        f"llama.cpp loaded {file.name}, read the tokens of {read} of {len(found.prompts)} prompts as the tokenizer "
        f"does, and wrote {sum(text.tokens for text in texts)} tokens greedily: its widest gap to the safetensors' own "
        f"choice was {max(gaps, default=0.0):.2f} nats, within the bound of {found.margin} nats."
    )


def _write_card(request: Request, out: Path, *, notes: Sequence[str] = (), adapter_only: bool = False) -> None:
    card = render_card(
        CardFacts(
            document=request.document,
            product=request.product,
            lineage=request.lineage,
            files=hashed(out),
            counts=request.counts,
            training=_training(request.source),
            notes=notes,
            licence=request.licence,
            datasets=request.datasets,
            adapter_only=adapter_only,
        )
    )
    (out / CARD).write_text(card, encoding="utf-8")


def _training(source: Path) -> dict[str, Any]:
    """Return what the training beside a model tells of itself."""
    file = source.parent / OUTCOME
    if not file.is_file():
        return {}
    told = json.loads(file.read_text(encoding="utf-8"))
    return {name: told[name] for name in TOLD_OF_TRAINING if name in told}
