"""The builtin models: SmolLM2 from its package, once converted, and what is said where something is missing."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.models import builtin
from strop.models.local import LocalModel
from strop.models.opening import model_folder, open_model
from strop.models.protocol import Call, Completion, Sampling
from strop.models.render import encode_examples
from strop.models.spec import parse_model
from strop.records.rows import Message

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec(builtin.SMOLLM2_MODULE) is None, reason=f"needs {builtin.SMOLLM2_INSTALL}"
)


def test_without_the_package_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "SMOLLM2_MODULE", "no_such_package")
    with pytest.raises(UserError, match=re.escape(builtin.SMOLLM2_INSTALL)):
        parse_model("builtin:smollm2-135m").fingerprint()


def test_a_missing_base_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builtin, "DATA", tmp_path)
    with pytest.raises(UserError, match="builtin:stories-weak is missing from this installation"):
        open_model(parse_model("builtin:stories-weak"))


def test_a_base_in_the_data_folder_is_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path
) -> None:
    monkeypatch.setattr(builtin, "DATA", tmp_path)
    (tmp_path / "stories-weak").symlink_to(tiny_folder)
    spec = parse_model("builtin:stories-weak")
    model = open_model(spec, device="cpu")
    assert isinstance(model, LocalModel)
    assert model.name == "builtin:stories-weak"
    assert spec.fingerprint() == parse_model(str(tiny_folder)).fingerprint()
    assert model_folder(spec) == tmp_path / "stories-weak"


def test_only_models_with_weights_have_a_folder(tiny_folder: Path) -> None:
    assert model_folder(parse_model(str(tiny_folder))) == tiny_folder
    with pytest.raises(UserError, match="without weights on this machine"):
        model_folder(parse_model("http://host/v1#name"))


def test_a_hub_model_that_is_not_cached_and_not_to_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="neither in the local cache nor to be had: got 'org/name@main'"):
        open_model(parse_model("hf:org/name"))


def test_a_conversion_that_dies_leaves_nothing_and_the_first_of_two_wins(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "model"

    def die() -> None:
        with builtin._published(folder) as part:
            (part / "config.json").write_text("{}")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        die()
    assert list(folder.parent.iterdir()) == []
    with builtin._published(folder) as slow:
        (slow / "who").write_text("second")
        with builtin._published(folder) as quick:
            (quick / "who").write_text("first")
    assert (folder / "who").read_text() == "first"
    assert list(folder.parent.iterdir()) == [folder]


@needs_smollm2
@pytest.mark.slow
def test_smollm2_answers_plainly_and_in_conversation() -> None:
    """Plumbing only: this model is too small to judge what it says."""
    model = open_model(parse_model("builtin:smollm2-135m"), device="cpu")
    assert isinstance(model, LocalModel)
    conversation = (Message("user", "Say hello."),)
    calls = [Call("The capital of France is", Sampling(max_tokens=4)), Call(conversation, Sampling(max_tokens=4))]
    outcomes = [outcome for batch in model.complete(calls) for _, outcome in batch]
    assert all(isinstance(outcome, Completion) and outcome.text.strip() for outcome in outcomes)
    # <|im_start|> is token 1, the end of turn and of sequence is token 2.
    ((prompt, completion),) = encode_examples(model.tokenizer, [(conversation, "Hello!")])
    assert (prompt[0], prompt[1] == 1, completion[-1]) == (1, False, 2)
    assert (model.tokenizer.model_max_length, model.tokenizer.padding_side) == (8192, "left")
    assert not hasattr(model.model.config, "quantization_config")
