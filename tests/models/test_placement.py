"""Where models answer: what the settings open."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from strop.errors import UserError
from strop.models.local import LocalModel
from strop.models.placement import Placement, open_placed, served
from strop.models.spec import parse_model


def test_a_folder_opens_here_by_default(tiny_folder: Path) -> None:
    model = open_placed(tiny_folder, Placement(device="cpu", dtype="bfloat16"))
    assert isinstance(model, LocalModel)
    assert model.revision.endswith("+bfloat16")


def test_vllm_serves_what_has_weights_and_nothing_else() -> None:
    placement = Placement(serve="vllm", vllm_command=("env", "vllm"))
    assert served(parse_model("hf:org/name"), placement).model == "vllm:org/name"
    assert served(parse_model("some/folder"), placement).vllm_command == ("env", "vllm")
    script = parse_model("scripted:replies.yaml")
    assert served(script, placement) == script
    assert served(parse_model("hf:org/name"), Placement()).kind == "hf"


def test_who_computes_changes_no_fingerprint() -> None:
    """What the answers depend on is the type of the weights and what serves them."""
    free = {
        name
        for name, field in Placement.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("fingerprint") is False
    }
    assert set(Placement.model_fields) - free == {"dtype", "serve"}


@pytest.mark.parametrize("setting", [{"replicas": 0}, {"cpus_per_replica": 0}, {"executor": "slurm"}, {"workers": 2}])
def test_impossible_settings(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Placement.model_validate(setting)


def test_ray_is_an_extra(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"executor: ray needs Ray[\s\S]*pip install 'strop\[scale\]'"):
        open_placed(tiny_folder, Placement(executor="ray", device="cpu"))
