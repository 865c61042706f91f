"""Runs of a model that checks compare, also in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

_RELOAD = """
import sys
import strop.heads
from pathlib import Path
from strop.heads.verification.running import reload_here
reload_here(Path(sys.argv[1]), Path(sys.argv[2]))
"""
_STOCK = """
import json, sys
from transformers import AutoModelForCausalLM
assert not any(name == "strop" or name.startswith("strop.") for name in sys.modules)
try:
    loaded = type(AutoModelForCausalLM.from_pretrained(sys.argv[1], local_files_only=True)).__name__
    found = {"loaded": loaded}
except Exception as error:
    found = {"error": type(error).__name__, "message": str(error).strip().splitlines()[0]}
print(json.dumps(found))
"""
MINUTES = 30


def logits_of(model: Any, ids_bn: Tensor, **named: Any) -> Tensor:
    """Run a whole pass without a cache; (b, n, vocabulary)."""
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids_bn, use_cache=False, **named).logits
    return logits


def cached_logits(model: Any, ids_bn: Tensor, *, chunk: int) -> Tensor:
    """Run in chunks behind a cache; (b, n, vocabulary)."""
    from transformers import DynamicCache

    named = "cache" if "cache" in signature(type(model).forward).parameters else "past_key_values"
    cache = DynamicCache(config=model.config)
    parts = []
    with torch.no_grad():
        for first in range(0, ids_bn.shape[1], chunk):
            part_bn = ids_bn[:, first : first + chunk]
            parts.append(model(input_ids=part_bn, use_cache=True, **{named: cache}).logits)
    return torch.cat(parts, dim=1)


def apart(found: Tensor, wanted: Tensor) -> float:
    """Return the largest absolute difference over the largest absolute value; infinite where one is not finite."""
    if not bool(found.isfinite().all() & wanted.isfinite().all()):
        return float("inf")
    return float((found - wanted).abs().max() / wanted.abs().max())


def reload_elsewhere(folder: Path, ids_bn: Tensor) -> tuple[str, Tensor]:
    """Load a folder in a process of its own and return the model's class and logits.

    Raises:
        RuntimeError: The process failed; with what it said.
    """
    from safetensors.torch import load_file, save_file

    with TemporaryDirectory() as place:
        save_file({"ids": ids_bn}, Path(place) / "ids.safetensors")
        said = _process(_RELOAD, [str(folder), place])
        return said.strip().splitlines()[-1], load_file(Path(place) / "logits.safetensors")["logits"]


def reload_here(folder: Path, place: Path) -> None:
    """Do the other process's part of `reload_elsewhere`."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    ids_bn = load_file(place / "ids.safetensors")["ids"]
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    save_file({"logits": logits_of(model, ids_bn).contiguous()}, place / "logits.safetensors")
    print(type(model).__name__)  # read by the process that asked


def load_without_strop(folder: Path) -> dict[str, str]:
    """Load a folder with transformers alone, in a process of its own.

    Returns:
        ``error`` and ``message``, or ``loaded``: the class that came out.
    """
    found: dict[str, str] = json.loads(_process(_STOCK, [str(folder)]).strip().splitlines()[-1])
    return found


def _process(code: str, arguments: Sequence[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=MINUTES * 60,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:] or f"exit status {done.returncode}")
    return done.stdout
