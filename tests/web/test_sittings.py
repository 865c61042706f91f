"""One window at a time, with a clock of the test's own."""

from __future__ import annotations

import pytest

from strop.web.sittings import SILENT_S, Elsewhere, Sittings


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_second_window_is_told_and_may_take_over() -> None:
    clock = _Clock()
    sittings = Sittings(clock)
    sittings.claim("anna", "one")
    sittings.claim("ben", "two")
    clock.now = 12.0
    with pytest.raises(Elsewhere, match="last active 12 s ago"):
        sittings.claim("anna", "two")
    sittings.claim("anna", "two", take=True)
    with pytest.raises(Elsewhere):
        sittings.claim("anna", "one")


def test_a_window_that_left_or_fell_silent_is_not_in_the_way() -> None:
    clock = _Clock()
    sittings = Sittings(clock)
    sittings.claim("anna", "one")
    sittings.leave("anna", "two")
    with pytest.raises(Elsewhere):
        sittings.claim("anna", "two")
    sittings.leave("anna", "one")
    sittings.claim("anna", "two")
    clock.now = SILENT_S
    sittings.claim("anna", "three")
