"""From a dense decoder's folder to a converted one: the same weights, another config, perhaps routers.

Shards of weights are copied byte for byte; a learned router's weights, all zero, go into a shard of their own. The
tokenizer, its chat template and the generation settings are copied as they are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from strop.errors import UserError
from strop.heads.layout import ActiveShare, active_share
from strop.heads.modeling.families import FAMILIES, dense_family, is_causal, moh_type
from strop.heads.modeling.refusal import ATTENTION, KEY
from strop.heads.modeling.sameness import prove
from strop.heads.modeling.settings import MoHSettings, head_counts

CONFIG, INDEX, CARD = "config.json", "model.safetensors.index.json", "moh_card.json"
ROUTERS = "model-routers.safetensors"
ALONE, BESIDE = "model.safetensors", "model-dense.safetensors"
"""A single weight file, and its name beside the routers': by its usual name it would be read alone."""
_NEVER = {".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".py", ".pyc"}
"""Endings of files that are not taken along: weights in other formats, and code."""


@dataclass(frozen=True)
class Converted:
    """What a conversion made.

    Attributes:
        folder: The converted model.
        settings: Its heads.
        share: How much of its attention is active.
        router_parameters: Weights that were added.
    """

    folder: Path
    settings: MoHSettings
    share: ActiveShare
    router_parameters: int


@dataclass(frozen=True)
class Dense:
    """A dense decoder's folder, looked at without loading its weights.

    Attributes:
        folder: Where it lies.
        config: Its config.json.
        family: Its model type.
        layers: Number of layers.
        heads: Query heads.
        groups: KV heads.
        shards: Its weight files.
        shapes: Name and shape of every weight.
    """

    folder: Path
    config: dict[str, Any]
    family: str
    layers: int
    heads: int
    groups: int
    shards: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]


def read_dense(folder: Path) -> Dense:
    """Look at a dense decoder's folder.

    Raises:
        UserError: No config, a type that cannot be converted, a converted or quantised model, no language model, no
            safetensors, or weights that do not fit the config's head counts.
    """
    from safetensors import SafetensorError

    if not (folder / CONFIG).is_file():
        raise UserError("this is no model folder", value=str(folder), why="it has no config.json")
    told = _read_json(folder / CONFIG)
    if told.get("moh"):
        raise UserError("this model is converted already", value=str(folder), fix="convert the dense model anew")
    family = dense_family(str(told.get("model_type")))
    if told.get("quantization_config"):
        raise UserError("a quantised model cannot be converted", value=str(folder), fix="convert, then quantise")
    others = [name for name in told.get("architectures") or () if not is_causal(str(name))]
    if others:
        raise UserError(
            "only causal language models can be converted",
            value=others[0],
            fix="convert the language model, then train the rest on it",
        )
    config = _config(folder)
    if family not in FAMILIES:
        prove(config)
    shards = weight_files(folder)
    try:
        shapes = dict(_shapes(shards))
    except SafetensorError as error:
        raise UserError("a weight file cannot be read", value=str(folder), why=str(error)) from error
    heads, groups = head_counts(config)
    dense = Dense(folder, told, family, config.num_hidden_layers, heads, groups, shards, shapes)
    _check_shapes(dense, width=int(getattr(config, "head_dim", None) or config.hidden_size // heads))
    return dense


def convert(source: Path, settings: MoHSettings, out: Path) -> Converted:
    """Write a converted copy of a dense decoder.

    Args:
        source: Folder of the dense model.
        settings: The heads of every layer; its `source` is filled in.
        out: Folder to write; must not exist.

    Returns:
        What was made.

    Raises:
        UserError: See `read_dense`; layouts of another model; or the folder exists.
    """
    dense = read_dense(source)
    refuse_existing(out)
    for number, layout in enumerate(settings.layers):
        if (layout.query_heads, layout.kv_groups) != (dense.heads, dense.groups):
            raise UserError(
                f"the layout of layer {number} is for another model",
                value=f"{layout.query_heads} query heads in {layout.kv_groups} KV groups",
                why=f"this model has {dense.heads} in {dense.groups}",
            )
    if len(settings.layers) != dense.layers:
        raise UserError("every layer needs a layout", value=f"{len(settings.layers)} for {dense.layers} layers")
    settings = replace(settings, source=weights_hash(dense.shards))
    out.parent.mkdir(parents=True, exist_ok=True)
    # A folder that exists is whole: a stop leaves a hidden one, which nothing reads.
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent, ignore_cleanup_errors=True) as unfinished:
        writing = Path(unfinished) / out.name
        writing.mkdir()
        added = _write(dense, settings, writing)
        writing.rename(out)
    return Converted(out, settings, active_share(settings.layers), added)


def refuse_existing(out: Path) -> None:
    """Refuse a folder that is there already."""
    if out.exists():
        raise UserError("the folder is there already", value=str(out), fix="name another one with --out")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a model's weights as transformers finds them: the single one, or those that an index names.

    A folder may hold others beside them, such as the same weights under their authors' names.

    Raises:
        UserError: There are none, or the index names a file that is not there.
    """
    if (folder / ALONE).is_file():
        return (folder / ALONE,)
    names = _read_json(folder / INDEX).get("weight_map") if (folder / INDEX).is_file() else None
    shards = sorted({str(name) for name in names.values()}) if isinstance(names, dict) else []
    if not shards:
        raise UserError(
            "the model has no weights in safetensors",
            value=str(folder),
            fix="load it with transformers where its weights are trusted, and save it with save_pretrained",
        )
    for name in shards:
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError("the index names a weight file that is not there", value=name, fix="fetch the model anew")
    return tuple(folder / name for name in shards)


def weights_hash(shards: tuple[Path, ...]) -> str:
    """Return the SHA-256 of weight files, in order of their names."""
    digest = hashlib.sha256()
    for shard in shards:
        with shard.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError("this file is not JSON", value=str(path), why=str(error)) from error
    if not isinstance(found, dict):
        raise UserError("this file holds no JSON object", value=str(path))
    return found


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # what a hostile config raises has no common class
        raise UserError(
            "transformers cannot read the model's config", value=str(folder / CONFIG), why=str(error).split("\n")[0]
        ) from error


def _shapes(shards: tuple[Path, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    from safetensors import safe_open

    for shard in shards:
        with safe_open(shard, framework="pt") as weights:
            for name in _names(weights):
                yield name, tuple(weights.get_slice(name).get_shape())


def _names(weights: Any) -> list[str]:
    names: list[str] = list(weights.keys())
    return names


def _check_shapes(dense: Dense, *, width: int) -> None:
    """Refuse weights of other head counts than the config's, before anything is written."""
    wanted = {"q_proj": dense.heads, "k_proj": dense.groups, "v_proj": dense.groups, "o_proj": dense.heads}
    for layer in range(dense.layers):
        for projection, heads in wanted.items():
            name = f"model.layers.{layer}.self_attn.{projection}.weight"
            if name not in dense.shapes:
                raise UserError("the weights lack an attention projection", value=name, why="an unknown layout")
            features = dense.shapes[name][1 if projection == "o_proj" else 0]
            if features != heads * width:
                raise UserError(
                    f"{name} does not fit the config",
                    value=f"{features} features",
                    why=f"config.json says {heads} heads of width {width}",
                    fix="give the folder whose config belongs to these weights",
                )


def _write(dense: Dense, settings: MoHSettings, out: Path) -> int:
    for path in sorted(dense.folder.iterdir()):
        if path.is_file() and _taken_along(path, dense):
            shutil.copyfile(path, out / path.name)
    routers = _router_weights(dense, settings)
    if routers and (out / ALONE).is_file():
        (out / ALONE).rename(out / BESIDE)
    if routers:
        _add_shard(routers, out)
    elif (dense.folder / INDEX).is_file():
        shutil.copyfile(dense.folder / INDEX, out / INDEX)
    told = {key: value for key, value in dense.config.items() if key not in ("auto_map", "architectures")}
    told |= {
        "model_type": moh_type(dense.family),
        "architectures": [f"MoH{name}" for name in dense.config.get("architectures") or ()],
        KEY: ATTENTION,
        "moh": settings.to_dict(),
    }
    (out / CONFIG).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    added = sum(int(weight.numel()) for weight in routers.values())
    card = {
        "source": dense.folder.name,
        "weights_sha256": settings.source,
        "active": active_share(settings.layers).describe(),
        "layers": [layout.describe() for layout in settings.layers],
        "router": settings.router,
        "gates": settings.gates if settings.router == "learned" else "0 and 1",
        "router_parameters": added,
    }
    (out / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return added


def _taken_along(path: Path, dense: Dense) -> bool:
    if path.suffix == ".safetensors":
        return path in dense.shards
    if path.suffix in _NEVER or path.name.endswith(".index.json"):
        return False
    return path.name not in (CONFIG, "README.md")


def _router_weights(dense: Dense, settings: MoHSettings) -> dict[str, Any]:
    """Return a learned router's weights, all zero, by name, in the type of the query projections."""
    import torch
    from safetensors import safe_open

    from strop.heads.routers import make_router

    if settings.router != "learned":
        return {}
    first = "model.layers.0.self_attn.q_proj.weight"
    width = dense.shapes[first][1]
    dtype = torch.float32
    for shard in dense.shards:
        with safe_open(shard, framework="pt") as weights:
            if first in _names(weights):
                dtype = weights.get_tensor(first).dtype
    found: dict[str, Any] = {}
    for number, layout in enumerate(settings.layers):
        router = make_router(layout, width, router="learned", style=settings.gates)
        for name, weight in router.state_dict().items():
            found[f"model.layers.{number}.self_attn.router.{name}"] = weight.to(dtype)
    return found


def _add_shard(routers: dict[str, Any], out: Path) -> None:
    """Write the routers beside the copied shards, and an index that names every weight's file."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_file(routers, out / ROUTERS, metadata={"format": "pt"})
    places: dict[str, str] = {}
    shards = sorted(out.glob("*.safetensors"))
    size = sum(shard.stat().st_size for shard in shards)
    for shard in shards:
        with safe_open(shard, framework="pt") as weights:
            places |= dict.fromkeys(_names(weights), shard.name)
    content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (out / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
