"""``strop heads convert`` and ``strop heads verify`` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routed_decoders import dense_decoder
from strop.cli.main import run


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "dense"
    dense_decoder("llama").save_pretrained(folder)
    return folder


def test_converting_says_what_was_made_and_what_comes_next(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "moh"
    assert run(["heads", "convert", str(dense), "--active", "75%", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "2 shared + 2 of 3 routed heads in each of 2 KV groups (6 of 8 heads active, 75.0 %)" in told
    assert "75.0 % as the mean over layers" in told
    assert "1,920 weights, all zero" in told
    assert f"strop heads verify {out}" in told
    assert "warning" not in told


def test_one_pick_is_warned_about(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--active", "0.25", "--choice", "per-group", "--out"]
    assert run(["heads", "convert", str(dense), *options, str(tmp_path / "learned")]) == 0
    assert "no gradient" in capsys.readouterr().out
    assert run(["heads", "convert", str(dense), *options, str(tmp_path / "norm"), "--router", "query-norm"]) == 0
    assert "no gradient" not in capsys.readouterr().out


def test_json_holds_the_settings(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--active", "1/2", "--router", "query-norm", "--choice", "groups", "--json"]
    assert run(["heads", "convert", str(dense), *options, "--out", str(tmp_path / "moh")]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["router_parameters"] == 0
    assert told["active"]["over_heads"] == 0.5
    assert told["moh"]["router"] == "query_norm"
    assert {(tuple(layer["shared"]), layer["active"], layer["choice"]) for layer in told["moh"]["layers"]} == {
        ((), 1, "groups")
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--active", "0.8"], "available: 0.750 (6 of 8), 1.000 (8 of 8)"),
        (["--active", "three quarters"], "write it as 0.75, 75% or 3/4"),
        (["--from-authors"], "names no code of its own"),
        (["--shared", "importance", "--calibrate", "nowhere.txt"], "no calibration texts"),
    ],
)
def test_bad_input_is_one_message_and_no_folder(
    options: list[str], told: str, dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["heads", "convert", str(dense), *options, "--out", str(tmp_path / "moh")]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["nowhere", "openai:gpt-4o", "http://127.0.0.1:9/v1#name"])
def test_what_is_no_folder_of_weights_is_refused(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    assert run(["heads", "convert", model, "--out", str(tmp_path / "moh")]) == 2
    assert capsys.readouterr().err.startswith("strop: ")


@pytest.mark.slow
def test_verifying_ends_with_one_where_something_does_not_hold(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong scale on load breaks the identity and nothing that compares the model with itself."""
    from strop.heads.modeling.attention import MoHAttention

    out = tmp_path / "moh"
    assert run(["heads", "convert", str(dense), "--active", "0.75", "--out", str(out)]) == 0
    capsys.readouterr()
    assert run(["heads", "verify", str(out), "--original", str(dense), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is True
    assert [drop["shared"] for drop in told["drops"]][:2] == ["dense model", "this model"]
    make = MoHAttention.__init__

    def scaled(self: Any, *given: Any, **named: Any) -> None:
        make(self, *given, **named)
        self.scaling = 0.2

    monkeypatch.setattr(MoHAttention, "__init__", scaled)
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["heads", "verify", str(out), "--quiet"]) == 1
    shown = capsys.readouterr().out
    assert "failed: every head on equals the dense model; a fresh process loads the same model" in shown


@pytest.mark.slow
def test_smollm2_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Full activation within 1e-5 of the original in float32, a fresh process within 1e-6, loud without strop."""
    out = tmp_path / "moh"
    model = "builtin:smollm2-135m"
    options = ["--active", "7/9", "--choice", "free", "--shared", "importance", "--router", "query-norm"]
    assert run(["heads", "convert", model, *options, "--out", str(out), "--quiet"]) == 0
    capsys.readouterr()
    assert run(["heads", "verify", str(out), "--original", model, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    differences = {check["name"]: check["difference"] for check in told["checks"]}
    assert differences["every head on equals the dense model"] <= 1e-5
    assert differences["a fresh process loads the same model"] <= 1e-6
