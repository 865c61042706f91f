"""``strop judge agree``: tables in, one comparison out, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from strop.cli.judge_agree import agree_command
from strop.errors import UserError

HUMAN = "conv,model,Empathy,Safety\n1,a,4,5\n1,b,2,5\n2,a,5,0\n2,b,1,4\n3,a,3,3\n"
JUDGE = "conv,model,Empathy,Safety\n1,a,5,5\n1,b,3,5\n2,a,5,4\n2,b,2,5\n4,a,3,3\n"


def _run(folder: Path, *arguments: str, columns: int = 140) -> str:
    app = typer.Typer()
    app.command()(agree_command)
    (folder / "human.csv").write_text(HUMAN, encoding="utf-8")
    (folder / "judge.csv").write_text(JUDGE, encoding="utf-8")
    files = ["--human", str(folder / "human.csv"), "--by", "conv", "--item", "model", "--quiet", "--resamples", "100"]
    result = CliRunner().invoke(app, [*files, *arguments], env={"COLUMNS": str(columns)})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def _judge(folder: Path) -> str:
    return f"small={folder / 'judge.csv'}"


def test_one_table_for_people(tmp_path: Path) -> None:
    """Empathy lean (1 + 1 + 0 + 1) / 4 = 0.75; every left-out response and the scales are remarked upon."""
    shown = _run(tmp_path, "--judge", _judge(tmp_path))
    assert "+0.750" in shown
    assert "small: 1 responses rated by people only, 1 by the judge only" in shown
    assert "small: people rate 0 to 5, the judge 2 to 5; see --scale" in shown


def test_json_and_scale(tmp_path: Path) -> None:
    document = json.loads(_run(tmp_path, "--judge", _judge(tmp_path), "--scale", "1:5", "--json"))
    assert document["off_scale"] == {"human": 1, "small": 0}
    (judge,) = document["judges"]
    assert (judge["responses"], judge["pairs"]["left_out"]) == (4, 1)
    empathy, safety = judge["attributes"]
    assert empathy["lean"]["estimate"] == 0.75
    assert (safety["n"], safety["left_out"]) == (3, 1)


def test_the_same_seed_gives_the_same_document(tmp_path: Path) -> None:
    documents = [_run(tmp_path, "--judge", _judge(tmp_path), "--seed", seed, "--json") for seed in ("3", "3", "4")]
    assert documents[0] == documents[1] != documents[2]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--judge", "small"], "NAME=FILE"),
        (["--judge", "a=x.csv", "--judge", "a=y.csv"], "same name"),
        (["--judge", "a=x.csv", "--scale", "5"], "LOW:HIGH"),
        (["--judge", "a=x.csv", "--scale", "5:1"], "LOW:HIGH"),
        (["--judge", "a=/nowhere/x.csv"], "no such file"),
    ],
)
def test_wrong_options_are_one_message(tmp_path: Path, arguments: list[str], match: str) -> None:
    with pytest.raises(UserError, match=match):
        _run(tmp_path, *arguments)
