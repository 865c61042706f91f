"""``strop heads profile``: tables and JSON for people and machines, from a tiny converted model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from heads_tiny import converted_llama
from strop.cli.heads_profile import parse_lengths, profile_command, show_profile
from strop.errors import UserError
from strop.heads.profiling import Arm, Measured, Profile
from strop.heads.timing import Ratio

app = typer.Typer()
app.command()(profile_command)


def test_json_holds_every_way_and_its_bound(tmp_path: Path) -> None:
    folder = converted_llama(tmp_path / "moh")
    options = ["--lengths", "8,16", "--steps", "prefill,decode", "--backends", "gathered", "--rounds", "1", "--json"]
    found = CliRunner().invoke(app, [str(folder), *options], catch_exceptions=False)
    profile = json.loads(found.stdout)
    assert [(each["step"], each["length"]) for each in profile["measured"]] == [
        (step, length) for step in ("prefill", "decode") for length in (8, 16)
    ]
    assert [arm["name"] for arm in profile["measured"][0]["arms"]] == ["dense", "gated dense", "gathered"]
    assert profile["measured"][0]["bound"] > 1


def arm(name: str, low: float) -> Arm:
    return Arm(name, 0.002, 0.003, Ratio(low + 0.1, low, low + 0.2, 5), Ratio(1.5, 1.4, 1.6, 5))


def test_where_nothing_is_gained_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    measured = [
        Measured("prefill", 64, 1.04, [Arm("dense", 0.002, 0.002), arm("gated dense", 0.9), arm("auto", 0.99)]),
        Measured(
            "prefill",
            2048,
            1.41,
            [Arm("dense", 0.2, 0.2), arm("gated dense", 0.9), arm("native", 1.2), Arm("triton", why_not="no GPU")],
        ),
        Measured("train", 2048, 1.3, why_not="a training step needs about 20 GB, and 14 GB are free"),
    ]
    show_profile(Profile("moh", 0.5, "learned", 1, 5, 1, "cpu", "cpu", "2.13", measured))
    out = capsys.readouterr().out
    assert "prefill at 64 tokens: no gain here; at best 1.04" in out
    assert "prefill at 2,048 tokens: native is 1.30 [1.20, 1.40] times faster than the dense model" in out
    assert "prefill at 2,048 tokens: triton not run: no GPU" in out
    assert "train at 2,048 tokens: not run: a training step needs about 20 GB" in out


def test_the_page_draws_every_step(tmp_path: Path) -> None:
    folder = converted_llama(tmp_path / "moh")
    options = ["--lengths", "8", "--steps", "prefill,decode", "--backends", "gathered", "--rounds", "2"]
    CliRunner().invoke(app, [str(folder), *options, "--report", str(tmp_path / "drawn")], catch_exceptions=False)
    page = (tmp_path / "drawn" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 2
    for told in ("a prompt, whole model", "one new token behind a cache", "8 gathered", "8 at best", "gated dense"):
        assert told in page
    report = json.loads((tmp_path / "drawn" / "report.json").read_text(encoding="utf-8"))
    assert len(report["verdicts"]) == 2
    assert report["figures"][0]["bars"][-1]["estimate"]["value"] > 1


def test_lengths_are_whole_numbers() -> None:
    assert parse_lengths("512, 2_048,") == [512, 2048]
    with pytest.raises(UserError, match="whole numbers"):
        parse_lengths("512,2k")
