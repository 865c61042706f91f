"""Mixtures of two sets of pairs: the counts that were asked for, no row twice, and the same rows from the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.records.tables import write_table
from strop.training.mixing import Mix, general_pairs, mixed


def pairs(count: int, name: str) -> list[dict[str, Any]]:
    return [{"id": number, "prompt": f"{name} {number}", "chosen": "a", "rejected": "b"} for number in range(count)]


def test_by_hand() -> None:
    """6 of the domain, 9 general, a quarter general: min(6 / .75, 9 / .25) = 8 rows, two of them general."""
    rows = mixed(pairs(6, "d"), pairs(9, "g"), share=0.25, total=None, seed=0)
    assert Counter(row["source"] for row in rows) == {"domain": 6, "general": 2}
    assert {row["prompt"] for row in rows if row["source"] == "domain"} == {f"d {n}" for n in range(6)}


SIZES = st.integers(1, 60)
SHARES = st.floats(0.02, 0.98)


@given(SIZES, SIZES, SHARES, st.integers(0, 2**31), st.integers(2, 80) | st.none())
def test_counts_share_ids_and_rows(domain: int, general: int, share: float, seed: int, total: int | None) -> None:
    sets = {"domain": pairs(domain, "domain"), "general": pairs(general, "general")}
    try:
        rows = mixed(sets["domain"], sets["general"], share=share, total=total, seed=seed)
    except UserError:
        assume(False)
    counts = Counter(row["source"] for row in rows)
    if total is not None:
        assert len(rows) == total
    assert counts["general"] == round(len(rows) * share)
    assert abs(counts["general"] - len(rows) * share) <= 0.5
    assert len({row["id"] for row in rows}) == len({row["prompt"] for row in rows}) == len(rows)
    for row in rows:
        name, number = row["id"].split(":")
        assert name == row["source"]
        original = sets[name][int(number)]
        assert {key: row[key] for key in ("prompt", "chosen", "rejected")} == {
            key: original[key] for key in ("prompt", "chosen", "rejected")
        }
    assert mixed(sets["domain"], sets["general"], share=share, total=total, seed=seed) == rows


@given(SIZES, SIZES, SHARES)
def test_as_many_as_both_allow_leaves_no_room_for_another(domain: int, general: int, share: float) -> None:
    """One set is used up: with one row more, one of the two would be too small, give or take the rounding."""
    try:
        rows = mixed(pairs(domain, "d"), pairs(general, "g"), share=share, total=None, seed=0)
    except UserError:
        assume(False)
    more = len(rows) + 1
    assert more * share > general or more * (1 - share) > domain


@pytest.mark.parametrize(
    ("domain", "general", "share", "total", "told"),
    [
        (10, 2, 0.5, 8, "needs 4 general pairs, and there are 2"),
        (3, 10, 0.25, 8, "needs 6 domain pairs, and there are 3"),
        (0, 10, 0.5, None, "needs 0 general pairs"),
        (10, 10, 0.01, 4, "needs 0 general pairs"),
    ],
)
def test_sets_that_are_too_small(domain: int, general: int, share: float, total: int | None, told: str) -> None:
    with pytest.raises(UserError, match=told):
        mixed(pairs(domain, "d"), pairs(general, "g"), share=share, total=total, seed=0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        mixed(pairs(4, "d"), pairs(4, "g"), share=share, total=None, seed=0)


def test_another_seed_draws_others_in_another_order() -> None:
    one, other = (mixed(pairs(40, "d"), pairs(40, "g"), share=0.5, total=20, seed=seed) for seed in (0, 1))
    assert {row["id"] for row in one} != {row["id"] for row in other}
    sources = [row["source"] for row in one]
    assert sources != sorted(sources)


def test_the_draw_of_one_set_does_not_move_with_the_other() -> None:
    """20 of 40 domain pairs are the same whichever general set stands beside them."""
    drawn = [
        {row["id"] for row in mixed(pairs(40, "d"), pairs(size, "g"), share=0.5, total=40, seed=5)} for size in (30, 50)
    ]
    domain = [{name for name in names if name.startswith("domain:")} for names in drawn]
    assert domain[0] == domain[1]


def test_general_pairs_are_read_under_their_own_names(tmp_path: Path) -> None:
    """A row without an id gets its number; one with an id keeps it."""
    write_table(tmp_path / "general.jsonl", [{"q": "one", "chosen": "a"}, {"q": "two", "chosen": "b", "id": "mine"}])
    rows = general_pairs(Mix(file=tmp_path / "general.jsonl", fields={"prompt": "q"}))
    assert [(row["id"], row["prompt"]) for row in rows] == [(0, "one"), ("mine", "two")]
