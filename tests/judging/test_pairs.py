"""Human pairs: what files may look like, what is left out, and that no judge can learn the label from the order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.judging.pairs import (
    HumanPair,
    are_length_matched,
    better_side,
    data_hash,
    duel_of,
    few_of,
    folded,
    has_risk_language,
    pair_hash,
    read_pair_file,
    read_pairs,
    text_hashes,
)
from strop.records.rows import Message
from strop.records.tables import write_table

ROW = {"prompt": "I feel low.", "better": "That sounds hard. What happened?", "worse": "Cheer up."}


def written(folder: Path, *rows: dict[str, Any], name: str = "pairs.jsonl") -> Path:
    path = folder / name
    write_table(path, rows)
    return path


def pair(prompt: str = "p", better: str = "b", worse: str = "w", group: str = "g", number: int = 0) -> HumanPair:
    return HumanPair(number, prompt, better, worse, group, "s", None, length_matched=False, risk_language=False)


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json", "pairs.parquet", "pairs.jsonl.gz"])
def test_formats_bring_the_same_pairs(tmp_path: Path, name: str) -> None:
    (found,) = read_pairs(written(tmp_path, ROW, name=name))
    assert (found.prompt, found.better, found.worse) == (ROW["prompt"], ROW["better"], ROW["worse"])
    assert (found.id, found.source) == (1, "pairs")


def test_chosen_and_rejected_messages_and_mapped_fields(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }
    (found,) = read_pairs(written(tmp_path, row))
    assert (found.prompt, found.better, found.worse) == ((Message("user", "Hi"),), "good", "bad")
    (found,) = read_pairs(
        written(tmp_path, {"q": "Hi", "a": "x", "b": "y"}), {"prompt": "q", "better": "b", "worse": "a"}
    )
    assert (found.better, found.worse) == ("y", "x")


def test_without_a_group_every_folded_prompt_is_one(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"prompt": "  i FEEL low!", "better": "Tell me."}, ROW | {"prompt": "Other."}]
    first, same, other = read_pairs(written(tmp_path, *rows))
    assert first.group == same.group != other.group


def test_computed_flags_are_named(tmp_path: Path) -> None:
    assert read_pair_file(written(tmp_path, ROW)).computed == ("group", "length_matched", "risk_language")
    full = ROW | {"group": "a", "length_matched": True, "risk_language": True}
    read = read_pair_file(written(tmp_path, full))
    assert read.computed == ()
    assert (read.pairs[0].length_matched, read.pairs[0].risk_language) == (True, True)


def test_unusable_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"worse": f" {ROW['better']} "}, ROW | {"worse": " "}, ROW | {"prompt": ""}]
    read = read_pair_file(written(tmp_path, *rows))
    assert len(read.pairs) == 1
    assert read.left_out == {"identical sides": 1, "empty text": 2}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "no pairs"),
        ([{"prompt": "p", "better": "b"}], "needs 'prompt' with 'better' and 'worse'"),
        ([ROW | {"better": 3}], "text or one assistant message"),
        ([ROW | {"length_matched": "yes"}], "true or false"),
        ([ROW | {"source": 4}], "must be text"),
        ([ROW | {"group": "a"}, ROW], "row 2: 'group' is missing"),
        ([ROW | {"id": 1}, ROW | {"id": 1, "prompt": "x"}], "more than once"),
        ([ROW | {"worse": ""}], "no pair can be judged"),
        ([ROW | {"prompt": 3}], "a prompt must be text"),
    ],
)
def test_bad_files_are_one_clear_message(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_pairs(written(tmp_path, *rows))


def test_not_utf8_is_a_clear_message(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n\xff\xfe\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(path)


@pytest.mark.parametrize(("words", "matched"), [((8, 10), True), ((7, 10), False), ((10, 8), True), ((4, 5), True)])
def test_length_matched_means_within_a_fifth_of_the_longer(words: tuple[int, int], matched: bool) -> None:
    assert are_length_matched("a " * words[0], "a " * words[1]) is matched


@pytest.mark.parametrize(
    ("prompt", "risk"),
    [
        ("I want to die.", True),
        ("I don\N{RIGHT SINGLE QUOTATION MARK}t want to be here anymore", True),
        ("She keeps hurting herself", True),
        ("A friend's suicide", True),
        ("This exam is killing me", False),
        ("I don't want to be here at this school", True),
        ("I cut my hours at work", False),
    ],
)
def test_risk_language_is_plain_words_only(prompt: str, risk: bool) -> None:
    assert has_risk_language(prompt) is risk


def test_hashes_fold_case_space_and_punctuation_and_hide_the_label() -> None:
    one, other = pair("A b.", "C, d", "e"), pair("a  B", "E!", "c d", group="h", number=2)
    assert pair_hash(one) == pair_hash(other)
    assert text_hashes(one)[0] == text_hashes(other)[0]
    assert set(text_hashes(one)) == set(text_hashes(other))
    assert folded("Naïve \N{LATIN SMALL LIGATURE FI}x!") == "naïve fix"


def test_the_data_hash_knows_labels_and_groups_but_neither_order_nor_ids() -> None:
    pairs = [pair(better=text, number=number) for number, text in enumerate("abc")]
    assert data_hash(pairs) == data_hash(pairs[::-1]) == data_hash([pair(better=text, number=9) for text in "cab"])
    assert data_hash(pairs) != data_hash([*pairs[:2], pair(better="w", worse="c")])
    assert data_hash(pairs) != data_hash([*pairs[:2], pair(better="c", group="other")])


@given(st.text(min_size=1), st.text(min_size=1), st.integers(0, 9))
def test_the_order_of_a_duel_knows_nothing_of_the_label(first: str, second: str, seed: int) -> None:
    duel = duel_of(pair(better=first, worse=second), seed=seed)
    other = duel_of(pair(better=second, worse=first), seed=seed)
    assert (duel.first, duel.second) == (other.first, other.second)
    assert {duel.first, duel.second} == {first, second}


def test_about_half_of_the_better_sides_come_first() -> None:
    """2,000 fair flips: outside 900 to 1,100 with probability below 1e-5."""
    pairs = [pair(f"prompt {number}", "good", "bad") for number in range(2000)]
    assert 900 < sum(better_side(each, duel_of(each)) == "first" for each in pairs) < 1100


def test_a_limit_takes_the_same_pairs_whatever_their_order() -> None:
    pairs = [pair(f"prompt {number}", number=number) for number in range(30)]
    assert few_of(pairs, 5) == few_of(pairs[::-1], 5)
    assert len(few_of(pairs, 99)) == 30


def test_flags_of_the_real_file_follow_our_rules(shared_data: Path) -> None:
    """Length-matched: 280 of 280. Risk language: one more prompt, about a suicide years ago."""
    pairs = read_pairs(shared_data / "counsel" / "dev_pairs.jsonl")
    assert len(pairs) == 280
    assert len({each.group for each in pairs}) == 156
    assert all(are_length_matched(each.better, each.worse) == each.length_matched for each in pairs)
    assert sum(has_risk_language(each.prompt) != each.risk_language for each in pairs) <= 1
