"""What a run made, out of its folder: models, examples and pairs, each in a folder of its own with its card.

Each folder is made whole under a hidden name, checked, and renamed. It keeps a record of what it was made from and with
which options, so that the same command continues where it was stopped and leaves alone what is done. The same run and
options give the same bytes. The report's samples are not exported: they may be people's own texts.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from strop import __version__
from strop.errors import Stopped, UserError, nearest
from strop.models.gguf_file import Weights
from strop.models.serving.llama_cpp import require_llama_cpp
from strop.records.document import Document, Product
from strop.records.tables import atomic_path
from strop.report.files import JSON_NAME, read_report
from strop.report.takeout import RECORD, Request, gguf_obstacle, hashed, take_data, take_model
from strop.runs.content import hash_file, hash_tree, sync_path, sync_tree
from strop.runs.lineage import Lineage, artifact_folder, lineages_of
from strop.runs.store import run_id

Say = Callable[[str], None]
COUNTED = (JSON_NAME, "counts.json")
"""Files in which a stage says what became of its rows."""
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    Attributes:
        gguf: Precision of the GGUF file of each model; None writes none.
        gguf_required: Whether a model that cannot be written as GGUF stops the export.
        check: Whether llama.cpp must load each GGUF file and write what the safetensors write.
        licence: The hub's name of a licence, for the cards.
        datasets: The hub's names of data sets, for the cards of models.
    """

    gguf: Weights | None = "f16"
    gguf_required: bool = False
    check: bool = False
    licence: str = ""
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportedProduct:
    """One folder of an export.

    Attributes:
        name: The product.
        folder: Where it lies.
        record: What its ``export.json`` says.
        done_before: Whether it was there already, made from the same run with the same options.
    """

    name: str
    folder: Path
    record: Mapping[str, Any]
    done_before: bool


def export_run(
    run: Path,
    out: Path,
    *,
    names: Sequence[str] = (),
    everything: bool = False,
    options: ExportOptions | None = None,
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> tuple[ExportedProduct, ...]:
    """Export what a run made.

    Args:
        run: The run folder, finished: with a report.
        out: Where the folders go, one a product, with ``export.json`` beside them.
        names: Products to export; without, those that are final, or all where none is.
        everything: Export every product.
        options: How.
        overwrite: Replace folders that another run or other options have made.
        say: Told in a line what is done.

    Raises:
        UserError: There is nothing to export, no such product, a folder is in the way, an artifact was changed, or a
            model cannot be written as GGUF where that is required.
        Stopped: The disk is full; the same command continues.
    """
    options = options or ExportOptions()
    run, out = run.resolve(), out.resolve()
    if out == run or run in out.parents:
        raise UserError("an export does not go into the run's own folder", value=str(out), fix="name another --out")
    document = read_report(run)
    chosen = choose(document, names, everything=everything)
    requests = [_request(run, document, product, options) for product in chosen]
    _refuse_gguf(requests, options)
    if options.check:
        require_llama_cpp()
    done = {request.product.name: _done(out, request, overwrite=overwrite) for request in requests}
    made: list[ExportedProduct] = []
    for request in requests:
        name = request.product.name
        record = done[name]
        if record is None:
            say(f"{name}: {request.product.kind.replace('_', ' ')} from {request.product.artifact}")
            record = _publish(out, request)
        made.append(ExportedProduct(name, out / name, record, done[name] is not None))
        for note in record["notes"]:
            say(f"{name}: {note}")
    _write_index(out, run, document, made)
    return tuple(made)


def choose(document: Document, names: Sequence[str], *, everything: bool) -> list[Product]:
    """Return the products that are asked for, in the report's order.

    Raises:
        UserError: The run made none, or none of that name.
    """
    products = {product.name: product for product in document.products}
    if not products:
        raise UserError(
            "the report of this run names nothing to export",
            value=document.method,
            why="its method trains nothing, or an older strop has written the report",
            fix="run the recipe again: finished stages are kept and the report is written anew",
        )
    for name in names:
        if name not in products:
            close = nearest(name, list(products))
            fix = f"did you mean {close!r}?" if close else None
            raise UserError("the run made no such product", value=name, fix=fix, alternatives=list(products))
    if names and not everything:
        return [product for product in products.values() if product.name in names]
    final = [product for product in products.values() if product.final]
    return list(products.values()) if everything or not final else final


def _request(run: Path, document: Document, product: Product, options: ExportOptions) -> Request:
    lineage = _lineage(run, product)
    folder = artifact_folder(run, product.artifact)
    assert folder is not None, "its lineage was found"
    source = folder / product.path
    if not source.exists():
        raise UserError(f"the artifact of {product.name!r} holds no such part", value=product.path)
    request = Request(
        product=product,
        document=document,
        lineage=lineage,
        source=source,
        origin={},
        counts=_counts(run, document),
        gguf=options.gguf if product.kind == "model" else None,
        check=options.check,
        licence=options.licence,
        datasets=() if product.is_data else options.datasets,
    )
    return replace(request, origin=_origin(run, lineage, request))


def _lineage(run: Path, product: Product) -> Lineage:
    """Return what a product's artifact was made from.

    Raises:
        UserError: The artifact is gone, or was changed.
    """
    folder = artifact_folder(run, product.artifact)
    if folder is None:
        raise UserError(
            f"the artifact of {product.name!r} is gone",
            value=product.artifact,
            fix="run the recipe again: it repeats the stage",
        )
    digest = hash_tree(folder)
    lineage = next((found for found in lineages_of(run, product.artifact) if found.digest == digest), None)
    if lineage is None:
        raise UserError(
            f"the artifact of {product.name!r} was changed after its stage had finished",
            value=product.artifact,
            why="its content is not what its lineage record names",
            fix="run the recipe again: it notices the damage and repeats the stage",
        )
    return lineage


def _counts(run: Path, document: Document) -> Mapping[str, Any]:
    """Return the counts of labels, by product where there are several sets of rows.

    They are the ``report.json`` or ``counts.json`` of the artifact that holds the rows, or of one that it was made
    from.
    """
    told: dict[Path, tuple[str, Any]] = {}
    for product in document.products:
        if product.is_data:
            lineage = _lineage(run, product)
            names = (product.artifact, *(source.name for source in lineage.inputs))
            folders = [folder for name in names if (folder := artifact_folder(run, name)) is not None]
            files = (folder / name for folder in folders for name in COUNTED)
            file = next((file for file in files if file.is_file()), None)
            if file is not None:
                told.setdefault(file, (product.name, json.loads(file.read_text(encoding="utf-8"))))
    counts = dict(told.values())
    return next(iter(counts.values())) if len(counts) == 1 else counts


def _origin(run: Path, lineage: Lineage, request: Request) -> dict[str, Any]:
    """Return what decides the bytes of a folder: the run, its report, the artifact, the options and strop's version."""
    return {
        "run": run_id(run),
        "report": hash_file(run / JSON_NAME),
        "artifact": lineage.digest,
        "product": asdict(request.product),
        "options": {
            "gguf": request.gguf,
            "check": request.check,
            "licence": request.licence,
            "datasets": list(request.datasets),
        },
        "strop": __version__,
    }


def _refuse_gguf(requests: Sequence[Request], options: ExportOptions) -> None:
    """Refuse before anything is written what was asked for and cannot be."""
    if not options.gguf_required:
        return
    models = [request for request in requests if request.product.kind == "model"]
    if not models:
        raise UserError(
            "none of these products can be a GGUF file",
            value=[request.product.name for request in requests],
            why="llama.cpp has no place for the output of a reward model, and rows are no model",
            fix="leave out --gguf, or name a model with --product",
        )
    for request in models:
        obstacle = gguf_obstacle(request)
        if obstacle is not None:
            raise obstacle


def _done(out: Path, request: Request, *, overwrite: bool) -> Mapping[str, Any] | None:
    """Return the record of a folder that is as this export would make it, or None where it is to be made.

    Raises:
        UserError: Something else is there.
    """
    folder = out / request.product.name
    if not folder.exists():
        return None
    record = _record(folder)
    if record is not None and record["origin"] == request.origin and _intact(folder, record):
        return record
    if overwrite:
        return None
    known = record is not None and record["origin"].get("run") == request.origin["run"]
    why = "it was exported with other options, or changed since" if known else "it holds something else"
    raise UserError(
        "a folder is in the way", value=str(folder), why=why, fix="replace it with --overwrite, or name another --out"
    )


def _record(folder: Path) -> dict[str, Any] | None:
    file = folder / RECORD
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    wanted = {"origin", "files", "notes"}
    return record if isinstance(record, dict) and wanted <= set(record) else None


def _intact(folder: Path, record: Mapping[str, Any]) -> bool:
    found = [asdict(file) for file in hashed(folder)]
    same: bool = found == record["files"]
    return same


def _publish(out: Path, request: Request) -> Mapping[str, Any]:
    """Make a folder under a hidden name and bring it to its place."""
    folder = out / request.product.name
    part = out / f".{request.product.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    take = take_data if request.product.is_data else take_model
    try:
        part.mkdir(parents=True)
        notes = take(request, part)
        files = [asdict(file) for file in hashed(part)]
        record = {"origin": dict(request.origin), "notes": list(notes), "files": files}
        (part / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sync_tree(part)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        shutil.rmtree(part, ignore_errors=True)
        fix = "free some space and run the same command again"
        raise Stopped("the disk is full", value=str(folder), why="what is exported already is kept", fix=fix) from error
    old = out / f".{request.product.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    sync_path(out)
    shutil.rmtree(old, ignore_errors=True)
    return record


def _write_index(out: Path, run: Path, document: Document, made: Sequence[ExportedProduct]) -> None:
    """Write ``export.json``: what this command exported, and what earlier ones left in the same place."""
    folders = [path.parent for path in sorted(out.glob(f"*/{RECORD}"))]
    found: dict[str, Mapping[str, Any] | None] = {folder.name: _record(folder) for folder in folders}
    found |= {product.name: product.record for product in made}
    told = {
        "run": run_id(run),
        "command": document.command,
        "strop": __version__,
        "products": {name: record for name, record in sorted(found.items()) if record is not None},
    }
    with atomic_path(out / RECORD) as part:
        part.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
