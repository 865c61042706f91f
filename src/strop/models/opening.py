"""From a model's specification to a model that answers."""

from __future__ import annotations

from pathlib import Path

from strop.errors import UserError
from strop.models.protocol import TextModel
from strop.models.spec import ModelSpec

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "spiece.model", "vocab.txt", "merges.txt")


def open_model(spec: ModelSpec | Path, *, device: str = "auto", dtype: str = "auto") -> TextModel:
    """Open a model; close it when done.

    Args:
        spec: Which model; a path is a local model folder.
        device: For local models, where `spec` leaves it open.
        dtype: For local models, where `spec` leaves it open.

    Raises:
        UserError: See `ModelSpec.check`; or a hub model that is neither cached nor to be had.
    """
    if isinstance(spec, Path):
        spec = ModelSpec(str(spec), "local", str(spec))
    spec.check()
    match spec.kind:
        case "endpoint":
            from strop.models.endpoints.endpoint import EndpointModel

            return EndpointModel(spec)
        case "vllm":
            from strop.models.endpoints.vllm import VllmModel

            return VllmModel(spec)
        case "scripted":
            from strop.models.scripted import ScriptedModel

            return ScriptedModel(Path(spec.target))
    from strop.models.local import LocalModel

    return LocalModel(
        model_folder(spec),
        name=Path(spec.target).name if spec.kind == "local" else spec.model,
        device=device if spec.device == "auto" else spec.device,
        dtype=dtype if spec.dtype == "auto" else spec.dtype,
        chat=spec.chat,
        batch_size=spec.batch_size,
    )


def model_folder(spec: ModelSpec) -> Path:
    """Return the folder that holds the weights of a local, builtin or hub model; training starts from it too.

    Raises:
        UserError: The model has no weights here (an endpoint), or the hub's is not to be had.
    """
    match spec.kind:
        case "local":
            return Path(spec.target)
        case "builtin":
            from strop.models.builtin import builtin_folder

            return builtin_folder(spec.target)
        case "hf":
            return _hub_folder(spec)
    raise UserError(
        "a model without weights on this machine",
        value=spec.model,
        why="training and scoring need them",
        fix="give a local folder, hf:ORG/NAME or a builtin",
    )


def _hub_folder(spec: ModelSpec) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(spec.target, revision=spec.revision, allow_patterns=list(HUB_FILES)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            "the hub's model is neither in the local cache nor to be had",
            value=f"{spec.target}@{spec.revision}",
            why=str(error).splitlines()[0],
            fix="check the name and the network, or download it elsewhere and give its folder",
        ) from error
