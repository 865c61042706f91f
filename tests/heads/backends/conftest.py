"""What the tests of the C++ kernels share: each instruction set of the processor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strop.heads.backends import native, native_build


@pytest.fixture
def fresh_build() -> Iterator[None]:
    """Let the library be looked for as in a new process, and again after the test."""
    native_build.load.cache_clear()
    yield
    native_build.load.cache_clear()


@pytest.fixture(params=["avx512", "avx2"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fresh_build: None) -> str:
    """Run the test with each instruction set that the processor has."""
    monkeypatch.setenv("STROP_NATIVE_ISA", request.param)
    reason = native.available()
    if reason is not None:
        pytest.skip(reason)
    return str(request.param)
