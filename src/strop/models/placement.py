"""Where models answer: in this process, behind a server that strop starts, or on the workers of a Ray cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

from pydantic import Field

from strop.models.opening import open_model
from strop.models.protocol import TextModel
from strop.models.spec import ModelSpec, parse_model
from strop.runs.configuration import Config


class Placement(Config):
    """Where and with what models answer."""

    device: str = Field("auto", json_schema_extra={"fingerprint": False})
    """Where local models run: `auto` (the first GPU, else the CPU), `cpu`, `cuda`, `cuda:1`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Weights in memory when a local model answers; `auto` is float32 on a CPU and bfloat16 on a GPU."""
    serve: Literal["transformers", "vllm"] = "transformers"
    """What answers with weights on this machine: transformers, or vLLM (a server that strop starts; on Ray, its own
    vLLM processor)."""
    vllm_command: tuple[str, ...] = Field(("vllm", "serve"), json_schema_extra={"fingerprint": False})
    """`serve: vllm`: the command in front of the model's name, for example in an environment of its own."""
    executor: Literal["local", "ray"] = Field("local", json_schema_extra={"fingerprint": False})
    """Who computes: this process, or the workers of a Ray cluster; the artifacts are the same."""
    replicas: int = Field(1, ge=1, json_schema_extra={"fingerprint": False})
    """`executor: ray`: workers that hold the model, or a client of its server, at a time."""
    ray_address: str = Field("local", min_length=1, json_schema_extra={"fingerprint": False})
    """`executor: ray`: `local` starts a cluster on this machine for as long as the model is open, `auto` joins the one
    that runs here, `ray://HOST:PORT` one elsewhere."""
    cpus_per_replica: float = Field(1.0, gt=0, json_schema_extra={"fingerprint": False})
    """`executor: ray`: CPUs that a worker takes of the cluster."""
    gpus_per_replica: float = Field(1.0, gt=0, json_schema_extra={"fingerprint": False})
    """`executor: ray`: GPUs that a worker takes of the cluster where its model runs on one."""


def open_placed(model: ModelSpec | Path, placement: Placement) -> TextModel:
    """Open a model where `placement` says; close it when done.

    Args:
        model: Which model; a path is a local model folder.
        placement: Where it answers.

    Raises:
        UserError: As `open_model`; or the model cannot be placed there.
    """
    spec = served(parse_model(str(model)) if isinstance(model, Path) else model, placement)
    if placement.executor == "ray":
        from strop.models.cluster.ray_executor import RayModel

        return RayModel(spec, placement)
    return open_model(spec, device=placement.device, dtype=placement.dtype)


def cluster_kept(machine: object) -> AbstractContextManager[None]:
    """Keep the cluster that a recipe's models are placed on until the block ends; the first of them starts it.

    Args:
        machine: The recipe's settings of its machine; a recipe without them, or without a cluster, keeps none.
    """
    if not isinstance(machine, Placement) or machine.executor != "ray":
        return nullcontext()
    from strop.models.cluster.ray_cluster import CLUSTER

    return CLUSTER.kept()


def served(spec: ModelSpec, placement: Placement) -> ModelSpec:
    """Return the model as it is served: with ``serve: vllm``, weights of a folder or of the hub become a vLLM model."""
    if placement.serve == "vllm" and spec.kind in ("local", "hf"):
        return parse_model({"model": f"vllm:{spec.target}", "vllm_command": list(placement.vllm_command)})
    return spec
