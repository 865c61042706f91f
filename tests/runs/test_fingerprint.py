"""Equal values have equal fingerprints, different values different ones, whatever form they come in."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from strop.errors import UserError
from strop.runs import Artifact, Config, Stage
from strop.runs.fingerprint import canonical, fingerprint_call, hash_json


def mark(value: Any) -> str:
    return hash_json(canonical(value))


class Kind(enum.Enum):
    SFT = "sft"
    DPO = "dpo"


class Inner(Config):
    """Inner settings."""

    rate: float = 1e-3
    """A rate."""


class Outer(Config):
    """Outer settings."""

    inner: Inner = Inner()
    """Nested."""
    device: str = Field("cpu", json_schema_extra={"fingerprint": False})
    """Where to compute."""


@dataclass(frozen=True)
class Row:
    id: int
    shown: str = field(default="", metadata={"fingerprint": False})


class Spec:
    def __init__(self, name: str) -> None:
        self.name = name

    def fingerprint(self) -> str:
        return self.name


DISTINCT: list[Any] = [
    *(None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, "1", "", "None", "true", math.inf, -math.inf, math.nan),
    *([], {}, set(), [1], ["1"], [[1]], [1, 2], [2, 1], {1: "a"}, {"1": "a"}, {"a": 1}, {"a": [1]}, {"a": {"b": 1}}),
    *(Kind.SFT, Kind.DPO, "sft", Inner(), Inner(rate=2e-3), {"rate": 1e-3}, Outer(), Row(1), Row(2), {"id": 1}),
    *(Spec("a"), Spec("b"), "a", ["artifact", "d"], Artifact("n", Path("x"), "d"), ["path", "", "h"], frozenset({1})),
]


def test_distinct_values_have_distinct_fingerprints() -> None:
    marks = [mark(value) for value in DISTINCT]
    assert len(set(marks)) == len(DISTINCT)


def test_what_does_not_matter() -> None:
    assert mark({"a": 1, "b": 2}) == mark({"b": 2, "a": 1})
    assert mark((1, (2,))) == mark([1, [2]])
    assert mark(Outer(device="cuda")) == mark(Outer())
    assert mark(Row(1, "x")) == mark(Row(1, "y"))
    assert mark(Artifact("a", Path("one"), "d")) == mark(Artifact("b", Path("two"), "d"))
    assert mark({3, 1, 2}) == mark({2, 3, 1})


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def typed(value: Any) -> Any:
    """Return a form that tells 1, 1.0 and True apart, which Python's equality does not."""
    if isinstance(value, dict):
        return ("dict", frozenset((key, typed(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", tuple(typed(item) for item in value))
    return (type(value).__name__, repr(value))


@given(trees, trees)
def test_fingerprints_are_equal_exactly_when_the_values_are(left: Any, right: Any) -> None:
    assert (mark(left) == mark(right)) == (typed(left) == typed(right))


@given(st.dictionaries(st.text(), leaves), st.randoms())
def test_the_order_of_keys_does_not_count(mapping: dict[str, Any], random: Any) -> None:
    shuffled = list(mapping.items())
    random.shuffle(shuffled)
    assert mark(dict(shuffled)) == mark(mapping)


def test_paths_count_by_their_content(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "rows.jsonl", tmp_path / "b" / "other.jsonl"
    for path in (one, two):
        path.parent.mkdir()
        path.write_text("same")
    assert mark(one) == mark(two)
    assert mark(one.parent) != mark(two.parent), "in a folder the names count"
    assert mark(one) != mark(one.rename(one.with_suffix(".json"))), "the suffix decides the format"
    before = mark(two)
    two.write_text("else")
    assert mark(two) != before
    with pytest.raises(UserError, match="value: no such file or folder"):
        canonical(tmp_path / "absent")


def local() -> Callable[[], None]:
    def inner() -> None:
        """Do nothing."""

    return inner


@pytest.mark.parametrize("value", [object(), local(), lambda: None, b"bytes", 1j, Spec])
def test_values_without_a_canonical_form_are_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match=r"where\[0\] is a|only functions at module level"):
        canonical([value], where="where")


def stage_function(stage: Stage, rows: Artifact, settings: Inner, *, limit: int = 3) -> None:
    """Do nothing."""


def test_a_call_is_the_same_however_its_arguments_are_given() -> None:
    rows = Artifact("rows", Path("x"), "digest")
    call = fingerprint_call(stage_function, rows, Inner())
    assert call.value == fingerprint_call(stage_function, rows=rows, settings=Inner(), limit=3).value
    assert call.value != fingerprint_call(stage_function, rows, Inner(), limit=4).value
    assert call.inputs == {"rows": [rows]}
    assert call.function.endswith(":stage_function")
    with pytest.raises(TypeError, match="missing a required argument"):
        fingerprint_call(stage_function, rows)
    with pytest.raises(TypeError, match="module level"):
        fingerprint_call(lambda stage: None)


def test_artifacts_are_found_inside_of_arguments() -> None:
    one, two = Artifact("one", Path("1"), "d1"), Artifact("two", Path("2"), "d2")
    call = fingerprint_call(stage_function, {"all": [one, (two,)]}, Inner())
    assert call.inputs == {"rows": [one, two]}
