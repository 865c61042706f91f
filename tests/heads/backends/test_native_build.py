"""The build: what is missing is said and never raised, the cache is used, two processes may build at once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from strop.heads.backends import native_build

IMPORT = "from strop.heads.backends.native_build import load; print(load().why)"


def say_what_is_missing(cache: Path, **environment: str) -> str:
    """Ask a fresh process, whose cache is empty."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def script(path: Path, text: str) -> str:
    """Write a shell script that plays the compiler."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def compiler() -> list[str]:
    """The machine's compiler; without one the test is skipped."""
    try:
        return native_build.find_compiler(None)
    except Exception as error:
        pytest.skip(str(error))


def test_no_compiler(tmp_path: Path) -> None:
    assert "no C++ compiler: g++ or clang++ is not on the path" in say_what_is_missing(tmp_path, PATH=str(tmp_path))


def test_a_named_compiler_that_is_not_there(tmp_path: Path) -> None:
    """A named compiler is not replaced by another one."""
    assert "no C++ compiler: nowhere++" in say_what_is_missing(tmp_path, STROP_CXX="nowhere++", CXX="g++")


def test_a_failed_build_gives_the_first_error(tmp_path: Path, compiler: list[str]) -> None:
    broken = script(
        tmp_path / "broken++",
        f'case "$*" in *-dM*) exec {compiler[0]} "$@";; esac; echo note >&2; '
        'echo "attention.cpp:3: error: no such luck" >&2; echo "error: more" >&2; exit 1',
    )
    reason = say_what_is_missing(tmp_path / "cache", STROP_CXX=broken)
    assert "the C++ compiler failed: attention.cpp:3: error: no such luck (command:" in reason
    assert list((tmp_path / "cache" / "strop" / "native").iterdir()) == []


@pytest.mark.usefixtures("fresh_build")
def test_tried_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("STROP_CXX", script(tmp_path / "silent++", f"echo x >> {calls}; exit 3"))
    first, second = native_build.load(), native_build.load()
    assert first is second
    assert "failed: exit code 3" in (first.why or "")
    assert calls.read_text(encoding="utf-8").split() == ["x"]


def test_a_cache_that_cannot_be_written(tmp_path: Path, compiler: list[str]) -> None:
    (tmp_path / "strop").write_text("a file where the folder should be", encoding="utf-8")
    assert str(tmp_path / "strop") in say_what_is_missing(tmp_path)


def test_two_processes_build_at_once(tmp_path: Path, compiler: list[str]) -> None:
    """Both compile, and each moves a whole library into place; the stub stands for the slow part."""
    stub = tmp_path / "stub.cpp"
    stub.write_text('extern "C" int one() { return 1; }\n', encoding="utf-8")
    slow = script(
        tmp_path / "slow++",
        f'case "$*" in *-dM*) exec {compiler[0]} "$@";; esac; sleep 0.5; '
        f'while [ "$1" != "-o" ]; do shift; done; exec {compiler[0]} -shared -fPIC -o "$2" {stub}',
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "STROP_CXX": slow}
    both = [
        subprocess.Popen([sys.executable, "-c", IMPORT], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == ["None", "None"]
    left = list((tmp_path / "cache" / "strop" / "native").iterdir())
    assert [path.suffix for path in left] == [".so"]


def test_the_widest_instruction_set_that_is_there() -> None:
    both = "#define __AVX2__ 1\n#define __FMA__ 1\n#define __AVX512F__ 1\n#define __AVX512DQ__ 1\n"
    narrow = "#define __AVX2__ 1\n#define __FMA__ 1\n#define __AVX512F__ 1\n"
    assert native_build.choose_isa(both, None) == "avx512"
    assert native_build.choose_isa(both, "avx2") == "avx2"
    assert native_build.choose_isa(narrow, None) == "avx2"
    for macros, wanted, why in [
        ("", None, "no AVX2 with FMA"),
        (narrow, "avx512", "no avx512"),
        (both, "sse", "known"),
    ]:
        with pytest.raises(native_build.BuildError, match=why):
            native_build.choose_isa(macros, wanted)


def test_the_name_holds_what_the_library_depends_on() -> None:
    one = native_build.library_path("gcc 12", "avx2")
    assert one == native_build.library_path("gcc 12", "avx2")
    assert len({one, native_build.library_path("gcc 13", "avx2"), native_build.library_path("gcc 12", "avx512")}) == 3
