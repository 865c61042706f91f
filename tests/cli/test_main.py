"""Exit codes and messages: 0 done, 1 failed, 2 the user must fix something, 3 stopped and resumable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strop.cli import main, verbs

STROP = (sys.executable, "-m", "strop.cli.main")

RECIPE = '''
"""A recipe of one stage that ends as it is told to."""

import errno
import time
from pathlib import Path
from typing import Literal

from strop.errors import Stopped, UserError
from strop.report import Document
from strop.runs.configuration import Config


class Settings(Config):
    recipe: Literal["tiny"]
    ending: str = "done"


def answer(stage, ending):
    if ending == "defect":
        raise ZeroDivisionError("a defect")
    if ending == "user":
        raise UserError("this file is broken", value="x.jsonl", fix="repair it")
    if ending == "stopped":
        raise Stopped("the budget is reached")
    if ending == "disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    if ending == "slow":
        Path("started").touch()
        time.sleep(60)
    stage.write_rows([{"id": 1}])


def tiny(config, run):
    run.stage(answer, config.ending, name="answer")
    return Document(title="t", method="tiny", command="c", verdicts=(), numbers=())
'''

LAUNCH = """
import sys
sys.path.insert(0, ".")
from strop.methods import RECIPES
RECIPES["tiny"] = ("tiny_recipe:Settings", "tiny_recipe:tiny")
from strop.cli.main import main
main()
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with a method of one stage and its recipe file."""
    (tmp_path / "tiny_recipe.py").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "launch.py").write_text(LAUNCH, encoding="utf-8")
    (tmp_path / "tiny.yaml").write_text("recipe: tiny\n", encoding="utf-8")
    return tmp_path


def _strop(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "launch.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=_environment(folder))


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "COLUMNS": "100"}


def test_a_run_ends_with_its_report(workplace: Path) -> None:
    done = _strop(workplace, "run", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(workplace / "runs" / "tiny" / "report.html")
    assert Path(done.stdout.splitlines()[-1]).is_file()
    again = _strop(workplace, "run", "tiny.yaml", "--json")
    assert again.returncode == 0
    assert '"report":' in again.stdout


def test_report_is_rebuilt(workplace: Path) -> None:
    _strop(workplace, "run", "tiny.yaml", "--name", "first")
    page = workplace / "runs" / "first" / "report.html"
    before = page.read_bytes()
    page.unlink()
    done = _strop(workplace, "report", "first")
    assert (done.returncode, done.stdout.strip()) == (0, str(page)), done.stderr
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("defect", 1, "unexpected ZeroDivisionError: a defect"),
        ("user", 2, "this file is broken: got 'x.jsonl'\n  fix: repair it"),
        ("stopped", 3, "the budget is reached"),
        ("disk", 3, "the disk is full"),
    ],
)
def test_exit_codes(ending: str, code: int, said: str, workplace: Path) -> None:
    done = _strop(workplace, "run", "tiny.yaml", "--set", f"ending={ending}")
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_defect_names_its_place_and_its_traceback(workplace: Path) -> None:
    done = _strop(workplace, "run", "tiny.yaml", "--set", "ending=defect")
    lines = dict(line.strip().split(": ", 1) for line in done.stderr.splitlines() if line.startswith("  "))
    assert "tiny_recipe.py" in lines["where"]
    assert "ZeroDivisionError" in Path(lines["traceback"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_resumably(number: signal.Signals, workplace: Path) -> None:
    command = [sys.executable, "launch.py", "run", "tiny.yaml", "--set", "ending=slow"]
    process = subprocess.Popen(
        command,
        cwd=workplace,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(workplace),
    )
    deadline = time.monotonic() + 60
    while not (workplace / "started").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3, errors
    assert "the same command" in errors.lower() or "same command again" in errors
    assert "Traceback" not in errors


def test_unknown_recipe_names_the_nearest(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", "weak_to_strong/dmeo"]) == 2
    said = capsys.readouterr().err
    assert "there is no such recipe: got 'weak_to_strong/dmeo'" in said
    assert "did you mean 'weak_to_strong/demo'?" in said


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["rnu"]) == 2
    assert "Did you mean 'run'?" in capsys.readouterr().err


def test_unknown_key_names_the_nearest(workplace: Path) -> None:
    done = _strop(workplace, "run", "tiny.yaml", "--set", "endign=done")
    assert done.returncode == 2
    assert "did you mean 'ending'?" in done.stderr


def test_a_closed_pipe_is_no_defect() -> None:
    """`strop recipes --json | head -0`: the reader leaves before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [*STROP, "recipes", "--json"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert process.stderr == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("strop 0.")


@pytest.mark.parametrize("verb", verbs.VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A verb shows an example and offers JSON; so does every member of a group."""
    assert main.run([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"strop {verb}" in shown
    assert "Args:" not in shown
    command = verbs.VERBS[verb].load()
    members = list(getattr(command, "commands", {}))
    for member in members or [None]:
        assert main.run([verb, *([member] if member else []), "--help"]) == 0
        shown = capsys.readouterr().out
        assert "Example" in shown or "COMMAND [ARGS]" in shown, f"{verb} {member}: no example"
        # A schema is JSON whatever one asks for.
        assert "--json" in shown or "COMMAND [ARGS]" in shown or verb == "schema", f"{verb} {member}: no --json"


def test_recipes_are_listed_and_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["recipes"]) == 0
    assert "weak_to_strong/demo" in capsys.readouterr().out
    copy = tmp_path / "mine.yaml"
    assert main.run(["recipes", "copy", "weak_to_strong/demo", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8").strip()
    assert main.run(["recipes", "copy", "weak_to_strong/demo", str(copy)]) == 2
    assert "exists already" in capsys.readouterr().err
