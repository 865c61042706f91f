"""Files of labels as preferences, and the promise that nothing leaks into what is reported."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.judging.fitting.features import Response
from strop.judging.fitting.fitting import Labels, merged_groups, without_copies
from strop.judging.fitting.label_pool import Preference, Rated, linked, match, preference_of, read_labels
from strop.judging.pairs import read_pairs, text_hashes
from strop.judging.qualifying.folds import group_folds


def rows(path: Path, *given: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


def preference(number: int, prompt: str, better: str, worse: str, group: str) -> Preference:
    return Preference(number, Response(prompt, better), Response(prompt, worse), (group,), "test")


def test_rated_responses_of_one_context_are_paired_by_score(tmp_path: Path) -> None:
    """Scores 1, 3, 2, 3 of one context: sorted 1 2 | 3 3, so 1 < 3 and 2 < 3; the lone one stays alone."""
    path = rows(
        tmp_path / "rated.jsonl",
        {"context": "Hello there", "response": "a", "score": 1},
        {"context": "hello, THERE!", "response": "b", "score": 3},
        {"context": "Hello there", "response": "c", "score": 2},
        {"context": "hello there", "response": "d", "score": "3"},
        {"context": "Other", "response": "e", "score": 5},
        {"context": "Other", "response": " ", "score": 1},
        {"context": "Other", "response": "f", "score": None},
    )
    found = read_labels(path)
    assert found.rows == 7
    assert sorted((each.better.text in "bd", each.worse.text) for each in found.preferences) == [
        (True, "a"),
        (True, "c"),
    ]
    assert found.left_out == {
        "an empty response": 1,
        "no score": 1,
        "no other response to the same context with another score": 1,
    }


def test_across_matches_what_stayed_alone_within_its_source(tmp_path: Path) -> None:
    path = rows(
        tmp_path / "rated.jsonl",
        *({"context": f"c{n}", "response": f"r{n}", "score": n % 2, "source": "one"} for n in range(6)),
        {"context": "c9", "response": "r9", "score": 9, "source": "two"},
    )
    assert not read_labels(path).preferences
    found = read_labels(path, across=True)
    assert len(found.preferences) == 3
    assert found.left_out == {"no partner": 1}
    assert all(int(each.better.text[1:]) % 2 > int(each.worse.text[1:]) % 2 for each in found.preferences)
    assert found.preferences == read_labels(path, across=True).preferences
    assert all(len(each.groups) == 2 for each in found.preferences)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), max_size=30), st.integers(0, 9))
def test_matching_uses_each_response_once_and_as_many_as_can_be(scores: list[int], seed: int) -> None:
    """No matching of unequal scores can hold more than n // 2 pairs, or more than the scores that are not the mode."""
    rated = [Rated(n, Response("", f"r{n}"), float(score), "g", "s") for n, score in enumerate(scores)]
    pairs, alone = match(rated, Random(seed))
    used = [side.text for pair in pairs for side in (pair.better, pair.worse)]
    assert sorted(used + [each.response.text for each in alone]) == sorted(each.response.text for each in rated)
    score = {each.response.text: each.score for each in rated}
    assert all(score[pair.better.text] > score[pair.worse.text] for pair in pairs)
    commonest = max(map(scores.count, scores), default=0)
    assert len(pairs) == min(len(scores) // 2, len(scores) - commonest)


def test_csv_and_renames(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text('question,answer,votes,who\n"Why, me?",one,3,x\n"Why me",two,1,x\n', encoding="utf-8")
    mapping = {"context": "question", "response": "answer", "score": "votes", "better": "absent"}
    found = read_labels(path, fields=mapping)
    assert [(each.better.text, each.worse.text) for each in found.preferences] == [("one", "two")]
    assert found.renamed == {"context", "response", "score"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "without rows"),
        (b'{"a": 1}\n', "neither pairs nor rated responses"),
        (b'{"context": "c", "response": "r", "score": "high"}\n', "a score must be a number"),
        (b'{"context": "c", "response": "r", "score": NaN}\n', "a score must be a number"),
        (b'{"context": "c", "response": "r", "score": true}\n', "a score must be a number"),
        (b'{"context": "c", "response": null, "score": 1}\n', "no 'response'"),
        (b'{"prompt": "c", "better": "\xff", "worse": "b"}\n', "cannot be read"),
    ],
)
def test_bad_files_are_one_clear_message(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_labels(path)


def test_links_are_followed_to_their_end() -> None:
    """0 and 1 share a prompt but for case, 1 and 2 a response, 2 and 3 a group; 4 stands alone."""
    given = [
        preference(0, "My DOG died", "a1", "a2", "g0"),
        preference(1, "my dog -- died.", "b1", "b2", "g1"),
        preference(2, "c", "B1!", "c2", "g2"),
        preference(3, "d", "d1", "d2", "g2"),
        preference(4, "e", "e1", "e2", "g4"),
    ]
    assert linked(given) == [0, 0, 0, 0, 4]
    assert merged_groups(given) == ("g0", "g0", "g0", "g0", "g4")


def test_a_prompt_that_is_a_response_elsewhere_is_a_link() -> None:
    assert linked([preference(0, "p", "x", "y", "a"), preference(1, "X", "q", "r", "b")]) == [0, 0]


def test_copies_of_own_rows_are_no_extra_labels() -> None:
    own = [preference(0, "Prompt", "One", "Two", "g")]
    again = preference(7, "prompt!", "two", "one", "other")
    assert without_copies([again, preference(8, "prompt", "one", "three", "g")], own)[0].id == 8


def test_hashes_are_those_that_qualification_looks_for(tmp_path: Path) -> None:
    pair = read_pairs(rows(tmp_path / "p.jsonl", {"prompt": "P", "better": "One!", "worse": "two"}))[0]
    assert preference_of(pair).text_hashes() == set(text_hashes(pair))


# A small alphabet, so that texts and groups are shared all the time.
_some = st.sampled_from("abcdefgh")
_rows = st.lists(st.tuples(_some, _some, _some, st.sampled_from("uvwxyz")), min_size=5, max_size=14)


@settings(max_examples=150, deadline=None)
@given(_rows, st.lists(st.tuples(_some, _some, _some, st.sampled_from("uvwxyzKLM")), max_size=12))
def test_no_row_is_learnt_from_while_a_linked_one_is_held_out(
    own_rows: list[tuple[str, str, str, str]], extra_rows: list[tuple[str, str, str, str]]
) -> None:
    """Whatever shares a prompt, a response or a group with a held-out row is in no training part, nor what it drags."""
    own = [preference(n, "P" + p, "R" + b, "R" + w, g) for n, (p, b, w, g) in enumerate(own_rows)]
    extra = [preference(n, "P" + p, "R" + b, "R" + w, g) for n, (p, b, w, g) in enumerate(extra_rows)]
    assert_nothing_leaks(own, extra)


def assert_nothing_leaks(own: list[Preference], extra: list[Preference]) -> None:
    """Check every fold by brute force over texts and groups, links followed through extra rows as well."""
    everything = own + extra
    groups = merged_groups(own)
    labels = Labels({}, len(own), groups, np.array(linked(everything)))
    if len(set(groups)) < 2:
        return
    places = group_folds(groups)
    keys = [row.texts() | {f"group {group}" for group in row.groups} for row in everything]
    for fold in np.unique(places):
        held_out = np.flatnonzero(places == fold)
        seen = frozenset().union(*(keys[row] for row in held_out))
        assert all(seen.isdisjoint(keys[row]) for row in np.flatnonzero(places != fold))
        reached = set(seen)
        waiting = list(range(len(own), len(everything)))
        while linked_rows := [row for row in waiting if not reached.isdisjoint(keys[row])]:
            reached.update(*(keys[row] for row in linked_rows))
            waiting = [row for row in waiting if row not in linked_rows]
        assert set(labels.extra_rows(held_out).tolist()) <= set(waiting)


def test_nothing_leaks_from_the_shared_files(shared_data: Path) -> None:
    """The counselling files overlap: answers of the CSV come back in the pairs, and such rows must stay out."""
    folder = shared_data / "counsel"
    own = [preference_of(pair) for pair in read_pairs(folder / "dev_pairs.jsonl")]
    mapping = {"context": "questionText", "response": "answerText", "score": "upvotes", "group": "questionID"}
    files = [
        read_labels(folder / "counsel-chat" / "counsel_chat_dev.csv", fields=mapping),
        read_labels(folder / "dev_pointwise.jsonl", across=True),
        read_labels(folder / "dev_conversation_pairs.jsonl"),
    ]
    extra = without_copies([each for file in files for each in file.preferences], own)
    assert [len(file.preferences) for file in files][2] == 6
    known = frozenset().union(*(row.texts() for row in own))
    assert any(not row.texts().isdisjoint(known) for row in extra), "the files overlap, or this test shows nothing"
    assert_nothing_leaks(own, extra)
    assert merged_groups(own) == tuple(row.groups[0] for row in own), "the groups of the file hold all its links"
