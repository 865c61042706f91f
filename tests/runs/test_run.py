"""Stages are published whole, skipped when done, rerun exactly when something they depend on has changed."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from strop.errors import Stopped, UserError
from strop.runs import Artifact, Budget, Config, Run, Stage, StoredCall
from strop.runs.content import files_of, hash_tree
from strop.runs.history import read_history


class Settings(Config):
    """Settings of the recipes below."""

    a: int = 1
    """Goes into the first stage."""
    b: int = 1
    """Goes into the second stage."""


CALLED: list[str] = []


def first(stage: Stage, a: int) -> None:
    CALLED.append(stage.name)
    stage.write_rows([{"a": a}])


def second(stage: Stage, before: Artifact, b: int) -> None:
    CALLED.append(stage.name)
    stage.write_rows([{**row, "b": b} for row in before.rows()])


def drawing(stage: Stage) -> None:
    CALLED.append(stage.name)
    stage.write_rows([{"drawn": stage.seed("noise")}])


def failing(stage: Stage, how: str) -> None:
    (stage.folder / "half").write_text("half")
    (stage.work / "checkpoint").write_text("kept")
    raise RuntimeError(how)


def resuming(stage: Stage, tries: str) -> None:
    count = len(list(stage.work.iterdir()))
    (stage.work / str(count)).touch()
    if count < 2:
        raise RuntimeError("not yet")
    stage.write_rows([{"tries": count}])


def filling(stage: Stage, size: int) -> None:
    (stage.folder / "big").write_bytes(b"x" * size)


def full_elsewhere(stage: Stage) -> None:
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def interrupted(stage: Stage) -> None:
    with stage.progress("waiting", 3) as advance:
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        # A library swallowed the stop: the next safe point raises it again.
        advance(1)
    raise AssertionError("never reached")


def asking(stage: Stage, count: int) -> None:
    calls = [StoredCall(f"k{n}", "m", "1", {"prompt": f"p{n}"}, 0, f"a{n}", "stop", 2, 3, 0.1) for n in range(count)]
    for call in calls:
        if not stage.store.get_many([call.key]):
            if not stage.store.ledger.room(flying=0, tokens=5, money=0):
                raise stage.store.ledger.reached()
            stage.store.put_many([call])
    stage.write_rows([{"text": stage.store.get_many([call.key])[call.key].text} for call in calls])


@contextmanager
def opened(workspace: Path, *, seed: int = 0, budget: Budget | None = None, **settings: Any) -> Iterator[Run]:
    CALLED.clear()
    with Run.open(
        workspace / "run",
        config=Settings(**settings),
        origins=dict.fromkeys(settings, "--set"),
        seed=seed,
        workspace=workspace,
        quiet=True,
        **({} if budget is None else {"budget": budget}),
    ) as run:
        yield run


def chain(workspace: Path, *, a: int = 1, b: int = 1, seed: int = 0) -> list[str]:
    """Run first -> second and an independent drawing stage; return the names of the stages that ran."""
    with opened(workspace, a=a, b=b, seed=seed) as run:
        run.stage(second, run.stage(first, a, name="first"), b, name="second")
        run.stage(drawing, name="drawing")
    return list(CALLED)


def events(workspace: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workspace / "run" / "manifest.jsonl").read_text().splitlines()]


def test_the_artifacts_and_their_places(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        one = run.stage(first, 3, name="first")
        two = run.stage(second, one, name="second", b=4)
    assert one.folder == tmp_path / "run" / "stages" / "01-first"
    assert two.folder == tmp_path / "run" / "stages" / "02-second"
    assert two.rows() == [{"a": 3, "b": 4}]
    assert one.digest == hash_tree(one.folder)
    assert run.artifacts == {"first": one, "second": two}
    with pytest.raises(UserError, match=r"rows\.jsonl"):
        two.path("rows.json")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"a": 2}, ["first", "second"]),
        ({"b": 2}, ["second"]),
        ({"seed": 1}, ["drawing"]),
        ({"a": 2, "seed": 1}, ["first", "second", "drawing"]),
    ],
)
def test_a_changed_setting_reruns_exactly_what_depends_on_it(
    tmp_path: Path, change: dict[str, int], expected: list[str]
) -> None:
    assert chain(tmp_path) == ["first", "second", "drawing"]
    before = {path.name: hash_tree(path) for path in (tmp_path / "run" / "stages").iterdir()}
    assert chain(tmp_path, **change) == expected
    assert chain(tmp_path) == [], "the old artifacts come back when the settings do"
    assert {path.name: hash_tree(path) for path in (tmp_path / "run" / "stages").iterdir()} == before
    assert chain(tmp_path, **change) == []


def test_an_inserted_stage_moves_the_others_without_running_them(tmp_path: Path) -> None:
    chain(tmp_path)
    with opened(tmp_path) as run:
        run.stage(first, 9, name="inserted")
        run.stage(second, run.stage(first, 1, name="first"), 1, name="second")
    assert CALLED == ["inserted"]
    names = sorted(path.name for path in (tmp_path / "run" / "stages").iterdir())
    assert names == ["01-inserted", "02-first", "03-second"], "what the recipe no longer names is put aside"
    assert chain(tmp_path) == []


def test_equal_output_of_a_changed_stage_reruns_nothing_after_it(tmp_path: Path) -> None:
    def run_with(extra: int) -> list[str]:
        with opened(tmp_path) as run:
            run.stage(second, run.stage(asking_ignoring, extra, name="first"), 1, name="second")
        return list(CALLED)

    assert run_with(1) == ["first", "second"]
    assert run_with(2) == ["first"]


def asking_ignoring(stage: Stage, ignored: int) -> None:
    CALLED.append(stage.name)
    stage.write_rows([{"same": 1}])


def test_a_name_stands_for_one_call(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        one = run.stage(first, 1, name="first")
        assert run.stage(first, a=1, name="first") is one
        with pytest.raises(ValueError, match="with other arguments"):
            run.stage(first, 2, name="first")
        with pytest.raises(ValueError, match="a stage name"):
            run.stage(first, 2, name="../first")
    assert CALLED == ["first"]


def test_a_damaged_artifact_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain(tmp_path)
    rows = tmp_path / "run" / "stages" / "01-first" / "rows.jsonl"
    rows.write_text('{"a": 7}\n')
    assert chain(tmp_path) == ["first"], "the second one is as it was: its input came out the same again"
    assert json.loads(rows.read_text()) == {"a": 1}
    assert "its artifact is changed after the stage had finished, so the stage runs again" in " ".join(
        capsys.readouterr().err.split()
    )
    assert [event["state"] for event in events(tmp_path) if event["event"] == "damaged"]


def test_a_removed_artifact_is_made_again(tmp_path: Path) -> None:
    chain(tmp_path)
    folder = tmp_path / "run" / "stages" / "02-second"
    for path in files_of(folder):
        path.unlink()
    folder.rmdir()
    assert chain(tmp_path) == ["second"]


def fail(workspace: Path) -> None:
    with opened(workspace) as run:
        run.stage(first, 1, name="first")
        run.stage(failing, "broken", name="failing")


def test_a_failed_stage_leaves_no_artifact_and_keeps_its_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        fail(tmp_path)
    assert [path.name for path in (tmp_path / "run" / "stages").iterdir()] == ["01-first"]
    assert [path.name for path in files_of(tmp_path / "run" / "work")] == ["checkpoint"]
    told = events(tmp_path)
    assert (told[-2]["event"], told[-2]["stage"], told[-2]["why"]) == ("failed", "02-failing", "RuntimeError: broken")
    assert (told[-1]["event"], told[-1]["status"]) == ("closed", "failed")
    with opened(tmp_path, a=1) as run:
        run.stage(first, 1, name="first")
    assert CALLED == []
    assert not list((tmp_path / "run" / "work").iterdir()), "a finished run leaves nothing half done"


def test_work_survives_until_the_stage_is_published(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"), opened(tmp_path) as run:
            run.stage(resuming, "x", name="resuming")
    with opened(tmp_path) as run:
        assert run.stage(resuming, "x", name="resuming").rows() == [{"tries": 2}]


def test_other_settings_clear_the_work_of_a_stage(tmp_path: Path) -> None:
    for how in ("x", "y"):
        with pytest.raises(RuntimeError, match="not yet"), opened(tmp_path) as run:
            run.stage(resuming, how, name="resuming")
    assert len(list((tmp_path / "run" / "work").iterdir())) == 1


def test_a_swallowed_signal_stops_the_stage_at_its_next_safe_point(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped by SIGTERM") as caught, opened(tmp_path) as run:
        run.stage(interrupted, name="interrupted")
    assert caught.value.exit_code == 3
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [event["event"] for event in events(tmp_path)][-2:] == ["interrupted", "closed"]


def test_budget_stops_and_continues_with_what_was_paid(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="calls 3 of 3"), opened(tmp_path, budget=Budget(calls=3)) as run:
        run.stage(asking, 5, name="asking")
    assert run.id
    with pytest.raises(Stopped, match="calls 4 of 4"), opened(tmp_path, budget=Budget(calls=4)) as run:
        run.stage(asking, 5, name="asking")
    with opened(tmp_path, budget=Budget(calls=6)) as run:
        assert len(run.stage(asking, 5, name="asking").rows()) == 5
        assert run.store.spent(run.id).calls == 5


def test_calls_are_shared_by_the_runs_of_a_workspace(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with Run.open(tmp_path / name, config=Settings(), origins={}, seed=0, workspace=tmp_path, quiet=True) as run:
            run.stage(asking, 4, name="asking")
    (stage,) = read_history(tmp_path / "two").stages
    assert (stage.calls, stage.reused, stage.tokens) == (4, 4, 20)
    (stage,) = read_history(tmp_path / "one").stages
    assert (stage.calls, stage.reused) == (4, 0)


def test_the_description_of_a_run(tmp_path: Path) -> None:
    with opened(tmp_path, a=5):
        pass
    text = (tmp_path / "run" / "config.resolved.yaml").read_text()
    assert yaml.safe_load(text) == {"a": 5, "b": 1}
    assert "# Goes into the first stage.\na: 5  # --set\n" in text
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["seed"] == 0
    assert described["versions"]["strop"]


class OtherSettings(Config):
    """Settings of another recipe."""


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with pytest.raises(UserError, match="a run of another recipe"):
        Run.open(tmp_path / "run", config=OtherSettings(), origins={}, seed=0, workspace=tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="holds something else"):
        Run.open(tmp_path / "notes", config=Settings(), origins={}, seed=0, workspace=tmp_path)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["diary.txt"]


def test_a_torn_last_line_of_the_manifest_is_cut_off(tmp_path: Path) -> None:
    chain(tmp_path)
    manifest = tmp_path / "run" / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"time": "20')
    assert read_history(tmp_path / "run").status == "finished"
    assert chain(tmp_path) == []
    assert manifest.read_bytes().startswith(whole + b'{"time"')
    assert events(tmp_path)


def test_an_argument_without_a_fingerprint_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as run, pytest.raises(TypeError, match=r"argument 'a'\['x'\] is a object"):
        run.stage(first, {"x": object()}, name="first")


# Signals, kills and limits act on a process: the rest runs in children that are forked from this one.


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process and return its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            work()
            code = 0
        except Stopped:
            code = 3
        except BaseException as error:
            print(repr(error), file=sys.__stderr__)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def small(workspace: Path) -> None:
    with Run.open(workspace / "run", config=Settings(), origins={}, seed=0, workspace=workspace, quiet=True) as run:
        run.stage(asking, 1, name="asking")
        run.stage(second, run.stage(drawing, name="drawing"), 1, name="second")


CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")


def killed_before_change(number: int, workspace: Path) -> None:
    """Run the small recipe; SIGKILL this process right before its `number`-th change below `workspace`."""
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in CHANGES and str(workspace) in str(arguments[0]):
            if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(watch)
    small(workspace)


def test_killed_before_every_single_change_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a killed process has written is in the kernel's hands: flushing guards against power cuts only, and is slow.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    small(tmp_path / "unbroken")
    expected = hash_tree(tmp_path / "unbroken" / "run" / "stages")
    for number in range(1000):
        workspace = tmp_path / str(number)
        code = in_child(lambda workspace=workspace, number=number: killed_before_change(number, workspace))  # type: ignore[misc]
        if code == 0:
            break
        assert code == -signal.SIGKILL
        small(workspace)
        assert hash_tree(workspace / "run" / "stages") == expected, number
        history = read_history(workspace / "run")
        assert history.status == "finished"
        assert {stage.status for stage in history.stages} <= {"finished", "skipped"}
        told = events(workspace)
        finished = [event["stage"] for event in told if event["event"] == "finished"]
        assert sorted(finished) == ["01-asking", "02-drawing", "03-second"], "each finishes once"
    assert 40 < number < 999


def test_a_kill_after_the_lineage_record_does_not_run_the_stage_again(tmp_path: Path) -> None:
    def killed_before_publication() -> None:
        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "os.rename" and "stages" in str(arguments[1]):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        chain(tmp_path)

    assert in_child(killed_before_publication) == -signal.SIGKILL
    assert chain(tmp_path) == ["second", "drawing"]
    recovered = [event["stage"] for event in events(tmp_path) if event.get("recovered")]
    assert recovered == ["01-first"]


def test_a_file_that_grows_too_large_stops_the_run_and_keeps_the_rest(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        fill(tmp_path, 1_000_000)

    assert in_child(limited) == 3
    check_full(tmp_path)


def fill(workspace: Path, size: int) -> None:
    with opened(workspace) as run:
        run.stage(first, 1, name="first")
        run.stage(asking, 2, name="asking")
        run.stage(filling, size, name="filling")


def check_full(workspace: Path) -> None:
    told = events(workspace)
    assert (told[-2]["event"], told[-2]["stage"]) == ("interrupted", "03-filling")
    assert (told[-1]["event"], told[-1]["status"]) == ("closed", "interrupted")
    names = sorted(path.name for path in (workspace / "run" / "stages").iterdir())
    assert names == ["01-first", "02-asking"]
    fill(workspace, 10)
    assert CALLED == []


def test_a_full_disk_stops_the_run_and_keeps_the_rest(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(Stopped, match="the disk is full"):
            fill(disk, 2_000_000)
        check_full(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_known_by_its_text_too(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="the disk is full"), opened(tmp_path) as run:
        run.stage(full_elsewhere, name="full")


def test_other_errors_of_the_system_are_failures(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, opened(tmp_path) as run:
        run.stage(missing, name="missing")
    assert caught.value.errno == errno.ENOENT


def missing(stage: Stage) -> None:
    (stage.folder / "absent" / "file").write_text("")
