"""Builds the C++ kernels on first use: finds a compiler, compiles into the user's cache, loads the library with ctypes.

The library has a plain C interface and knows nothing of torch, so that a build takes seconds and survives a new torch.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
COMPILERS = ("g++", "clang++")
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fPIC",
    "-shared",
    "-pthread",
)
"""Not -ffast-math: it assumes that there is no NaN, and its start-up code makes the whole process flush denormals."""
ISA_FLAGS = {"avx512": ("-march=native",), "avx2": ("-march=native", "-mno-avx512f")}
ISA_MACROS = {"avx512": ("__AVX512F__", "__AVX512DQ__"), "avx2": ("__AVX2__", "__FMA__")}
SLOWEST_BUILD_S = 600


@dataclass(frozen=True)
class Built:
    """The loaded library, or why there is none.

    Attributes:
        library: With the functions of ``csrc`` that are marked ``extern "C"``.
        isa: ``avx512`` or ``avx2``.
        why: What is missing, for people.
    """

    library: ctypes.CDLL | None = None
    isa: str | None = None
    why: str | None = None


class BuildError(Exception):
    """Why there is no library; becomes `Built.why`."""


@cache
def load() -> Built:
    """Return the library for this processor, built now if it is not in the cache; tried once in a process.

    The environment, which is read then, may name the compiler (``STROP_CXX``, else ``CXX``) and a narrower instruction
    set (``STROP_NATIVE_ISA=avx2``).
    """
    named = os.environ.get("STROP_CXX") or os.environ.get("CXX")
    return _load(named, os.environ.get("STROP_NATIVE_ISA"))


@cache
def _load(compiler: str | None, isa: str | None) -> Built:
    try:
        command = find_compiler(compiler)
        macros = _macros(command)
        isa = choose_isa(macros, isa)
        path = library_path(macros, isa)
        if not path.is_file():
            _build(command, isa, path)
        return Built(ctypes.CDLL(str(path)), isa)
    except (BuildError, OSError) as error:
        return Built(why=str(error))


def find_compiler(named: str | None) -> list[str]:
    """Return the compiler's command: the named one, which may have arguments, or the first of `COMPILERS`."""
    for choice in [named] if named else COMPILERS:
        command = shlex.split(choice)
        if command and shutil.which(command[0]):
            return command
    raise BuildError(f"no C++ compiler: {named or ' or '.join(COMPILERS)} is not on the path (set STROP_CXX)")


def choose_isa(macros: str, wanted: str | None) -> str:
    """Return the widest instruction set of the processor, or the wanted one.

    Args:
        macros: What the compiler defines for this processor.
        wanted: ``avx512``, ``avx2`` or None.
    """
    defined = set(macros.split())
    there = [isa for isa, names in ISA_MACROS.items() if all(name in defined for name in names)]
    if wanted and wanted not in ISA_FLAGS:
        raise BuildError(f"STROP_NATIVE_ISA is {wanted}; known are {', '.join(ISA_FLAGS)}")
    if not there or (wanted and wanted not in there):
        raise BuildError(f"the processor (or the compiler) has no {wanted or 'AVX2 with FMA'}")
    return wanted or there[0]


def library_path(macros: str, isa: str) -> Path:
    """Return where the library lies: its name holds what its content depends on.

    Args:
        macros: What the compiler defines for this processor; names its version too.
        isa: A key of `ISA_FLAGS`.
    """
    from platformdirs import user_cache_path

    digest = sha256(repr((FLAGS, ISA_FLAGS[isa], macros)).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return user_cache_path("strop") / "native" / f"heads-{isa}-{digest.hexdigest()[:20]}.so"


def _macros(command: list[str]) -> str:
    """Return the macros that the compiler defines for this processor; they name its version too."""
    return _run([*command, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])


def _build(command: list[str], isa: str, path: Path) -> None:
    """Compile beside the final place and move there in one step: processes may build at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        sources = [str(source) for source in sorted(SOURCES.glob("*.cpp"))]
        _run([*command, *FLAGS, *ISA_FLAGS[isa], "-o", str(fresh), *sources])
        fresh.replace(path)


def _run(command: list[str]) -> str:
    """Run the compiler; its first complaint becomes the reason."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SLOWEST_BUILD_S, check=False)
    except subprocess.TimeoutExpired:
        raise BuildError(f"the C++ compiler took more than {SLOWEST_BUILD_S} s: {shlex.join(command)}") from None
    if done.returncode:
        lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise BuildError(f"the C++ compiler failed: {first.strip()} (command: {shlex.join(command)})")
    return done.stdout
