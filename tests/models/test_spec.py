"""Naming models: every form, every mistake with its message, and what a fingerprint depends on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from strop.errors import UserError
from strop.models.spec import ModelField, ModelSpec, parse_model


@pytest.mark.parametrize(
    ("text", "kind", "target", "base_url"),
    [
        ("builtin:stories-weak", "builtin", "stories-weak", ""),
        ("hf:org/name", "hf", "org/name", ""),
        ("models/base", "local", "models/base", ""),
        ("/models/base", "local", "/models/base", ""),
        ("./a:b/c", "local", "./a:b/c", ""),
        ("http://host:8000/v1#name", "endpoint", "name", "http://host:8000/v1"),
        ("https://host/v1/#org/name:7b", "endpoint", "org/name:7b", "https://host/v1"),
        ("openai:gpt-4o", "endpoint", "gpt-4o", "https://api.openai.com/v1"),
        ("vllm:org/name", "vllm", "org/name", ""),
        ("scripted:replies.yaml", "scripted", "replies.yaml", ""),
    ],
)
def test_every_form(text: str, kind: str, target: str, base_url: str) -> None:
    spec = parse_model(text)
    assert (spec.kind, spec.target, spec.base_url) == (kind, target, base_url)
    assert spec.to_config() == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("builtin:smollm2-135", "did you mean builtin:smollm2-135m?"),
        ("builtin:storys-weak", "did you mean builtin:stories-weak?"),
        ("openia:gpt-4o", "did you mean openai:gpt-4o?"),
        ("vlm:org/name", "did you mean vllm:org/name?"),
        ("http://host:8000/v1", "the model's name behind #"),
        ("http://me:secret@host/v1#name", "a key inside a URL"),
        ("", "a model without a name"),
        ("hf:", "a model without a name"),
        ({"name": "x"}, "the key 'model'"),
        ({"model": "x", "batchsize": 3}, "did you mean 'batch_size'?"),
        ({"model": "x", "batch_size": 0}, "a whole number of at least 1"),
        ({"model": "x", "batch_size": True}, "a whole number"),
        ({"model": "x", "timeout": "long"}, "a number of at least"),
        ({"model": "x", "dtype": "fp32"}, "no such value: got 'fp32'"),
        ({"model": "x", "chat": "maybe"}, "no such value"),
        ({"model": "x", "revision": None}, "'revision' must be text"),
        ({"model": "http://h/v1#x", "replicas": "http://b/v1"}, "must be a list of URLs"),
        ({"model": "http://h/v1#x", "replicas": ["http://me:secret@b/v1"]}, "a key inside a URL"),
        ({"model": "http://h/v1#x", "retry_for": 0}, "a number of at least"),
        ({"model": "http://h/v1#x", "max_reply_bytes": 0.5}, "a whole number"),
        ({"model": "http://h/v1#x", "price": {"prompt": 1}}, "a price has prompt and completion"),
        ({"model": "x", "vllm_command": []}, "must be a command"),
        (3, "a model is a string, or a mapping"),
    ],
)
def test_mistakes_are_named(value: object, message: str) -> None:
    given_value: str = value  # type: ignore[assignment]
    with pytest.raises(UserError) as raised:
        parse_model(given_value)
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_mapping_sets_options_and_survives_yaml() -> None:
    given_value = {"model": "vllm:org/name", "max_concurrency": 32, "timeout": 5, "chat": "on", "vllm_command": "a b"}
    spec = parse_model(given_value)
    assert (spec.max_concurrency, spec.timeout, spec.chat, spec.vllm_command) == (32, 5.0, "on", ("a", "b"))
    assert parse_model(yaml.safe_load(yaml.safe_dump(spec.to_config()))) == spec
    assert parse_model({"model": "x", "chat": yaml.safe_load("on")}).chat == "on"
    assert parse_model({"model": "openai:gpt-4o", "api_key_env": "MINE"}).chat == "on"


@given(
    st.sampled_from(["builtin:stories-weak", "hf:a/b", "some/folder", "http://h/v1#n", "openai:n"]),
    st.fixed_dictionaries(
        {},
        optional={
            "batch_size": st.integers(1, 999),
            "timeout": st.floats(0.1, 1e4),
            "dtype": st.sampled_from(["auto", "float32"]),
            "revision": st.text(min_size=1),
            "chat": st.sampled_from(["auto", "on", "off"]),
        },
    ),
)
def test_configurations_round_trip(model: str, options: dict[str, object]) -> None:
    spec = parse_model({"model": model, **options})
    assert parse_model(spec.to_config()) == spec


def test_as_a_pydantic_field() -> None:
    class Settings(BaseModel):
        strong: ModelField
        weak: ModelField = parse_model("builtin:stories-weak")

    settings = Settings.model_validate({"strong": {"model": "hf:a/b", "revision": "abc"}})
    assert settings.strong.revision == "abc"
    dumped = json.loads(settings.model_dump_json())
    assert dumped == {"strong": {"model": "hf:a/b", "revision": "abc"}, "weak": "builtin:stories-weak"}
    assert Settings.model_validate(dumped) == settings
    assert "anyOf" in Settings.model_json_schema()["properties"]["strong"]
    with pytest.raises(UserError, match="did you mean"):
        Settings.model_validate({"strong": "builtin:stories-week"})


def test_a_fingerprint_is_of_the_model_not_of_how_it_runs(tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    plain = parse_model(str(tiny_folder)).fingerprint()
    assert parse_model(str(copy)).fingerprint() == plain
    options = {"batch_size": 2, "device": "cpu", "timeout": 1, "max_concurrency": 1}
    assert parse_model({"model": str(copy), **options}).fingerprint() == plain
    assert parse_model({"model": str(copy), "dtype": "bfloat16"}).fingerprint() != plain
    assert parse_model({"model": str(copy), "chat": "on"}).fingerprint() != plain
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert parse_model(str(copy)).fingerprint() != plain
    urls = {parse_model(f"http://{host}/v1#{name}").fingerprint() for host in "ab" for name in "xy"}
    assert len(urls) == 4


def test_folders_that_are_no_models(tiny_folder: Path, tmp_path: Path) -> None:
    def problem(folder: Path | str) -> str:
        with pytest.raises(UserError) as raised:
            parse_model(str(folder)).fingerprint()
        return str(raised.value)

    def without(*names: str) -> Path:
        folder = tmp_path / "-".join(names)
        shutil.copytree(tiny_folder, folder)
        for name in names:
            (folder / name).unlink()
        return folder

    assert "write hf:org/name" in problem("org/name")
    assert "without config.json" in problem(without("config.json"))
    assert "without a tokenizer" in problem(without("tokenizer.json"))
    bare = without("model.safetensors")
    assert "without safetensors weights" in problem(bare)
    (bare / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin is a pickle" in problem(bare)
    (bare / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'
    )
    (bare / "one.safetensors").write_bytes(b"")
    assert "no two.safetensors" in problem(bare)


def test_a_key_is_read_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="export OPENAI_API_KEY"):
        parse_model("openai:gpt-4o").check()
    parse_model("http://host/v1#name").check()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    spec = parse_model("openai:gpt-4o")
    spec.check()
    assert "sk-1234" not in repr(spec) + json.dumps(spec.to_config()) + spec.fingerprint()


def test_specs_load_no_heavy_library() -> None:
    code = (
        "import sys; from strop.models.spec import parse_model; parse_model('openai:x');"
        "print([m for m in ('torch', 'transformers', 'openai', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_spec_is_hashable_and_frozen() -> None:
    spec = parse_model("hf:a/b")
    assert {spec: 1}[ModelSpec("hf:a/b", "hf", "a/b")] == 1
    with pytest.raises(AttributeError):
        spec.kind = "local"  # type: ignore[misc]


def test_options_of_endpoints_come_back_and_where_it_runs_does_not_change_a_stage() -> None:
    given = {
        "model": "http://h/v1#m",
        "replicas": ["http://b/v1/", "http://c/v1#m"],
        "retry_for": 60.0,
        "price": {"prompt": 1, "completion": 2, "cached": 0.5},
    }
    spec = parse_model(given)
    assert spec.replicas == ("http://b/v1", "http://c/v1")
    assert parse_model(spec.to_config()) == spec
    assert spec.fingerprint() == parse_model("http://h/v1#m").fingerprint()
    moved = [parse_model({"model": f"http://{host}/v1#m", "revision": "7"}).fingerprint() for host in ("h", "b")]
    assert moved[0] == moved[1] != spec.fingerprint()
