"""What a run needs is looked at before its first stage: nothing is trained that a missing model would waste."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.cli.run import execute
from strop.errors import UserError
from strop.methods import RECIPES
from strop.runs.configuration import load_recipe


@pytest.mark.parametrize("key", ["strong", "weak.model"])
def test_a_folder_without_weights_stops_the_run_before_its_first_stage(key: str, tmp_path: Path) -> None:
    folder = tmp_path / "empty-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    loaded = load_recipe("weak_to_strong/demo", sets=[f"{key}={folder}"], recipes=RECIPES)
    with pytest.raises(UserError, match="a model folder without safetensors weights"):
        execute(loaded, name="run", workspace=tmp_path, quiet=True)
    assert list((tmp_path / "run").glob("stages/*")) == []


def test_a_model_to_train_must_have_its_weights_here(tmp_path: Path) -> None:
    loaded = load_recipe("weak_to_strong/demo", sets=["strong=http://127.0.0.1:9/v1#m"], recipes=RECIPES)
    with pytest.raises(UserError, match="'strong' is to be trained, and its weights are not on this machine"):
        execute(loaded, name="run", workspace=tmp_path, quiet=True)
    assert list((tmp_path / "run").glob("stages/*")) == []
